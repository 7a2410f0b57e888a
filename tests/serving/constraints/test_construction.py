"""An automaton takes the texts that `re.fullmatch` takes, and none of its states is a dead end."""

import itertools

import pytest
from hypothesis import assume, given, settings

from serving.constraints.construction import NONE, STATES_AT_MOST, Construction, construct
from serving.constraints.positions import PatternError
from tests.serving.constraints.patterns import matches, patterns

SYMBOLS = "\n ab1é"
LONGEST = 4
TEXTS = [
    "".join(letters)
    for length in range(LONGEST + 1)
    for letters in itertools.product(SYMBOLS, repeat=length)
]


def state_after(made: Construction, text: str, symbols: str = SYMBOLS) -> int:
    """Follow a text; NONE where it may not come."""
    state = 0
    for symbol in text:
        kind = made.class_of[symbols.index(symbol)]
        state = NONE if kind == NONE else made.rows[state][kind]
        if state == NONE:
            return NONE
    return state


def takes(made: Construction, text: str, symbols: str = SYMBOLS) -> bool:
    """Whether a text is a whole match."""
    state = state_after(made, text, symbols)
    return state != NONE and made.accepting[state]


@settings(max_examples=150, deadline=None)
@given(pattern=patterns)
def test_automaton_takes_what_python_matches(pattern: str) -> None:
    expected = {text for text in TEXTS if matches(pattern, text)}
    try:
        made = construct(pattern, SYMBOLS)
    except PatternError:
        assert expected == set()
        return
    assert {text for text in TEXTS if takes(made, text)} == expected


@settings(max_examples=100, deadline=None)
@given(pattern=patterns)
def test_each_state_leads_to_a_whole_match(pattern: str) -> None:
    try:
        made = construct(pattern, SYMBOLS)
    except PatternError:
        assume(False)
    leads = {state for state, is_match in enumerate(made.accepting) if is_match}
    for _ in made.rows:
        leads |= {state for state, row in enumerate(made.rows) if leads & set(row)}
    assert leads == set(range(len(made.rows)))


@settings(max_examples=100, deadline=None)
@given(pattern=patterns)
def test_no_match_has_the_symbol_that_ends_every_text(pattern: str) -> None:
    expected = {text for text in TEXTS if matches(pattern, text) and "\n" not in text}
    try:
        made = construct(pattern, SYMBOLS, end="\n")
    except PatternError:
        assert expected == set()
        return
    assert {text for text in TEXTS if takes(made, text)} == expected


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("(", "is not a regular expression: missing ), unterminated subpattern at position 0"),
        ("a{2,1}", "is not a regular expression: min repeat greater than max repeat"),
        (r"(a)\1", "a reference to a group"),
        ("(?=a)a", "a lookahead"),
        ("(?<!b)a", "a negative lookahead or lookbehind"),
        ("a++", "a possessive repeat"),
        ("(?>a|ab)", "an atomic group"),
        (r"a\bb", "a word's boundary"),
        ("a^b", r"\^, \$"),
        ("(a)(?(1)b|1)", "a condition on a group"),
        ("(" * 900 + "a" + ")" * 900, "nested too deeply"),
        ("a{9999}", "more than 8,192 places"),
        ("a{5000}", f"more than {STATES_AT_MOST:,} states"),
        ("(a|b)*a(a|b){14}", f"more than {STATES_AT_MOST:,} states"),
    ],
)
def test_pattern_that_no_small_automaton_follows_is_refused(pattern: str, problem: str) -> None:
    with pytest.raises(PatternError, match=problem.replace(")", r"\)").replace("(", r"\(")):
        construct(pattern, SYMBOLS)


@pytest.mark.parametrize(
    ("pattern", "named"),
    [
        ("aßb", "'ß' (U+00DF)"),
        ("z?xa+y", "'x' (U+0078), 'y' (U+0079)"),
        ("(?:x|yz)a", "'x' (U+0078)"),
        (r"\d{2}2", "'2' (U+0032)"),
        ("(?i)É", None),
        ("[^ab]", None),
    ],
)
def test_missing_symbols_are_named(pattern: str, named: str | None) -> None:
    if named is None:
        construct(pattern, SYMBOLS)
        return
    with pytest.raises(PatternError) as error:
        construct(pattern, SYMBOLS)
    assert f"has no match without {named}; the model's vocabulary" in str(error.value)


@pytest.mark.parametrize("pattern", ["^ab$", r"\Aab\Z", "^ab", "ab$"])
def test_anchors_may_enclose_the_whole(pattern: str) -> None:
    assert [text for text in TEXTS if takes(construct(pattern, SYMBOLS), text)] == ["ab"]

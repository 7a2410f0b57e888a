"""A symbol is a code point, its id its place, and a stranger is named."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unroll.bundle.vocabulary import Vocabulary
from unroll.errors import InputError, UnknownSymbolError
from unroll.terms import UnknownSymbols

ABC = Vocabulary("\nabc", "\n")
FAMILY = "\U0001f469\u200d\U0001f469\u200d\U0001f467"  # three people, two joiners
half_known = st.text("\nabcxyz£é")
SCRIPTS = [
    "안녕하세요",
    "\u1112\u1161\u11ab",
    FAMILY,
    "e\u0301n\u0303",
    "£–\N{GREEK SMALL LETTER PI}",
]


@given(st.text(min_size=1))
def test_text_survives_the_round_trip(text: str) -> None:
    vocabulary = Vocabulary.of(text)
    ids = vocabulary.encode(text)
    assert vocabulary.decode(ids) == text
    assert ids.dtype == np.int64
    assert ids.shape == (len(text),)


@pytest.mark.parametrize("text", SCRIPTS)
def test_symbol_is_one_code_point_in_any_script(text: str) -> None:
    vocabulary = Vocabulary.of(text)
    assert sorted(vocabulary.symbols) == sorted(set(text))
    assert vocabulary.decode(vocabulary.encode(text)) == text


@given(st.text(min_size=1))
def test_vocabulary_of_a_text_is_sorted_and_starts_with_a_newline_or_its_first(text: str) -> None:
    vocabulary = Vocabulary.of(text)
    assert list(vocabulary.symbols) == sorted(set(text))
    assert vocabulary.start_symbol == ("\n" if "\n" in text else vocabulary.symbols[0])
    assert vocabulary.symbols[vocabulary.start_id] == vocabulary.start_symbol


def test_id_is_the_place_among_the_symbols() -> None:
    assert Vocabulary("cab", "a").encode("abc").tolist() == [1, 2, 0]


@pytest.mark.parametrize("outside", [-1, 4])
def test_id_outside_the_vocabulary_is_an_error(outside: int) -> None:
    with pytest.raises(IndexError):
        ABC.decode([0, outside])


def test_unknown_symbols_are_refused_with_symbol_code_point_and_position() -> None:
    with pytest.raises(UnknownSymbolError) as caught:
        ABC.encode("ab£cé", field="prompt")
    assert caught.value.field == "prompt"
    for named in ("prompt", "2 of 5", "'£' (U+00A3) at 2", "'é' (U+00E9) at 4"):
        assert named in str(caught.value)


def test_only_the_first_few_unknown_symbols_are_named_and_the_rest_counted() -> None:
    with pytest.raises(UnknownSymbolError, match=r"'5' \(U\+0035\) at 4 and 3 more") as caught:
        ABC.encode("12345678")
    assert "'6'" not in str(caught.value)


@given(half_known)
def test_skipping_reads_what_is_left_of_the_text(text: str) -> None:
    known = "".join(symbol for symbol in text if symbol in ABC.symbols)
    ids = ABC.encode(text, unknown=UnknownSymbols.SKIP)
    assert ids.dtype == np.int64
    assert ABC.decode(ids) == known


@given(half_known)
def test_replacing_reads_the_text_with_the_replacement_in_it(text: str) -> None:
    replaced = "".join(symbol if symbol in ABC.symbols else "b" for symbol in text)
    ids = ABC.encode(text, unknown=UnknownSymbols.REPLACE, replacement="b")
    assert ABC.decode(ids) == replaced


@pytest.mark.parametrize("replacement", ["", "d", "ab"])
@pytest.mark.parametrize("text", ["abc", "abd"])
def test_replacement_must_be_one_symbol_of_the_vocabulary(text: str, replacement: str) -> None:
    with pytest.raises(InputError) as caught:
        ABC.encode(text, unknown=UnknownSymbols.REPLACE, replacement=replacement)
    assert caught.value.field == "replacement_symbol"


@pytest.mark.parametrize(
    ("symbols", "start", "named"),
    [
        ("abcab", "a", r"\['a', 'b'\]"),
        ("abc", "d", "'d'"),
        ("abc", "", "''"),
        ("abc", "ab", "'ab'"),
        ("", "", "''"),
    ],
)
def test_vocabulary_that_cannot_be_is_refused(symbols: str, start: str, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Vocabulary(symbols, start)


def test_empty_text_has_no_vocabulary() -> None:
    with pytest.raises(ValueError, match="empty text"):
        Vocabulary.of("")


def test_vocabularies_are_equal_where_symbols_order_and_start_are() -> None:
    same, other_order, other_start = (
        Vocabulary("\nabc", "\n"),
        Vocabulary("abc\n", "\n"),
        Vocabulary("\nabc", "a"),
    )
    assert same == ABC
    assert hash(ABC) == hash(same)
    assert other_order != ABC
    assert other_start != ABC

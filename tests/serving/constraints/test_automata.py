"""Patterns are compiled once, apart, within bounds; a bad one costs nobody but its caller."""

import asyncio
import json
import threading
from collections.abc import Coroutine
from typing import Any

import numpy as np
import pytest

from serving.constraints import automata as module
from serving.constraints.automata import Automata
from serving.constraints.automaton import Automaton
from serving.constraints.construction import NONE
from unroll.bundle.form import TextForm
from unroll.bundle.vocabulary import Vocabulary
from unroll.errors import InputError, OverloadedError

VOCABULARY = Vocabulary('\n abcdef0123456789-.,:[]{}"T\\', "\n")
RECORDS = Vocabulary(VOCABULARY.symbols, "\n", TextForm(unit="record"))
SLOW = "(?:a{1,70}){1,70}"  # seconds, if it were not stopped
DATE = r"\d{4}-\d\d-\d\d"


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for what other processes leave of the machine: processor time is bounded anyway."""
    monkeypatch.setattr(module, "WALL_SECONDS", 300.0)


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """Run on an event loop of its own."""
    return asyncio.run(work)


def take(automaton: Automaton, text: str, vocabulary: Vocabulary = VOCABULARY) -> int:
    """Follow a text from the beginning; NONE where it may not come."""
    states = automaton.walk(0, [vocabulary.symbols.index(symbol) for symbol in text])
    return int(states[-1])


class Held:
    """A compiler that waits for a sign, and notes what it compiled."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.compiled: list[str] = []
        self.may_go = threading.Event()
        self._real = module._compile
        monkeypatch.setattr(module, "_compile", self)

    def __call__(self, field: str, text: str, symbols: str, end: str) -> Automaton | InputError:
        assert self.may_go.wait(60)
        self.compiled.append(text)
        return self._real(field, text, symbols, end)


def test_automaton_says_what_may_come_and_where_it_ends() -> None:
    made = run(Automata().of_pattern(DATE, VOCABULARY, ""))
    assert made.next.shape == (11, len(VOCABULARY))
    assert made.accepting[take(made, "2024-01-31")]
    assert made.is_final[take(made, "2024-01-31")]
    assert take(made, "20a") == NONE


def test_records_end_at_whole_matches_alone() -> None:
    made = run(Automata().of_pattern("a+b?", RECORDS, ""))
    assert made.is_final[take(made, "aa\n")]
    assert made.accepting[take(made, "aa\n")]
    assert take(made, "\n") == NONE
    assert made.is_final[take(made, "aab")], "nothing may follow, not even the end"


def test_the_same_pattern_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held(monkeypatch)
    held.may_go.set()

    async def ask() -> None:
        automata = Automata()
        made = await asyncio.gather(*(automata.of_pattern("a*b", VOCABULARY, "") for _ in range(9)))
        made.append(await automata.of_pattern("a*b", VOCABULARY, "bert"))
        assert len(set(map(id, made))) == 1
        for _ in range(2):
            with pytest.raises(InputError, match="pattern: is not a regular expression"):
                await automata.of_pattern("(", VOCABULARY, "")

    run(ask())
    assert held.compiled == ["a*b", "("]


def test_what_is_kept_takes_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT_BYTES", 3000)

    async def ask() -> int:
        automata = Automata()
        first = await automata.of_pattern("a{3}", VOCABULARY, "")
        for pattern in ("b{3}", "c{3}", "d{3}"):
            await automata.of_pattern(pattern, VOCABULARY, "")
        again = await automata.of_pattern("a{3}", VOCABULARY, "")
        assert first is not again
        assert first.digest == again.digest
        return automata._bytes

    assert run(ask()) <= 3000


def test_pattern_that_takes_too_long_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SECONDS", 0.3)

    async def ask() -> None:
        with pytest.raises(InputError, match="pattern: takes too long to compile"):
            await Automata().of_pattern(SLOW, VOCABULARY, "")

    run(ask())


def test_pattern_that_takes_too_much_memory_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MEMORY", 1)  # nothing beyond what it has when it begins
    with pytest.raises(InputError, match="pattern: takes too much memory"):
        run(Automata().of_pattern("a{3000}.*b{200}", VOCABULARY, ""))


def test_caller_with_many_patterns_lets_others_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 300.0)
    held = Held(monkeypatch)

    async def ask() -> None:
        automata = Automata()
        asked = [automata.of_pattern(f"a{{{n}}}", VOCABULARY, "eve") for n in range(1, 5)]
        tasks = [asyncio.ensure_future(each) for each in asked]
        await asyncio.sleep(0)
        tasks.append(asyncio.ensure_future(automata.of_pattern(DATE, VOCABULARY, "anna")))
        await asyncio.sleep(0)
        held.may_go.set()
        await asyncio.gather(*tasks)

    run(ask())
    assert held.compiled == ["a{1}", DATE, "a{2}", "a{3}", "a{4}"]


def test_caller_whose_patterns_wait_too_long_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    held = Held(monkeypatch)

    async def ask() -> Automaton:
        automata = Automata()
        first = asyncio.ensure_future(automata.of_pattern("a", VOCABULARY, "eve"))
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError, match="other patterns of this caller"):
            await automata.of_pattern("b", VOCABULARY, "eve")
        held.may_go.set()
        return await first

    assert len(run(ask())) == 2
    assert held.compiled == ["a"]


def test_event_loop_goes_on_while_a_pattern_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held(monkeypatch)

    async def ask() -> None:
        asked = asyncio.ensure_future(Automata().of_pattern("a", VOCABULARY, ""))
        for _ in range(100):
            await asyncio.sleep(0)
        assert not asked.done()
        held.may_go.set()
        await asked

    run(ask())


@pytest.mark.parametrize(
    ("field", "given", "problem"),
    [
        ("pattern", "a" * 2049, "has 2,049 bytes of UTF-8; at most 2,048 are taken"),
        ("pattern", "é" * 1025, "has 2,050 bytes"),
        ("pattern", "a{0}", "matches the empty text alone"),
        ("json_schema", "{", "cannot be turned into a pattern: Expecting property name"),
        ("json_schema", '{"type":"frog"}', "cannot be turned into a pattern: Unsupported type"),
        ("json_schema", '{"type":"integer","minimum":3}', "has 'minimum', which a pattern cannot"),
        ("json_schema", '{"items":{"allOf":[]},"type":"array"}', "has 'allOf'"),
        ("json_schema", '{"type":"string","pattern":"a","maxLength":3}', "beside 'maxLength'"),
        ("json_schema", " " * 16385, "has 16,385 bytes of UTF-8; at most 16,384 are taken"),
        ("json_schema", "[" * 10000, "cannot be turned into a pattern"),
    ],
)
def test_bad_input_names_its_field(field: str, given: str, problem: str) -> None:
    automata = Automata()
    asked = automata.of_pattern if field == "pattern" else automata.of_schema
    with pytest.raises(InputError) as error:
        run(asked(given, VOCABULARY, ""))
    assert str(error.value).startswith(f"{field}: ")
    assert problem in str(error.value)


def test_schema_takes_its_values() -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"enum": ["c", "d"]}},
        "required": ["a", "b"],
    }
    made = run(Automata().of_schema(json.dumps(schema), VOCABULARY, ""))
    for text in ('{"a":1,"b":"c"}', '{ "a": -20, "b": "d" }'):
        assert json.loads(text)
        assert made.accepting[take(made, text)]
    assert take(made, '{"b"') == NONE
    assert take(made, '{"a":01') == NONE


def test_schema_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"'\.\[schema\]'"):
        run(Automata().of_schema("{}", VOCABULARY, ""))


def test_banned_symbols_take_with_them_what_needs_them() -> None:
    made = run(Automata().of_pattern("a(bc|d)e?", VOCABULARY, ""))
    index = VOCABULARY.symbols.index
    without = made.without([index("c"), index("e")])
    after = int(made.next[0, index("a")])
    assert np.flatnonzero(without.next[after] != NONE).tolist() == [index("d")]
    assert without.is_final[take(without, "ad")]
    assert without.digest == made.digest
    assert not made.without([index("a")]).leads_on(0)

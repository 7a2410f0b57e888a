"""Texts match their patterns, whoever is beside them and however their loop runs are cut."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from serving.constraints.automaton import Automaton
from serving.constraints.positions import PatternError
from serving.engine.engine import Engine
from serving.engine.options import EngineOptions
from serving.engine.rows import tables
from serving.engine.sequences.request import Chunk, SequenceRequest
from serving.engine.sequences.rules import Rule
from serving.runtime.decoder import Decoder
from serving.runtime.onnx import Device
from serving.runtime.sampling import SamplingParams
from tests.before import without_graphs
from tests.conftest import TINY_SYMBOLS
from tests.serving.constraints.made import automaton
from tests.serving.constraints.patterns import matches
from tests.serving.engine.harness import Reader
from training.model.model import CELLS
from training.settings import Cell
from unroll.bundle.folder import load_bundle
from unroll.bundle.manifest import DECODE_CONSTRAINED, DECODE_FULL
from unroll.bundle.vocabulary import Vocabulary
from unroll.errors import InputError
from unroll.terms import Capsules, FinishReason

VOCABULARY = Vocabulary(TINY_SYMBOLS, "\n")
LEAVES = st.sampled_from(["a", "b", "c", "[a-d]", "[^a\n]", ".", r"\s", r"\w", "£"])
PATTERNS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds("{}{}".format, inner, inner),
        st.builds("(?:{}|{})".format, inner, inner),
        st.builds("(?:{}){}".format, inner, st.sampled_from(["*", "+", "?", "{2,5}", "{3}"])),
    ),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def engines(tiny_bundles: dict[Cell, Path]) -> dict[Cell, Engine]:
    """Engines of each cell that step by hand."""
    bundles = {cell: load_bundle(folder) for cell, folder in tiny_bundles.items()}
    return {
        cell: Engine(bundle, Decoder(bundle, Device.CPU), EngineOptions(slots=9))
        for cell, bundle in bundles.items()
    }


@pytest.fixture
def engine(engines: dict[Cell, Engine]) -> Engine:
    """One of them."""
    return engines["gru"]


def compiled(pattern: str) -> Automaton:
    """Return the automaton of a pattern that can go on beyond the empty text."""
    try:
        made = automaton(pattern, VOCABULARY)
    except PatternError:
        assume(False)
    assume(not made.is_final[0])
    return made


def ask(made: Automaton | None, new: int = 40, prompt: str = "", **more: Any) -> SequenceRequest:
    """Ask for a text that matches."""
    return SequenceRequest(
        prompt=VOCABULARY.encode(prompt), max_new_symbols=new, automaton=made, **more
    )


def run(engine: Engine, *requests: SequenceRequest, steps: int | None = None) -> list[Chunk]:
    """Run requests side by side and return all of each."""
    chunks: list[list[Chunk]] = [[] for _ in requests]
    for request, mine in zip(requests, chunks, strict=True):
        engine.submit(request, mine.append)
    while engine.step(steps=steps):
        pass
    return [Chunk.joined(mine) for mine in chunks]


def check(pattern: str, chunk: Chunk, made: Automaton) -> None:
    """Let Python judge a text that ended."""
    assert chunk.error is None
    assert chunk.is_match == matches(pattern, chunk.text)
    if chunk.finish is FinishReason.PATTERN:
        assert chunk.is_match
        assert not any(matches(pattern, chunk.text + symbol) for symbol in TINY_SYMBOLS)
    state = made.walk(0, VOCABULARY.encode(chunk.text))
    assert (state >= 0).all(), "what came leads to a whole match"


@pytest.mark.parametrize("cell", CELLS)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_finished_text_matches(
    engines: dict[Cell, Engine], cell: Cell, data: st.DataObject
) -> None:
    pattern = data.draw(PATTERNS)
    made = compiled(pattern)
    sampling = SamplingParams(temperature=data.draw(st.sampled_from([0.0, 0.8, 2.0])), top_k=3)
    prompt = data.draw(st.sampled_from(["", "abc", "hg fed"]))
    request = ask(made, data.draw(st.integers(1, 30)), prompt, seed=data.draw(st.integers(0, 99)))
    request = replace(request, sampling=data.draw(st.sampled_from([SamplingParams(), sampling])))
    (chunk,) = run(engines[cell], request)
    check(pattern, chunk, made)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(pattern=PATTERNS, cuts=st.lists(st.integers(1, 7), min_size=1, max_size=9), steps=st.data())
def test_text_that_goes_on_from_snapshots_equals_the_whole(
    engines: dict[Cell, Engine], pattern: str, cuts: list[int], steps: st.DataObject
) -> None:
    engine, made = engines["lstm"], compiled(pattern)
    (whole,) = run(engine, ask(made, sum(cuts), "ab", seed=3, snapshots=Capsules.FINAL))
    text, origin, prompt, state, chunk = "", None, "ab", 0, whole
    for cut in cuts:
        request = ask(made, cut, prompt, seed=3, snapshots=Capsules.FINAL)
        request = replace(request, origin=origin, automaton_state=state)
        (chunk,) = run(engine, request, steps=steps.draw(st.integers(1, 5)))
        text += chunk.text
        assert chunk.snapshot is not None
        if chunk.finish is FinishReason.PATTERN:
            assert chunk.snapshot.place is None, "the pattern allows nothing more"
            break
        assert chunk.snapshot.place is not None
        origin, prompt, state = chunk.snapshot, "", chunk.snapshot.place.state
    assert (text, chunk.finish, chunk.is_match) == (whole.text, whole.finish, whole.is_match)
    assert whole.snapshot is not None
    assert chunk.snapshot is not None
    assert chunk.snapshot.pack() == whole.snapshot.pack()
    assert chunk.snapshot.place == whole.snapshot.place


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(patterns=st.lists(PATTERNS, min_size=2, max_size=9), limit=st.sampled_from([2**21, 600]))
def test_text_does_not_depend_on_whom_it_runs_beside(
    engines: dict[Cell, Engine], patterns: list[str], limit: int
) -> None:
    made = [compiled(pattern) for pattern in patterns]
    assume(max(map(len, made)) * 11 < 580)
    requests = [ask(each, 25, "ab"[: k % 3], seed=k) for k, each in enumerate(made)]
    requests[0] = replace(requests[0], automaton=None)
    requests[1] = replace(
        requests[1], sampling=SamplingParams(logit_bias=((2, 3.0), (4, -np.inf))), automaton=None
    )
    engine = engines["gru"]
    alone = [run(engine, request)[0] for request in requests]
    crowded = Engine(engine.bundle, engine.decoder, EngineOptions(slots=len(requests)))
    for slots in crowded.slots:
        slots.rows._tables = tables.Tables(limit)
    together = run(crowded, *requests)
    for one, other, pattern, each in zip(alone, together, patterns, made, strict=True):
        assert (one.text, one.finish, one.is_match) == (other.text, other.finish, other.is_match)
        assert one.log_probs.tolist() == other.log_probs.tolist()
        if one is not alone[0] and one is not alone[1]:
            check(pattern, one, each)
    assert VOCABULARY.symbols[4] not in alone[1].text


def test_rows_without_room_for_their_automata_take_turns(engine: Engine) -> None:
    crowded = Engine(engine.bundle, engine.decoder, EngineOptions(slots=3))
    crowded.slots[0].rows._tables = tables.Tables(11 * 30)
    readers = {name: Reader() for name in "abc"}
    for name, reader in readers.items():
        crowded.submit(ask(automaton(f"{name}{{25}}", VOCABULARY), 25, seed=1), reader)
    ran = 0
    while crowded.step(steps=5):
        ran += 1
        assert max(len(each.outcome.text) for each in readers.values()) <= 5 * (ran // 3 + 1)
    assert ran == 15, "one automaton a loop run"
    assert [each.outcome.text for each in readers.values()] == ["a" * 25, "b" * 25, "c" * 25]


@pytest.mark.parametrize("steps", [1, 7, 60])
def test_stop_string_ends_a_text_within_its_pattern(engine: Engine, steps: int) -> None:
    made = automaton("(?:ab|c)*", VOCABULARY)
    request = ask(made, 60, stop=("ca",), seed=4, snapshots=Capsules.FINAL)
    (chunk,) = run(engine, request, steps=steps)
    assert chunk.finish is FinishReason.STOP
    assert chunk.is_match is matches("(?:ab|c)*", chunk.text) is True
    assert chunk.snapshot is not None
    assert chunk.snapshot.place is not None
    assert chunk.snapshot.place.state == made.walk(0, VOCABULARY.encode(chunk.text + "ca"))[-1]


def test_pattern_that_ends_with_a_stop_strings_end_is_a_stop(engine: Engine) -> None:
    made = automaton("ab{3}", VOCABULARY)
    (chunk,) = run(engine, ask(made, 60, stop=("bb",), seed=4))
    assert (chunk.text, chunk.finish, chunk.is_match) == ("a", FinishReason.STOP, False)
    (chunk,) = run(engine, ask(made, 60, stop=("bbb",), seed=4))
    assert (chunk.text, chunk.finish, chunk.is_match) == ("a", FinishReason.STOP, False)


def test_symbols_held_for_a_stop_string_are_part_of_the_match(engine: Engine) -> None:
    made = automaton("a{9}", VOCABULARY)
    request = ask(made, 4, stop=("aaaaax",), seed=4, snapshots=Capsules.EVERY_CHUNK)
    chunks: list[Chunk] = []
    engine.submit(request, chunks.append)
    while engine.step(steps=1):
        pass
    assert "".join(chunk.text for chunk in chunks) == "aaaa"
    request = replace(request, max_new_symbols=9, snapshots=Capsules.FINAL)
    (whole,) = run(engine, request, steps=2)
    assert (whole.text, whole.finish, whole.is_match) == ("a" * 9, FinishReason.PATTERN, True)


def test_prompt_whose_state_is_kept_does_not_move_the_automaton(engine: Engine) -> None:
    made, prompt = automaton("(?:ab|cd){2,9}", VOCABULARY), "abcdefgh" * 5
    (alone,) = run(engine, ask(made, 18, prompt, seed=2), steps=7)
    keeping = Engine(engine.bundle, engine.decoder, EngineOptions(slots=9, prefix_bytes=2**20))
    for _ in range(2):  # the second skips the prompt
        beside = ask(None, 60, seed=3)
        kept, _ = run(keeping, ask(made, 18, prompt, seed=2), beside, steps=7)
        assert (kept.text, kept.is_match) == (alone.text, alone.is_match)
        assert matches("(?:ab|cd){2,9}", kept.text)
    assert keeping.prefixes.hits == 1


def test_every_state_allows_a_symbol() -> None:
    made = automaton("a(?:b|c{3})£", VOCABULARY)
    biases, after = Rule(made, ((3, 2.0),), len(VOCABULARY)).tables()
    assert np.isfinite(biases).any(axis=1).all()
    final = int(np.flatnonzero(made.is_final)[0])
    assert (after[final] == final).all()


@pytest.mark.parametrize("field", ["pattern", "sampling.logit_bias"])
def test_bundle_of_before_refuses_by_name(
    tiny_bundles: dict[Cell, Path], tmp_path: Path, field: str
) -> None:
    old = Path(shutil.copytree(tiny_bundles["gru"], tmp_path / "old"))
    without_graphs(old, DECODE_CONSTRAINED, DECODE_FULL)
    bundle = load_bundle(old)
    before = Engine(bundle, Decoder(bundle, Device.CPU))
    request = ask(automaton("a+", VOCABULARY))
    if field != "pattern":
        request = ask(None, sampling=SamplingParams(logit_bias=((3, 1.0),)))
    with pytest.raises(
        InputError, match=f"{field}: .*{DECODE_CONSTRAINED}; export the checkpoint again"
    ):
        before.submit(request, Reader())

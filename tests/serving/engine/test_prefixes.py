"""The prefix cache: what was read is not read again, and no text tells the difference."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.engine.engine import Engine
from serving.engine.options import EngineOptions
from serving.engine.sequences import prefixes
from serving.engine.sequences.prefixes import BLOCK, ENTRY_BYTES, PrefixCache
from serving.engine.sequences.snapshot import NO_LOG_PROBS, Snapshot
from serving.runtime.decoder import Decoder
from tests.conftest import TINY_SYMBOLS
from tests.serving.engine.harness import Outcome, Reader, alone, request
from unroll.bundle.folder import Bundle

PROMPT = "bad cab fed a hag\n£ abc deaf " * 20  # 580 symbols


def snapshot(position: int, size: int = 100) -> Snapshot:
    held = np.zeros(0, np.int32)
    return Snapshot(
        position=position, token=1, state=bytes(size), held=held, held_log_probs=NO_LOG_PROBS
    )


def ids(length: int, first: int = 0) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.arange(first, first + length, dtype=np.int64)


def written(engine: Engine, prompt: str, steps: int = 64) -> tuple[Outcome, int]:
    """Return what a prompt gives, and the number of runs that it took."""
    reader = Reader()
    engine.submit(request(engine.bundle.vocabulary, prompt, 20, seed=3), reader)
    runs = 0
    while engine.step(steps=steps):
        runs += 1
    return reader.wait(), runs


def own(engine: Engine, prompt: str) -> Outcome:
    vocabulary = engine.bundle.vocabulary
    return alone(engine.decoder, vocabulary, request(vocabulary, prompt, 20, seed=3))


def test_prompt_is_read_once(bundle: Bundle, decoder: Decoder) -> None:
    engine = Engine(bundle, decoder, EngineOptions(prefix_bytes=2**20))
    first, runs = written(engine, PROMPT)
    assert (engine.prefixes.hits, engine.prefixes.misses) == (0, 1)
    again, fewer_runs = written(engine, PROMPT)
    assert (engine.prefixes.hits, engine.prefixes.misses) == (1, 1)
    assert first == again == own(engine, PROMPT)
    assert runs > 9
    assert fewer_runs == 1


def test_prompts_share_their_whole_blocks(bundle: Bundle, decoder: Decoder) -> None:
    engine = Engine(bundle, decoder, EngineOptions(prefix_bytes=2**20))
    written(engine, PROMPT)
    assert len(engine.prefixes) == 3  # after 256, 512 and all 580 symbols
    for length, left in ((2 * BLOCK + 9, 10), (BLOCK + 40, 41)):
        other = PROMPT[:length] + "£"
        found, runs = written(engine, other, 1)
        assert runs == left + 20
        assert found == own(engine, other)
    assert engine.prefixes.hits == 2


def test_counted_symbols_are_those_of_prompt_and_text_wherever_runs_are_cut(
    bundle: Bundle, decoder: Decoder
) -> None:
    for steps in (5, 64):
        engine = Engine(bundle, decoder, EngineOptions(prefix_bytes=2**20))
        text = written(engine, PROMPT[:257], steps)[0].text
        counted = [
            sample.value
            for counter in (engine.counts.symbols_read, engine.counts.symbols_written)
            for metric in counter.collect()
            for sample in metric.samples
            if sample.name.endswith("_total")
        ]
        assert counted == [257, len(text)]


def test_texts_longer_and_shorter_than_a_kept_prompt(bundle: Bundle, decoder: Decoder) -> None:
    engine = Engine(bundle, decoder, EngineOptions(prefix_bytes=2**20))
    written(engine, PROMPT[:100])
    assert written(engine, PROMPT[:130])[0] == own(engine, PROMPT[:130])
    assert engine.prefixes.hits == 1
    assert written(engine, PROMPT[:99])[0] == own(engine, PROMPT[:99])
    assert engine.prefixes.hits == 1


@pytest.mark.parametrize("steps", [1, 50, 64])
def test_symbols_are_counted_once_though_rows_stop_within_a_loop_run(
    bundle: Bundle, decoder: Decoder, steps: int
) -> None:
    engine = Engine(bundle, decoder, EngineOptions(prefix_bytes=2**20))
    prompt = "bad cab " * 40
    assert len(prompt) > BLOCK
    engine.submit(request(bundle.vocabulary, prompt, 5), Reader())
    engine.submit(request(bundle.vocabulary, "", 100), Reader())
    while engine.step(steps=steps):
        pass
    counted = [
        engine.counts.registry.get_sample_value("unroll_symbols_total", {"kind": kind})
        for kind in ("read", "written")
    ]
    assert counted == [len(prompt), 105]


@pytest.mark.slow
@given(
    prompts=st.lists(
        st.tuples(st.integers(0, 580), st.text(TINY_SYMBOLS, max_size=40)), min_size=1, max_size=6
    ),
    steps=st.integers(5, 64),
    kilobytes=st.sampled_from([0, 2, 1024]),
)
@settings(max_examples=15, deadline=None)
def test_texts_are_the_same_with_and_without(
    bundle: Bundle,
    decoder: Decoder,
    prompts: list[tuple[int, str]],
    steps: int,
    kilobytes: int,
) -> None:
    kept = Engine(bundle, decoder, EngineOptions(slots=3, prefix_bytes=kilobytes * 1024))
    plain = Engine(bundle, decoder, EngineOptions(slots=3))
    for length, ending in prompts * 2:
        prompt = PROMPT[:length] + ending
        assert written(kept, prompt, steps)[0] == written(plain, prompt, 64)[0]
    assert len(plain.prefixes) == plain.prefixes.hits == plain.prefixes.misses == 0


def test_short_prompts_and_scores_are_not_kept(bundle: Bundle, decoder: Decoder) -> None:
    engine = Engine(bundle, decoder, EngineOptions(prefix_bytes=2**20))
    written(engine, PROMPT[:31])
    engine.submit(request(bundle.vocabulary, PROMPT, 0), reader := Reader())
    while engine.step(steps=64):
        pass
    assert len(reader.wait().log_probs) == len(PROMPT)
    assert len(engine.prefixes) == 0


def test_bytes_are_bounded_and_the_least_recently_used_leave() -> None:
    cache = PrefixCache(3 * (100 + ENTRY_BYTES))
    for number in range(3):
        cache.add(ids(40, number), snapshot(40))
    assert cache.find(ids(50)) is not None
    cache.add(ids(41, 9), snapshot(41))
    assert len(cache) == 3
    assert cache.find(ids(40, 1)) is None
    for first in (0, 2):
        assert cache.find(ids(40, first)) is not None
    found = cache.find(ids(60, 9))
    assert found is not None
    assert found.length == 41
    cache.add(ids(40, 5), snapshot(40, 10**6))
    assert len(cache) == 3
    assert (cache.hits, cache.misses) == (4, 1)


def test_longest_prefix_is_found_and_other_beginnings_are_not() -> None:
    cache = PrefixCache(10**6)
    for length in (32, 256, 300):
        cache.add(ids(length), snapshot(length))
    for length, longest in ((1000, 300), (299, 256), (255, 32)):
        found = cache.find(ids(length))
        assert found is not None
        assert found.length == longest
    assert cache.find(ids(31)) is None
    assert cache.find(ids(1000, 1)) is None


@pytest.mark.parametrize("limit", [0, 100])
def test_cache_without_room_keeps_nothing(limit: int) -> None:
    cache = PrefixCache(limit)
    cache.add(ids(40), snapshot(40))
    assert len(cache) == 0
    assert cache.is_on is bool(limit)


def test_callers_do_not_share_what_was_read(bundle: Bundle, decoder: Decoder) -> None:
    engine = Engine(bundle, decoder, EngineOptions(prefix_bytes=2**20))
    for caller, hits in ((b"anna", 0), (b"bert", 0), (b"anna", 1), (b"bert", 2)):
        asked = replace(request(bundle.vocabulary, PROMPT, 20, seed=3), caller=caller)
        engine.submit(asked, reader := Reader())
        while engine.step(steps=64):
            pass
        assert reader.wait() == own(engine, PROMPT)
        assert engine.prefixes.hits == hits


def test_prompts_of_equal_length_and_other_content_are_told_apart() -> None:
    cache = PrefixCache(10**6)
    for first in (0, 1, 2):
        cache.add(ids(300, first), snapshot(first))
    for first in (0, 1, 2):
        found = cache.find(ids(310, first))
        assert found is not None
        assert found.snapshot.position == first


def test_lookup_costs_no_more_however_much_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = PrefixCache(10**9)
    for length in range(32, 5 * BLOCK):
        cache.add(ids(length), snapshot(length, 1))
    hashed: list[bytes] = []
    after = prefixes._Block.after

    def counted(block: prefixes._Block, tail: bytes) -> bytes:
        hashed.append(tail)
        return after(block, tail)

    monkeypatch.setattr(prefixes._Block, "after", counted)
    assert cache.find(ids(100 * BLOCK)).length == 5 * BLOCK - 1  # type: ignore[union-attr]
    assert cache.find(np.full(100 * BLOCK, 3, np.int64)) is None
    assert len(hashed) <= 2 * prefixes.LOOKS_AT_MOST

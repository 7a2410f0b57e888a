"""The likeliest symbols of an engine's texts, however their chunks are cut."""

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from serving.engine.engine import Engine
from serving.engine.options import EngineOptions
from serving.engine.sequences.request import Chunk, SequenceRequest
from serving.runtime.decoder import Decoder
from serving.runtime.host import HostRunner
from serving.runtime.onnx import Device
from serving.runtime.sampling import SamplingParams
from tests.before import without_graphs
from training.settings import Cell
from unroll.bundle.folder import Bundle, load_bundle
from unroll.bundle.manifest import DECODE_CONSTRAINED, DECODE_FULL
from unroll.errors import InputError
from unroll.terms import Capsules, FinishReason

COUNT = 4


@pytest.fixture
def bundle(tiny_bundles: dict[Cell, Path]) -> Bundle:
    """A bundle."""
    return load_bundle(tiny_bundles["lstm"])


@pytest.fixture
def engine(bundle: Bundle) -> Engine:
    """An engine that steps by hand."""
    return Engine(bundle, Decoder(bundle, Device.CPU))


def ask(prompt: list[int], new: int, **more: Any) -> SequenceRequest:
    """Ask for a text with alternatives."""
    ids = np.array(prompt, np.int64)
    return SequenceRequest(prompt=ids, max_new_symbols=new, seed=5, alternatives=COUNT, **more)


def run(engine: Engine, *requests: SequenceRequest, steps: int | None = None) -> list[list[Chunk]]:
    """Run requests side by side and return the chunks of each."""
    chunks: list[list[Chunk]] = [[] for _ in requests]
    for request, mine in zip(requests, chunks, strict=True):
        engine.submit(request, mine.append)
    while engine.step(steps=steps):
        pass
    return chunks


def whole(engine: Engine, request: SequenceRequest, steps: int | None = None) -> Chunk:
    """Run one request and return all of it."""
    return Chunk.joined(run(engine, request, steps=steps)[0])


def told(chunk: Chunk) -> tuple[Any, Any]:
    """Return what a chunk tells of alternatives: one place for each of its symbols."""
    assert chunk.likeliest is not None
    assert len(chunk.likeliest) == len(chunk.log_probs)
    return chunk.likeliest.ids.tolist(), chunk.likeliest.log_probs.tolist()


@pytest.mark.parametrize("steps", [1, 2, 3, 7])
def test_alternatives_do_not_depend_on_how_runs_are_cut(engine: Engine, steps: int) -> None:
    for request in (ask([1, 2, 3], 20), ask([1, 2, 3, 4, 5, 4, 3], 0)):
        once, often = whole(engine, request), whole(engine, request, steps)
        assert (often.text, told(often)) == (once.text, told(once))


def test_alternatives_are_those_of_the_text_scored(engine: Engine, bundle: Bundle) -> None:
    written = whole(engine, ask([1, 2, 3], 20))
    ids = bundle.vocabulary.encode(written.text).tolist()
    scored = whole(engine, ask([1, 2, 3, *ids], 0))
    assert_array_equal(scored.log_probs[3:], written.log_probs)
    assert [each[3:] for each in told(scored)] == list(told(written))


def test_a_row_that_asks_changes_nothing_for_the_one_beside_it(engine: Engine) -> None:
    asking, other = ask([1, 2, 3], 30), replace(ask([4, 5], 25), alternatives=0, seed=6)
    alone = whole(engine, other)
    assert alone.likeliest is None
    first, second = (Chunk.joined(chunks) for chunks in run(engine, asking, other))
    assert (second.text, second.likeliest) == (alone.text, None)
    assert_array_equal(second.log_probs, alone.log_probs)
    assert (first.text, told(first)) == (whole(engine, asking).text, told(whole(engine, asking)))


def test_rows_that_ask_for_different_numbers_get_their_own(engine: Engine) -> None:
    more, fewer = ask([1, 2, 3], 9), replace(ask([1, 2, 3], 9), alternatives=1)
    first, second = (Chunk.joined(chunks) for chunks in run(engine, more, fewer))
    assert first.likeliest is not None
    assert second.likeliest is not None
    assert_array_equal(first.likeliest.ids[:, :1], second.likeliest.ids)


@pytest.mark.parametrize("gathers", [0.0, 60.0])
@pytest.mark.parametrize("snapshots", list(Capsules))
def test_stop_strings_keep_alternatives_beside_their_symbols(
    engine: Engine, gathers: float, snapshots: Capsules
) -> None:
    free = whole(engine, ask([1, 2, 3], 40))
    ids, log_probs = told(free)
    for end in range(3, 30, 4):
        stop = (free.text[end - 2 : end], free.text[end - 1 : end + 4])
        request = ask([1, 2, 3], 40, stop=stop, chunk_seconds=gathers, snapshots=snapshots)
        for steps in (1, 6):
            chunk = whole(engine, request, steps)
            assert chunk.finish is FinishReason.STOP
            length = len(chunk.text)
            assert chunk.text == free.text[:length]
            assert told(chunk) == (ids[:length], log_probs[:length])


def test_text_goes_on_from_a_snapshot_with_the_same_alternatives(engine: Engine) -> None:
    request = ask([1, 2, 3], 30, snapshots=Capsules.EVERY_CHUNK)
    ids, log_probs = told(whole(engine, request))
    for chunk in run(engine, request, steps=4)[0][:-1]:
        done = chunk.generated
        rest = replace(request, prompt=request.prompt[:0], origin=chunk.snapshot)
        assert told(whole(engine, replace(rest, max_new_symbols=30 - done))) == (
            ids[done:],
            log_probs[done:],
        )


def test_symbols_held_by_a_snapshot_have_no_alternatives(engine: Engine) -> None:
    free = whole(engine, ask([1, 2, 3], 20))
    stop = (free.text[3:6] + "\u0000",)
    request = ask([1, 2, 3], 20, stop=stop, snapshots=Capsules.EVERY_CHUNK)
    first, *_ = run(engine, request, steps=9)[0]
    assert first.snapshot is not None
    assert (first.text, len(first.snapshot.held)) == (free.text[:3], 3)
    rest = whole(engine, replace(request, prompt=request.prompt[:0], origin=first.snapshot))
    ids, log_probs = told(rest)
    assert ids[:3] == [[-1] * COUNT] * 3
    assert (ids[3:17], log_probs[3:17]) == tuple(each[6:] for each in told(free))


def test_bundle_of_before_tells_to_export_again(bundle: Bundle, tmp_path: Path) -> None:
    old = Path(shutil.copytree(bundle.folder, tmp_path / "old"))
    without_graphs(old, DECODE_CONSTRAINED, DECODE_FULL)
    engine = Engine(load_bundle(old), Decoder(load_bundle(old), Device.CPU))
    with pytest.raises(InputError, match=r"top_log_probs: .* export the checkpoint again"):
        engine.submit(ask([1], 1), print)
    assert whole(engine, replace(ask([1], 3), alternatives=0)).text


def test_another_device_than_the_cpu_tells_so_at_once(bundle: Bundle) -> None:
    decoder = Decoder(bundle, Device.CPU)
    options = EngineOptions(device=Device.CUDA)
    engine = Engine(bundle, decoder, options, new_runner=partial(HostRunner, decoder))
    with pytest.raises(InputError, match="top_log_probs: cannot be had from a model on cuda"):
        engine.submit(ask([1], 1), print)
    assert whole(engine, replace(ask([1], 3), alternatives=0)).text


def test_greedy_text_is_the_first_alternatives(engine: Engine, bundle: Bundle) -> None:
    chunk = whole(engine, ask([1, 2, 3], 50, sampling=SamplingParams(temperature=0)))
    ids, log_probs = told(chunk)
    assert bundle.vocabulary.decode(row[0] for row in ids) == chunk.text
    assert [row[0] for row in log_probs] == chunk.log_probs.tolist()

"""Symbols that are all given are read without the sampler, at the loop's bits."""

from dataclasses import replace
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
import torch

from export.graph.arithmetic import Precision
from export.proof.quality import Texts
from serving.runtime import decoder as decoder_module
from serving.runtime.decoder import FREE, Decoder, LoopResult, LoopRun, State
from serving.runtime.onnx import Device
from serving.runtime.sampling import SamplingParams
from tests.before import without_graphs
from tests.conftest import TINY_SYMBOLS, export_briefly, tiny_checkpoint
from tests.serving.runtime.runs import assert_same_bits, random_run
from training.model.model import CELLS
from training.settings import Cell
from unroll.bundle.folder import load_bundle
from unroll.bundle.manifest import READ

V = len(TINY_SYMBOLS)
T, N = 9, 6
Pair = tuple[Decoder, Decoder]


def pair(folder: Path, copy: Path) -> Pair:
    """Open a bundle, and the same without the graph that reads."""
    copytree(folder, copy)
    without_graphs(copy, READ)
    both = Decoder(load_bundle(folder), Device.CPU), Decoder(load_bundle(copy), Device.CPU)
    assert [decoder.has_read for decoder in both] == [True, False]
    return both


@pytest.fixture(scope="module", params=[*CELLS, "gru in int8", "two lstms"])
def decoders(
    request: pytest.FixtureRequest,
    tiny_bundles: dict[Cell, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Pair:
    tmp_path = tmp_path_factory.mktemp("decoders")
    if request.param in CELLS:
        return pair(tiny_bundles[request.param], tmp_path / "copy")
    if request.param == "two lstms":
        export_briefly(tiny_checkpoint("lstm", members=2), tmp_path / "bundle")
    else:
        ids = torch.randint(0, V, (4000,), generator=torch.Generator().manual_seed(1)).numpy()
        texts = Texts(training=ids, validation=ids[:1000])
        export_briefly(
            tiny_checkpoint("gru"), tmp_path / "bundle", precision=Precision.INT8, texts=texts
        )
    return pair(tmp_path / "bundle", tmp_path / "copy")


def given_run(decoder: Decoder) -> tuple[LoopRun, State]:
    """Make rows that read from random states, each a number of steps of its own."""
    run, state = random_run(decoder, V, T, [SamplingParams(top_k=2)] * N)
    forced = np.random.default_rng(5).integers(0, V, (T, N))
    steps = np.array([T, 1, 4, T - 1, 2, T])
    forced[np.arange(T)[:, None] >= steps] = FREE
    return replace(run, forced=forced, steps=steps), state


def of_steps(result: LoopResult, run: LoopRun) -> LoopResult:
    """Leave out what comes after a row's steps, which means nothing."""
    is_alive = np.arange(T)[:, None] < run.steps
    return replace(
        result,
        tokens=np.where(is_alive, result.tokens, 0),
        log_probs=np.where(is_alive, result.log_probs, 0),
    )


@pytest.mark.parametrize("at_once", [2**24, 3 * N * V, 1])
def test_it_gives_the_bits_of_the_loop(
    decoders: Pair, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoder_module, "LOGITS_AT_MOST", at_once)
    reader, loop = decoders
    run, state = given_run(reader)
    assert run.is_read
    expected = of_steps(loop.run(run, state), run)
    assert_same_bits(of_steps(reader.run(run, state), run), expected)


def test_without_scores_it_gives_the_state_alone(decoders: Pair) -> None:
    reader, loop = decoders
    run, state = given_run(reader)
    result = reader.run(replace(run, is_scored=False), state)
    assert np.isnan(result.log_probs).all()
    for name, tensor in loop.run(run, state).state.items():
        np.testing.assert_array_equal(result.state[name], tensor)


def test_a_run_that_draws_a_symbol_is_the_loop_s(decoders: Pair) -> None:
    reader, loop = decoders
    run, state = given_run(reader)
    run.forced[T - 2, 0] = FREE
    assert not run.is_read
    assert_same_bits(reader.run(run, state), loop.run(run, state))

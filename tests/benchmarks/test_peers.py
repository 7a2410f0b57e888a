"""Every peer writes the text that the loop and torch write, or says why it cannot run."""

import importlib.util
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from benchmarks.decode.judge import Judge
from benchmarks.decode.loop import read_by_the_loop, whole_loop
from benchmarks.decode.peers.peer import NotRunError, Work, Writer, needed
from benchmarks.decode.peers.registry import INT8_PEERS, PEERS
from benchmarks.decode.text import Text, text_without_ties
from export.graph.weights import ModelWeights
from export.proof.reference import TIE
from serving.runtime.onnx import Device
from tests.conftest import tiny_checkpoint
from training.model.model import CELLS
from training.settings import Cell
from unroll.bundle.folder import load_bundle

pytestmark = pytest.mark.slow

T, N = 13, 6
PACKAGE = {"jax": "jax", "openvino": "openvino"}
SETUPS = [
    pytest.param(name, setup, id=f"{name}, {setup}")
    for name, peer in PEERS.items()
    for setup in peer
]


@pytest.fixture(scope="module", params=CELLS)
def work_and_text(request: pytest.FixtureRequest, tiny_bundles: dict[Cell, Path]) -> object:
    model = tiny_checkpoint(request.param).model()
    text = text_without_ties(model, T, N)
    work = Work(
        model=model,
        weights=ModelWeights.of(model),
        bundle=load_bundle(tiny_bundles[request.param]),
        uniform=text.uniform,
        device=Device.CPU,
    )
    return work, text


@pytest.mark.parametrize(("name", "setup"), SETUPS)
def test_a_peer_writes_what_torch_writes(
    work_and_text: tuple[Work, Text], name: str, setup: str
) -> None:
    work, text = work_and_text
    make: Callable[[Work], Writer] = PEERS[name][setup]
    if name in PACKAGE and importlib.util.find_spec(PACKAGE[name]) is None:
        with pytest.raises(NotRunError, match=f"{PACKAGE[name]} is not installed"):
            make(work)
        return
    write = make(work)
    np.testing.assert_array_equal(write(), text.tokens)
    np.testing.assert_array_equal(write(), text.tokens)  # each call writes it from the start


@pytest.mark.parametrize(
    ("name", "setup"), [(name, setup) for name, peer in INT8_PEERS.items() for setup in peer]
)
def test_a_peer_in_8_bits_reads_almost_as_torch_reads(
    work_and_text: tuple[Work, Text], name: str, setup: str
) -> None:
    work, text = work_and_text
    make = INT8_PEERS[name][setup]
    has_none = name == "torch" and work.weights.cell.startswith("rnn")
    if has_none or importlib.util.find_spec(PACKAGE.get(name, name)) is None:
        with pytest.raises(NotRunError):
            make(work)
        return
    peer = make(work)
    assert peer.write().shape == text.tokens.shape
    np.testing.assert_array_equal(peer.write(), peer.write())
    judge = Judge(work.model)
    assert abs(judge.loss("as it is", partial(read_by_the_loop, work))) < 1e-5
    assert 0 < abs(judge.loss("peer", peer.log_probs)) < 0.1  # 7 units are coarse in 8 bits


def test_the_loop_writes_what_torch_writes(work_and_text: tuple[Work, Text]) -> None:
    work, text = work_and_text
    np.testing.assert_array_equal(whole_loop(work)(), text.tokens)
    assert len(np.unique(text.tokens)) > 3  # a stuck text would hide differences


def test_rows_with_ties_are_left_out(
    work_and_text: tuple[Work, Text], monkeypatch: pytest.MonkeyPatch
) -> None:
    work, text = work_and_text
    monkeypatch.setattr("benchmarks.decode.text.TIE", 4e2 * TIE)
    wider = text_without_ties(work.model, T, N)
    assert wider.uniform.shape == text.uniform.shape
    assert not np.array_equal(wider.uniform, text.uniform)


def test_a_package_that_is_not_there_is_a_reason_not_to_run() -> None:
    with pytest.raises(NotRunError, match="no_such_package is not installed"):
        needed("no_such_package.core")

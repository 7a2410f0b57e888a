"""What a bundle cannot do is found out before it is served."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.runtime.decoder import Decoder
from serving.runtime.initializers import external_initializers
from serving.runtime.onnx import Device
from serving.runtime.probe import probe
from tests.before import without_graphs
from training.model.model import CELLS
from training.settings import Cell
from unroll.bundle.files import describe
from unroll.bundle.folder import Bundle, load_bundle
from unroll.bundle.manifest import DECODE, MANIFEST, READ, STEP, WEIGHTS
from unroll.errors import BundleError

Json = Any


@pytest.fixture
def folder(tiny_bundles: dict[Cell, Path], tmp_path: Path) -> Path:
    """Copy a bundle, to be damaged."""
    return Path(shutil.copytree(tiny_bundles["rnn_relu"], tmp_path / "bundle"))


def probed(folder: Path) -> Bundle:
    """Load a bundle as a server does."""
    bundle = load_bundle(folder)
    probe(bundle, Decoder(bundle, Device.CPU))
    return bundle


def forge(folder: Path, change: Callable[[Json], None]) -> None:
    """Change a manifest, then make its hashes and its fingerprint right again."""
    values = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    change(values)
    values["files"] = {
        name: asdict(describe((folder / name).read_bytes())) for name in values["files"]
    }
    (folder / MANIFEST).write_text(json.dumps(values), encoding="utf-8")
    try:
        load_bundle(folder)
    except BundleError as error:
        values["fingerprint"] = str(error).split("its contents give ")[1].split(";")[0]
    (folder / MANIFEST).write_text(json.dumps(values), encoding="utf-8")


def refuse(folder: Path, named: str) -> None:
    """Expect one line that names the folder and says this."""
    with pytest.raises(BundleError) as caught:
        probed(folder)
    message = str(caught.value)
    assert str(folder) in message
    assert named in message
    assert message.count(chr(10)) == 0


@pytest.mark.parametrize("cell", CELLS)
def test_whole_bundle_passes(tiny_bundles: dict[Cell, Path], cell: Cell) -> None:
    assert probed(tiny_bundles[cell]).manifest.model.cell == cell


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 0.5, 1])
def test_weight_that_is_no_number_is_refused(folder: Path, value: float, place: float) -> None:
    weights = np.fromfile(folder / WEIGHTS, "<f4")
    index = round(place * (len(weights) - 1))
    weights[index] = value
    weights.tofile(folder / WEIGHTS)
    forge(folder, lambda manifest: None)
    refuse(folder, f"the number at byte {4 * index} is {value}")


def test_weights_that_overflow_are_refused(folder: Path) -> None:
    weights = np.fromfile(folder / WEIGHTS, "<f4")
    (weights * np.float32(1e30)).tofile(folder / WEIGHTS)
    forge(folder, lambda manifest: None)
    refuse(folder, "numbers that are not finite")


@pytest.mark.parametrize("reads_apart", [True, False])
def test_every_symbol_of_a_large_vocabulary_is_read(
    tiny_bundles: dict[Cell, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    reads_apart: bool,
) -> None:
    folder = Path(shutil.copytree(tiny_bundles["gru"], tmp_path / "gru"))
    monkeypatch.setattr("serving.runtime.probe._check_weights", lambda bundle: None)
    monkeypatch.setattr("serving.runtime.probe.WHOLE_AT_MOST", 4)
    monkeypatch.setattr("serving.runtime.probe.ROWS", 2)
    if not reads_apart:
        without_graphs(folder, READ)
    probed(folder)
    offset, V, row = _table_of_the_first_layer(folder)
    weights = np.fromfile(folder / WEIGHTS, "<f4")
    weights[offset + 5 * row : offset + 6 * row] = np.nan  # of one symbol in the middle
    weights.tofile(folder / WEIGHTS)
    forge(folder, lambda manifest: None)
    refuse(folder, f"some of its {V} symbols give states that are not finite")


def _table_of_the_first_layer(folder: Path) -> tuple[int, int, int]:
    """Return where the table begins, in numbers, and how many rows and columns it has."""
    found = external_initializers((folder / DECODE).read_bytes())
    (table,) = (each for each in found if each.name == "layer0.z.table")
    rows, columns = table.shape
    return table.offset // 4, rows, columns


def _a_symbol_more(manifest: Json) -> None:
    manifest["symbols"] += "x"
    logits = next(o for o in manifest["graphs"][STEP]["outputs"] if o["name"] == "logits")
    logits["shape"][2] += 1


def _a_symbol_less(manifest: Json) -> None:
    manifest["symbols"] = manifest["symbols"][:-1]
    logits = next(o for o in manifest["graphs"][STEP]["outputs"] if o["name"] == "logits")
    logits["shape"][2] -= 1


@pytest.mark.parametrize("change", [_a_symbol_more, _a_symbol_less])
def test_other_number_of_symbols_than_the_step_graphs_is_refused(
    folder: Path, change: Callable[[Json], None]
) -> None:
    forge(folder, change)
    refuse(folder, f"{STEP}: its outputs are")


@pytest.mark.parametrize(
    ("change", "named"),
    [(_a_symbol_more, "cannot read its 12 symbols"), (_a_symbol_less, "write token ids up to 10")],
)
def test_other_number_of_symbols_than_the_loops_is_refused(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Json], None],
    named: str,
) -> None:
    monkeypatch.setattr("serving.runtime.probe.open_bundle_graphs", lambda *_: None)
    forge(folder, change)
    refuse(folder, named)


@pytest.mark.parametrize("name", [STEP, DECODE])
def test_graph_that_is_none_is_refused(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"no graph")
    forge(folder, lambda manifest: None)
    refuse(folder, f"{name}: ONNX Runtime cannot load it")

"""Each way a bundle can be wrong has its own words."""

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import TINY_SYMBOLS
from training.settings import Cell
from unroll.bundle.files import describe
from unroll.bundle.folder import load_bundle
from unroll.bundle.manifest import DECODE, DECODES, INSPECT, MANIFEST, READ, STEP, WEIGHTS
from unroll.bundle.vocabulary import Vocabulary
from unroll.errors import BundleError

FILES = (STEP, INSPECT, READ, *DECODES, WEIGHTS)
Json = Any  # a manifest as it lies on disk


@pytest.fixture
def bundle(tiny_bundles: dict[Cell, Path], tmp_path: Path) -> Path:
    """Copy a bundle, to be damaged."""
    return Path(shutil.copytree(tiny_bundles["lstm"], tmp_path / "bundle"))


def read(folder: Path) -> Json:
    """Read a manifest as JSON."""
    return json.loads((folder / MANIFEST).read_text(encoding="utf-8"))


def write(folder: Path, manifest: Json) -> None:
    """Write a manifest as JSON."""
    (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")


def refuse(folder: Path, *named: str) -> None:
    """Expect that the bundle is refused with all of these words."""
    with pytest.raises(BundleError) as caught:
        load_bundle(folder)
    assert [words for words in (str(folder), *named) if words not in str(caught.value)] == []


def test_whole_bundle_is_read(bundle: Path) -> None:
    loaded = load_bundle(bundle)
    assert loaded.vocabulary == Vocabulary(TINY_SYMBOLS, "\n")
    assert [tensor.input for tensor in loaded.manifest.state] == ["h_0", "c_0"]


def test_missing_folder_is_named_with_what_makes_one(tmp_path: Path) -> None:
    refuse(tmp_path / "none", "no bundle there", "unroll export")


def test_run_in_place_of_a_bundle_is_named_with_how_to_export_it(tmp_path: Path) -> None:
    (tmp_path / "best.safetensors").touch()
    refuse(tmp_path, "this is a run", f"unroll export --checkpoint {tmp_path}")


def test_folder_without_a_manifest_is_no_bundle(bundle: Path) -> None:
    (bundle / MANIFEST).unlink()
    refuse(bundle, "no bundle there", MANIFEST)


@pytest.mark.parametrize("data", [b"", b"{", b'{"symbols": "\xe9"}', b"\x80\x04K\x01."])
def test_manifest_that_is_no_json_is_refused(bundle: Path, data: bytes) -> None:
    (bundle / MANIFEST).write_bytes(data)
    refuse(bundle, MANIFEST, "is not JSON in UTF-8")


def test_manifest_that_is_no_object_is_refused(bundle: Path) -> None:
    write(bundle, ["format_version", 2])
    refuse(bundle, MANIFEST, "JSON object", "list")


@pytest.mark.parametrize("version", [0, 1, 3, "2", None])
def test_other_version_is_refused_before_anything_else_is_read(
    bundle: Path, version: object
) -> None:
    write(bundle, {"format_version": version})
    refuse(bundle, f"format version {version!r}", "reads 2", "export the checkpoint again")


def _unknown(m: Json) -> None:
    m["colour"] = "red"


def _unknown_inside(m: Json) -> None:
    m["model"]["colour"] = "red"


def _without_state(m: Json) -> None:
    del m["state"]


def _without_dtype(m: Json) -> None:
    del m["state"][0]["dtype"]


def _number_for_text(m: Json) -> None:
    m["symbols"] = 11


def _text_for_number(m: Json) -> None:
    m["files"][STEP]["size"] = "many"


def _graphs_as_list(m: Json) -> None:
    m["graphs"] = list(m["graphs"])


def _float_dimension(m: Json) -> None:
    m["state"][0]["shape"] = [3, "batch", 7.5]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (_unknown, "colour"),
        (_unknown_inside, "colour"),
        (_without_state, "state"),
        (_without_dtype, "state.dtype"),
        (_number_for_text, "symbols"),
        (_text_for_number, "files.size"),
        (_graphs_as_list, "graphs"),
        (_float_dimension, "state.shape"),
    ],
)
def test_key_that_is_unknown_missing_or_of_another_type_is_named(
    bundle: Path, change: Callable[[Json], None], named: str
) -> None:
    manifest = read(bundle)
    change(manifest)
    write(bundle, manifest)
    refuse(bundle, MANIFEST, named)


@pytest.mark.parametrize("name", FILES)
def test_missing_file_is_named(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    refuse(bundle, f"{name}: is missing")


@pytest.mark.parametrize("name", FILES)
def test_short_file_is_named_with_both_sizes(bundle: Path, name: str) -> None:
    data = (bundle / name).read_bytes()
    (bundle / name).write_bytes(data[:-1])
    refuse(bundle, f"{name}: has {len(data) - 1} bytes, the manifest says {len(data)}")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("place", [0, 0.5, 1])
def test_one_flipped_bit_is_seen(bundle: Path, name: str, place: float) -> None:
    data = bytearray((bundle / name).read_bytes())
    data[round(place * (len(data) - 1))] ^= 1
    (bundle / name).write_bytes(data)
    refuse(bundle, f"{name}: has sha256 {describe(bytes(data)).sha256}")


@pytest.mark.parametrize("name", [MANIFEST, *FILES])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_regular_file_is_refused_at_once(
    bundle: Path, name: str, make: Callable[[Path], None]
) -> None:
    (bundle / name).unlink()
    make(bundle / name)
    refuse(bundle, f"{name}: is no regular file")


@pytest.mark.parametrize("name", [MANIFEST, *FILES])
def test_file_that_cannot_be_read_is_named(
    bundle: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def forbidden(path: Path, *others: Any) -> int:  # root may read whatever its mode is
        if path == bundle / name:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real(path, *others)

    monkeypatch.setattr(os, "open", forbidden)
    refuse(bundle, f"{name}: cannot be read: Permission denied")


def test_manifest_of_any_size_is_not_read(bundle: Path) -> None:
    with (bundle / MANIFEST).open("ab") as file:
        file.truncate(2**40)  # a hole
    refuse(bundle, f"{MANIFEST}: has {2**40} bytes, at most")


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        (b'"format_version"', b'"x": ' + b"[" * 100_000 + b', "format_version"', "nested"),
        (b'"format_version"', b'"symbols": "ab", "format_version"', "the key 'symbols' is there"),
        (b'"members": 1', b'"members": true', "model.members = True: there is no truth value"),
        (b'"members": 1', b'"members": 0', "model.members = 0: must be 1 to"),
        (b'"members": 1', b'"members": 2147483648', "model.members = 2147483648: must be 1 to"),
        (b'"members": 1', b'"members": -1', "model.members = -1: must be a whole number from 0"),
        (b'"members": 1', b'"members": 1.0', "members"),
        (
            b'"updates": 0',
            b'"updates": 1180591620717411303424',
            "training.updates = 1.18e+21",
        ),
        (b'"training_loss": 2.5', b'"training_loss": NaN', "training.training_loss = nan"),
        (b'"training_loss": 2.5', b'"training_loss": 1e999', "training.training_loss = inf"),
        (b'"corpus": "tiny"', b'"corpus": "\\ud83d"', "training.corpus: U+D83D is half a"),
    ],
)
def test_manifest_whose_values_make_no_sense_is_refused(
    bundle: Path, old: bytes, new: bytes, named: str
) -> None:
    whole = (bundle / MANIFEST).read_bytes()
    assert whole.count(old) == 1
    (bundle / MANIFEST).write_bytes(whole.replace(old, new))
    refuse(bundle, MANIFEST, named)


def test_bundle_that_took_anothers_place_is_not_read(
    bundle: Path, tiny_bundles: dict[Cell, Path]
) -> None:
    loaded = load_bundle(bundle)
    assert loaded.read(DECODE) == (bundle / DECODE).read_bytes()
    bundle.rename(bundle.with_name("old"))
    shutil.copytree(tiny_bundles["gru"], bundle)
    for name in FILES:
        with pytest.raises(BundleError, match=f"{name}: has .*, the manifest says"):
            loaded.read(name)


def _file_too_many(m: Json) -> None:
    m["files"]["../secret"] = {"size": 1, "sha256": "0"}


def _file_too_few(m: Json) -> None:
    del m["files"][STEP]


def _graph_too_few(m: Json) -> None:
    del m["graphs"][STEP]


def _no_state(m: Json) -> None:
    m["state"] = []


def _state_of_another_input(m: Json) -> None:
    m["state"][1]["input"] = "d_0"


def _state_of_another_output(m: Json) -> None:
    m["state"][1]["output"] = "d_n"


def _state_of_another_width(m: Json) -> None:
    m["state"][0]["shape"] = [3, "batch", 8]


def _state_of_another_dtype(m: Json) -> None:
    m["state"][0]["dtype"] = "float16"


def _state_without_batch(m: Json) -> None:
    m["state"][0]["shape"] = [3, "rows", 7]


def _state_of_rank_two(m: Json) -> None:
    m["state"][0]["shape"] = ["batch", 7]


def _state_without_layers(m: Json) -> None:
    m["state"][0]["shape"] = [0, "batch", 7]


def _state_of_symbolic_width(m: Json) -> None:
    m["state"][0]["shape"] = [3, "batch", "hidden"]


def _one_symbol_more(m: Json) -> None:
    m["symbols"] += "x"


def _symbol_twice(m: Json) -> None:
    m["symbols"] = m["symbols"][:-1] + "a"


def _foreign_start(m: Json) -> None:
    m["start_symbol"] = "z"


def _no_logits(m: Json) -> None:
    m["graphs"][STEP]["outputs"] = m["graphs"][STEP]["outputs"][1:]


def _other_fingerprint(m: Json) -> None:
    m["fingerprint"] = "0" * 64


def _other_order_of_symbols(m: Json) -> None:
    m["symbols"] = m["symbols"][::-1]


def _other_start(m: Json) -> None:
    m["start_symbol"] = "a"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (_file_too_many, "lists the files ['../secret'"),
        (
            _file_too_few,
            "lists the files ['decode-constrained.onnx', 'decode-filtered.onnx', 'decode-full",
        ),
        (
            _graph_too_few,
            "describes the graphs ['decode-constrained.onnx', 'decode-filtered.onnx', 'decode",
        ),
        (_no_state, "lists no state"),
        (_state_of_another_input, "'d_0'"),
        (_state_of_another_output, "'d_n'"),
        (_state_of_another_width, "'h_0' of float32 [3, 'batch', 8]"),
        (_state_of_another_dtype, "'h_0' of float16"),
        (_state_without_batch, "'h_0' has shape [3, 'rows', 7]"),
        (_state_of_rank_two, "'h_0' has shape ['batch', 7]"),
        (_state_without_layers, "'h_0' has shape [0, 'batch', 7]"),
        (_state_of_symbolic_width, "'h_0' has shape [3, 'batch', 'hidden']"),
        (_one_symbol_more, "['time', 'batch', 12] for the vocabulary of 12"),
        (_symbol_twice, "['a']"),
        (_foreign_start, "start symbol 'z'"),
        (_no_logits, "its description says None"),
        (_other_fingerprint, f"fingerprint is {'0' * 64}, its contents give"),
        (_other_order_of_symbols, "its contents give"),
        (_other_start, "its contents give"),
    ],
)
def test_manifest_that_contradicts_itself_or_its_graphs_is_refused(
    bundle: Path, change: Callable[[Json], None], named: str
) -> None:
    manifest = read(bundle)
    change(manifest)
    write(bundle, manifest)
    refuse(bundle, named)


def test_file_in_place_of_a_bundle_is_named(tmp_path: Path) -> None:
    (tmp_path / "best.safetensors").write_bytes(b"weights")
    with pytest.raises(BundleError, match="is a file; a bundle is a folder"):
        load_bundle(tmp_path / "best.safetensors")

"""Each way a bundle can be wrong has its own words."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import TINY_SYMBOLS
from tests.unroll.bundle.damage import refuse, write
from training.settings import Cell
from unroll.bundle.files import describe
from unroll.bundle.folder import load_bundle
from unroll.bundle.manifest import DECODE, DECODES, INSPECT, MANIFEST, READ, STEP, WEIGHTS
from unroll.bundle.vocabulary import Vocabulary
from unroll.errors import BundleError

FILES = (STEP, INSPECT, READ, *DECODES, WEIGHTS)


def test_whole_bundle_is_read(bundle: Path) -> None:
    loaded = load_bundle(bundle)
    assert loaded.vocabulary == Vocabulary(TINY_SYMBOLS, "\n")
    assert [tensor.input for tensor in loaded.manifest.state] == ["h_0", "c_0"]


def test_missing_folder_is_named_with_what_makes_one(tmp_path: Path) -> None:
    refuse(tmp_path / "none", "no bundle there", "unroll export")


def test_run_in_place_of_a_bundle_is_named_with_how_to_export_it(tmp_path: Path) -> None:
    (tmp_path / "best.safetensors").touch()
    refuse(tmp_path, "this is a run", f"unroll export --checkpoint {tmp_path}")


def test_folder_with_other_weights_is_not_taken_for_a_run(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    refuse(tmp_path, "no bundle there", MANIFEST)


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
    refuse(bundle, f"{name}: is not a regular file")


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


def test_file_in_place_of_a_bundle_is_named(tmp_path: Path) -> None:
    (tmp_path / "best.safetensors").write_bytes(b"weights")
    with pytest.raises(BundleError, match="is a file; a bundle is a folder"):
        load_bundle(tmp_path / "best.safetensors")

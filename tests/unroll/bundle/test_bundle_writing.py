"""A bundle is written whole or not at all; its fingerprint is that of its text."""

import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import export_briefly, tiny_checkpoint
from training.run.checkpoint import load_checkpoint, save_checkpoint
from training.settings import Cell
from unroll.bundle.folder import load_bundle, write_bundle
from unroll.bundle.form import TextForm
from unroll.bundle.manifest import (
    DECODE,
    DECODES,
    INSPECT,
    MANIFEST,
    READ,
    STEP,
    WEIGHTS,
    FileSpec,
    Manifest,
    StateTensor,
    fingerprint_of,
)
from unroll.bundle.vocabulary import Vocabulary
from unroll.errors import BundleError

FILES = (STEP, INSPECT, READ, *DECODES, WEIGHTS)


@pytest.fixture
def bundle(tiny_bundles: dict[Cell, Path], tmp_path: Path) -> Path:
    """Copy a bundle."""
    return Path(shutil.copytree(tiny_bundles["lstm"], tmp_path / "bundle"))


def contents(folder: Path) -> dict[str, bytes]:
    """Read all files, hidden ones too."""
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def test_fingerprint_does_not_know_folder_training_or_parity(bundle: Path) -> None:
    before = load_bundle(bundle).manifest.fingerprint
    manifest = json.loads((bundle / MANIFEST).read_text(encoding="utf-8"))
    manifest["training"]["validation_loss"] = 0.125
    manifest["training"]["corpus"] = "another"
    manifest["parity"]["rungs"] = []
    (bundle / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    moved = bundle.rename(bundle.with_name("elsewhere"))
    assert load_bundle(moved).manifest.fingerprint == before


@pytest.mark.parametrize("what", ["symbols", "start", "state", "weights", "graph", "form"])
def test_fingerprint_changes_with_whatever_changes_the_text(what: str) -> None:
    state = [StateTensor(input="h_0", output="h_n", dtype="float32", shape=[3, "batch", 7])]
    files = {name: FileSpec(size=5, sha256=name) for name in FILES}
    other_file = FileSpec(size=5, sha256="other")
    same: dict[str, Any] = {
        "symbols": "abc",
        "start_symbol": "a",
        "state": state,
        "files": files,
    }
    before = fingerprint_of(**same)
    changes: dict[str, dict[str, Any]] = {
        "symbols": {"symbols": "acb"},
        "start": {"start_symbol": "b"},
        "state": {"state": [replace(state[0], shape=[1, "batch", 7])]},
        "weights": {"files": files | {WEIGHTS: other_file}},
        "graph": {"files": files | {DECODE: other_file}},
        "form": {"text_form": TextForm(unicode="nfc")},
    }
    assert fingerprint_of(**(same | changes[what])) != before


def test_bundle_from_before_forms_is_read_as_one_without(tmp_path: Path) -> None:
    written = export_briefly(tiny_checkpoint("gru", layers=1), tmp_path / "bundle")
    values = json.loads((tmp_path / "bundle" / MANIFEST).read_text("utf-8"))
    del values["text_form"]
    (tmp_path / "bundle" / MANIFEST).write_text(json.dumps(values), "utf-8")
    read = load_bundle(tmp_path / "bundle")
    assert read.manifest.fingerprint == written.manifest.fingerprint
    assert read.vocabulary.form == TextForm()


def test_form_of_the_checkpoint_is_the_bundle_s(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint("gru", layers=1)
    form = TextForm(line_ends="newline", unicode="nfc")
    plain = checkpoint.vocabulary
    vocabulary = Vocabulary(plain.symbols, plain.start_symbol, form)
    save_checkpoint(replace(checkpoint, vocabulary=vocabulary), tmp_path / "best.safetensors")
    written = export_briefly(load_checkpoint(tmp_path), tmp_path / "bundle")
    assert load_bundle(tmp_path / "bundle").vocabulary == vocabulary
    assert written.manifest.text_form == form


def test_one_changed_weight_changes_the_fingerprint(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint("gru", layers=1)
    before = export_briefly(checkpoint, tmp_path / "before").manifest.fingerprint
    checkpoint.weights["decoder.bias"][3] += 2**-10
    assert export_briefly(checkpoint, tmp_path / "after").manifest.fingerprint != before


def test_exporting_twice_gives_equal_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        export_briefly(tiny_checkpoint("lstm"), tmp_path / name)
    assert sorted(contents(tmp_path / "one")) == sorted((MANIFEST, *FILES))
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_new_bundle_replaces_the_old_one_and_leaves_no_litter(bundle: Path) -> None:
    (bundle / "stale").write_bytes(b"")
    exported = export_briefly(tiny_checkpoint("gru"), bundle)
    assert exported.manifest.model.cell == "gru"
    assert sorted(p.name for p in bundle.iterdir()) == sorted((MANIFEST, *FILES))
    assert [p.name for p in bundle.parent.iterdir()] == [bundle.name]


def test_files_may_be_read_by_whoever_may_read_the_folder(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        export_briefly(tiny_checkpoint("gru"), tmp_path / "bundle")
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "bundle").iterdir()}
    assert modes == dict.fromkeys((MANIFEST, *FILES), 0o644)
    assert (tmp_path / "bundle").stat().st_mode & 0o777 == 0o755


def failing_fill(draft: Path) -> Manifest:
    """Write half of a bundle and fail."""
    (draft / WEIGHTS).write_bytes(b"half")
    raise OSError("disk full")


def test_fill_that_raises_leaves_the_old_bundle_whole_and_no_litter(bundle: Path) -> None:
    before = contents(bundle.parent)
    with pytest.raises(OSError, match="disk full"):
        write_bundle(bundle, failing_fill)
    assert contents(bundle.parent) == before


def test_fill_that_raises_leaves_nothing_where_nothing_was(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="disk full"):
        write_bundle(tmp_path / "bundle", failing_fill)
    assert list(tmp_path.iterdir()) == []


def test_folder_of_something_else_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "novel.txt").write_text("years of work", encoding="utf-8")
    for place in (tmp_path, tmp_path / "novel.txt"):
        with pytest.raises(BundleError, match=re.escape(f"{place}: is not a bundle")):
            write_bundle(place, failing_fill)
    assert contents(tmp_path) == {"novel.txt": b"years of work"}


def test_empty_folder_may_become_a_bundle(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "before"
    folder.mkdir(parents=True)
    export_briefly(tiny_checkpoint("gru", layers=1), folder)
    assert load_bundle(folder).manifest.model.layers == 1


def test_place_that_cannot_be_written_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(BundleError, match="cannot be written there: "):
        export_briefly(tiny_checkpoint("gru"), tmp_path / "file" / "bundle")

"""Manifests as they lie on disk, and how a bundle is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from unroll.bundle.folder import load_bundle
from unroll.bundle.manifest import MANIFEST
from unroll.errors import BundleError

Json = Any  # a manifest as it lies on disk


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

"""Bundles as earlier releases wrote them."""

import json
from pathlib import Path

from unroll.bundle.manifest import MANIFEST


def without_graphs(folder: Path, *names: str) -> None:
    """Take graphs that came later out of a bundle."""
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    for name in names:
        del manifest["graphs"][name], manifest["files"][name]
        (folder / name).unlink()
    (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")

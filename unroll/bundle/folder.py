"""The bundle: a folder that holds all that is needed to serve one model.

    manifest.json   what this module describes
    step.onnx       one pass over a block of symbols, in standard ONNX operators
    decode.onnx     the compiled loop: prefill, decode and score
    decode-filtered.onnx   the same with top-k, top-p and min-p
    decode-full.onnx       the same with the likeliest symbols; bundles of before have none
    inspect.onnx           the loop's steps with all that they hold; likewise
    read.onnx              the loop over symbols that are all given; likewise, and none in fp16
    unrolled-*.onnx the loop's body, some fixed numbers of times; only in a bundle for CUDA
    weights.bin     the external data of all graphs

Written under a temporary name and renamed. At load every redundancy is checked.
"""

import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import dacite

from unroll.bundle.files import read_checked, read_file
from unroll.bundle.manifest import (
    BATCH,
    DECODE,
    DECODE_FILTERED,
    FORMAT_VERSION,
    LATER,
    MANIFEST,
    SLOTS,
    STEP,
    TIME,
    UNROLLED,
    UNROLLED_IN_0_1,
    WEIGHTS,
    Manifest,
    fingerprint_of,
    unrolled_among,
)
from unroll.bundle.strict_json import parse
from unroll.bundle.swap import swap
from unroll.bundle.vocabulary import Vocabulary
from unroll.errors import BundleError

SIZE_LIMIT = 2**31 - 1
AGAIN = "copy the bundle again, or export its checkpoint again"
OF_RUNS = ("best.safetensors", "last.safetensors")  # what a training leaves


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk whose redundancies agree."""

    folder: Path
    manifest: Manifest
    vocabulary: Vocabulary

    def read(self, name: str) -> bytes:
        """Read one of its files and check that it is still the one that the manifest describes.

        The folder may have been replaced since the bundle was loaded; nothing else of it is run.

        Raises:
            BundleError: the file is missing, unreadable or another one.
        """
        return read_checked(self.folder / name, self.manifest.files[name])


def write_bundle(folder: Path, fill: Callable[[Path], Manifest]) -> None:
    """Write a bundle whole or not at all, replacing one that is there.

    Args:
        folder: where the bundle shall be.
        fill: writes graphs and weights into the folder it is given and returns the manifest; if
            it raises, what was at `folder` stays as it was.

    Raises:
        BundleError: there is something else at `folder`, which would be lost, or nothing can be
            written there.
    """
    if folder.exists() and not ((folder / MANIFEST).is_file() or _is_empty(folder)):
        raise BundleError(
            f"{folder}: is not a bundle and would be overwritten; choose another folder, or "
            "remove it first"
        )
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise BundleError(
            f"{folder}: cannot be written there: {error.strerror}; name another folder"
        ) from error
    try:
        manifest = fill(draft)
        text = json.dumps(asdict(manifest), indent=1, ensure_ascii=False) + "\n"
        (draft / MANIFEST).write_text(text, encoding="utf-8")
        _share(draft)
        swap(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _share(folder: Path) -> None:
    """Let everybody read a folder and its files, whatever the umask: a server is another user."""
    for path in folder.iterdir():
        path.chmod(0o644)
    folder.chmod(0o755)


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())


def load_bundle(folder: Path) -> Bundle:
    """Read a bundle and check that everything in it agrees.

    Raises:
        BundleError: it is missing, damaged, inconsistent or of another version; says which.
    """
    manifest = _read_manifest(folder / MANIFEST)
    try:
        vocabulary = manifest.vocabulary
    except ValueError as error:
        raise BundleError(f"{folder}: {error}; {AGAIN}") from error
    _check_names(folder, manifest)
    _check_files(folder, manifest)
    _check_graphs(folder, manifest, len(vocabulary))
    expected = fingerprint_of(
        manifest.symbols,
        manifest.start_symbol,
        manifest.state,
        manifest.files,
        manifest.text_form,
        manifest.unknown_symbol,
    )
    if manifest.fingerprint != expected:
        raise BundleError(
            f"{folder}: the manifest's fingerprint is {manifest.fingerprint}, its contents give "
            f"{expected}; export the checkpoint again"
        )
    return Bundle(folder, manifest, vocabulary)


def _read_manifest(path: Path) -> Manifest:
    try:
        values = parse(read_file(path))
    except FileNotFoundError as error:
        folder = path.parent
        if any((folder / name).is_file() for name in OF_RUNS):
            raise BundleError(
                f"{folder}: this is a run, not a bundle; export it with `unroll export "
                f"--checkpoint {folder} --bundle bundles/{folder.name}`"
            ) from error
        raise BundleError(
            f"{folder}: no bundle there ({MANIFEST} is missing); `unroll export` writes one"
        ) from error
    except ValueError as error:
        raise BundleError(f"{path}: is not JSON in UTF-8: {error}; {AGAIN}") from error
    if not isinstance(values, dict):
        raise BundleError(
            f"{path}: must hold a JSON object, holds a {type(values).__name__}; {AGAIN}"
        )
    version = values.get("format_version")
    if version != FORMAT_VERSION:
        raise BundleError(
            f"{path}: format version {version!r}, this server reads {FORMAT_VERSION}; export the "
            "checkpoint again with this release"
        )
    try:
        manifest = dacite.from_dict(Manifest, values, dacite.Config(strict=True))
    except (dacite.DaciteError, TypeError) as error:
        raise BundleError(f"{path}: {error}; {AGAIN}") from error
    for name in ("layers", "hidden_size", "embedding_size", "members"):
        if not 1 <= (size := getattr(manifest.model, name)) <= SIZE_LIMIT:
            raise BundleError(f"{path}: model.{name} = {size}: must be 1 to {SIZE_LIMIT}; {AGAIN}")
    return manifest


def _check_names(folder: Path, manifest: Manifest) -> None:
    always = {STEP, DECODE, DECODE_FILTERED}
    for_cuda, in_0_1 = ({kind.name for kind in kinds} for kinds in (UNROLLED, UNROLLED_IN_0_1))
    beside = set(manifest.graphs) - always - LATER
    if not always <= set(manifest.graphs) or beside not in (set(), for_cuda, in_0_1):
        raise BundleError(
            f"{folder}: the manifest describes the graphs {sorted(manifest.graphs)}, a bundle has "
            f"{sorted(always)} and, if it was exported for CUDA, all of {sorted(for_cuda)}; "
            f"{AGAIN}"
        )
    if set(manifest.files) != {*manifest.graphs, WEIGHTS}:
        raise BundleError(
            f"{folder}: the manifest lists the files {sorted(manifest.files)}, a bundle has "
            f"{sorted((*manifest.graphs, WEIGHTS))}; {AGAIN}"
        )


def _check_files(folder: Path, manifest: Manifest) -> None:
    for name, spec in manifest.files.items():
        read_checked(folder / name, spec)


def _check_graphs(folder: Path, manifest: Manifest, vocabulary_size: int) -> None:
    if not manifest.state:
        raise BundleError(f"{folder}: the manifest lists no state tensor; {AGAIN}")
    for tensor in manifest.state:
        layers_batch_hidden = len(tensor.shape) == 3 and tensor.shape[1] == BATCH
        if not layers_batch_hidden or not all(
            isinstance(size, int) and size > 0 for size in tensor.shape[::2]
        ):
            raise BundleError(
                f"{folder}: state {tensor.input!r} has shape {tensor.shape}, must be "
                f"[layers, {BATCH!r}, hidden]; {AGAIN}"
            )
    unrolled = {kind.name for kind in unrolled_among(manifest.graphs)}
    for name, graph in manifest.graphs.items():
        inputs = {spec.name: spec for spec in graph.inputs}
        outputs = {spec.name: spec for spec in graph.outputs}
        for tensor in manifest.state:
            layers, batch, hidden = tensor.shape
            shape = [SLOTS, layers, hidden] if name in unrolled else [layers, batch, hidden]
            for end, specs in ((tensor.input, inputs), (tensor.output, outputs)):
                spec = specs.get(end)
                if spec is None or (spec.shape, spec.dtype) != (shape, tensor.dtype):
                    raise BundleError(
                        f"{folder}: {name} must have {end!r} of {tensor.dtype} {shape}, "
                        f"its description has {spec}; {AGAIN}"
                    )
    logits = {spec.name: spec for spec in manifest.graphs[STEP].outputs}.get("logits")
    if logits is None or logits.shape != [TIME, BATCH, vocabulary_size]:
        raise BundleError(
            f"{folder}: {STEP} must give logits of {[TIME, BATCH, vocabulary_size]} for the "
            f"vocabulary of {vocabulary_size}, its description says {logits}; {AGAIN}"
        )

"""The files of a text: one, a list, a folder or a pattern; plain, or packed with gzip or zstd."""

import glob
import gzip
import hashlib
import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import zstandard

from unroll.errors import CorpusError

CHUNK = 2**24  # bytes
PACKED = 2**20  # bytes
GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
PATTERN = set("*?[")


def find_files(named: str) -> list[Path]:
    """Return the files that a path, a folder, a pattern or a list of these names, in order.

    Of a folder these are all files in it and in its folders, but for hidden ones; of a folder or a
    pattern they are sorted by path. A list is separated as the system's PATH is, by ":" (Windows:
    ";").

    Raises:
        CorpusError: a folder or a pattern has no file.
    """
    if Path(named).exists():
        return _of_one(named)
    return [file for each in named.split(os.pathsep) if each for file in _of_one(each)]


def _of_one(named: str) -> list[Path]:
    path = Path(named)
    if path.is_dir():
        files = sorted(
            file for file in path.rglob("*") if file.is_file() and not _hidden(file, path)
        )
    elif is_pattern(named):
        files = sorted(Path(each) for each in glob.glob(named, recursive=True))  # noqa: PTH207, which takes no absolute pattern
        files = [file for file in files if file.is_file()]
    else:
        return [path]
    if not files:
        raise CorpusError(f"corpus {named!r}: there is no file; name a folder or pattern with some")
    return files


def is_pattern(named: str) -> bool:
    """Tell whether a name is a pattern of files, and none itself."""
    return bool(set(named) & PATTERN) and not Path(named).exists()


def _hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def read_chunks(path: Path) -> Iterator[bytes]:
    """Yield a file's bytes, unpacked if it is packed with gzip or zstd.

    Raises:
        OSError: it cannot be read.
        CorpusError: it is damaged.
    """
    with path.open("rb") as file:
        begin = file.read(len(ZSTD))
        file.seek(0)
        try:
            if begin == ZSTD:
                yield from _unpacked_zstd(file)
            else:
                plain = gzip.GzipFile(fileobj=file) if begin.startswith(GZIP) else file
                while chunk := plain.read(CHUNK):
                    yield chunk
        except (zlib.error, EOFError, gzip.BadGzipFile, zstandard.ZstdError) as error:
            raise CorpusError(
                f"corpus {path}: is damaged where it is packed ({error}); pack or fetch it again"
            ) from error


def _unpacked_zstd(file: BinaryIO) -> Iterator[bytes]:
    """Yield what frames one after the other hold; zstandard's own reader takes half a one for all.

    Raises:
        EOFError: the last one is cut off.
    """
    frame = None
    while packed := file.read(PACKED):
        while packed:
            frame = frame or zstandard.ZstdDecompressor().decompressobj()
            yield frame.decompress(packed)
            packed = frame.unused_data
            frame = None if frame.eof else frame
    if frame is not None:
        raise EOFError("it ends in the middle")


def sha256_of(files: Sequence[Path]) -> str:
    """Return the sha256 of a file's unpacked bytes; of several, of the lines of all of these."""
    each = [_sha256(path) for path in files]
    if len(each) == 1:
        return each[0]
    return hashlib.sha256("".join(f"{digest}\n" for digest in each).encode()).hexdigest()


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    for chunk in read_chunks(path):
        digest.update(chunk)
    return digest.hexdigest()

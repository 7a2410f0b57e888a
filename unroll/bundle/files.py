"""A bundle's files, each read through one descriptor: what was checked is what is used."""

import hashlib
import os
from pathlib import Path

from unroll.bundle.manifest import FileSpec
from unroll.errors import BundleError
from unroll.files import IrregularFileError, open_regular

BYTES_AT_MOST = 64 * 2**20  # of a file whose size nobody told; all of Unicode in JSON takes 15 MB


def read_file(path: Path, size: int | None = None) -> bytes:
    """Read a regular file.

    Args:
        path: where it is.
        size: bytes that it must have; None for any number up to BYTES_AT_MOST.

    Raises:
        FileNotFoundError: it is missing.
        BundleError: it is a pipe, a device or a folder, has another size, or cannot be read.
    """
    try:
        with os.fdopen(open_regular(path), "rb") as file:
            found = os.fstat(file.fileno())
            if size is not None and found.st_size != size:
                raise BundleError(
                    f"{path}: has {found.st_size} bytes, the manifest says {size}; copy it again"
                )
            if found.st_size > BYTES_AT_MOST and size is None:
                raise BundleError(f"{path}: has {found.st_size} bytes, at most {BYTES_AT_MOST}")
            return file.read(found.st_size)
    except FileNotFoundError:
        raise
    except IrregularFileError as error:
        raise BundleError(f"{path}: is not a regular file; copy the whole folder again") from error
    except NotADirectoryError as error:
        raise BundleError(
            f"{path.parent}: is a file; a bundle is a folder, which `unroll export` writes from a "
            "checkpoint"
        ) from error
    except OSError as error:
        raise BundleError(
            f"{path}: cannot be read: {error.strerror}; give its readers the right to read it"
        ) from error


def read_checked(path: Path, spec: FileSpec) -> bytes:
    """Read a file that the manifest describes.

    Raises:
        BundleError: it is missing, unreadable or not the one that is described.
    """
    try:
        data = read_file(path, spec.size)
    except FileNotFoundError as error:
        raise BundleError(f"{path}: is missing; copy the whole folder again") from error
    if (actual := describe(data)) != spec:
        raise BundleError(
            f"{path}: has sha256 {actual.sha256}, the manifest says {spec.sha256}; copy it again"
        )
    return data


def describe(data: bytes) -> FileSpec:
    """Measure the size and sha256 of a file's bytes."""
    return FileSpec(size=len(data), sha256=hashlib.sha256(data).hexdigest())

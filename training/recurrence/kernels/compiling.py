"""Compiling functions over arrays, for this processor."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

from numba import njit
from numba.extending import register_jitable

F = TypeVar("F", bound=Callable[..., Any])
Array = Any  # numba makes a version for every set of its arguments' types


def _stamp() -> str:
    """Return a digest of all that is compiled together."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(each.read_bytes() for each in sources)).hexdigest()[:12]


STAMP = _stamp()


def compiled(function: F) -> F:
    """Compile at the first call, for this processor; the result is kept beside the file.

    Numba looks whether the function's own file has changed, but not at the files of what the
    function calls: a name that changes with them all makes it forget the old result.

    Of fast arithmetic only what leaves infinities and NaN alone: an explosion must be seen.
    """
    function.__qualname__ += f"_{STAMP}"
    fast = {"contract", "arcp", "nsz"}
    return cast(F, njit(nogil=True, fastmath=fast, error_model="numpy", cache=True)(function))


def inlined(function: F) -> F:
    """Make a function of compiled ones, and of Python."""
    return register_jitable(function)

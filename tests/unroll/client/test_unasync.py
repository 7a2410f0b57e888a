"""The blocking client is the asyncio client without asyncio."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from unroll.client.aio import AsyncClient
from unroll.client.client import Client
from unroll.client.faces.aio_session import AsyncSession
from unroll.client.faces.session import Session

ROOT = Path(__file__).parents[3]


def test_blocking_half_is_what_the_asyncio_half_makes() -> None:
    done = subprocess.run(
        [sys.executable, "scripts/unasync.py", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("theirs", "ours"), [(AsyncClient, Client), (AsyncSession, Session)])
def test_both_halves_take_the_same_arguments(theirs: type, ours: type) -> None:
    methods = {name for name in dir(theirs) if not name.startswith("_")}
    assert methods == {name for name in dir(ours) if not name.startswith("_")}
    assert len(methods) >= 7
    for name in methods:
        asynchronous, blocking = (
            inspect.signature(getattr(half, name)).parameters for half in (theirs, ours)
        )
        assert list(asynchronous.values()) == list(blocking.values()), name

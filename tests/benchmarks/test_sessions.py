"""The benchmark of idle sessions runs and checks what it measures."""

import asyncio

import pytest

from benchmarks.sessions.idle import SessionsSettings, measure

pytestmark = pytest.mark.slow


def test_every_session_of_the_samples_comes_back() -> None:
    figures = asyncio.run(measure(SessionsSettings(sessions=300, disk_sessions=40, sample=20)))
    assert figures["state bytes"] == 2048
    assert figures["disk loads a second"] > 0

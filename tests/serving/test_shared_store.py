"""Servers over one store: any of them goes on with any session, and the text is one text."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving.running import ENDLESS, PATIENCE, RunningServer, serve
from tests.unroll.client.stub import Stub, ask, connected, refused
from training.settings import Cell


@pytest.fixture(params=["folder", "redis", "valkey"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, object]:
    """Settings of a store that servers share."""
    if request.param == "folder":
        return {"state_dir": tmp_path / "state"}
    server = request.getfixturevalue(request.param)
    return {"store": server.url, "store_prefix": secrets.token_hex(8)}


@pytest.fixture
def servers(
    where: dict[str, object], tiny_bundles: dict[Cell, Path]
) -> Iterator[tuple[RunningServer, RunningServer]]:
    gru = str(tiny_bundles["gru"])
    with serve(gru, **where) as left, serve(gru, **where) as right:
        yield left, right


@pytest.fixture
def stubs(servers: tuple[RunningServer, RunningServer]) -> Iterator[tuple[Stub, Stub]]:
    with connected(servers[0].address) as left, connected(servers[1].address) as right:
        yield left, right


def test_text_written_in_turns_is_that_of_one_server(stubs: tuple[Stub, Stub]) -> None:
    left, right = stubs
    session = left.start().id
    whole = left.generate("abc", 60).text
    first = left.generate("abc", 10, session=session).text
    parts = [(right, left)[turn % 2].generate("", 10, session=session).text for turn in range(5)]
    assert first + "".join(parts) == whole
    assert left.get(session).position == right.get(session).position == 63
    assert list(right.get(session).marks) == [33, 43, 53, 63]
    left.rewind(session, 43)
    assert right.generate("", 10, session=session).text == parts[3]
    (fork,) = right.fork(session, 7)
    assert left.get(fork.id).position == 53
    right.end(session)
    with refused("SESSION_ENDED"):
        left.generate("a", 5, session=session)


def test_session_that_one_server_uses_is_busy_on_the_other(stubs: tuple[Stub, Stub]) -> None:
    left, right = stubs
    session = left.start().id
    running = left.calls.StreamGenerate(ask("abc", ENDLESS, session=session), timeout=PATIENCE)
    next(running)
    with refused("SESSION_BUSY"):
        right.generate("a", 5, session=session)
    assert right.get(session).position == 0
    running.cancel()


def test_repeated_request_gets_its_answer_from_the_other_server(stubs: tuple[Stub, Stub]) -> None:
    left, right = stubs
    session = left.start().id
    asked = {"session": session, "expected_position": 0}
    first = left.generate("abc", 20, **asked)
    again = right.generate("abc", 20, **asked)
    assert (again.text, again.completion.position) == (first.text, 23)
    assert left.get(session).position == 23

"""A client that is closed says so, whatever is asked of it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from unroll.client.aio import AsyncClient
from unroll.client.client import Client
from unroll.client.faces.aio_session import AsyncSession
from unroll.client.faces.session import Session
from unroll.errors import ClosedError

NOBODY = "127.0.0.1:1"
CALLS: dict[str, Callable[[Any], Any]] = {
    "generate": lambda client: client.generate("a"),
    "stream": lambda client: client.stream("a"),
    "stream that resumes": lambda client: client.stream("a", resume=True),
    "score": lambda client: client.score("a"),
    "inspect": lambda client: client.inspect("a"),
    "find_units": lambda client: client.find_units("a", "1"),
    "generate_many": lambda client: client.generate_many(["a"]),
    "score_many": lambda client: client.score_many(["a"]),
    "start_session": lambda client: client.start_session(),
    "get_session": lambda client: client.get_session("s"),
    "get_model": lambda client: client.get_model(),
    "list_models": lambda client: client.list_models(),
    "wait_until_ready": lambda client: client.wait_until_ready(5),
}
OF_SESSIONS: dict[str, Callable[[Any], Any]] = {
    "generate": lambda session: session.generate("a"),
    "stream": lambda session: session.stream("a"),
    "fork": lambda session: session.fork([1]),
    "end": lambda session: session.end(),
}
INFO: Any = SimpleNamespace(session_id="any", position=0)


@pytest.mark.parametrize("retries", [0, 2])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_closed_client_tells_to_make_another(call: Callable[[Any], Any], retries: int) -> None:
    client = Client(NOBODY, retries=retries)
    client.close()
    _refuses(lambda: call(client))


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_closed_client_for_asyncio_tells_to_make_another(call: Callable[[Any], Any]) -> None:
    async def ask() -> None:
        client = AsyncClient(NOBODY)
        await client.close()
        await _answer(call(client))

    _refuses(lambda: asyncio.run(ask()))


@pytest.mark.parametrize("call", OF_SESSIONS.values(), ids=OF_SESSIONS)
def test_session_of_a_closed_client_tells_to_make_another(call: Callable[[Any], Any]) -> None:
    client = Client(NOBODY)
    client.close()
    _refuses(lambda: call(Session(client._backend, INFO)))

    async def ask() -> None:
        other = AsyncClient(NOBODY)
        await other.close()
        await _answer(call(AsyncSession(other._backend, INFO)))

    _refuses(lambda: asyncio.run(ask()))


def _refuses(call: Callable[[], Any]) -> None:
    with pytest.raises(ClosedError) as caught:
        list(call() or ())
    assert str(caught.value) == "this client is closed; make another one"


async def _answer(answer: AsyncIterator[Any] | Awaitable[Any]) -> None:
    await (anext(answer) if isinstance(answer, AsyncIterator) else answer)

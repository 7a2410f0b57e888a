"""What a supervisor does about a process that does not answer, such as one that is stopped."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from serving.processes import supervisor as supervisors
from serving.processes.child import Ask, Told
from serving.processes.supervisor import Child, Supervisor
from serving.settings import ServerSettings
from tests.serving.running import PATIENCE

Answer = Callable[[Child], None]


class Pipe:
    """Notes what is asked."""

    def __init__(self) -> None:
        self.asked: asyncio.Queue[Ask] = asyncio.Queue()

    def send(self, ask: Ask) -> None:
        self.asked.put_nowait(ask)


def of_two(run: Callable[[Supervisor, list[Child], Answer], Awaitable[None]]) -> None:
    """Run with a supervisor of two processes and a function by which one answers."""

    async def whole() -> None:
        made = Supervisor(ServerSettings(model=("m=folder",), processes=2))
        made._loop = asyncio.get_running_loop()

        def answer(child: Child) -> None:
            told = Told(pipe_of(child).asked.get_nowait().value)
            made._hear(child, told, f"page of {child.serial}")

        none: Any = None
        made._children = {
            number: Child(number, none, cast(Any, Pipe()), made._loop.create_future())
            for number in range(2)
        }
        async with asyncio.timeout(PATIENCE):
            await run(made, list(made._children.values()), answer)

    asyncio.run(whole())


async def a_moment() -> None:
    """Let all go on that waits for nothing."""
    for _ in range(10):
        await asyncio.sleep(0)


def pipe_of(child: Child) -> Pipe:
    return cast(Pipe, child.pipe)


def test_reload_goes_on_past_a_process_that_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(supervisors, "RELOAD_SECONDS", 0.01)

    async def run(made: Supervisor, children: list[Child], answer: Answer) -> None:
        reloading = asyncio.create_task(made._reload())
        made._is_reloading.set()
        assert await pipe_of(children[1]).asked.get() is Ask.RELOAD
        assert await pipe_of(children[0]).asked.get() is Ask.RELOAD
        reloading.cancel()

    of_two(run)
    assert "server process 0 does not answer" in caplog.text


def test_page_waits_once_for_a_process_that_is_silent_and_has_it_again_when_it_speaks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(supervisors, "ANSWER_SECONDS", PATIENCE / 3)

    async def pages(
        made: Supervisor, *speaking: tuple[Child, Answer], later: float = 0.0
    ) -> dict[int, str]:
        asking = asyncio.create_task(made._ask_pages())
        await a_moment()
        for child, answer in speaking:
            answer(child)
        await a_moment()
        assert asking.done() != bool(later), "it must wait for the silent one, and only once"
        loop, now = asyncio.get_running_loop(), asyncio.get_running_loop().time
        monkeypatch.setattr(loop, "time", lambda: now() + later)
        return await asking

    async def run(made: Supervisor, children: list[Child], answer: Answer) -> None:
        silent, other = children
        assert await pages(made, (other, answer), later=PATIENCE / 2) == {1: "page of 1"}
        assert await pages(made, (other, answer)) == {1: "page of 1"}
        answer(silent)
        both = {0: "page of 0", 1: "page of 1"}
        assert await pages(made, (silent, answer), (other, answer)) == both

    of_two(run)

"""The supervisor of several server processes: it starts them, keeps them and ends them."""

import asyncio
import itertools
import logging
import multiprocessing
import os
import secrets
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from threading import Thread
from typing import Any

from prometheus_client import CollectorRegistry

from serving.process import AT_ONCE, describe_metrics, write_port
from serving.processes.child import Ask, Told, run_child, terminal_held_back
from serving.processes.metrics import MergedMetrics
from serving.processes.ports import reserved
from serving.processes.scratch import scratch_folder
from serving.sessions.capsule import KEYS_VARIABLE, has_keys
from serving.settings import ServerSettings
from serving.telemetry.page import MetricsPage
from unroll.errors import UnrollError

ANSWER_SECONDS = 4.0  # for a process's metrics
RELOAD_SECONDS = 60.0  # for a process's bundles, before it is the next one's turn
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0  # seconds before a process that ended is started again
STEADY_SECONDS = 60.0  # after so long, the next end is a first one again
LAST_SECONDS = 10.0  # after the grace time, processes that are still there are killed
log = logging.getLogger(__name__)


@dataclass(eq=False)
class Child:
    """A process.

    Attributes:
        serial: how many were started before it.
        process: itself.
        pipe: to it.
        ready: what it serves, once it does; or why it cannot.
        ended: set when it is gone.
        answers: what is still to come, by kind of question.
        is_silent: whether an answer did not come in time, and nothing since.
    """

    serial: int
    process: SpawnProcess
    pipe: Connection
    ready: "asyncio.Future[list[str]]"
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    answers: dict[Told, "asyncio.Future[Any]"] = field(default_factory=dict)
    is_silent: bool = False


class Supervisor:
    """Runs processes that share a port until SIGTERM or SIGINT.

    Args:
        settings: of the server; `processes` says how many.
    """

    def __init__(self, settings: ServerSettings) -> None:
        settings.validate()
        self.settings = settings
        self._children: dict[int, Child] = {}  # by number, from 0
        self._serials = itertools.count()
        self._scratch: Path | None = None
        self._is_stopping = asyncio.Event()
        self._is_reloading = asyncio.Event()

    async def serve(self, announce: Callable[[list[str]], None]) -> None:
        """Start the processes, start those again that end, and drain all of them in the end.

        Args:
            announce: called with lines that say what is served, once all processes are ready.

        Raises:
            UnrollError: a process cannot begin to serve.
        """
        self._loop = asyncio.get_running_loop()
        self._heed_signals()
        with ExitStack() as closing:
            each = self._shared(closing)
            try:
                for number in range(self.settings.processes):
                    self._start(number, each)
                lines = await self._all_ready()
                if self._is_stopping.is_set():
                    return
                page = self._open_metrics()
                if page is not None:
                    closing.callback(page.close)
                if self.settings.port_file is not None:
                    write_port(self.settings.port_file, each.port)
                keeping = [self._loop.create_task(self._keep(n, each)) for n in self._children]
                keeping.append(self._loop.create_task(self._reload()))
                told = [*lines, *describe_metrics(page), f"{self.settings.processes} processes"]
                announce(told)
                await self._is_stopping.wait()
                for task in keeping:
                    task.cancel()
            finally:
                await self._end()

    def _shared(self, closing: ExitStack) -> ServerSettings:
        """Return a process's settings; what they name is shared by all of them."""
        settings = self.settings
        port = closing.enter_context(reserved("port", settings.host, settings.port))
        http_port = settings.http_port
        if http_port is not None:
            http_port = closing.enter_context(reserved("http_port", settings.host, http_port))
        state_dir = settings.state_dir
        if state_dir is None and settings.store is None:
            state_dir = self._scratch = closing.enter_context(scratch_folder())
        if not has_keys(settings.capsule_keys):
            os.environ[KEYS_VARIABLE] = secrets.token_hex(32)  # the processes inherit it
        return replace(
            settings,
            processes=1,
            port=port,
            http_port=http_port,
            port_file=None,
            metrics_port=None,
            state_dir=state_dir,
            exit_on_engine_failure=True,
        )

    def _start(self, number: int, settings: ServerSettings) -> Child:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        arguments = (settings, theirs, self._scratch)
        process = context.Process(target=run_child, args=arguments, daemon=False)
        with terminal_held_back():
            process.start()
        theirs.close()
        child = Child(next(self._serials), process, ours, self._loop.create_future())
        self._children[number] = child
        Thread(target=self._listen, args=(child,), daemon=True).start()
        return child

    def _listen(self, child: Child) -> None:
        """Pass on what a process tells, on a thread, until the process is gone."""
        with suppress(EOFError, OSError, RuntimeError):  # the last if the loop has ended
            while True:
                message = child.pipe.recv()
                self._loop.call_soon_threadsafe(self._hear, child, *message)
        child.process.join()
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._note_end, child)

    def _note_end(self, child: Child) -> None:
        child.pipe.close()
        _settle(child.ready, UnrollError("a server process ended before it was ready"))
        for answer in child.answers.values():
            answer.cancel()
        child.ended.set()

    def _hear(self, child: Child, what: Told, *more: Any) -> None:
        child.is_silent = False
        if what is Told.READY:
            _settle(child.ready, more[0])
        elif what is Told.FAILED:
            _settle(child.ready, UnrollError(more[0]))
        elif what in child.answers:
            _settle(child.answers.pop(what), more[0])

    async def _all_ready(self) -> list[str]:
        """Return the first process's lines; none if a signal comes before all are ready."""
        stopping = self._loop.create_task(self._is_stopping.wait())
        lines: list[str] = []
        for child in self._children.values():
            waits: list[asyncio.Future[Any]] = [stopping, child.ready]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if not stopping.done():
                lines = lines or child.ready.result()
        stopping.cancel()
        return lines

    async def _keep(self, number: int, settings: ServerSettings) -> None:
        """Start a process again whenever it has ended."""
        pause = FIRST_PAUSE
        while True:
            started = time.monotonic()
            await self._children[number].ended.wait()
            if time.monotonic() - started > STEADY_SECONDS:
                pause = FIRST_PAUSE
            log.error("server process %d has ended; it starts again in %g s", number, pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)
            try:
                await self._start(number, settings).ready
            except (UnrollError, OSError) as error:
                log.error("server process %d cannot start: %s", number, error)

    async def _reload(self) -> None:
        """Reload bundles, one process after the other, each time that it is asked for."""
        while True:
            await self._is_reloading.wait()
            self._is_reloading.clear()
            for number, child in list(self._children.items()):
                try:
                    await self._ask(child, Ask.RELOAD, Told.RELOAD, RELOAD_SECONDS)
                except TimeoutError:
                    log.error("server process %d does not answer; it reloads when it does", number)
                except (asyncio.CancelledError, OSError):  # it has ended
                    pass

    def _open_metrics(self) -> MetricsPage | None:
        port = self.settings.metrics_port
        if port is None:
            return None
        registry = CollectorRegistry()
        registry.register(MergedMetrics(self._pages, self._living))
        return MetricsPage(registry, self.settings.host, port)

    def _living(self) -> list[int]:
        return [child.serial for child in list(self._children.values())]

    def _pages(self) -> dict[int, str]:
        """Return the metrics of each process; called on the page's threads."""
        return asyncio.run_coroutine_threadsafe(self._ask_pages(), self._loop).result()

    async def _ask_pages(self) -> dict[int, str]:
        async def one(child: Child) -> tuple[int, str] | None:
            with suppress(asyncio.CancelledError, TimeoutError, OSError):
                question = Ask.METRICS, Told.METRICS
                page: str = await self._ask(child, *question, ANSWER_SECONDS)
                return child.serial, page
            return None

        found = await asyncio.gather(*map(one, list(self._children.values())))
        return dict(filter(None, found))

    async def _ask(self, child: Child, ask: Ask, answer: Told, seconds: float) -> Any:
        """Ask a process, and wait for its answer, but not for one that was silent before.

        Raises:
            TimeoutError: it does not answer.
            OSError, asyncio.CancelledError: it has ended.
        """
        waiting = child.answers.get(answer)
        if waiting is None:
            child.pipe.send(ask)  # fails if the process is gone, and then nobody waits
            waiting = child.answers[answer] = self._loop.create_future()
        try:
            async with asyncio.timeout(0 if child.is_silent else seconds):
                return await asyncio.shield(waiting)
        except TimeoutError:
            child.is_silent = True
            raise

    async def _end(self) -> None:
        """Let all processes drain; those that take too long are killed."""
        for child in self._children.values():
            if not child.ended.is_set():
                child.process.terminate()
        waits = [child.ended.wait() for child in self._children.values()]
        with suppress(TimeoutError):
            async with asyncio.timeout(self.settings.grace_seconds + LAST_SECONDS):
                await asyncio.gather(*waits)
        for child in self._children.values():
            if not child.ended.is_set():
                child.process.kill()
                await child.ended.wait()

    def _heed_signals(self) -> None:
        """Let the first signal stop, the second end all processes at once, and SIGHUP reload."""

        def stop() -> None:
            if self._is_stopping.is_set():
                for child in self._children.values():
                    child.process.kill()
            self._is_stopping.set()

        for number in AT_ONCE:
            self._loop.add_signal_handler(number, stop)
        self._loop.add_signal_handler(signal.SIGHUP, self._is_reloading.set)


def _settle(future: "asyncio.Future[Any]", outcome: Any) -> None:
    if future.done():
        return
    if isinstance(outcome, BaseException):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)

"""The server as a process: its signals, its port file and its end."""

import asyncio
import gc
import logging
import os
import signal
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType

from serving.runtime.onnx import runtime_name
from serving.server import Server
from serving.settings import ServerSettings
from serving.telemetry.page import MetricsPage
from unroll.bundle.manifest import architecture
from unroll.errors import EngineFailedError, SettingsError

Handlers = Mapping[signal.Signals, Callable[[int, FrameType | None], object] | signal.Handlers]
# What ends the process at once, as if nobody had asked for these signals.
AT_ONCE: Handlers = {
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGINT: signal.default_int_handler,
}

log = logging.getLogger(__name__)


def new_runner() -> asyncio.Runner:
    """Make what runs a server's event loop: uvloop's where it exists, which is not on Windows."""
    try:
        from uvloop import new_event_loop
    except ImportError:
        return asyncio.Runner()
    return asyncio.Runner(loop_factory=new_event_loop)


def describe(server: Server) -> list[str]:
    """Say what a server serves and where: a line for each model, the ports, the metrics."""
    lines = []
    for model in server.models:
        summary = model.bundle.manifest.model
        sizes = summary.cell, summary.hidden_size, summary.layers, summary.members
        lines.append(
            f"{model.name}: {architecture(*sizes)}, "
            f"{summary.parameters:,} parameters, {len(model.bundle.vocabulary)} symbols, "
            f"fingerprint {model.bundle.manifest.fingerprint[:12]}, {model.provider}, "
            f"{model.kernels.value} kernels"
        )
    over_http = f" and {server.http_address}" if server.http_address else ""
    lines.append(f"{runtime_name()}, listening on {server.address}{over_http}")
    return lines + describe_metrics(server.metrics_page)


def describe_metrics(page: MetricsPage | None) -> list[str]:
    """Say where the metrics are, if anywhere."""
    return [] if page is None else [f"metrics at {page.address}"]


async def serve(
    settings: ServerSettings, announce: Callable[[Server], None], *, shares_port: bool = False
) -> None:
    """Serve until SIGTERM or SIGINT, then drain; a second signal ends the process at once.

    SIGHUP reloads changed bundles; one that comes while the models are loaded does so after that.

    Args:
        settings: what to serve, where and how.
        announce: called once the server is ready.
        shares_port: whether it is one of several processes on the same ports. A second signal then
            does nothing: systemd sends one to each process, and the supervisor another.

    Raises:
        EngineFailedError: an engine failed, and `exit_on_engine_failure` is set.
        UnrollError: as Server.start.
    """
    gc.freeze()  # what was imported stays: to look through it for cycles would hold up all texts
    loop, stopping, reloading = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
    afterwards = dict.fromkeys(AT_ONCE, signal.SIG_IGN) if shares_port else AT_ONCE
    _stop_on_signal(loop, stopping, afterwards)
    loop.add_signal_handler(signal.SIGHUP, reloading.set)
    try:
        async with Server(settings, shares_port=shares_port) as server:
            reloads = loop.create_task(_reload(server, reloading))
            if settings.port_file is not None:
                write_port(settings.port_file, server.port)
            announce(server)
            await _first(stopping, *[server.engine_failed] * settings.exit_on_engine_failure)
            _handle(afterwards)
            loop.remove_signal_handler(signal.SIGHUP)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)  # to the very end
            reloads.cancel()
            log.info("draining for up to %g s", settings.grace_seconds)
            await server.stop(settings.grace_seconds)
            if settings.exit_on_engine_failure and server.models.has_failed:
                raise EngineFailedError(
                    "an engine failed, see the log; the process ends so that its supervisor starts "
                    "it again (exit_on_engine_failure)"
                )
    finally:
        _handle(afterwards)


def _stop_on_signal(
    loop: asyncio.AbstractEventLoop, stopping: asyncio.Event, afterwards: Handlers
) -> None:
    """Let the first signal set an event; those that follow have handlers of their own.

    The loop's own handlers would wait until it is free, which it is not while models are loaded.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        _handle(afterwards)
        loop.call_soon_threadsafe(stopping.set)

    for number in AT_ONCE:
        signal.signal(number, stop)


def _handle(handlers: Handlers) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)


async def _reload(server: Server, asked: asyncio.Event) -> None:
    """Reload each time that it is asked for, until cancelled."""
    running: set[asyncio.Task[None]] = set()
    try:
        while True:
            await asked.wait()
            asked.clear()
            task = asyncio.create_task(server.reload())
            running.add(task)
            task.add_done_callback(running.discard)
    finally:
        for task in running:
            task.cancel()


async def _first(*events: asyncio.Event) -> None:
    """Wait until one of the events is set."""
    waits = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()


def write_port(path: Path, port: int) -> None:
    """Write a port to a file that is there whole or not at all."""
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        draft = Path(name)
        try:
            with os.fdopen(handle, "w", encoding="ascii") as file:
                file.write(f"{port}\n")
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise SettingsError(
            f"port_file = {str(path)!r}: cannot be written: {error.strerror}; change --port-file"
        ) from error

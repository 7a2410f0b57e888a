"""Servers behind a proxy are ended and started again in turn, while clients stream (`--help`)."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, TypeVar

from cyclopts import Parameter

from tests.histories.replicas import Replicas, replicas
from tests.soak.clients import RESUMPTIONS, Breaks
from unroll import load
from unroll.cli import run
from unroll.client.client import Client
from unroll.errors import (
    ClosedError,
    SessionBusyError,
    SessionEndedError,
    StoreError,
    UnavailableError,
    UnrollError,
)
from unroll.options import GenerateOptions, SessionOptions
from unroll.ranges import Range, check_ranges

GRACE_SECONDS = 0.3  # of a drain, less than a stream takes: many are cut
REST_SECONDS = 2.0  # after a server is back: the proxy asks each second
SYMBOLS = 4000  # of a text
PART = 500  # symbols of a text in a session that are asked for at once
RETRIES = 10
PAUSE_SECONDS = 0.1
T = TypeVar("T")
AGAIN = (UnavailableError, ClosedError, SessionBusyError, StoreError)  # for a session


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RollingSettings:
    """End three servers behind Envoy in turn, and start them again, while clients stream."""

    minutes: Annotated[float, Range(0)] = 1.0
    """For which it goes on; each server is ended at least once."""

    streams: Annotated[int, Range(1)] = 12
    """Clients with streams that are resumed."""

    sessions: Annotated[int, Range(1)] = 6
    """Clients with streams in sessions."""


@dataclass
class Rolled:
    """What was seen.

    Attributes:
        counts: of what happened, by name.
        wrong: what should not have been.
    """

    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def roll(bundle: Path, folder: Path, seconds: float, *, streams: int, sessions: int) -> Rolled:
    """End and start one server after the other, all at least once.

    Args:
        bundle: to serve.
        folder: for files.
        seconds: for which it goes on.
        streams: clients with streams that are resumed.
        sessions: clients with streams in sessions.
    """
    rolled, breaks = Rolled(), Breaks()
    logger = logging.getLogger(RESUMPTIONS)
    logger.addHandler(breaks)
    logger.setLevel(logging.INFO)
    kept = replicas(bundle, folder, count=3, grace_seconds=GRACE_SECONDS)
    with load(bundle) as model, kept as (servers, _):

        def alone(seed: int) -> str:
            return model.generate("", GenerateOptions(max_new_symbols=SYMBOLS, seed=seed)).text

        is_over, seeds = threading.Event(), count()

        def use(stream: Callable[[Client, int, Rolled], str], name: str) -> None:
            with Client(servers.proxy, retries=RETRIES) as client:
                while not is_over.is_set():
                    seed = next(seeds)
                    try:
                        text = stream(client, seed, rolled)
                    except UnrollError as error:
                        rolled.counts[f"{name} that failed"] += 1
                        rolled.wrong.append(f"{name} {seed}: {error!r}")
                        continue
                    rolled.counts[name] += 1
                    if text != alone(seed):
                        rolled.wrong.append(f"{name} {seed} has another text")

        kinds = [(resumed, "streams")] * streams + [(in_session, "sessions")] * sessions
        threads = [threading.Thread(target=use, args=each, daemon=True) for each in kinds]
        for thread in threads:
            thread.start()
        _roll_servers(servers, seconds, rolled.counts)
        is_over.set()
        for thread in threads:
            thread.join()
    rolled.counts["streams that went on elsewhere"] = breaks.take()
    logger.removeHandler(breaks)
    return rolled


def _roll_servers(servers: Replicas, seconds: float, counts: Counter[str]) -> None:
    ends, index = time.monotonic() + seconds, 0
    while time.monotonic() < ends or index < len(servers.ports):
        servers.drain(index % len(servers.ports))
        servers.start(index % len(servers.ports))
        time.sleep(REST_SECONDS)
        index += 1
    counts["servers ended by SIGTERM"] = index


def resumed(client: Client, seed: int, _: Rolled) -> str:
    """Stream a text that is resumed; the caller hears of no break."""
    options = GenerateOptions(max_new_symbols=SYMBOLS, seed=seed)
    return "".join(piece.text for piece in client.stream("", options, resume=True))


def in_session(client: Client, seed: int, rolled: Rolled) -> str:
    """Stream a text in a session, part by part; a call that fails is made again."""

    def again(call: Callable[[], T]) -> T:
        while True:
            try:
                return call()
            except AGAIN:
                rolled.counts["calls of sessions made again"] += 1
                time.sleep(PAUSE_SECONDS)

    def part() -> str:
        options = GenerateOptions(max_new_symbols=min(PART, SYMBOLS - len(text)))
        return "".join(piece.text for piece in session.stream("", options))

    def end() -> None:
        with suppress(SessionEndedError):  # a call of before, of which no answer came
            session.end()

    session, text = again(lambda: client.start_session(SessionOptions(seed=seed))), ""
    while len(text) < SYMBOLS:
        text += again(part)
    again(end)
    return text


def main() -> None:
    """Run the command line."""
    run(RollingSettings, report, name="python -m tests.histories.rolling")


def report(settings: RollingSettings) -> None:
    """Do it and print what was seen.

    Raises:
        UnrollError: something that should not have been.
    """
    from benchmarks.harness.models import exported, random_checkpoint  # torch; clients do without

    check_ranges(settings)
    model = exported(random_checkpoint("gru-24x1", 31), "fp32")
    with model as bundle, TemporaryDirectory() as folder:
        rolled = roll(
            bundle.folder, Path(folder), 60 * settings.minutes, streams=settings.streams,
            sessions=settings.sessions,
        )  # fmt: skip
    for name, number in sorted(rolled.counts.items()):
        print(f"{name:34} {number:8,}")
    if rolled.wrong:
        raise UnrollError("what should not have been:\n  " + "\n  ".join(rolled.wrong[:20]))


if __name__ == "__main__":
    main()

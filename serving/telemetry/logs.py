"""What the server writes to standard error: lines for people, or JSON.

A thread of its own writes the lines, so that a reader which stops reading holds up no call. Lines
for which there is no room meanwhile are dropped and counted. To wake the thread for each line would
cost more than the line: those that come shortly after others are written together.
"""

import logging
import os
import sys
import time
from asyncio import CancelledError
from enum import Enum
from queue import SimpleQueue
from threading import Event, Thread

from pythonjsonlogger.json import JsonFormatter

HUMAN = "%(asctime)s %(levelname)s %(name)s: %(message)s"
LINES_WAITING = 10_000
REST_SECONDS = 0.05  # between two times that lines are written
LAST_LINES_SECONDS = 1.0  # for what is still to be written at the end
# What a record holds of its own accord; what is more came with `extra`.
_OWN = frozenset([*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"])


class LogFormat(Enum):
    """Format of log lines."""

    HUMAN = "human"
    JSON = "json"


class LogLevel(Enum):
    """Lowest level that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class HumanFormatter(logging.Formatter):
    """Appends the facts of a line to its message, as `name=value`; escapes control characters."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802, logging's name
        """Write the line without what follows it, such as a traceback."""
        facts = [f"{name}={value}" for name, value in vars(record).items() if name not in _OWN]
        return _one_line(" ".join([super().formatMessage(record), *facts]))


class LossyHandler(logging.Handler):
    """Writes lines to a file descriptor on a thread of its own.

    Args:
        descriptor: to write to.
        lines: that may wait; more are dropped.

    Attributes:
        dropped: lines that were not written, so far.
    """

    def __init__(self, descriptor: int, lines: int = LINES_WAITING) -> None:
        super().__init__()
        self.dropped = 0
        self._told = 0  # of them
        self._descriptor = descriptor
        self._most = lines
        self._queue: SimpleQueue[str | None] = SimpleQueue()
        self._closing = Event()
        self._thread = Thread(target=self._write_all, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a line; never waits."""
        if self._queue.qsize() >= self._most:
            self.dropped += 1
            return
        try:
            self._queue.put(self.format(record))
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """Write what is left, as far as the reader takes it soon."""
        super().close()
        self._closing.set()
        self._queue.put(None)  # wakes the thread
        self._thread.join(LAST_LINES_SECONDS)

    def _write_all(self) -> None:
        while not self._closing.wait(REST_SECONDS) or not self._queue.empty():
            lines = [self._queue.get()]
            lines += [self._queue.get() for _ in range(self._queue.qsize())]
            self._write([line for line in lines if line is not None])
            if self.dropped > self._told:
                new, self._told = self.dropped - self._told, self.dropped
                self._write([self.format(_dropped(new))])

    def _write(self, lines: list[str]) -> None:
        text = "".join([f"{line}\n" for line in lines])
        left = memoryview(text.encode(errors="backslashreplace"))
        try:
            while left:  # not by sys.stderr: its lock, held at the end, would abort the process
                left = left[os.write(self._descriptor, left) :]
        except OSError:  # nobody will ever read them
            self.dropped += len(lines)


class CallersDoing(logging.Filter):
    """Keeps from the log what gRPC says there, with a traceback, of what callers do.

    That is metadata which are not UTF-8, and may be a token; an answer that could not be sent since
    the client has gone; and a call that was cut off.
    """

    BEGINNINGS = ("Invalid encoding on", "ExecuteBatchError raised in core")

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a record may be logged."""
        is_cut_off = record.exc_info is not None and record.exc_info[0] is CancelledError
        return not (is_cut_off or str(record.msg).startswith(self.BEGINNINGS))


def hide_callers_doing() -> None:
    """Keep it out of all logs of this process; doing it again does no harm."""
    logger = logging.getLogger("grpc._cython.cygrpc")
    if not any(isinstance(known, CallersDoing) for known in logger.filters):
        logger.addFilter(CallersDoing())


def configure_logging(log_format: LogFormat, level: LogLevel) -> None:
    """Send all lines to standard error.

    Args:
        log_format: of each line.
        level: of the least of them.
    """
    handler = LossyHandler(sys.stderr.fileno())
    handler.setFormatter(_formatter(log_format))
    # What no line has, records need not hold.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.basicConfig(level=level.value.upper(), handlers=[handler])


def _one_line(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(
        symbol if symbol.isprintable() else symbol.encode("unicode_escape").decode("ascii")
        for symbol in text
    )


def _dropped(lines: int) -> logging.LogRecord:
    record = logging.makeLogRecord({"name": __name__, "levelname": "WARNING", "lines": lines})
    record.msg = "lines of the log were dropped: who reads it does not keep up"
    return record


def _formatter(log_format: LogFormat) -> logging.Formatter:
    if log_format is LogFormat.HUMAN:
        return HumanFormatter(HUMAN)
    formatter = JsonFormatter(
        "%(asctime)s %(levelname)s %(name)s %(message)s",
        rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
        datefmt="%Y-%m-%dT%H:%M:%SZ",
    )
    formatter.converter = time.gmtime
    return formatter

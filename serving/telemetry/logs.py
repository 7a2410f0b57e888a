"""What the server writes to standard error: lines for people, or JSON."""

import logging
import time
from enum import Enum

from pythonjsonlogger.json import JsonFormatter

HUMAN = "%(asctime)s %(levelname)s %(name)s: %(message)s"
# What a record holds of its own accord; what is more came with `extra`.
_OWN = frozenset([*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"])


class LogFormat(Enum):
    """How a line looks."""

    HUMAN = "human"
    JSON = "json"


class LogLevel(Enum):
    """What is logged: this and worse."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class HumanFormatter(logging.Formatter):
    """Appends the facts of a line to its message, as `name=value`."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802, logging's name
        """Write the line without what follows it, such as a traceback."""
        facts = [f"{name}={value}" for name, value in vars(record).items() if name not in _OWN]
        return " ".join([super().formatMessage(record), *facts])


def configure_logging(log_format: LogFormat, level: LogLevel) -> None:
    """Send all lines to standard error.

    Args:
        log_format: of each line.
        level: of the least of them.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(_formatter(log_format))
    logging.basicConfig(level=level.value.upper(), handlers=[handler])


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

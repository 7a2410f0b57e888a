"""Words and limits that client, server and compiler share."""

import ipaddress
from enum import Enum

SEED_LIMIT = 2**63
DEFAULT_NEW_SYMBOLS = 256
SAMPLES_AT_MOST = 64
ITEMS_AT_MOST = 1024  # in one message of a call with many texts
ALTERNATIVES_AT_MOST = 20  # to a symbol of a text or score
DEFAULT_FOUND_UNITS = 10
FOUND_UNITS_AT_MOST = 64
STOPS_AT_MOST = 8
STOP_LENGTH_AT_MOST = 256  # symbols
PATTERN_BYTES_AT_MOST = 2048
SCHEMA_BYTES_AT_MOST = 16384
BIASES_AT_MOST = 1024
BIAS_RANGE = (-100.0, 100.0)
WITHIN_SAMPLING = "sampling."  # where protos have what options hold themselves


class FinishReason(Enum):
    """Why a text ended."""

    LENGTH = "length"
    STOP = "stop"
    SHUTDOWN = "shutdown"
    PATTERN = "pattern"


class Capsules(Enum):
    """Which chunks of an answer carry a capsule, from which a later request can continue.

    Attributes:
        NEVER: none.
        FINAL: the last of each sample.
        EVERY_CHUNK: every chunk, so that a stream that breaks can be continued on any server.
    """

    NEVER = "never"
    FINAL = "final"
    EVERY_CHUNK = "every_chunk"


class UnknownSymbols(Enum):
    """What to do with symbols that are not in the vocabulary.

    Attributes:
        REFUSE: the request fails with an error that names them; a model that has an unknown symbol
            reads them as that instead.
        SKIP: they are left out.
        REPLACE: each is replaced by `replacement_symbol`.
    """

    REFUSE = "refuse"
    SKIP = "skip"
    REPLACE = "replace"


class UnitKind(Enum):
    """Which value of a hidden unit.

    Attributes:
        H: its output, h.
        C: the cell of an LSTM, c.
    """

    H = "h"
    C = "c"


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach an address; other names than localhost: no."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False

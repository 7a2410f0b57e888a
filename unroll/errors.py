"""Every error that unroll raises on purpose.

UnrollError
|-- InputError            the caller's input is wrong; carries the field's name
|   |-- UnknownSymbolError    a text holds symbols outside the vocabulary
|   |-- UnknownModelError     no model of that name is served
|   `-- CapsuleError          a capsule is truncated, forged, outdated or of an unknown key
|       |-- ForeignCapsuleError   it belongs to another model
|       `-- OwnerError            it was issued to another caller
|-- SessionError          a session cannot be used
|   |-- SessionUnknownError   the caller has none with that id
|   |-- SessionEndedError     it was ended
|   |-- SessionExpiredError   it was idle for too long
|   |-- SessionEvictedError   it was evicted to make room
|   |-- SessionBusyError      another request is using it
|   |-- SessionLimitError     its caller has as many sessions as it may have
|   |-- PositionError         it is not at the position that the caller expects
|   `-- StoreError            it cannot be stored or loaded, because the disk is full, say
|-- SettingsError         a setting, preset or configuration file is wrong
|-- CorpusError           a corpus cannot be found, fetched, decoded or used
|-- TrainingError         training cannot continue
|   `-- ExplosionError        it exploded too often and was stopped
|-- CheckpointError       a checkpoint is damaged, incomplete or of another version
|-- AdoptionError         a model of another program cannot be adopted
|-- BundleError           a bundle is damaged, inconsistent or of another version
|-- ParityError           the compiled graphs differ from torch
|-- DeviceError           the requested device is not available
|-- AuthenticationError   the caller has no valid token
|-- EngineError           the engine cannot accept or finish a request
|   |-- OverloadedError       its queue is full
|   |   |-- CallerBusyError       its caller has as many calls as it may have
|   |   `-- RateError             its caller makes more calls a second than it may
|   |-- DeadlineError         the deadline passed before the answer was complete
|   |-- CancelledError        the request was cancelled
|   `-- ClosedError           the engine is draining or closed
|-- EngineFailedError     a server's engine failed, so the server exited
|-- MissingExtraError     packages of an extra are missing, or exclude each other
`-- ServerError           a server failed, or sent something that this client does not know
    `-- UnavailableError      no server can be reached

A message names the field or file, what was found, what is allowed and what to do next.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import ClassVar

INTERRUPTED = 130  # exit status: what a shell calls a process that Ctrl-C ended


class UnrollError(Exception):
    """Base of all errors raised on purpose.

    Attributes:
        exit_status: what a command ends with when it fails for this.
        request_id: under which the server's log has the call; empty where no server told one.
        retry_after: in how many seconds the same request may succeed; None where no server told.
    """

    exit_status: ClassVar[int] = 2
    request_id: str = ""
    retry_after: float | None = None


class InputError(UnrollError):
    """The caller's input is wrong.

    Args:
        field: name of the offending field, as the caller knows it (`prompt`, `top_p`, ...).
        problem: what was found, what is allowed, what to do.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


class UnknownSymbolError(InputError):
    """A text has symbols that are not in the vocabulary."""


class UnknownModelError(InputError):
    """No model of that name is served."""


class CapsuleError(InputError):
    """A capsule is truncated, forged, outdated or signed with an unknown key."""


class ForeignCapsuleError(CapsuleError):
    """A capsule belongs to another model."""


class OwnerError(CapsuleError):
    """A capsule was issued to another caller."""


class SessionError(UnrollError):
    """A session cannot be used."""


class SessionUnknownError(SessionError):
    """This caller has no session with that id."""


class SessionEndedError(SessionError):
    """The session was ended."""


class SessionExpiredError(SessionError):
    """The session was idle for too long."""


class SessionEvictedError(SessionError):
    """The session was evicted to make room for others."""


class SessionBusyError(SessionError):
    """Another request is using the session."""


class SessionLimitError(SessionError):
    """The caller has as many sessions as it may have."""


class PositionError(SessionError):
    """The session is not at the position that the caller expects.

    Args:
        message: what to tell.
        actual: the position of its next symbol.
    """

    def __init__(self, message: str, actual: int) -> None:
        super().__init__(message)
        self.actual = actual


class StoreError(SessionError):
    """A session cannot be stored or loaded."""


class SettingsError(UnrollError):
    """A setting, preset or configuration file is wrong."""


class CorpusError(UnrollError):
    """A corpus cannot be found, fetched, decoded or used."""


class TrainingError(UnrollError):
    """Training cannot continue."""


class ExplosionError(TrainingError):
    """Training exploded too often and was stopped; earlier checkpoints are kept."""

    exit_status = 3


class CheckpointError(UnrollError):
    """A checkpoint is damaged, incomplete or of another version."""


class AdoptionError(UnrollError):
    """A model of another program cannot be adopted."""


class BundleError(UnrollError):
    """A bundle is damaged, inconsistent or of another version."""


class ParityError(UnrollError):
    """The compiled graphs differ from torch."""


class DeviceError(UnrollError):
    """The requested device is not available."""


class AuthenticationError(UnrollError):
    """The caller has no valid token."""


class EngineError(UnrollError):
    """The engine cannot accept or finish a request."""


class OverloadedError(EngineError):
    """The engine's queue is full."""


class CallerBusyError(OverloadedError):
    """The caller has as many calls running as it may have."""


class RateError(OverloadedError):
    """The caller makes more calls a second than it may.

    Args:
        message: what to tell.
        retry_after: in how many seconds the next call may succeed.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class DeadlineError(EngineError):
    """The deadline passed before the answer was complete."""


class CancelledError(EngineError):
    """The request was cancelled."""


class ClosedError(EngineError):
    """The engine is draining or closed."""


class EngineFailedError(UnrollError):
    """A server's engine failed, so the server exited."""

    exit_status = 70  # EX_SOFTWARE of sysexits.h


class MissingExtraError(UnrollError):
    """Packages of an extra are missing, or two of them exclude each other."""


class ServerError(UnrollError):
    """A server failed, or sent something that this client does not know."""


class UnavailableError(ServerError):
    """No server can be reached."""


def shown(value: object, most: int = 64) -> str:
    """Return a caller's value as an error quotes it: cut, so that no message grows with it."""
    if isinstance(value, str):
        cut = repr(value[:most])
        return cut if len(value) <= most else f"{cut}… ({len(value)} symbols)"
    told = repr(value)
    return told if len(told) <= most else f"{told[:most]}…"


def counted(count: int, noun: str) -> str:
    """Return a number of things as a message tells it: 1 record, 2,000 records."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def lacking(what: str, package: str | None, extra: str) -> str:
    """Return what an error says where a package is not installed that an extra brings."""
    return f"{what} needs {package}, which is not installed; {installing(extra)} brings it"


def installing(extra: str) -> str:
    """Name the command that installs an extra, at the versions that are known to work."""
    return f"`pip install -c constraints.txt '.[{extra}]'` in a clone of unroll"


def nearest(name: str, known: Iterable[str]) -> str:
    """Return advice for an unknown name: the nearest known one, or all of them."""
    names = sorted(known)
    close = get_close_matches(name, names, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(names) or 'none'}"

"""What is said of a session that a request cannot use."""

from serving.sessions.store import Gone
from unroll.errors import (
    SessionBusyError,
    SessionEndedError,
    SessionError,
    SessionEvictedError,
    SessionExpiredError,
    SessionLimitError,
    SessionUnknownError,
    shown,
)

_GONE = {
    Gone.UNKNOWN: (SessionUnknownError, "no such session was ever started here"),
    Gone.ENDED: (SessionEndedError, "the session was ended"),
    Gone.EXPIRED: (SessionExpiredError, "the session was idle for too long and has expired"),
    Gone.EVICTED: (SessionEvictedError, "the session was evicted to make room for newer ones"),
}
_ADVICE = "; start a new one, or go on from a capsule of it"


def gone(session_id: str, why: Gone) -> SessionError:
    """Tell what became of it."""
    error, what = _GONE[why]
    return error(f"session {shown(session_id)}: {what}{_ADVICE}")


def damaged(session_id: str) -> SessionUnknownError:
    """Tell that what the store has of it cannot be read."""
    return SessionUnknownError(f"session {shown(session_id)}: its record is damaged{_ADVICE}")


def busy(session_id: str) -> SessionBusyError:
    """Tell that another request uses it."""
    return SessionBusyError(
        f"session {session_id!r} is answering another request; wait for that to end, or "
        "fork the session"
    )


def taken_over(session_id: str) -> SessionBusyError:
    """Tell that the lease ended before the request did."""
    return SessionBusyError(
        f"session {session_id!r} was taken over by another server while this request ran, and is "
        "as that one left it; send the request again"
    )


def too_many(there: int, at_most: int) -> SessionLimitError:
    """Tell how many a caller has, and may have."""
    return SessionLimitError(
        f"this caller has {there} sessions, the limit is {at_most}; end some with EndSession, or "
        "hold texts as capsules"
    )

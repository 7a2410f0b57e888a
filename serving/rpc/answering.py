"""What all calls share: an account of those that run, and a status for what they raise."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from grpc.aio import AbortError, InternalError, ServicerContext

from serving.access.callers import current_identity
from serving.rpc.requests import current_call
from serving.sessions.capsule import owner_tag
from unroll.errors import CancelledError, DeadlineError, UnrollError
from unroll.wire import to_status

log = logging.getLogger(__name__)


class Answering:
    """Base of a servicer on an event loop."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    async def wait_idle(self, seconds: float) -> None:
        """Wait until no call is running, for so long at most."""
        if self._running:
            await asyncio.wait(self._running, timeout=seconds)

    @asynccontextmanager
    async def _answering(self, context: ServicerContext[Any, Any]) -> AsyncIterator[None]:
        """Keep account of a call, and answer what it raises with a status.

        The account ends with gRPC's own task, which sends the status after the handler's end.
        """
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        try:
            yield
        except asyncio.CancelledError:
            if context.cancelled():  # by the client, its deadline or the server's stop
                raise
            # gRPC would send no status at all, and the client would wait for ever (grpc#29248).
            await _refuse(context, CancelledError("the call was cancelled"))
        except AbortError:
            raise
        except UnrollError as error:
            await _refuse(context, error)
        except Exception as error:
            if context.cancelled():  # a write to a client that has gone
                return
            call = current_call().request_id
            log.exception("call %s failed for a reason that should not exist", call)
            await _refuse(context, error)


async def _refuse(context: ServicerContext[Any, Any], error: Exception) -> None:
    await context.abort_with_status(to_status(error, current_call().request_id))


def deadline_of(context: ServicerContext[Any, Any]) -> float | None:
    """Return time.monotonic() at a call's deadline; None without one."""
    remaining: float | None = context.time_remaining()  # None without one, whatever its stub says
    return None if remaining is None else time.monotonic() + remaining


async def write(context: ServicerContext[Any, Any], message: Any) -> None:
    """Send a message; returns once the reader has room.

    A cancellation waits for the write to end, well or badly: gRPC takes no status before.

    Raises:
        DeadlineError: the call is over, since its deadline has passed.
        CancelledError: the call is over, since its client has gone.
    """
    writing = asyncio.ensure_future(context.write(message))
    try:
        await asyncio.shield(writing)
    except asyncio.CancelledError:
        await asyncio.wait([writing])
        if not writing.cancelled():
            writing.exception()  # the call's end, which the caller learns by the cancellation
        raise
    except InternalError as error:  # a write fails only so, and before `cancelled` may know
        remaining: float | None = context.time_remaining()
        if remaining is not None and remaining <= 0:
            raise DeadlineError("the deadline passed while the reader had no room") from error
        raise CancelledError("the client has gone") from error


def owner() -> bytes:
    """Return the tag of the identity of who makes this call; zeros for none."""
    return owner_tag(current_identity())

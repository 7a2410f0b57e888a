"""One call of gRPC: how its handler answers, and how it ended."""

import asyncio
from dataclasses import dataclass
from typing import Any

import grpc
from grpc.aio import InternalError, ServicerContext

from serving.access.call import Call
from serving.access.certificates import Names, names_of
from unroll.errors import CancelledError, DeadlineError

CANCELLATION_SECONDS = 1.0  # within which gRPC cancels a call whose write has failed
_CODES = {code.value[0]: code for code in grpc.StatusCode}

Context = ServicerContext[Any, Any]


@dataclass(kw_only=True, slots=True, eq=False)
class RpcCall(Call):
    """One call of gRPC.

    Attributes:
        context: gRPC's own view of it.
        has_gone: whether it is known that its client has, before gRPC knows.
    """

    context: Context
    has_gone: bool = False

    @property
    def system(self) -> str:
        """How it came, as traces name it."""
        return "grpc"

    def names(self) -> Names | None:
        """Return the names in the client's certificate; None without one."""
        return names_of(self.context.auth_context())

    async def write(self, message: Any) -> None:
        """Send a message; returns once the reader has room.

        A cancellation waits for the write to end, well or badly: gRPC takes no status before.

        Raises:
            DeadlineError: the call is over, since its deadline has passed.
            CancelledError: the call is over, since its client has gone.
        """
        writing = asyncio.ensure_future(self.context.write(message))
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            await asyncio.wait([writing])
            if not writing.cancelled():  # else its end, which the caller learns by this
                self.has_gone = writing.exception() is not None
            raise
        except InternalError as error:  # a write fails only so, and before `cancelled` may know
            self.has_gone = True
            await asyncio.sleep(CANCELLATION_SECONDS)  # cut short by the cancellation
            if is_late(self.context):
                raise DeadlineError("the deadline passed while the reader had no room") from error
            raise CancelledError("the client disconnected") from error

    def note_end(self, *, is_answered: bool) -> None:
        """Note the code that the call ended with.

        Args:
            is_answered: whether its handler came to its end.
        """
        # None or an int, whatever its stub says.
        code: grpc.StatusCode | int | None = self.context.code()
        if self.has_gone or self.context.cancelled():
            late, gone = grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED
            self.code = (late if is_late(self.context) else gone).name
        elif code is not None:
            self.code = (_CODES[code] if isinstance(code, int) else code).name
        elif is_answered:
            self.code = grpc.StatusCode.OK.name


def is_late(context: Context) -> bool:
    """Tell whether a call's deadline has passed."""
    left: float | None = context.time_remaining()  # None without one, whatever its stub says
    return left is not None and left <= 0

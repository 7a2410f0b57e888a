"""What clients do that mean no good, by hand and from an address of their own."""

import asyncio
import time
from collections.abc import Callable

from grpc_health.v1 import health_pb2

from tests.serving.rpc.http2 import HEADERS, WINDOW, RawConnection
from tests.soak.account import Asker
from tests.soak.plan import Kind, Step
from tests.soak.server import MESSAGE_BYTES
from tests.soak.texts import ENDLESS, Operation
from unroll.errors import UnavailableError
from unroll.v1 import text_generation_pb2 as pb
from unroll.wire import SERVICE

ADDRESS = "127.0.0.2"
FAR = ((b"grpc-timeout", b"99999999H"),)
WATCH = "/grpc.health.v1.Health/Watch"
CALLS, SESSIONS = 200, 50  # of a greedy one
Act = Callable[[RawConnection, Step], None]


def _path(method: str) -> str:
    return f"/{SERVICE}/{method}"


def _call_with_far_deadline(raw: RawConnection, step: Step) -> None:
    raw.call(_path("Generate"), pb.GenerateRequest(max_new_symbols=5).SerializeToString(), FAR)
    raw.read_ends(1)


def _read_nothing(raw: RawConnection, step: Step) -> None:
    raw.call(WATCH, health_pb2.HealthCheckRequest().SerializeToString())
    endless = pb.GenerateRequest(max_new_symbols=ENDLESS).SerializeToString()
    raw.call(_path("StreamGenerate"), endless, FAR)
    for _ in range(20):
        raw.call(_path("ListModels"))
    raw.read_until(HEADERS)
    time.sleep(step.seconds(0.0, 1.0))


def _finish_nothing(raw: RawConnection, step: Step) -> None:
    for _ in range(8):
        raw.send_part(raw.begin(_path("Generate")), announced=MESSAGE_BYTES - 1, sent=4000)
    time.sleep(step.seconds(0.0, 1.0))


def _send_giants(raw: RawConnection, step: Step) -> None:
    giant = "x" * (MESSAGE_BYTES - 100)
    for request in (
        pb.GenerateRequest(session=giant),
        pb.GenerateRequest(prompt=giant),
        pb.GenerateRequest(capsule=giant.encode()),
    ):
        raw.call(_path("Generate"), request.SerializeToString())
    raw.read_ends(3)


def _call_and_call(raw: RawConnection, step: Step) -> None:
    for _ in range(CALLS):
        raw.call(_path("ListModels"))
    for _ in range(SESSIONS):
        raw.call(_path("StartSession"))
    raw.read_ends(CALLS + SESSIONS)


def _operation(kind: Kind, act: Act, window: int = WINDOW) -> Operation:
    async def operate(asker: Asker, step: Step) -> None:
        target = asker.targets[step.below(2)]

        def run() -> None:
            with RawConnection(target, window, ADDRESS) as raw:
                act(raw, step)

        async with asker.doing(kind) as attempt:
            try:
                await asyncio.to_thread(run)
            except TimeoutError as error:
                attempt.expect(False, f"no answer: {error}")
            except OSError as error:
                raise UnavailableError(f"{target}: {error}") from error

    return operate


OPERATIONS: dict[Kind, Operation] = {
    Kind.FAR_DEADLINE: _operation(Kind.FAR_DEADLINE, _call_with_far_deadline),
    Kind.DEAF: _operation(Kind.DEAF, _read_nothing, window=0),
    Kind.UNFINISHED: _operation(Kind.UNFINISHED, _finish_nothing),
    Kind.GIANT: _operation(Kind.GIANT, _send_giants),
    Kind.GREEDY: _operation(Kind.GREEDY, _call_and_call),
}

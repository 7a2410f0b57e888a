"""What clients do that mean no good, by hand and from an address of their own."""

import asyncio
import time
from collections.abc import Callable

from grpc_health.v1 import health_pb2

from tests.serving.rpc.http2 import HEADERS, WINDOW, RawConnection
from tests.soak.account import Asker, Attempt, operation
from tests.soak.plan import Kind, Step
from tests.soak.server import MESSAGE_BYTES
from tests.soak.texts import ENDLESS
from unroll.errors import UnavailableError
from unroll.v1 import text_generation_pb2 as pb
from unroll.wire import SERVICE

ADDRESS = "127.0.0.2"
FAR = ((b"grpc-timeout", b"99999999H"),)
WATCH = "/grpc.health.v1.Health/Watch"
GENERATE, STREAM, LIST, START = (
    f"/{SERVICE}/{method}"
    for method in ("Generate", "StreamGenerate", "ListModels", "StartSession")
)
CALLS, SESSIONS = 200, 50  # of a greedy one
RudeAct = Callable[[RawConnection, Step], None]


def rude(kind: Kind, window: int = WINDOW) -> Callable[[RudeAct], RudeAct]:
    """Register what a client does on a connection that announces a window of so many bytes."""

    def register(act: RudeAct) -> RudeAct:
        @operation(kind)
        async def operate(asker: Asker, step: Step, attempt: Attempt) -> None:
            target = step.chance.choice(asker.targets)

            def run() -> None:
                with RawConnection(target, window, ADDRESS) as raw:
                    act(raw, step)

            try:
                await asyncio.to_thread(run)
            except TimeoutError as error:
                attempt.expect(False, f"no answer: {error}")
            except OSError as error:
                raise UnavailableError(f"{target}: {error}") from error

        return act

    return register


@rude(Kind.FAR_DEADLINE)
def call_with_far_deadline(raw: RawConnection, step: Step) -> None:
    raw.call(GENERATE, pb.GenerateRequest(max_new_symbols=5).SerializeToString(), FAR)
    raw.read_ends(1)


@rude(Kind.DEAF, window=0)
def read_nothing(raw: RawConnection, step: Step) -> None:
    raw.call(WATCH, health_pb2.HealthCheckRequest().SerializeToString())
    raw.call(STREAM, pb.GenerateRequest(max_new_symbols=ENDLESS).SerializeToString(), FAR)
    for _ in range(20):
        raw.call(LIST)
    raw.read_until(HEADERS)
    time.sleep(step.chance.uniform(0.0, 1.0))


@rude(Kind.UNFINISHED)
def finish_nothing(raw: RawConnection, step: Step) -> None:
    for _ in range(8):
        raw.send_part(raw.begin(GENERATE), announced=MESSAGE_BYTES - 1, sent=4000)
    time.sleep(step.chance.uniform(0.0, 1.0))


@rude(Kind.GIANT)
def send_giants(raw: RawConnection, step: Step) -> None:
    giant = "x" * (MESSAGE_BYTES - 100)
    for field in ({"session": giant}, {"prompt": giant}, {"capsule": giant.encode()}):
        raw.call(GENERATE, pb.GenerateRequest(**field).SerializeToString())
    raw.read_ends(3)


@rude(Kind.GREEDY)
def call_and_call(raw: RawConnection, step: Step) -> None:
    for path in CALLS * [LIST] + SESSIONS * [START]:
        raw.call(path)
    raw.read_ends(CALLS + SESSIONS)

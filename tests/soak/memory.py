"""What strangers make of a server's memory: `python -m tests.soak.memory`, three minutes.

For each attack a new server with its defaults: the most memory meanwhile, and what stays.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

from benchmarks.harness.models import exported, random_checkpoint
from benchmarks.harness.process import ServerProcess, running
from tests.serving.rpc.http2 import RawConnection
from unroll.client.client import Client
from unroll.v1 import text_generation_pb2 as pb
from unroll.wire import SERVICE

MODEL, SYMBOLS = "gru-512x1", 98
GENERATE, LIST = f"/{SERVICE}/Generate", f"/{SERVICE}/ListModels"
MESSAGE = 8 * 2**20  # bytes; the server's limit
LOOK_SECONDS, HOLD_SECONDS, REST_SECONDS = 0.02, 3.0, 3.0
SENDERS = 16  # at once
HEAD = ("", "MiB at rest", "at most", "after", "again at most", "after that")
Attack = Callable[[str], None]


def unfinished_messages(target: str) -> None:
    """Send all but the last byte on 100 connections, as far as the server lets them in."""

    def send(raw: RawConnection) -> None:
        with suppress(OSError):  # hung up on, by the end of this attack
            raw.send_part(raw.begin(GENERATE), announced=MESSAGE, sent=MESSAGE - 1)

    with ExitStack() as stack:
        for raw in [stack.enter_context(RawConnection(target)) for _ in range(100)]:
            threading.Thread(target=send, args=(raw,), daemon=True).start()
        time.sleep(HOLD_SECONDS)


def refused_giants(target: str) -> None:
    """Send 576 session ids of 8 MiB, 16 at once."""
    message = pb.GenerateRequest(session="x" * (MESSAGE - 64)).SerializeToString()

    def send(_: int) -> None:
        with RawConnection(target) as raw:
            raw.call(GENERATE, message)
            raw.read_ends(1)

    with ThreadPoolExecutor(SENDERS) as pool:
        list(pool.map(send, range(576)))


def streams_without_a_message(target: str) -> None:
    """Begin 20,000 calls on 20 connections and send nothing more."""
    with ExitStack() as stack:
        for _ in range(20):
            raw = stack.enter_context(RawConnection(target))
            for _ in range(1000):
                raw.begin(GENERATE)
        time.sleep(HOLD_SECONDS)


def answers_not_taken(target: str) -> None:
    """Make 3,000 calls on 30 connections and read nothing."""
    with ExitStack() as stack:
        for _ in range(30):
            raw = stack.enter_context(RawConnection(target, window=0))
            for _ in range(100):
                raw.call(LIST)
        time.sleep(HOLD_SECONDS)


def measure(folder: Path, attack: Attack) -> list[str]:
    """Attack a new server twice; return its memory meanwhile and afterwards, beside that before."""
    with running("serving", "--model", str(folder)) as server, Client(server.target) as client:
        client.generate("")
        before, found = _mebibytes(server), []
        for _ in range(2):
            most = _most_during(server, attack)
            time.sleep(REST_SECONDS)
            client.generate("")  # it goes on
            found += [most - before, _mebibytes(server) - before]
        return [f"{before:.0f}", *(f"{each:+.0f}" for each in found)]


def _most_during(server: ServerProcess, attack: Attack) -> float:
    thread, most = threading.Thread(target=attack, args=(server.target,)), 0.0
    thread.start()
    while thread.is_alive():
        most = max(most, _mebibytes(server))
        time.sleep(LOOK_SECONDS)
    return most


def _mebibytes(server: ServerProcess) -> float:
    return server.usage().resident_bytes / 2**20


def main() -> None:
    """Attack servers and print their memory."""
    attacks = unfinished_messages, refused_giants, streams_without_a_message, answers_not_taken
    with exported(random_checkpoint(MODEL, SYMBOLS), "fp32") as bundle:
        rows = [[each.__name__, *measure(bundle.folder, each)] for each in attacks]
    for name, *figures in HEAD, *rows:
        print(f"{name:26}", *(f"{figure:>13}" for figure in figures))


if __name__ == "__main__":
    main()

"""Processor time of one streamed message, by the door through which it goes.

doors-cpu.json      format version, machine, settings, every sample
"""

import json
import os
import socket
import struct
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from benchmarks.harness.models import exported, random_checkpoint
from benchmarks.harness.process import ServerProcess, running
from benchmarks.harness.record import save
from benchmarks.harness.settings import check_settings
from benchmarks.harness.tables import Row, console, terminal
from unroll.cli import run
from unroll.client.client import Client
from unroll.machine import describe
from unroll.options import GenerateOptions
from unroll.ranges import Range
from unroll.record import Record, settings_of

PACKAGES = ("grpcio", "uvicorn", "starlette", "onnxruntime")
FILE = "doors-cpu.json"
GRPC, CONNECT = "gRPC", "/unroll.v1.TextGenerationService/StreamGenerate"
# What the length of a text is called at each path, and further fields.
HTTP: dict[str, tuple[str, dict[str, object]]] = {
    CONNECT: ("maxNewSymbols", {}),
    "/v1/completions": ("max_tokens", {"stream": True}),
    "/v2/models/model/generate_stream": ("max_tokens", {"text_input": ""}),
}


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class DoorsSettings:
    """Measure the processor time of a streamed message at each door, in turn."""

    model: str = "gru-512x1"
    """Model as CELL-HIDDENxLAYERS; its weights are random."""

    streams: Annotated[int, Range(1)] = 16
    """Streams at once."""

    symbols: Annotated[int, Range(1)] = 20_000
    """Length of each text, in symbols."""

    turns: Annotated[int, Range(1)] = 5
    """Turns of each door; the sums count."""

    json: Path | None = None
    """Folder where to write machine, versions and every sample."""


@dataclass(frozen=True, kw_only=True)
class DoorSample:
    """One turn: messages that came, and processor time of all threads but the engine's, in s."""

    messages: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class DoorsRecord(Record):
    """One run; `doors` has the samples of each by name."""

    doors: dict[str, list[DoorSample]]

    def microseconds(self, door: str) -> float:
        """Processor time of a message."""
        samples = self.doors[door]
        return sum(each.seconds for each in samples) / sum(each.messages for each in samples) * 1e6


def by_grpc(target: str, symbols: int, seed: int) -> int:
    """Read one text; returns how many messages it came in."""
    options = GenerateOptions(max_new_symbols=symbols, seed=seed)
    with Client(target) as client, closing(client.stream("", options)) as pieces:
        return sum(1 for _ in pieces)


def by_http(address: str, path: str, symbols: int, seed: int) -> int:
    """Do the same at one of HTTP's doors."""
    length, more = HTTP[path]
    data = json.dumps({length: symbols, "seed": seed} | more).encode()
    kind = "application/json"
    if path == CONNECT:
        data, kind = struct.pack(">BI", 0, len(data)) + data, "application/connect+json"
    with closing(HTTPConnection(address)) as connection:
        connection.request("POST", path, data, {"content-type": kind})
        body = connection.getresponse().read()
    return envelopes(body) if path == CONNECT else body.count(b"data: {")


def envelopes(body: bytes) -> int:
    """Count the messages of a stream in the Connect protocol; the last envelope is its end."""
    count, place = -1, 0
    while place < len(body):
        count, place = count + 1, place + 5 + struct.unpack_from(">I", body, place + 1)[0]
    return count


def main(tokens: Sequence[str] | None = None) -> None:
    """Parse the command line and measure."""
    run(DoorsSettings, measure, name="python -m benchmarks.doors", tokens=tokens)


def measure(settings: DoorsSettings) -> None:
    """Measure, print and, if asked for, write the figures."""
    check_settings(settings)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    with exported(random_checkpoint(settings.model, 66), "fp32") as bundle:
        arguments = ("--model", f"model={bundle.folder}", "--http-port", port)
        with running("serving", *arguments) as server:
            server.pin_engine(max(os.sched_getaffinity(0)))
            ways = {GRPC: partial(by_grpc, server.target)}
            ways |= {path: partial(by_http, f"127.0.0.1:{port}", path) for path in HTTP}
            doors: dict[str, list[DoorSample]] = {name: [] for name in ways}
            for _ in range(settings.turns):
                for name, read in ways.items():
                    doors[name].append(_turn(server, read, settings))
    record = DoorsRecord(machine=describe(*PACKAGES), settings=settings_of(settings), doors=doors)
    console().print(terminal(door_rows(record), f"{settings.model}: streams by door"))
    save(record, settings.json, FILE)


def door_rows(record: DoorsRecord) -> list[Row]:
    """Lay the doors out: the header, then a row each."""
    rows = [["door", "messages", "symbols a message", "us a message", "/ gRPC"]]
    for name, samples in record.doors.items():
        messages = sum(each.messages for each in samples)
        symbols = record.settings["symbols"] * record.settings["streams"] * len(samples)
        time, by_grpc_time = record.microseconds(name), record.microseconds(GRPC)
        ratio = f"{time / by_grpc_time:.2f}" if by_grpc_time else "-"  # too short to be counted
        rows.append([name, f"{messages:,}", f"{symbols / messages:.0f}", f"{time:.1f}", ratio])
    return rows


def _turn(
    server: ServerProcess, read: Callable[[int, int], int], settings: DoorsSettings
) -> DoorSample:
    before = server.usage().other_seconds
    with ThreadPoolExecutor(settings.streams) as pool:
        counts = list(pool.map(partial(read, settings.symbols), range(settings.streams)))
    return DoorSample(messages=sum(counts), seconds=server.usage().other_seconds - before)


if __name__ == "__main__":
    main()

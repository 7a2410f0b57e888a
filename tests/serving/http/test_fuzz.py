"""Whatever is sent, the answer is one of the table's and the server goes on."""

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.serving.http.asking import SERVICE, ask
from tests.serving.running import PATIENCE, RunningServer, serve
from training.settings import Cell

pytestmark = pytest.mark.slow

INPUTS = int(os.environ.get("UNROLL_FUZZ_INPUTS", "600")) // 3
FUZZ = settings(
    max_examples=INPUTS,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
COMPLETIONS = "/v1/completions"
FIELDS = (
    "prompt", "max_tokens", "temperature", "top_p", "top_k", "min_p", "n", "best_of", "stop",
    "seed", "stream", "stream_options", "logprobs", "echo", "logit_bias", "user", "suffix",
    "session", "capsule", "capsules", "expected_position", "model", "presence_penalty",
)  # fmt: skip
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-3, 70)
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text("abc \n£X\0\ud800", max_size=9)
)
VALUES = SCALARS | st.lists(SCALARS | st.lists(SCALARS, max_size=3), max_size=4)
KNOWN = st.fixed_dictionaries(
    {"prompt": st.text("abc", max_size=9), "max_tokens": st.integers(0, 30)},
    optional={
        "echo": st.booleans(),
        "stream": st.booleans(),
        "logprobs": st.integers(0, 20),
        "n": st.integers(1, 4),
        "temperature": st.floats(0, 2),
        "top_p": st.floats(0, 1),
        "stop": st.lists(st.text("abc", min_size=1, max_size=2), max_size=3),
        "capsules": st.sampled_from(["never", "final", "every_chunk"]),
        "seed": st.integers(0, 2**63 - 1),
    },
)
BODIES = st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=6) | KNOWN | VALUES


@pytest.fixture(scope="module")
def server(tiny_bundles: dict[Cell, Path]) -> Iterator[RunningServer]:
    with serve(
        f"small={tiny_bundles['gru']}", http_port=0, rate_per_caller=0, max_new_symbols=100
    ) as running:
        yield running
        assert ask(running, "GET", "/readyz").status == 200
        assert not running.sequences()


@FUZZ
@given(body=BODIES)
def test_any_json_to_completions_is_answered_or_refused(server: RunningServer, body: Any) -> None:
    answer = ask(server, "POST", COMPLETIONS, body)
    if answer.headers["content-type"].startswith("text/event-stream"):
        assert answer.body.endswith(b"data: [DONE]\n\n")
    elif answer.status == 200:
        assert answer.json["choices"]
    else:
        assert answer.status in {400, 404, 409}, answer
        assert answer.json["error"]["message"]


@FUZZ
@given(
    method=st.sampled_from(["Generate", "Score", "StartSession", "ForkSession", "GetModel"]),
    body=st.dictionaries(
        st.sampled_from(
            ["prompt", "text", "model", "session", "maxNewSymbols", "sampling", "seeds"]
        ),
        VALUES | st.dictionaries(st.sampled_from(["topK", "topP", "temperature"]), SCALARS),
        max_size=4,
    ),
)
def test_any_json_to_a_method_is_answered_or_refused(
    server: RunningServer, method: str, body: Any
) -> None:
    answer = ask(server, "POST", SERVICE + method, body)
    assert answer.status in {200, 400, 404}, answer


@FUZZ
@given(data=st.binary(max_size=200), head=st.booleans())
def test_any_bytes_leave_the_server_well(server: RunningServer, data: bytes, head: bool) -> None:
    address = urlsplit(server.server.http_address)
    with socket.create_connection((address.hostname, address.port), PATIENCE) as raw:
        if head:
            length = f"content-length: {len(data)}\r\n\r\n"
            raw.sendall(f"POST {COMPLETIONS} HTTP/1.1\r\nhost: x\r\n{length}".encode())
        raw.sendall(data)
        raw.shutdown(socket.SHUT_WR)
        try:
            answer = raw.recv(4096)
        except ConnectionResetError:
            answer = b""
    assert not answer.startswith(b"HTTP/1.1 5"), answer
    assert b"Traceback" not in answer
    assert json.loads(ask(server, "GET", "/version").body)

"""Clients in JavaScript: Connect's for Node, binary and JSON, and OpenAI's."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.needed import without
from tests.serving.http.buf import BUF
from tests.serving.running import PATIENCE, RunningServer, serve, wait_for
from training.settings import Cell
from unroll.options import GenerateOptions
from unroll.wire import SERVICE

SCRIPT = Path(__file__).parent / "node" / "clients.mjs"
ROOT = Path(__file__).parents[3]
MODULES = ROOT / "build" / "node" / "node_modules"
PROMPT, SYMBOLS, SEED = "cabbage", 60, 5
DETAILS = [f"google.rpc.{name}" for name in ("ErrorInfo", "RequestInfo", "BadRequest")]


@pytest.fixture(scope="module")
def server(tiny_bundles: dict[Cell, Path]) -> Iterator[RunningServer]:
    with serve(f"small={tiny_bundles['gru']}", http_port=0) as running:
        yield running


@pytest.fixture(scope="module")
def told(server: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What the clients got."""
    node = shutil.which("node")
    if node is None or not MODULES.exists():
        without("the clients for Node are not installed: make clients", "REQUIRE_NODE")
    folder = tmp_path_factory.mktemp("node")
    script, descriptors = folder / SCRIPT.name, folder / "descriptors.binpb"
    shutil.copy(SCRIPT, script)
    (folder / "node_modules").symlink_to(MODULES)
    subprocess.run([str(BUF), "build", "protos", "-o", str(descriptors)], cwd=ROOT, check=True)
    arguments = (server.server.http_address, str(descriptors), PROMPT, str(SYMBOLS), str(SEED))
    done = subprocess.run(
        [node, str(script), *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def text(server: RunningServer) -> str:
    """The text as gRPC has it."""
    options = GenerateOptions(max_new_symbols=SYMBOLS, seed=SEED)
    with server.client() as client:
        return client.generate(PROMPT, options).text


@pytest.mark.parametrize("door", ["binary", "json", "openai"])
def test_text_is_that_of_grpc_whole_and_streamed(told: Any, text: str, door: str) -> None:
    assert (told[door]["whole"], told[door]["streamed"]) == (text, text)


@pytest.mark.parametrize("form", ["binary", "json"])
def test_connect_client_reads_codes_and_details_and_keeps_its_deadline(
    told: Any, form: str
) -> None:
    code, *details = told[form]["refused"]
    assert code == "InvalidArgument"
    assert sorted(details) == sorted(DETAILS)
    assert [told[form][kind][0] for kind in ("late", "cut")] == ["DeadlineExceeded"] * 2


def test_openais_client_raises_its_own_error(told: Any) -> None:
    assert told["openai"]["refused"] == ["BadRequestError", 400, "prompt", "unknown_symbol"]


def test_streams_that_are_left_end_and_free_their_slots(told: Any, server: RunningServer) -> None:
    assert [told[form]["left"][0] for form in ("binary", "json")] == ["Canceled"] * 2
    wait_for(lambda: not server.sequences())
    calls = server.server.doors.calls.registry
    labels = {"method": f"/{SERVICE}/StreamGenerate", "code": "OK"}
    assert calls.get_sample_value("unroll_requests_total", labels) == 2, "those read to the end"

"""The server does what /openapi.json says: schemathesis asks it, in all ways that it knows."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.serving.http.asking import SERVICE, ask
from tests.serving.running import PATIENCE, RunningServer, serve
from training.settings import Cell
from unroll.v1 import text_generation_pb2 as pb

CONFIG = Path(__file__).with_name("schemathesis.toml")


@pytest.fixture(scope="module")
def server(tiny_bundles: dict[Cell, Path]) -> Iterator[RunningServer]:
    with serve(
        f"small={tiny_bundles['gru']}", http_port=0, rate_per_caller=0, max_new_symbols=100
    ) as running:
        yield running


@pytest.fixture(scope="module")
def document(server: RunningServer) -> Any:
    return ask(server, "GET", "/openapi.json").json


@pytest.mark.slow
def test_server_answers_as_its_document_says(
    server: RunningServer, document: Any, tmp_path: Path
) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG)),
            *("run", f"{server.server.http_address}/openapi.json", "--no-color"),
        ],
        cwd=tmp_path,  # where it keeps what it found
        capture_output=True,
        text=True,
        timeout=5 * PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"Tested: {len(document['paths'])}\n" in done.stdout


def test_document_has_every_method_that_is_one_message_each_way(document: Any) -> None:
    methods = pb.DESCRIPTOR.services_by_name["TextGenerationService"].methods
    unary = {each.name for each in methods if not (each.client_streaming or each.server_streaming)}
    described = {path for path in document["paths"] if path.startswith(SERVICE)}
    assert described == {SERVICE + name for name in unary}


def test_document_has_every_field_of_a_message(document: Any) -> None:
    schemas = document["components"]["schemas"]
    for message in (pb.GenerateRequest, pb.Completion, pb.Session):
        described = schemas[message.DESCRIPTOR.full_name]["properties"]
        assert set(described) == {field.json_name for field in message.DESCRIPTOR.fields}


def test_document_has_every_field_that_generate_takes(server: RunningServer, document: Any) -> None:
    asked = {"text_input": "abc", "promt": ""}
    refused = ask(server, "POST", "/v2/models/small/generate", asked).json["error"]
    taken = {
        "id",
        "parameters",
        "sampling_parameters",
        *refused.partition("known: ")[2].split(", "),
    }
    assert set(document["components"]["schemas"]["generateRequest"]["properties"]) == taken


def test_document_has_every_field_that_completions_take(
    server: RunningServer, document: Any
) -> None:
    refused = ask(server, "POST", "/v1/completions", {"promt": "abc"}).json["error"]
    taken = refused["message"].rpartition("known: ")[2].split(", ")
    assert set(document["components"]["schemas"]["completeRequest"]["properties"]) == set(taken)

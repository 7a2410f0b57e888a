"""The files of deploy/ fit the settings, and deploy/README.md explains them."""

import json
import re
import subprocess
import tomllib
from dataclasses import fields
from itertools import pairwise

import pytest

from serving.settings import ServerSettings
from tests.needed import promtool
from tests.repository.reference import ROOT

DEPLOY = ROOT / "deploy"
KNOWN = {field.name for field in fields(ServerSettings)}


def test_settings_of_the_unit_are_settings() -> None:
    values = tomllib.loads((DEPLOY / "server.toml").read_text("utf-8"))
    assert set(values) <= KNOWN
    ServerSettings(**{**values, "model": tuple(values["model"])}).validate()


@pytest.mark.parametrize(
    "name", ["Dockerfile", "compose.yaml", "compose.gpu.yaml", "unroll.service"]
)
def test_flags_of_a_deployment_are_settings(name: str) -> None:
    flags = set(re.findall(r'"--([a-z-]+)"', (DEPLOY / name).read_text("utf-8")))
    assert bool(flags) == (name != "unroll.service")
    client = {"check", "timeout"}
    assert {flag.replace("-", "_") for flag in flags} - client <= KNOWN


def test_every_port_of_the_image_is_exposed_and_published_to_this_machine_alone() -> None:
    dockerfile = (DEPLOY / "Dockerfile").read_text("utf-8")
    (words,) = re.findall(r"^ENTRYPOINT (.*)$", dockerfile, re.MULTILINE)
    entrypoint = json.loads(words)
    given = dict(pairwise(entrypoint))
    grpc, http, metrics = str(ServerSettings.port), given["--http-port"], given["--metrics-port"]
    (exposed,) = re.findall(r"^EXPOSE (.*)$", dockerfile, re.MULTILINE)
    assert set(exposed.split()) == {grpc, http, metrics}
    compose = (DEPLOY / "compose.yaml").read_text("utf-8").partition("\n  prometheus:")[0]
    published = re.findall(r'^      - "(\S+):(\d+):(\d+)"$', compose, re.MULTILINE)
    assert {inner for _, _, inner in published} == {grpc, http}
    assert "--plaintext-anywhere" in entrypoint, "else other addresses might be allowed"
    assert {address for address, _, _ in published} == {"127.0.0.1"}


def test_image_has_the_extra_that_it_is_built_for() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    dockerfile = (DEPLOY / "Dockerfile").read_text("utf-8")
    compose = (DEPLOY / "compose.gpu.yaml").read_text("utf-8")
    chosen = re.findall(r"RUNTIME[=:] ?([a-z]+)", dockerfile + compose)
    assert set(chosen) == {"cpu", "gpu"}
    assert set(chosen) <= set(extras["optional-dependencies"])
    assert ".[${RUNTIME},otel,redis,schema]" in dockerfile


def test_supervisors_wait_for_longer_than_the_grace_time() -> None:
    unit = (DEPLOY / "unroll.service").read_text("utf-8")
    compose = (DEPLOY / "compose.yaml").read_text("utf-8")
    toml = tomllib.loads((DEPLOY / "server.toml").read_text("utf-8"))
    waits = [re.search(r"TimeoutStopSec=(\d+)", unit), re.search(r"_period: (\d+)s", compose)]
    assert [match and float(match[1]) > toml["grace_seconds"] + 5 for match in waits] == [True] * 2


def test_each_line_of_the_unit_is_explained() -> None:
    unit = (DEPLOY / "unroll.service").read_text("utf-8")
    assert len(re.findall(r"^\w+=", unit, re.MULTILINE)) > 20
    text = (DEPLOY / "README.md").read_text("utf-8")
    names = ("Type", "LimitNOFILE", "MemoryMax", "TasksMax", "KillSignal", "TimeoutStopSec")
    for name in (*names, "DynamicUser", "Restart"):
        assert re.search(rf"^{name}=", unit, re.MULTILINE)
        assert f"`{name}" in text


def test_alerts_can_be_read_by_prometheus() -> None:
    rules = [promtool(), "check", "rules", str(DEPLOY / "alerts.yaml")]
    done = subprocess.run(rules, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

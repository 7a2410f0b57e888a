"""The tables of docs/reference are those of the code."""

import os
import re
from dataclasses import fields
from pathlib import Path

import pytest

import unroll
from serving.settings import ServerSettings
from tests.repository.reference import (
    COMMANDS,
    METRICS,
    OPTIONS,
    OPTIONS_PAGE,
    ROOT,
    SETTINGS,
    TERMS,
    metrics_table,
)
from tests.repository.tables import between, fields_table, members_table, put, settings_table
from tests.serving.running import serve
from tests.serving.telemetry.test_metrics import read_page
from training.settings import Cell
from unroll.__main__ import COMMANDS as OF_UNROLL
from unroll.terms import (
    ALTERNATIVES_AT_MOST,
    BIAS_RANGE,
    DEFAULT_NEW_SYMBOLS,
    PATTERN_BYTES_AT_MOST,
    SAMPLES_AT_MOST,
    SCHEMA_BYTES_AT_MOST,
    STOP_LENGTH_AT_MOST,
    STOPS_AT_MOST,
)


def check_table(page: Path, name: str, table: str) -> None:
    text = page.read_text("utf-8")
    if os.environ.get("WRITE_DOCS"):
        page.write_text(put(name, table, text), "utf-8")
    assert between(name, text) == table, "WRITE_DOCS=1 writes it anew"


@pytest.mark.parametrize("command", COMMANDS)
def test_table_of_settings_is_that_of_the_code(command: str) -> None:
    check_table(SETTINGS, command, settings_table(COMMANDS[command]))


def test_every_command_has_a_table() -> None:
    assert {f"unroll {name}" for name in OF_UNROLL} == set(COMMANDS)


@pytest.mark.parametrize("name", OPTIONS)
def test_table_of_options_is_that_of_the_code(name: str) -> None:
    check_table(OPTIONS_PAGE, name, fields_table(OPTIONS[name], unroll.GenerateOptions))


@pytest.mark.parametrize("name", TERMS)
def test_table_of_terms_is_that_of_the_code(name: str) -> None:
    check_table(OPTIONS_PAGE, name, members_table(TERMS[name]))


def test_defaults_of_options_are_written_as_python_has_them() -> None:
    table = fields_table(unroll.ScoreOptions, unroll.GenerateOptions)
    assert "| `UnknownSymbols.REFUSE` |" in table


def test_all_public_options_have_a_table() -> None:
    public = {name for name in unroll.__all__ if name.endswith("Options")}
    assert public | {"Security"} == set(OPTIONS)


@pytest.mark.parametrize(
    ("field", "limit"),
    [
        ("max_new_symbols", f"{DEFAULT_NEW_SYMBOLS} by default"),
        ("max_new_symbols", f"0 to {ServerSettings.max_new_symbols:,} or the limit"),
        ("stop", f"at most {STOPS_AT_MOST} strings, each of 1 to {STOP_LENGTH_AT_MOST} symbols"),
        ("logit_bias", "{:g} to {:g},".format(*BIAS_RANGE)),
        ("pattern", f"at most {PATTERN_BYTES_AT_MOST:,} bytes"),
        ("json_schema", f"at most {SCHEMA_BYTES_AT_MOST:,} bytes"),
        ("top_log_probs", f"0 to {ALTERNATIVES_AT_MOST}"),
        ("sample_count", f"at most {SAMPLES_AT_MOST}"),
    ],
)
def test_limits_that_options_tell_are_those_in_force(field: str, limit: str) -> None:
    table = fields_table(unroll.GenerateOptions, unroll.GenerateOptions)
    (row,) = (line for line in table.splitlines() if line.startswith(f"| `{field}` |"))
    assert limit in row


def test_table_of_metrics_is_that_of_the_page(
    tiny_bundles: dict[Cell, Path], tmp_path: Path
) -> None:
    with (
        serve(str(tiny_bundles["gru"]), metrics_port=0, state_dir=tmp_path) as server,
        server.client() as client,
    ):
        client.generate("abc")
        table = metrics_table(read_page(server))
    check_table(METRICS, "metrics", table)


def test_flags_of_the_commands_on_all_pages_are_settings() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    commands = [
        (f"unroll {name}", flag)
        for page in pages
        for name, rest in re.findall(
            r"^    unroll (\w+)((?:.*\\\n)*.*)$", page.read_text("utf-8"), re.MULTILINE
        )
        for flag in re.findall(r"--([a-z-]+)", rest)
    ]
    assert len(commands) > 30
    unknown = {
        (command, flag)
        for command, flag in commands
        if command in COMMANDS
        and flag.replace("-", "_")
        not in {"config", "preset", *(each.name.strip("_") for each in fields(COMMANDS[command]))}
    }
    assert unknown == set()

"""Alternatives at the command line, and in a stream that outlives its server."""

import json
from pathlib import Path

import pytest

from tests.serving.running import RunningServer
from unroll.__main__ import main
from unroll.client.client import Client
from unroll.options import GenerateOptions, ScoreOptions

Captured = pytest.CaptureFixture[str]


def run(server: RunningServer, *arguments: str) -> int:
    """Run a command that asks the server; return its exit status."""
    command, *rest = arguments
    try:
        main([command, "--target", server.address, *rest])
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def test_score_has_a_line_for_each_symbol(
    shared_server: RunningServer, client: Client, capsys: Captured
) -> None:
    text = "cab\nhead"
    assert run(shared_server, "score", "--text", text, "--top-log-probs", "3") == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert first.endswith("bits per character over 8 symbols")
    score = client.score(text, ScoreOptions(top_log_probs=3))
    assert len(lines) == 8
    for line, symbol, log_prob, each in zip(
        lines, text, score.log_probs, score.alternatives, strict=True
    ):
        told = [(symbol, log_prob), *zip(each.symbols, each.log_probs, strict=True)]
        fields = [field for one, value in told for field in (one, f"{value:.4f}")]
        assert line.split("\t") == [field.replace("\n", "\\n") for field in fields]


def test_records_hold_alternatives(
    shared_server: RunningServer, client: Client, tmp_path: Path
) -> None:
    texts, scores = tmp_path / "texts.jsonl", tmp_path / "scores.jsonl"
    asked = ["--max-new-symbols", "9", "--seed", "3", "--samples", "2", "--top-log-probs", "2"]
    run(shared_server, "generate", "--prompt", "abc", "--output", str(texts), *asked)
    asked = ["--text", "abc", "--top-log-probs", "2"]
    run(shared_server, "score", "--output", str(scores), *asked)
    records = [json.loads(line) for line in texts.read_text("utf-8").splitlines()]
    for record, seed in zip(records, (3, 4), strict=True):
        right = client.generate(
            "abc",
            GenerateOptions(max_new_symbols=9, seed=seed, log_probs=True, top_log_probs=2),
        )
        assert record["log_probs"] == list(right.log_probs)
        assert [(each["symbols"], tuple(each["log_probs"])) for each in record["alternatives"]] == [
            (each.symbols, each.log_probs) for each in right.alternatives
        ]
    (record,) = map(json.loads, scores.read_text("utf-8").splitlines())
    assert record["log_probs"] == list(client.score("abc").log_probs)
    assert len(record["alternatives"]) == 3


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("generate", "--top-log-probs", "2"), "top_log_probs = 2: is written in records only"),
        (("generate", "--top-log-probs", "21", "--samples", "2"), "must be 0 to 20"),
        (
            ("score", "--text", "a", "--top-log-probs", "2", "--output", "x.tsv"),
            "top_log_probs = 2: needs records in JSON",
        ),
    ],
)
def test_where_there_is_no_place_for_alternatives_the_command_says_so(
    shared_server: RunningServer, capsys: Captured, arguments: tuple[str, ...], named: str
) -> None:
    assert run(shared_server, *arguments) != 0
    assert named in capsys.readouterr().err

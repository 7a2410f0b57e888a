"""The course's notebook, from a script that knows nothing of unroll to a server."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.serving.running import PATIENCE, serve
from unroll.options import GenerateOptions, ScoreOptions

ROOT = Path(__file__).parents[3]
SCRIPT = Path(__file__).with_name("student.py")
CORPUS = ROOT / "training" / "corpora" / "casebook.txt"

pytestmark = pytest.mark.slow


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=cwd,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=6 * PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_student_s_model_is_adopted_exported_and_served(tmp_path: Path) -> None:
    told = run(SCRIPT, CORPUS, "4", "64", "2", "model.pt", cwd=tmp_path)
    (greedy,) = re.findall("^greedy: (.*)$", told, re.MULTILINE)
    unroll = ("-m", "unroll")
    adopted = run(
        *unroll, "adopt", "model.pt", "--vocabulary", CORPUS, "--nonlinearity", "relu",
        "--checkpoint", "runs/mine", cwd=tmp_path,
    )  # fmt: skip
    assert "rnn_relu 64x2" in adopted
    assert "proved: 10,000 symbols" in adopted
    export = (*unroll, "export", "--checkpoint", "runs/mine", "--bundle")
    assert "hardly trained" not in run(*export, "fp32", cwd=tmp_path)
    assert "quality: validation loss" in run(*export, "int8", "--precision", "int8", cwd=tmp_path)
    with serve(str(tmp_path / "fp32"), str(tmp_path / "int8")) as server, server.client() as client:
        options = GenerateOptions(temperature=0.0, max_new_symbols=60)
        assert repr(client.generate("", options).text) == greedy
        scores = [
            client.score("The fog was thick.", ScoreOptions(model=model)).log_probs
            for model in ("fp32", "int8")
        ]
    assert scores[0] == pytest.approx(scores[1], abs=0.5)

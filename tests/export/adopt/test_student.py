"""The course's notebook, from a script that knows nothing of unroll to a server."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.serving.running import PATIENCE, serve
from unroll.__main__ import main
from unroll.options import GenerateOptions, ScoreOptions

ROOT = Path(__file__).parents[3]
SCRIPT = Path(__file__).with_name("student.py")
CORPUS = ROOT / "training" / "corpora" / "casebook.txt"

pytestmark = pytest.mark.slow


def run(*command: str | Path) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=6 * PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_student_s_model_is_adopted_exported_and_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    told = run(SCRIPT, CORPUS, "4", "64", "2", "model.pt")

    def unroll(*arguments: str | Path) -> str:
        with pytest.raises(SystemExit) as ended:
            main(list(map(str, arguments)))
        assert ended.value.code == 0
        return capfd.readouterr().out

    (greedy,) = re.findall("^greedy: (.*)$", told, re.MULTILINE)
    adopted = unroll(
        "adopt", "model.pt", "--vocabulary", CORPUS, "--nonlinearity", "relu",
        "--checkpoint", "runs/mine",
    )  # fmt: skip
    assert "rnn_relu 64x2" in adopted
    assert "proved: 10,000 symbols" in adopted
    export = ("export", "--checkpoint", "runs/mine", "--bundle")
    assert "hardly trained" not in unroll(*export, "fp32")
    assert "quality: validation loss" in unroll(*export, "int8", "--precision", "int8")
    with serve(str(tmp_path / "fp32"), str(tmp_path / "int8")) as server, server.client() as client:
        options = GenerateOptions(temperature=0.0, max_new_symbols=60)
        assert repr(client.generate("", options).text) == greedy
        scores = [
            client.score("The fog was thick.", ScoreOptions(model=model)).log_probs
            for model in ("fp32", "int8")
        ]
    assert scores[0] == pytest.approx(scores[1], abs=0.5)

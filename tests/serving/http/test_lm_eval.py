"""EleutherAI's harness asks a server and finds the figure of `unroll evaluate`."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from export.compiler import export
from tests.needed import without
from tests.serving.running import PATIENCE, serve
from tests.training.evaluate.test_held_out import prose
from training.__main__ import train
from training.evaluate.__main__ import main
from training.run.checkpoint import load_checkpoint
from training.settings import TrainingSettings
from unroll.cli import run

pytestmark = pytest.mark.slow

LM_EVAL = Path(__file__).parents[3] / "build" / "lm-eval" / "bin" / "lm_eval"
TASK = """
task: held_out
dataset_path: json
dataset_kwargs: {data_files: {test: FILE}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list: [{metric: bits_per_byte}]
"""


@pytest.fixture(scope="module")
def harness() -> Path:
    if not LM_EVAL.exists():
        without("lm-eval is not installed: make test-harness", "REQUIRE_LM_EVAL")
    return LM_EVAL


def train_model(folder: Path) -> Path:
    """Train a little; returns the run's folder."""
    (folder / "novel.txt").write_text(prose(5000, seed=1)[:8000], encoding="utf-8")
    tokens = [
        *(f"--corpus={folder / 'novel.txt'}", f"--runs-dir={folder}", "--name=novel"),
        *("--hidden-size=13", "--embedding-size=5", "--streams=4", "--window=16", "--epochs=3"),
        *("--threads=1", "--sample-symbols=0", "--learning-rate=0.01"),
    ]
    with pytest.raises(SystemExit) as ended:
        run(TrainingSettings, train, name="training", tokens=tokens)
    assert ended.value.code == 0
    return folder / "novel"


def evaluate(run_folder: Path, text: str) -> tuple[float, str]:
    """Return our figure in bits per character, and what of the text it is about."""
    file = run_folder.parent / "figures.json"
    with pytest.raises(SystemExit) as ended:
        main([f"--checkpoint={run_folder}", f"--json={file}", "--threads=1"])
    assert ended.value.code == 0
    written = json.loads(file.read_text("utf-8"))
    first, end = written["symbols"]["first"], written["symbols"]["end"]
    return written["figures"]["stream"]["bits"], text[first:end]


def ask(harness: Path, url: str, text: str, folder: Path) -> Any:
    """Let the harness measure a text; returns its results."""
    (folder / "held-out.jsonl").write_text(json.dumps({"text": text}), encoding="utf-8")
    tasks = folder / "tasks"
    tasks.mkdir()
    task = TASK.replace("FILE", str(folder / "held-out.jsonl"))
    (tasks / "held_out.yaml").write_text(task, encoding="utf-8")
    done = subprocess.run(
        [
            *(str(harness), "--model", "local-completions", "--tasks", "held_out"),
            *(
                "--model_args",
                f"model=novel,base_url={url}/v1/completions,tokenizer_backend=remote",
            ),
            *("--include_path", str(tasks), "--output_path", str(folder / "results")),
        ],
        env=os.environ
        | {"HF_HOME": str(folder / "cache"), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=5 * PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (results,) = (folder / "results").rglob("results*.json")
    return json.loads(results.read_text("utf-8"))["results"]["held_out"]


def test_figure_is_that_of_unroll_evaluate(harness: Path, tmp_path: Path) -> None:
    run_folder = train_model(tmp_path)
    bits, text = evaluate(run_folder, (tmp_path / "novel.txt").read_text("utf-8"))
    export(load_checkpoint(run_folder), tmp_path / "bundle")
    with serve(f"novel={tmp_path / 'bundle'}", http_port=0) as running:
        told = ask(harness, running.server.http_address, text, tmp_path)
    assert text.isascii(), "else bytes are not characters"
    assert told["bits_per_byte,none"] == pytest.approx(bits, abs=1e-4)

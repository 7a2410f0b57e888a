"""The command: a real run, a real bundle, a real server."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from export.graph.arithmetic import Precision
from export.proof.quality import load_texts
from tests.conftest import export_briefly
from tests.serving.running import RunningServer, serve
from tests.training.evaluate.test_held_out import prose
from training.__main__ import train
from training.evaluate.__main__ import main
from training.evaluate.interval import block_interval
from training.evaluate.reading import encode, stream_losses, window_losses
from training.presets import preset_files
from training.run.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from training.settings import TrainingSettings
from unroll.cli import run

pytestmark = pytest.mark.slow

SYMBOLS = 8000
FRACTION = 0.1


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of small trainings, and bundles of the first."""
    path = tmp_path_factory.mktemp("evaluate")
    (path / "novel.txt").write_text(prose(5000, seed=1)[:SYMBOLS], encoding="utf-8")
    names = ["Ada", "Bo", "Charlotte", "Di", "Eve", "", "Gustav"]
    (path / "names.txt").write_text("\n".join(names * 60), encoding="utf-8")
    lines = [prose(20, seed) for seed in range(60)]
    (path / "lines.txt").write_text("\n".join(lines), encoding="utf-8")
    for name, corpus, flags in (
        ("tune", "novel.txt", ["--split=tune", "--window=16"]),
        ("everything", "novel.txt", ["--validation-fraction=0", "--window=16"]),
        ("names", "names.txt", ["--records", "--window=16"]),
        ("cut", "lines.txt", ["--records", "--window=1"]),
    ):
        tokens = [
            f"--corpus={path / corpus}",
            f"--runs-dir={path}",
            f"--name={name}",
            *("--hidden-size=13", "--embedding-size=5", "--streams=4"),
            *("--epochs=1", "--threads=1", "--sample-symbols=0", "--learning-rate=0.01"),
            *flags,
        ]
        with pytest.raises(SystemExit) as ended:
            run(TrainingSettings, train, name="training", tokens=tokens, preset=preset_files)
        assert ended.value.code == 0
    export_briefly(load_checkpoint(path / "names"), path / "of-names")
    checkpoint = load_checkpoint(path / "tune")
    export_briefly(checkpoint, path / "bundle")
    export_briefly(
        checkpoint,
        path / "int8",
        precision=Precision.INT8,
        texts=load_texts(checkpoint),
    )
    nudged = {name: weight * 1.01 for name, weight in checkpoint.weights.items()}
    export_briefly(replace(checkpoint, weights=nudged), path / "nudged")
    metrics = replace(checkpoint.metrics, validation_loss=0.5)
    export_briefly(replace(checkpoint, metrics=metrics), path / "older")
    return path


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[RunningServer]:
    names = ("bundle", "int8", "nudged", "older", "of-names")
    with serve(*(str(folder / name) for name in names), max_score_symbols=SYMBOLS) as running:
        yield running


Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Run the command; returns its status, what it says and its error."""

    def evaluate(*tokens: str) -> tuple[int, str, str]:
        status = 0
        capsys.readouterr()
        try:
            main([*tokens, "--threads=1"])
        except SystemExit as ended:
            status = int(ended.code or 0)
        written = capsys.readouterr()
        return status, written.out, written.err

    return evaluate


def expected(checkpoint: Checkpoint, text: str) -> dict[str, Any]:
    model, ids = checkpoint.model(), encode(checkpoint.vocabulary, text)
    figures = {}
    for name, losses in (
        ("stream", stream_losses(model, ids)),
        ("window", window_losses(model, ids)),
    ):
        low, high = block_interval(losses)
        nats = float(losses.mean())
        figures[name] = {
            "nats": nats,
            "bits": nats / np.log(2),
            "low": low,
            "high": high,
        }
    return figures


def test_the_figures_are_those_of_the_held_out_part(folder: Path, call: Call) -> None:
    status, out, err = call(
        f"--checkpoint={folder / 'tune'}", "--adaptive", f"--json={folder / 'figures.json'}"
    )
    assert (status, err) == (0, "")
    written = json.loads((folder / "figures.json").read_text("utf-8"))
    assert written["symbols"] == {
        "first": 6480, "end": 7200, "count": 720, "unknown": 0,
    }  # fmt: skip
    assert (written["split"], written["corpus"]["name"]) == ("tune", "novel")
    figures = written["figures"]
    assert list(figures) == ["stream", "window", "adaptive"]
    text = (folder / "novel.txt").read_text("utf-8")[6480:7200]
    for name, figure in expected(load_checkpoint(folder / "tune"), text).items():
        assert figures[name] == pytest.approx(figure)
        assert f"{figure['nats']:.4f}" in out
        assert f"{figure['bits']:.4f}" in out
    adaptive, tuning = written["adaptive"], written["adaptive"]["tuning"]
    assert tuning["symbols"] == 648
    best = min(tuning["trials"], key=lambda trial: float(trial["loss"]))
    assert (best["rate"], best["decay"]) == (adaptive["rate"], adaptive["decay"])
    assert f"rate {best['rate']:g}, decay {best['decay']:g}" in out
    assert "never compare it with the others" in " ".join(out.split())
    assert written["server"] is None


def test_the_test_split_of_a_tune_run_is_the_text_s_end(folder: Path, call: Call) -> None:
    file = folder / "test.json"
    status, _, _ = call(f"--checkpoint={folder / 'tune'}", "--split=test", f"--json={file}")
    assert status == 0
    written = json.loads(file.read_text("utf-8"))
    assert written["symbols"] == {"first": 7200, "end": SYMBOLS, "count": 800, "unknown": 0}
    assert written["adaptive"] is None


def test_a_server_says_what_torch_says(folder: Path, server: RunningServer, call: Call) -> None:
    file = folder / "served.json"
    tokens = [f"--checkpoint={folder / 'tune'}", f"--json={file}", f"--target={server.address}"]
    status, out, err = call(*tokens)  # the server's first model
    assert (status, err) == (0, "")
    assert "stream, by bundle" in out
    written = json.loads(file.read_text("utf-8"))
    stream, served = written["figures"]["stream"], written["figures"]["server"]
    assert abs(stream["nats"] - served["nats"]) < 1e-5
    assert 0 < served["nats"] < np.log(28)
    with server.client() as client:
        fingerprint = client.get_model("bundle").fingerprint
    assert written["server"] == {
        "target": server.address,
        "model": "bundle",
        "fingerprint": fingerprint,
    }


def test_a_server_that_says_something_else_fails_after_the_table(
    folder: Path, server: RunningServer, call: Call
) -> None:
    """Same sizes, vocabulary and text: only the figure can tell."""
    status, out, err = call(
        f"--checkpoint={folder / 'tune'}", f"--target={server.address}", "--model=nudged"
    )
    assert status == 2
    assert "stream, by nudged" in out
    assert "nats per symbol from the server" in err
    assert "at most 0.0001 is allowed" in err


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("int8", "has precision 'int8', the checkpoint has 'fp32'"),
        ("older", "has validation loss 0.5, the checkpoint has"),
        ("bundel", "did you mean 'bundle'"),
    ],
)
def test_a_server_with_another_model_is_refused_before_anything_is_read(
    folder: Path, server: RunningServer, call: Call, model: str, message: str
) -> None:
    status, out, err = call(
        f"--checkpoint={folder / 'tune'}", f"--target={server.address}", f"--model={model}"
    )
    assert (status, out) == (2, "")
    assert message in err


def test_a_model_of_another_vocabulary_is_refused(
    folder: Path, tiny_bundles: dict[str, Path], call: Call
) -> None:
    with serve(str(tiny_bundles["gru"])) as other:
        status, _, err = call(f"--checkpoint={folder / 'tune'}", f"--target={other.address}")
    assert status == 2
    assert "has vocabulary" in err


def test_a_text_longer_than_the_server_scores_is_refused(folder: Path, call: Call) -> None:
    with serve(str(folder / "bundle"), max_score_symbols=719) as short:
        status, out, err = call(f"--checkpoint={folder / 'tune'}", f"--target={short.address}")
    assert status == 2
    assert "719" in err
    assert "stream:" not in out  # nothing was read that is then lost


@pytest.mark.parametrize(
    ("run_name", "tokens", "message"),
    [
        ("everything", [], "train with --validation-fraction 0.1"),
        ("nobody", [], "no such checkpoint"),
        ("tune", ["--split=best"], "split"),
        ("tune", ["--corpus=nowhere"], "neither a file nor a known name"),
        ("tune", ["--model=x"], "name one with --target"),
        ("tune", ["--threads=-1"], "threads = -1: must be 0 to 1024"),
        ("tune", ["--json=/nowhere/at/all.json"], "there is no folder /nowhere/at"),
        ("tune", ["--target=127.0.0.1:9"], "127.0.0.1:9"),
    ],
)
def test_refusals_end_with_a_message_and_no_figure(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    run_name: str,
    tokens: list[str],
    message: str,
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([f"--checkpoint={folder / run_name}", *tokens])
    written = capsys.readouterr()
    assert ended.value.code
    assert message in written.err + written.out
    assert "stream" not in written.out


def test_a_device_that_is_not_there_is_an_error(
    folder: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    status, _, err = call(f"--checkpoint={folder / 'tune'}", "--device=cuda")
    assert status == 2
    assert "no CUDA device" in err


def test_a_stream_that_drifts_is_told_in_words(folder: Path, call: Call) -> None:
    """A ReLU network whose state grows without end: fine for a window, lost in a stream."""
    checkpoint = load_checkpoint(folder / "tune")
    model_settings = replace(checkpoint.model_settings, cell="rnn_relu")
    model = replace(checkpoint, model_settings=model_settings, weights={})
    H, E = model_settings.hidden_size, model_settings.embedding_size
    V = model_settings.vocabulary_size
    drift = torch.eye(H) * 1.01  # 256 steps multiply by 13, 720 by 1,300
    weights = {
        "embedding.weight": torch.zeros(V, E),
        "recurrent.weight_ih_l0": torch.zeros(H, E),
        "recurrent.weight_hh_l0": drift,
        "recurrent.bias_ih_l0": torch.full((H,), 1e-3),
        "recurrent.bias_hh_l0": torch.zeros(H),
        "decoder.weight": torch.cat([torch.ones(1, H), torch.zeros(V - 1, H)]),
        "decoder.bias": torch.zeros(V),
    }
    save_checkpoint(replace(model, weights=weights), folder / "drifting.safetensors")
    status, out, _ = call(f"--checkpoint={folder / 'drifting.safetensors'}")
    assert status == 0
    assert "warning: stream costs" in out
    assert "though it predicts every symbol from more" in out


def test_the_command_runs_by_itself(folder: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "training.evaluate", "--threads=1"),
            f"--checkpoint={folder / 'tune'}",
        ],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert "stream: 720 symbols in" in done.stdout
    assert "split tune: symbols 6,480 to 7,200 of 8,000" in done.stdout


def test_records_cost_on_the_server_what_they_cost_in_torch(
    folder: Path, call: Call, server: RunningServer
) -> None:
    target = (f"--target={server.address}", "--model=of-names")
    status, out, err = call(
        f"--checkpoint={folder / 'names'}", *target, f"--json={folder / 'names.json'}"
    )
    assert (status, err) == (0, "")
    figures = json.loads((folder / "names.json").read_text("utf-8"))["figures"]
    assert list(figures) == ["apart", "server"]
    assert figures["server"]["nats"] == pytest.approx(figures["apart"]["nats"], abs=1e-5)
    assert "apart, by of-names" in out
    assert "zero state each record" in out
    assert re.search(r"; \d+ records, \d+\.\d{3} nats a record$", out, re.MULTILINE)


def test_what_cannot_be_asked_of_units_is_refused(
    folder: Path, call: Call, server: RunningServer
) -> None:
    status, _, err = call(f"--checkpoint={folder / 'names'}", "--adaptive")
    assert status == 2
    assert "adaptive: reads one long text" in err
    status, _, err = call(f"--checkpoint={folder / 'cut'}", f"--target={server.address}")
    assert status == 2
    assert "has more than 64 symbols" in err

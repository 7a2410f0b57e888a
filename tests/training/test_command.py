"""The command line: the files of a run, interruption, refusals."""

import io
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.serving.running import PATIENCE, wait_for
from tests.training.conftest import TEXT
from training.__main__ import main
from training.log.metrics import read_metrics
from training.log.plot import plot_losses
from training.run.checkpoint import load_checkpoint, save_checkpoint

TINY = ["--hidden-size=5", "--embedding-size=3", "--streams=2", "--window=11", "--threads=1"]


def command(tmp_path: Path, *arguments: str) -> list[str]:
    text = tmp_path / "fable.txt"
    text.write_text(TEXT, encoding="utf-8")
    flags = [f"--corpus={text}", f"--runs-dir={tmp_path / 'runs'}", *TINY, *arguments]
    return list({flag.partition("=")[0]: flag for flag in flags}.values())


def call(tokens: list[str]) -> int:
    try:
        main(tokens)
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def test_a_run_leaves_its_files_and_the_next_one_moves_them_aside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.__main__.plot_losses", plot_losses)
    assert call(command(tmp_path, "--epochs=3")) == 0
    first = tmp_path / "runs" / "fable-gru"
    names = {"best.safetensors", "last.safetensors", "metrics.jsonl", "loss.png", "samples.txt"}
    assert {file.name for file in first.iterdir()} == names
    assert (first / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert (first / "samples.txt").read_text("utf-8").count("--- epoch") == 3
    weights = (first / "best.safetensors").read_bytes()
    capsys.readouterr()
    assert call(command(tmp_path, "--epochs=1")) == 0
    assert (tmp_path / "runs" / "fable-gru.1" / "best.safetensors").read_bytes() == weights
    assert "was moved to" in capsys.readouterr().out


def test_length_that_is_given_replaces_that_of_a_preset(tmp_path: Path) -> None:
    assert call(command(tmp_path, "--preset=quick", "--epochs=1")) == 0
    saved = load_checkpoint(tmp_path / "runs" / "quick" / "last.safetensors").training_settings
    assert (saved.epochs, saved.minutes, saved.learning_rate) == (1, 0.0, 0.008)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The samples of a training that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    assert call(command(folder, "--name=whole", "--epochs=15")) == 0
    return (folder / "runs" / "whole" / "samples.txt").read_text("utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_saves_and_resume_ends_as_if_nothing_had_happened(
    tmp_path: Path, number: signal.Signals, whole: str
) -> None:
    tokens = command(tmp_path, "--epochs=15")
    with (tmp_path / "imported").open("w") as imported:
        process = subprocess.Popen(
            [sys.executable, "-X", "importtime", "-m", "unroll", "train", *tokens, "--name=cut"],
            stdout=subprocess.DEVNULL,
            stderr=imported,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
    log = tmp_path / "runs" / "cut" / "metrics.jsonl"
    wait_for(lambda: log.exists() and log.stat().st_size > 0)
    process.send_signal(number)
    assert process.wait(PATIENCE) == 130
    names = (tmp_path / "imported").read_text("utf-8")
    assert "torch.nn" in names
    assert "torch._dynamo" not in names, "torch's compiler takes a second, and nothing uses it"
    saved = load_checkpoint(tmp_path / "runs" / "cut" / "last.safetensors")
    assert saved.state is not None
    assert 0 < saved.state.progress.update < 15 * 36
    assert call(command(tmp_path, "--name=cut", "--resume")) == 0
    assert (tmp_path / "runs" / "cut" / "samples.txt").read_text("utf-8") == whole
    updates = [r["update"] for r in read_metrics(log) if r["event"] == "update"]
    assert updates == list(range(1, len(updates) + 1))


# In a session of its own, a process takes the terminal that it opens for its controlling one.
IN_A_TERMINAL = (
    "import os, sys; os.open(os.ttyname(1), os.O_RDWR); "
    "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)


@pytest.mark.slow
def test_closed_terminal_leaves_a_state_to_resume(tmp_path: Path) -> None:
    tokens = [*command(tmp_path, "--epochs=500"), "--name=closed"]
    terminal, inner = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", IN_A_TERMINAL, "-m", "unroll", "train", *tokens],
        stdin=inner, stdout=inner, stderr=inner, start_new_session=True,
    )  # fmt: skip
    os.close(inner)
    shown = b""
    while b"symbols/s" not in shown:  # the bar of an update
        shown += os.read(terminal, 4096)
    os.close(terminal)
    assert process.wait(60) == 130
    saved = load_checkpoint(tmp_path / "runs" / "closed" / "last.safetensors")
    assert saved.state is not None
    assert saved.state.progress.update > 0


@pytest.mark.slow
def test_a_reader_that_has_seen_enough_ends_no_training(tmp_path: Path) -> None:
    tokens = [*command(tmp_path, "--epochs=9"), "--name=piped"]
    with subprocess.Popen(
        [sys.executable, "-m", "unroll", "train", *tokens],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert (process.wait(PATIENCE), process.stderr.read()) == (0, b"")
    saved = load_checkpoint(tmp_path / "runs" / "piped" / "last.safetensors")
    assert saved.state is not None
    assert saved.state.progress.position.epoch == 9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs=0", "--minutes=0"], "one of them is above 0"),
        (["--epochs=1", "--streams=99"], "--streams 99 x --window 11 needs 1,090"),
        (["--epochs=1", "--resume"], "nothing to resume"),
        (["--epochs=1", "--corpus=nowhere"], "neither a file nor a known name"),
        (["--preset=dmeo"], "did you mean 'demo'"),
    ],
)
def test_refusals_end_with_status_2_and_touch_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert call(command(tmp_path, *arguments)) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a" * 5000, "nothing to learn, all of it is the symbol 'a'"),
        ("abc", "--validation-fraction 0.1 of 3 symbols holds out 1, and validation needs 2"),
    ],
)
def test_a_text_that_teaches_nothing_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    tokens = command(tmp_path, "--epochs=1")
    (tmp_path / "fable.txt").write_text(text, encoding="utf-8")
    assert call(tokens) == 2
    assert message in capsys.readouterr().err


def test_a_place_that_cannot_be_written_to_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "runs").write_bytes(b"a file")
    assert call(command(tmp_path, "--epochs=1")) == 2
    assert "change --runs-dir" in capsys.readouterr().err


def test_resuming_on_another_text_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokens = command(tmp_path, "--epochs=1")
    assert call(tokens) == 0
    (tmp_path / "fable.txt").write_text(TEXT + "!", encoding="utf-8")
    assert call([*tokens, "--resume"]) == 2
    assert "sha256" in capsys.readouterr().err


def test_text_that_has_moved_is_asked_for_and_known_by_its_hash(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokens = command(tmp_path, "--epochs=1", "--name=moved")
    assert call(tokens) == 0
    (tmp_path / "fable.txt").rename(tmp_path / "elsewhere.txt")
    resume = [f"--runs-dir={tmp_path / 'runs'}", "--name=moved", "--resume"]
    assert call(resume) == 2
    assert "not where it was; name it with --corpus" in capsys.readouterr().err
    assert call([*resume, f"--corpus={tmp_path / 'elsewhere.txt'}", "--threads=2"]) == 0
    saved = load_checkpoint(tmp_path / "runs" / "moved" / "last.safetensors")
    assert saved.training_settings.corpus == str(tmp_path / "elsewhere.txt")
    assert saved.training_settings.threads == 2


def test_training_of_a_gpu_goes_on_where_there_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call(command(tmp_path, "--epochs=2", "--name=gpu")) == 0
    last = tmp_path / "runs" / "gpu" / "last.safetensors"
    saved = load_checkpoint(last)
    assert saved.state is not None
    of_gpu = replace(saved.training_settings, device="cuda", precision="tf32", epochs=3)
    random = saved.state.random | {"cuda": torch.zeros(16, dtype=torch.uint8)}
    state = replace(saved.state, random=random)
    save_checkpoint(replace(saved, training_settings=of_gpu, state=state), last)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert call([f"--runs-dir={tmp_path / 'runs'}", "--name=gpu", "--resume"]) == 0
    assert "the run was started on cuda and continues on cpu" in capsys.readouterr().out
    now = load_checkpoint(last)
    assert (now.training_settings.device, now.training_settings.precision) == ("cpu", "fp32")
    assert now.state is not None
    assert now.state.progress.update > saved.state.progress.update


@pytest.mark.parametrize(("encoding", "shown"), [("ascii", "東".encode()), ("cp1251", b"?")])
def test_a_log_that_cannot_show_the_text_ends_no_training(
    tmp_path: Path, encoding: str, shown: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = command(tmp_path, "--epochs=1", "--name=signs")
    (tmp_path / "fable.txt").write_text(TEXT.replace("a", "é").replace("m", "東"), "utf-8")
    log = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(log, encoding, write_through=True))
    assert call(tokens) == 0
    assert shown in log.getvalue()


def test_a_device_that_is_not_there_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert call(command(tmp_path, "--epochs=1", "--device=cuda")) == 2
    assert "no CUDA device" in capsys.readouterr().err

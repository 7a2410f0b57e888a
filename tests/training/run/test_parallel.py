"""Two real processes that torchrun starts train as one does."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.serving.running import wait_for
from tests.shared import SharedFolders
from tests.training.conftest import TEXT, Room, tiny_settings
from tests.training.run.torchrun import CLOCKS, SAID, train_by_command
from training.log.metrics import read_metrics
from training.run.checkpoint import Checkpoint, load_checkpoint
from training.run.parallel import Group
from unroll.errors import CheckpointError, SettingsError

# Sums in float32 in another order, each half of the streams by itself, fed back over 34 updates:
# losses near 2.5 may differ by some tens of their last bits, 2.4e-7.
CLOSE = 1e-5
TINY = {
    "cell": "lstm",
    "layers": 2,
    "hidden-size": 5,
    "embedding-size": 3,
    "streams": 4,
    "window": 11,
    "threads": 1,
    "epochs": 2,
    "sample-symbols": 13,
}
DROPPING = {"dropout": 0.3, "weight-dropout": 0.2, "epochs": 9}
PATIENCE = 1800  # seconds; of a machine that does other things too


def tokens(folder: Path, name: str, **changes: object) -> list[str]:
    """Return the flags of a training."""
    settings = {"corpus": folder / "fable.txt", "runs-dir": folder, "name": name, **TINY, **changes}
    return [f"--{key}={value}" for key, value in settings.items()]


def start(*arguments: str) -> subprocess.Popen[str]:
    """Start a module as two processes."""
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
    return subprocess.Popen(
        [sys.executable, "-m", *torchrun, *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


@pytest.fixture(scope="module")
def runs(shared: SharedFolders) -> Path:
    """Trainings by one process and by two; one by two that Ctrl-C cut short and that went on."""
    return shared.folder("parallel", make_runs)


def make_runs(folder: Path) -> None:
    (folder / "fable.txt").write_text(TEXT, encoding="utf-8")
    interrupt(start("training", *tokens(folder, "cut", **DROPPING)), folder / "cut/metrics.jsonl")
    shutil.copy(folder / "cut/last.safetensors", folder / "interrupted.safetensors")
    trainings = [
        [f"--corpus={folder / 'fable.txt'}", f"--runs-dir={folder}", "--name=cut", "--resume"],
        tokens(folder, "whole", **DROPPING),
        *(tokens(folder, f"two-{n}", dropout=0.0, members=n) for n in (1, 2)),
    ]
    two = start("tests.training.run.torchrun", str(folder), json.dumps(trainings))
    for n in (1, 2):
        train_by_command(tokens(folder, f"one-{n}", dropout=0.0, members=n))
    _, errors = two.communicate(timeout=PATIENCE)
    assert two.returncode == 0, errors


def interrupt(process: subprocess.Popen[str], log: Path) -> None:
    """Send Ctrl-C to torchrun once a training has begun."""
    try:
        wait_for(lambda: process.poll() is not None or (log.exists() and log.stat().st_size > 0))
        process.send_signal(signal.SIGINT)
    finally:
        process.communicate(timeout=PATIENCE)


def losses(run: Path) -> dict[str, list[float]]:
    log = list(read_metrics(run / "metrics.jsonl"))
    updates = [r for r in log if r["event"] == "update"]
    return {
        "loss": [r["loss"] for r in updates],
        "rate": [r["rate"] for r in updates],
        "gradient_norm": [r["gradient_norm"] for r in updates],
        "validation": [r["validation_loss"] for r in log if r["event"] == "milestone"],
    }


def last(run: Path) -> Checkpoint:
    return load_checkpoint(run / "last.safetensors")


def assert_close(a: torch.Tensor, b: torch.Tensor, name: str) -> None:
    difference = float((a.double() - b.double()).abs().max())
    assert a.shape == b.shape
    assert difference < CLOSE, f"{name}: max abs diff {difference:.1e}"


@pytest.mark.slow
@pytest.mark.parametrize("members", [1, 2])
def test_two_processes_train_as_one_does_with_the_same_batch(runs: Path, members: int) -> None:
    one, two = runs / f"one-{members}", runs / f"two-{members}"
    drawn = {"loss.png"}  # by trainings in processes of their own alone, see conftest.py
    assert {f.name for f in two.iterdir()} == {f.name for f in one.iterdir()} | drawn
    curves = losses(one), losses(two)
    assert len(curves[0]["loss"]) > 20
    for name in curves[0]:
        assert_close(torch.tensor(curves[0][name]), torch.tensor(curves[1][name]), name)
    assert curves[1]["rate"] == curves[0]["rate"]
    ends = last(one), last(two)
    for name, weight in ends[0].weights.items():
        assert_close(weight, ends[1].weights[name], name)
    states = [end.state for end in ends if end.state is not None]
    for name, tensor in states[0].recurrent.items():
        assert tensor.shape == (2 * members, 4, 5)  # (M * L, N, H): all streams, not one process's
        assert_close(tensor, states[1].recurrent[name], name)


@pytest.mark.slow
def test_of_two_processes_the_first_alone_speaks(runs: Path) -> None:
    said = [(runs / f"{SAID}-{rank}").read_text("utf-8") for rank in (0, 1)]
    assert said[0].count("holds checkpoints, samples and curves") == 4
    assert said[1] == ""


@pytest.mark.slow
def test_two_interrupted_and_resumed_with_dropout_equal_two_uninterrupted(runs: Path) -> None:
    cut = load_checkpoint(runs / "interrupted.safetensors")
    assert cut.state is not None
    assert 0 < cut.state.progress.update < len(losses(runs / "whole")["loss"])
    assert not torch.equal(cut.state.random["cpu"], cut.state.random["cpu.1"])
    assert losses(runs / "cut") == losses(runs / "whole")
    ends = last(runs / "cut"), last(runs / "whole")
    for name, weight in ends[0].weights.items():
        assert torch.equal(weight, ends[1].weights[name]), name
    samples = [(runs / name / "samples.txt").read_text("utf-8") for name in ("cut", "whole")]
    assert samples[0] == samples[1]


@pytest.mark.slow
def test_a_training_by_the_clock_ends_in_all_processes_together(runs: Path) -> None:
    log = read_metrics(runs / f"{CLOCKS}-0" / "metrics.jsonl")
    rates = [record["rate"] for record in log if "rate" in record]
    assert len(rates) > 30
    assert rates[-1] < max(rates) / 10


def test_streams_that_cannot_be_shared_are_refused() -> None:
    with pytest.raises(SettingsError, match="streams = 7: must be a multiple of the 2 processes"):
        Group(1, 2).require_divisible(7)


def test_each_process_reads_its_own_streams_and_together_they_read_all() -> None:
    parts = [list(range(12))[Group(rank, 3).columns(12)] for rank in range(3)]
    assert parts == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]


def test_each_process_drops_others_and_always_the_same() -> None:
    drawn = []
    for rank in (0, 1, 2, 1):
        torch.manual_seed(25)
        Group(rank, 3).seed(25)
        drawn.append(torch.rand(3).tolist())
    assert drawn[1] == drawn[3]
    assert len({tuple(numbers) for numbers in drawn}) == 3
    torch.manual_seed(25)
    assert drawn[0] == torch.rand(3).tolist()  # as one process would


def test_variables_of_torchrun_that_are_missing_are_named() -> None:
    given = {"WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "a"}
    with pytest.raises(SettingsError, match="no LOCAL_RANK, MASTER_PORT: start"):
        Group.of_environment("cpu", given)
    assert Group.of_environment("cpu", {}).size == 1


def test_a_state_is_resumed_by_as_many_processes_as_saved_it(room: Room) -> None:
    settings = tiny_settings(streams=6)
    with (trainer := room.trainer("run", settings)).recorder:
        state = trainer.capture()
    with pytest.raises(CheckpointError, match="saved by 1 and started with 2 processes"):
        Group(1, 2).own_part(state)
    recurrent = {name: torch.rand(t.shape) for name, t in state.recurrent.items()}
    random = {"cpu": state.random["cpu"], "cpu.1": state.random["cpu"].flip(0)}
    joined = replace(state, recurrent=recurrent, random=random)
    own = Group(1, 2).own_part(joined)
    assert torch.equal(own.recurrent["h"], recurrent["h"][:, 3:])
    assert own.random.keys() == {"cpu"}
    assert torch.equal(own.random["cpu"], random["cpu.1"])
    with pytest.raises(CheckpointError, match="saved by 2 and started with 1 processes"):
        room.trainer("run", settings, state=joined)

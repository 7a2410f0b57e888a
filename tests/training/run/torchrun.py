"""Run by torchrun: trainings one after another, for which the processes start only once."""

import gc
import itertools
import json
import os
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from torch._C._distributed_c10d import TCPStore

from tests.ports import free_port
from tests.training.conftest import Room, tiny_settings
from training.__main__ import train
from training.presets import preset_files
from training.run.parallel import Group
from training.run.trainer import Outcome
from training.settings import TrainingSettings
from unroll.cli import run

CLOCKS = "two-clocks"  # the runs by the minute, each followed by its process's rank
SAID = "said"  # what each process prints, likewise


def train_by_command(tokens: list[str]) -> None:
    """Train once, as the command line does."""
    try:
        run(TrainingSettings, train, name="training", tokens=tokens, preset=preset_files)
    except SystemExit as ended:
        if ended.code:
            raise


def train_by_two_clocks(folder: Path) -> None:
    """Train by the minute, with a clock in each process that goes at its own pace."""
    with Group.of_environment("cpu") as group:
        pace = 1.0 + group.rank  # seconds from one look at the clock to the next
        ticks = itertools.count()
        settings = tiny_settings(streams=6, epochs=0, minutes=3.0)
        trainer = Room(folder).trainer(
            f"{CLOCKS}-{group.rank}", settings, clock=lambda: pace * next(ticks), group=group
        )
        assert trainer.run() is Outcome.FINISHED
        ends = (
            float(trainer.progress.update),
            trainer.progress.elapsed,
            *(float(weight.double().sum()) for weight in trainer.model.parameters()),
        )
        assert group.mean(*ends) == ends, "the processes ended differently"


def meet_anew(store: TCPStore, number: int) -> None:
    """Let the next group meet at a port of its own: at torchrun's lie the addresses of the last."""
    if os.environ["RANK"] == "0":
        store.set(f"port-{number}", str(free_port()))
    os.environ["MASTER_PORT"] = store.get(f"port-{number}").decode()
    os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "False"


def main() -> None:
    """Take a folder and the flags of trainings, as JSON."""
    folder, trainings = Path(sys.argv[1]), json.loads(sys.argv[2])
    gc.freeze()  # each group looks for cycles at its end: not among all of torch
    said = folder / f"{SAID}-{os.environ['RANK']}"
    with (
        pytest.MonkeyPatch.context() as patch,
        said.open("w", encoding="utf-8") as out,
        redirect_stdout(out),
    ):
        # A picture takes longer than its training.
        patch.setattr("training.__main__.plot_losses", lambda log, picture: picture.touch())
        train_by_two_clocks(folder)
        store = TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
        for number, tokens in enumerate(trainings):
            meet_anew(store, number)
            train_by_command(tokens)


if __name__ == "__main__":
    main()

"""Run by torchrun: processes whose clocks go differently train by the minute."""

import itertools
import sys
from pathlib import Path

import torch

from tests.training.conftest import Room, tiny_settings
from training.log.metrics import read_metrics
from training.run.parallel import Group
from training.run.trainer import Outcome


def main() -> None:
    torch.set_num_threads(1)
    with Group.of_environment("cpu") as group:
        pace = 1.0 + group.rank  # seconds from one look at the clock to the next
        ticks = itertools.count()
        settings = tiny_settings(streams=6, epochs=0, minutes=3.0)
        room = Room(Path(sys.argv[1]))
        trainer = room.trainer(
            f"of-{group.rank}", settings, clock=lambda: pace * next(ticks), group=group
        )
        assert trainer.run() is Outcome.FINISHED
        ends = (
            float(trainer.progress.update),
            trainer.progress.elapsed,
            *(float(weight.double().sum()) for weight in trainer.model.parameters()),
        )
        assert group.mean(*ends) == ends, "the processes ended differently"
    if group.first:
        rates = [r["rate"] for r in read_metrics(trainer.recorder.folder.metrics) if "rate" in r]
        sys.stdout.write(f"{len(rates)} {max(rates)} {rates[-1]}\n")


if __name__ == "__main__":
    main()

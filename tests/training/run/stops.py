"""Ends of trainings, and what is compared after them."""

import torch

from tests.training.conftest import Room
from training.log.metrics import read_metrics
from training.run.interrupt import StopRequest
from training.run.trainer import Trainer


class StopAfter(StopRequest):
    """Requests a stop after so many questions."""

    def __init__(self, questions: int) -> None:
        self._left = questions
        super().__init__()

    @property
    def requested(self) -> bool:
        self._left -= 1
        return self._left < 0

    @requested.setter
    def requested(self, value: bool) -> None:
        pass


class PowerCut(BaseException):
    """What no training can catch."""


class Killed(StopRequest):
    """Ends the training in the middle, as a power cut does, after so many questions."""

    def __init__(self, questions: int) -> None:
        self._left = questions
        super().__init__()

    @property
    def requested(self) -> bool:
        self._left -= 1
        if self._left < 0:
            raise PowerCut
        return False

    @requested.setter
    def requested(self, value: bool) -> None:
        pass


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: w.detach().clone() for name, w in trainer.model.state_dict().items()}


def assert_equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    different = [name for name in a if not torch.equal(a[name], b[name])]
    assert different == []


def losses(room: Room, name: str) -> list[float]:
    log = read_metrics(room.folder(name).metrics)
    return [record["loss"] for record in log if record["event"] == "update"]

"""A training that is interrupted, killed or explodes loses little, and goes on as it would have."""

import itertools
import math
from typing import Any

import pytest
import torch

from tests.training.conftest import Room, tiny_settings
from tests.training.run.stops import Killed, PowerCut, StopAfter, assert_equal, losses, weights
from training.log.metrics import read_metrics
from training.run.checkpoint import load_checkpoint
from training.run.interrupt import StopRequest
from training.run.trainer import Outcome
from training.settings import Cell
from unroll.errors import ExplosionError


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cell", "members", "updates"),
    [*(("gru", 1, updates) for updates in (0, 1, 11, 17)), ("lstm", 1, 17), ("gru", 2, 11)],
)
def test_interrupted_and_resumed_equals_uninterrupted(
    room: Room, cell: Cell, members: int, updates: int
) -> None:
    settings = tiny_settings(cell=cell, members=members, weight_dropout=0.3)
    whole = room.trainer("whole", settings)
    assert whole.run() is Outcome.FINISHED
    first = room.trainer("cut", settings, stop=StopAfter(updates))
    assert first.run() is Outcome.INTERRUPTED
    assert first.progress.update == updates
    torch.manual_seed(4711)
    saved = load_checkpoint(room.folder("cut").last)
    second = room.trainer("cut", saved.training_settings, state=saved.state)
    assert second.run() is Outcome.FINISHED
    assert_equal(weights(second), weights(whole))
    assert losses(room, "cut") == losses(room, "whole")
    best = [load_checkpoint(room.path / name) for name in ("cut", "whole")]
    assert_equal(best[0].weights, best[1].weights)
    samples = [room.folder(name).samples.read_text("utf-8") for name in ("cut", "whole")]
    assert samples[0] == samples[1]


@pytest.mark.parametrize("seconds", [31.0, 11.0])
def test_state_is_saved_by_the_clock_and_what_follows_is_done_again(
    room: Room, seconds: float
) -> None:
    settings = tiny_settings(validate_every=10**6)
    whole = room.trainer("whole", settings)
    assert whole.run() is Outcome.FINISHED
    ticks = itertools.count()
    killed = room.trainer("cut", settings, stop=Killed(9), clock=lambda: seconds / 3 * next(ticks))
    with pytest.raises(PowerCut):
        killed.run()
    assert not room.folder("cut").best.exists()  # there was no milestone
    saved = load_checkpoint(room.folder("cut").last)
    assert saved.state is not None
    assert 0 < saved.state.progress.update <= 9
    second = room.trainer("cut", saved.training_settings, state=saved.state)
    assert second.run() is Outcome.FINISHED
    assert_equal(weights(second), weights(whole))
    assert losses(room, "cut") == losses(room, "whole")


@pytest.mark.parametrize("place", ["loss.backward", "advance", "report"])
def test_an_error_nobody_foresaw_leaves_the_last_completed_update(
    room: Room, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tiny_settings(weight_dropout=0.3, validate_every=10**6)
    whole = room.trainer("whole", settings)
    assert whole.run() is Outcome.FINISHED
    cut = room.trainer("cut", settings)
    owner, name = {
        "loss.backward": (torch.Tensor, "backward"),
        "advance": (cut, "_advance"),
        "report": (cut, "_report"),
    }[place]
    real, calls = getattr(owner, name), itertools.count(1)

    def fails(*values: Any) -> Any:
        if next(calls) == 8:
            raise MemoryError("no room")
        return real(*values)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, fails)
        with pytest.raises(MemoryError, match="no room"):
            cut.run()
    if place == "advance":  # the weights are another update's than the progress
        assert not room.folder("cut").last.exists()
        return
    saved = load_checkpoint(room.folder("cut").last)
    assert saved.state is not None
    assert saved.state.progress.update == (8 if place == "report" else 7)
    torch.manual_seed(4711)
    second = room.trainer("cut", saved.training_settings, state=saved.state)
    assert second.run() is Outcome.FINISHED
    assert_equal(weights(second), weights(whole))
    assert losses(room, "cut") == losses(room, "whole")


def test_an_error_that_left_broken_weights_keeps_the_last_save(room: Room) -> None:
    trainer = room.trainer("run", tiny_settings())

    class Breaks(StopRequest):
        @property
        def requested(self) -> bool:
            with torch.no_grad():
                trainer.model.decoder.bias[0] = torch.nan
            raise OSError("disk full")

        @requested.setter
        def requested(self, value: bool) -> None:
            pass

    trainer.stop = Breaks()
    with pytest.raises(OSError, match="disk full"):
        trainer.run()
    assert not room.folder("run").last.exists()


def test_a_snapshot_that_an_explosion_undid_is_written_again(room: Room) -> None:
    trainer = room.trainer("run", tiny_settings(snapshots=True, validate_every=3))
    stale = room.folder("run").snapshot(6)
    stale.parent.mkdir()
    stale.write_bytes(b"of the way that was given up")
    trainer.run()
    assert load_checkpoint(stale).metrics.update == 6


def test_explosion_goes_back_to_the_last_good_state_and_halves_the_rate(room: Room) -> None:
    trainer = room.trainer("run", tiny_settings(schedule="constant", warmup_fraction=0.0))
    trainer.update()
    trainer.recovery.keep(trainer.capture())
    good, position = weights(trainer), trainer.progress.position
    trainer.update()
    with torch.no_grad():
        trainer.model.decoder.bias.fill_(math.nan)
    assert trainer.update() is False
    assert_equal(weights(trainer), good)
    assert trainer.progress.position == position
    assert trainer._rate() == trainer.settings.learning_rate / 2
    assert "explosion" in room.written.getvalue()
    assert trainer.run() is Outcome.FINISHED
    events = [r["event"] for r in read_metrics(room.folder("run").metrics)]
    assert events.count("rollback") == 1
    assert events.count("update") == trainer.progress.update


def test_a_training_that_keeps_exploding_is_given_up_with_advice(room: Room) -> None:
    settings = tiny_settings(
        cell="rnn_relu", learning_rate=10.0, gradient_clip=0.0, warmup_fraction=0.0
    )
    with pytest.raises(ExplosionError, match=r"Lower --learning-rate, shorten --window") as raised:
        room.trainer("run", settings).run()
    assert "after 3 times" in str(raised.value)
    events = [record["event"] for record in read_metrics(room.folder("run").metrics)]
    assert (events.count("rollback"), events[-1]) == (3, "given_up")
    left = load_checkpoint(room.folder("run").last)  # weights that are not finite are refused
    assert left.state is not None
    assert_equal(left.weights, left.state.weights)

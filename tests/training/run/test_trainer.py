"""The training loop: learning, stopping, resuming, recovering."""

import itertools
import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.training.conftest import Room, tiny_settings
from training.log.metrics import read_metrics
from training.model import validation
from training.model.model import CELLS, CharRNN
from training.model.validation import Reading, validate
from training.presets import preset_settings
from training.run import recorder
from training.run.checkpoint import load_checkpoint
from training.run.interrupt import StopRequest
from training.run.state import Progress
from training.run.trainer import Outcome, Trainer
from training.settings import Cell
from unroll.errors import ExplosionError


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


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS)
def test_every_cell_learns(room: Room, cell: Cell) -> None:
    trainer = room.trainer("run", tiny_settings(cell=cell, epochs=40, learning_rate=0.02))
    uniform = math.log(len(trainer.data.vocabulary))
    assert trainer.run() is Outcome.FINISHED
    assert trainer.progress.best_loss < 0.85 * uniform


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("preset", ["quick", "cpu", "gpu"])
def test_presets_begin_without_an_explosion(room: Room, preset: str, cell: Cell) -> None:
    """What adds up over the steps of a first window does so at any width."""
    on_a_cpu = {"device": "cpu", "precision": "fp32", "validate_every": 0}
    small = {"hidden_size": 64, "streams": 2, "minutes": 0.0, "epochs": 40}
    settings = replace(preset_settings(preset, cell), **small, **on_a_cpu)  # type: ignore[arg-type]
    trainer = room.trainer("run", settings)
    with trainer.recorder:
        assert all(trainer.update() for _ in range(12))
    assert max(losses(room, "run")) < 1.25 * math.log(len(trainer.data.vocabulary))


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


def test_same_seed_gives_same_losses_and_another_seed_others(room: Room) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 5)):
        room.trainer(name, tiny_settings(seed=seed)).run()
    assert losses(room, "a") == losses(room, "b")
    assert losses(room, "a") != losses(room, "c")


def test_state_is_carried_between_windows_and_zero_at_the_start_of_an_epoch(room: Room) -> None:
    trainer = room.trainer("run", tiny_settings())
    windows = trainer.streams.windows(0)
    carried = []
    with trainer.recorder:
        for _ in range(windows):
            trainer.update()
            carried.append(float(trainer.recurrent["h"].detach().abs().sum()))
    assert all(value > 0 for value in carried[:-1])
    assert carried[-1] == 0
    assert trainer.progress.position.epoch == 1
    assert not trainer.recurrent["h"].requires_grad


def test_best_checkpoint_holds_the_weights_of_the_lowest_validation_loss(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = room.trainer("run", tiny_settings())
    seen = []

    def validate(progress: Progress) -> tuple[Progress, float]:
        seen.append(weights(trainer))
        return progress, [4.0, 3.0, 1.0, 2.0, 2.5][len(seen) - 1]

    monkeypatch.setattr(trainer.recorder, "_validate", validate)
    trainer.run()
    best = load_checkpoint(room.path / "run")
    assert best.metrics.validation_loss == 1.0
    assert best.metrics.epoch == 1
    assert_equal(best.weights, seen[2])
    assert len(seen) == 5


def test_snapshots_are_of_the_start_and_of_each_doubling_of_the_updates(room: Room) -> None:
    trainer = room.trainer("run", tiny_settings(snapshots=True, validate_every=3, epochs=8))
    untrained = weights(trainer)
    trainer.run()
    folder = room.folder("run")
    milestones = [r["update"] for r in read_metrics(folder.metrics) if r["event"] == "milestone"]
    expected = [0]
    for update in milestones:
        if update >= 2 * expected[-1]:
            expected.append(update)
    assert folder.kept_updates() == expected
    assert len(expected) > 4
    assert_equal(load_checkpoint(folder.snapshot(0)).weights, untrained)
    kept = [load_checkpoint(folder.snapshot(update)) for update in expected]
    assert [checkpoint.metrics.update for checkpoint in kept] == expected
    assert not torch.equal(kept[1].weights["decoder.bias"], kept[2].weights["decoder.bias"])


def test_no_snapshots_are_kept_unless_asked_for(room: Room) -> None:
    room.trainer("run", tiny_settings()).run()
    assert room.folder("run").kept_updates() == []


def test_a_snapshot_that_an_explosion_undid_is_written_again(room: Room) -> None:
    trainer = room.trainer("run", tiny_settings(snapshots=True, validate_every=3))
    stale = room.folder("run").snapshot(6)
    stale.parent.mkdir()
    stale.write_bytes(b"of the way that was given up")
    trainer.run()
    assert load_checkpoint(stale).metrics.update == 6


def test_without_validation_the_training_loss_decides(room: Room) -> None:
    trainer = room.trainer("run", tiny_settings(validation_fraction=0.0))
    trainer.run()
    best = load_checkpoint(room.path / "run")
    assert best.metrics.validation_loss is None
    assert best.metrics.training_loss == trainer.progress.best_loss


def test_patience_ends_a_training_that_gets_no_better(room: Room) -> None:
    settings = tiny_settings(
        epochs=50, patience=3, learning_rate=1e-9, validation_fraction=0.2, warmup_fraction=0.9
    )
    trainer = room.trainer("run", settings)
    trainer.progress = trainer.progress.__class__(best_loss=0.0)
    assert trainer.run() is Outcome.EARLY
    assert trainer.progress.position.epoch == 3
    again = room.trainer("run", settings, state=trainer.capture())
    assert again.run() is Outcome.EARLY
    assert again.progress.update == trainer.progress.update


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


@pytest.mark.slow
def test_minutes_end_on_time_with_the_rate_at_zero(room: Room) -> None:
    ticks = itertools.count()
    settings = tiny_settings(epochs=0, minutes=20.0)
    trainer = room.trainer("run", settings, clock=lambda: float(next(ticks)))
    assert trainer.run() is Outcome.FINISHED
    log = list(read_metrics(room.folder("run").metrics))
    rates = [r["rate"] for r in log if r["event"] == "update"]
    end = next(r["seconds"] for r in reversed(log) if r["event"] == "milestone")
    assert 0.95 * 1200 < end < 1200 + 2  # an update takes two ticks of this clock
    assert max(rates) > 0.9 * settings.learning_rate
    assert rates[-1] < 0.05 * settings.learning_rate


@pytest.mark.slow
def test_a_long_text_is_validated_on_the_same_stretches_each_time_and_says_so(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []

    def reading(model: CharRNN, ids: torch.Tensor, **limits: Any) -> Reading:
        found = validate(model, ids, **limits)
        read.append(found.symbols)
        return found

    monkeypatch.setattr(recorder, "validate", reading)
    monkeypatch.setattr(validation, "WINDOW", 7)
    ticks = itertools.count()  # seconds, where a validation may take 24
    settings = tiny_settings(epochs=0, minutes=20.0, validate_every=20, validation_fraction=0.5)
    trainer = room.trainer("run", settings, clock=lambda: float(next(ticks)))
    assert trainer.run() is Outcome.FINISHED
    whole = len(trainer.data.validation)  # type: ignore[arg-type]
    assert len(read) > 3
    assert set(read) == {trainer.progress.validation_steps}
    assert read[0] < whole - 1
    assert f"validation reads {read[0]:,} of {whole - 1:,} symbols" in room.written.getvalue()
    assert trainer.progress.measuring <= 120 + 2


def test_a_sample_takes_no_longer_than_a_validation_may_and_says_so(room: Room) -> None:
    ticks = itertools.count()  # seconds, where a sample may take 24
    settings = tiny_settings(epochs=0, minutes=20.0, sample_symbols=1000)
    trainer = room.trainer("run", settings, clock=lambda: float(next(ticks)))
    drawn: list[torch.Tensor] = []

    def count(model: torch.nn.Module, read: tuple[torch.Tensor, object]) -> None:
        if read[0].shape == (1, 1):
            drawn.append(read[0])

    trainer.model.register_forward_pre_hook(count)
    with trainer.recorder:
        trainer.update()
        trainer.recorder.milestone(trainer.progress)
    assert len(drawn) == 24  # the first symbol does not count, and the limit asks the clock twice
    assert "the sample ends after 24 of 1,000 symbols" in room.written.getvalue()


@pytest.mark.parametrize("warmup", [0.03, 0.0])
def test_a_slow_start_does_not_eat_the_warm_up(room: Room, warmup: float) -> None:
    """What precedes the first update took longer than the warm-up: rates rise nevertheless."""
    ticks = itertools.chain([0.0], (300.0 + 0.001 * tick for tick in itertools.count()))
    settings = tiny_settings(
        epochs=0, minutes=20.0, warmup_fraction=warmup, schedule="constant", validate_every=10**6
    )
    trainer = room.trainer("run", settings, clock=lambda: next(ticks), stop=StopAfter(60))
    assert trainer.run() is Outcome.INTERRUPTED
    log = read_metrics(room.folder("run").metrics)
    rates = [r["rate"] / settings.learning_rate for r in log if r["event"] == "update"]
    first = [(update + 1) / 50 if warmup else 1.0 for update in range(50)]
    assert rates == pytest.approx([*first, *[1.0] * 10], rel=1e-3)


def test_gradients_are_clipped_to_the_norm_that_was_asked_for(room: Room) -> None:
    trainer = room.trainer("run", tiny_settings(gradient_clip=0.01))
    with trainer.recorder:
        trainer.update()
    gradients = [w.grad for w in trainer.model.parameters() if w.grad is not None]
    norm = float(torch.nn.utils.get_total_norm(gradients))
    assert norm == pytest.approx(0.01, rel=1e-3)


def test_validation_comes_after_so_many_updates_instead_of_epochs(room: Room) -> None:
    trainer = room.trainer("run", tiny_settings(validate_every=3, epochs=2))
    assert trainer.streams.windows(0) % 3
    trainer.run()
    log = read_metrics(room.folder("run").metrics)
    places = [r["update"] for r in log if r["event"] == "milestone"]
    assert places == sorted({*range(3, trainer.progress.update + 1, 3), trainer.progress.update})

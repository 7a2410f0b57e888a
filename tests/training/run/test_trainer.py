"""The training loop: what it learns, keeps and ends by."""

import itertools
import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.training.conftest import Room, tiny_settings
from tests.training.run.stops import StopAfter, assert_equal, losses, weights
from training.log.metrics import read_metrics
from training.model import validation
from training.model.model import CELLS, CharRNN
from training.model.validation import Reading, validate
from training.presets import preset_settings
from training.run import recorder
from training.run.checkpoint import load_checkpoint
from training.run.state import Progress
from training.run.trainer import Outcome
from training.settings import Cell


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS)
def test_every_cell_learns(room: Room, cell: Cell) -> None:
    trainer = room.trainer("run", tiny_settings(cell=cell, epochs=20, learning_rate=0.03))
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

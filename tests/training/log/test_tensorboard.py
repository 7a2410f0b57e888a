"""TensorBoard's event file, read back as TensorBoard does."""

import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.training.conftest import Room, tiny_settings
from tests.training.run.stops import StopAfter
from tests.training.test_command import call, command
from training.log.metrics import Metrics, read_metrics
from training.log.tensorboard import TensorBoardLog
from training.run.checkpoint import load_checkpoint


def read(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder)).Reload()


def scalars(events: EventAccumulator, name: str) -> dict[int, float]:
    found = events.Scalars(name)
    assert len({event.step for event in found}) == len(found), "a step stands there twice"
    return {event.step: event.value for event in found}


def test_an_interrupted_and_resumed_run_has_the_curves_and_samples_of_its_log(room: Room) -> None:
    settings = tiny_settings(tensorboard=True)
    room.trainer("run", settings, stop=StopAfter(11)).run()
    run = room.folder("run")
    saved = load_checkpoint(run.last)
    room.trainer("run", saved.training_settings, state=saved.state).run()
    log, events = list(read_metrics(run.metrics)), read(run.path)
    updates = [r for r in log if r["event"] == "update"]
    for key in ("loss", "rate", "gradient_norm"):
        wanted = {r["update"]: pytest.approx(r[key], rel=1e-6) for r in updates}  # float32
        assert scalars(events, f"training/{key}") == wanted
    milestones = [r for r in log if r["event"] == "milestone"]
    losses = {r["update"]: pytest.approx(r["validation_loss"], rel=1e-6) for r in milestones}
    assert scalars(events, "validation/loss") == losses
    assert min(scalars(events, "training/symbols_per_second").values()) > 0
    texts = [e.tensor_proto.string_val[0].decode() for e in events.Tensors("sample/text_summary")]
    written = run.samples.read_text("utf-8")
    assert len(texts) == len(milestones)
    for text in texts:
        assert "\n".join(line[4:] for line in text.splitlines()) in written


def test_the_speed_is_that_since_the_last_update_without_the_milestones(tmp_path: Path) -> None:
    now = [0.0]
    log = TensorBoardLog(tmp_path, symbols=300, clock=lambda: now[0])
    metrics = Metrics(update=1, epoch=0, training_loss=2.0, validation_loss=1.5, seconds=2.0)
    now[0] = 2.0
    log.update(1, 2.0, 0.1, 1.0)
    now[0] = 60.0
    log.milestone(metrics, "")
    now[0] = 63.0
    log.update(2, 2.0, 0.1, 1.0)
    log.close()
    assert scalars(read(tmp_path), "training/symbols_per_second") == {1: 150.0, 2: 100.0}


def test_what_is_done_again_stands_there_once_as_it_was_done_last(tmp_path: Path) -> None:
    log = TensorBoardLog(tmp_path, symbols=300)
    for update in (1, 2, 3):
        log.update(update, 2.0, 0.5, 1.0)
    log.rewind(1, rate_scale=0.5)
    log.update(2, 4.0, 0.25, 1.0)
    log.close()
    assert scalars(read(tmp_path), "training/rate") == {1: 0.5, 2: 0.25}


def test_without_its_package_the_refusal_says_what_to_install(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    assert call(command(tmp_path, "--epochs=1", "--tensorboard")) == 2
    assert "`pip install -c constraints.txt '.[tensorboard]'`" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()

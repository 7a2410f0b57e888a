"""Settings, presets, schedule, resuming."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.model.initialisation import build_model
from training.model.model import CELLS
from training.presets import FOLDER, preset_files, preset_settings
from training.run.resume import settings_to_resume
from training.run.schedule import Length, Schedule
from training.settings import Cell, TrainingSettings
from unroll.errors import SettingsError


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs = 0 and minutes = 0: .* give --epochs, --minutes or a --preset"),
        ({"dropout": 1.0}, r"dropout = 1.0: must be at least 0 and below 1"),
        ({"window": 0}, "window = 0: must be 1 to 1,048,576"),
        ({"gradient_clip": -1.0}, "gradient_clip = -1.0: must be 0 to"),
        ({"validation_fraction": 0.6}, r"must be 0 to 0\.5; change --validation-fraction"),
        ({"learning_rate": math.nan}, "learning_rate = nan"),
        ({"minutes": math.inf, "epochs": 0}, "minutes = inf"),
        ({"optimizer": "adam"}, "weight_decay = 0.02: adam has no weight decay"),
        ({"name": "../x"}, "plain folder name"),
        ({"corpus": ""}, "corpus = '': must be the name of a corpus or the path of a text; change"),
        ({"seed": 2**63}, "seed = 9223372036854775808: must be at least 0 and below"),
    ],
)
def test_broken_rules_name_the_setting_and_the_range(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        TrainingSettings(**{"epochs": 1} | changes).validate()


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.toml")), ids=lambda path: path.stem)
def test_every_preset_is_valid_and_is_named_after_its_file(path: Path) -> None:
    name, _, suffix = path.stem.partition(".")
    cell = next((cell for cell in CELLS if cell == suffix), None)
    settings = preset_settings(name, cell)
    settings.validate()
    assert settings.name == name
    assert path in preset_files(name, {"cell": cell}.get)


def test_a_preset_has_other_settings_for_another_cell() -> None:
    assert preset_settings("cpu") == preset_settings("cpu", "gru")
    assert preset_settings("cpu", "rnn_tanh").learning_rate != preset_settings("cpu").learning_rate
    assert preset_settings("cpu", "rnn_tanh").minutes == preset_settings("cpu").minutes


def test_lab_preset_is_the_worked_example() -> None:
    lab = preset_settings("lab")
    assert (lab.corpus, lab.max_symbols, lab.cell) == ("shakespeare", 10000, "rnn_relu")
    assert (lab.embedding_size, lab.hidden_size, lab.layers) == (100, 512, 3)
    assert (lab.optimizer, lab.learning_rate, lab.schedule) == ("adam", 0.001, "constant")
    assert (lab.streams, lab.window, lab.start_offset, lab.epochs) == (1, 50, 100, 50)
    assert (lab.dropout, lab.gradient_clip, lab.validation_fraction) == (0.0, 0.0, 0.0)
    assert (lab.init, lab.sample_symbols, lab.beta2) == ("torch", 200, 0.999)


def test_unknown_presets_list_the_known_ones() -> None:
    with pytest.raises(SettingsError, match=r"did you mean 'lab'\?.*cpu, demo, gpu, lab, quick"):
        preset_settings("labs")


def test_a_run_is_named_after_corpus_and_cell() -> None:
    assert TrainingSettings(corpus="texts/novel.txt", cell="lstm").run_name == "novel-lstm"
    assert TrainingSettings(name="mine").run_name == "mine"


@given(
    kind=st.sampled_from(["linear", "constant"]),
    warmup=st.floats(0, 0.9),
    progress=st.floats(0, 1),
)
def test_rate_factor_stays_between_zero_and_one(kind: Any, warmup: float, progress: float) -> None:
    schedule = Schedule(kind=kind, warmup_fraction=warmup)
    assert 0 <= schedule.factor(progress) <= 1
    assert schedule.factor(warmup) == pytest.approx(1)
    assert schedule.factor(1.0) == (0 if kind == "linear" else 1)


def test_linear_rate_rises_then_falls() -> None:
    schedule = Schedule(kind="linear", warmup_fraction=0.2)
    assert [schedule.factor(p) for p in (0.1, 0.2, 0.6)] == pytest.approx([0.5, 1.0, 0.5])


def test_no_update_of_a_planned_number_has_rate_zero() -> None:
    length = Length(updates=10)
    schedule = Schedule(kind="linear", warmup_fraction=0.03)
    factors = [schedule.factor(length.progress(update, 0.0, 0.0)) for update in range(10)]
    assert min(factors) > 0
    assert length.over(10, 0.0, 0.0)
    assert not length.over(9, 1e9, 0.0)


def test_time_is_kept_for_the_end_but_never_most_of_it() -> None:
    length = Length(seconds=100.0)
    assert not length.over(5, 91.0, 8.0)
    assert length.over(5, 92.0, 8.0)
    assert length.progress(5, 46.0, 8.0) == pytest.approx(0.5)
    assert not length.over(5, 79.0, 500.0)
    assert not length.over(0, 500.0, 8.0)


def test_validations_take_a_tenth_of_the_time_spread_over_it() -> None:
    length, cost = Length(seconds=100.0), 2.0
    measuring, times = cost, []
    for second in range(100):
        if length.affords(measuring, cost, float(second)):
            measuring += cost
            times.append(second)
    assert times == [60, 80]
    assert measuring + cost <= 10.0  # with the last one
    assert Length(updates=10).affords(1e9, 1e9, 0.0)
    assert Length(updates=10).validation_seconds == math.inf
    assert length.validation_seconds == 2.0


def test_resuming_keeps_the_stored_settings_and_refuses_others() -> None:
    stored = TrainingSettings(epochs=5, hidden_size=7, name="a")
    given_ = TrainingSettings(resume=True, name="a", epochs=5)
    assert settings_to_resume(given_, stored, has_cuda=False).hidden_size == 7
    with pytest.raises(SettingsError, match=r"hidden_size = 9.*started with 7"):
        settings_to_resume(TrainingSettings(resume=True, hidden_size=9), stored, has_cuda=False)


def test_resuming_takes_what_does_not_change_the_training() -> None:
    stored = TrainingSettings(epochs=5, name="a", device="cuda", precision="bf16", threads=2)
    here = settings_to_resume(
        TrainingSettings(resume=True, name="a", corpus="b.txt", threads=3), stored, has_cuda=True
    )
    assert (here.corpus, here.threads) == ("b.txt", 3)
    assert (here.device, here.precision) == ("cuda", "bf16")
    there = settings_to_resume(TrainingSettings(resume=True, name="a"), stored, has_cuda=False)
    assert (there.device, there.precision, there.threads) == ("cpu", "fp32", 2)
    back = settings_to_resume(
        TrainingSettings(resume=True, name="a", device="cuda"), there, has_cuda=True
    )
    assert back.device == "cuda"


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("preset", "most"), [("cpu", 1.5e6), ("gpu", 5e6)])
def test_presets_keep_to_their_size(preset: str, most: float, cell: Cell) -> None:
    """docs/notes/experiments.md compares by trained weights, of tinyshakespeare's 65 symbols."""
    settings = replace(preset_settings(preset, cell), device="cpu", precision="fp32")
    model = build_model(settings, 65)
    assert 0.4 * most < sum(weight.numel() for weight in model.parameters()) <= most

"""Splits: what is trained on, what is held out, and what is never read."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import tiny_checkpoint
from tests.training.conftest import tiny_corpus, tiny_settings
from training.data.prepared import prepare_data
from training.data.splits import split_symbols
from training.run.checkpoint import load_checkpoint, save_checkpoint
from training.settings import Split, TrainingSettings
from unroll.errors import SettingsError

TINYSHAKESPEARE = 1_115_394


def parts(symbols: int, split: Split, **changes: Any) -> tuple[range, range]:
    made = split_symbols(symbols, TrainingSettings(split=split, epochs=1, **changes))
    return made.training, made.held_out


def test_the_splits_of_tinyshakespeare_are_the_agreed_ones() -> None:
    assert parts(TINYSHAKESPEARE, "test") == (range(1_003_854), range(1_003_854, 1_115_394))
    assert parts(TINYSHAKESPEARE, "tune") == (range(903_468), range(903_468, 1_003_854))


@given(
    symbols=st.integers(0, 10_000),
    fraction=st.floats(0.001, 0.5),
    max_symbols=st.integers(0, 12_000),
)
def test_tune_reads_nothing_of_what_test_holds_out(
    symbols: int, fraction: float, max_symbols: int
) -> None:
    rules = {"validation_fraction": fraction, "max_symbols": max_symbols}
    trained, held_out = parts(symbols, "test", **rules)
    tuned, tuning = parts(symbols, "tune", **rules)
    assert (trained.start, trained.stop, held_out.stop) == (
        0,
        held_out.start,
        min(symbols, max_symbols or symbols),
    )
    assert (tuned.start, tuned.stop, tuning.stop) == (0, tuning.start, trained.stop)


@pytest.mark.parametrize(
    ("split", "trained", "kept"), [("test", "a" * 80, "b" * 20), ("tune", "a" * 64, "a" * 16)]
)
def test_training_data_are_the_split_s(split: Split, trained: str, kept: str) -> None:
    settings = tiny_settings(split=split, validation_fraction=0.2, streams=2, window=3)
    data = prepare_data(tiny_corpus("a" * 80 + "b" * 20), settings)
    assert data.validation is not None
    assert data.vocabulary.decode(data.streams.ids.tolist()) == trained
    assert data.vocabulary.decode(data.validation.tolist()) == kept
    assert data.vocabulary.symbols == "ab"


def test_the_text_beyond_the_split_changes_nothing_that_is_read() -> None:
    settings = tiny_settings(split="tune", validation_fraction=0.2, streams=2, window=3)
    one, other = (
        prepare_data(tiny_corpus("ab" * 40 + end), settings) for end in ("a" * 20, "b" * 20)
    )
    assert one.validation is not None
    assert other.validation is not None
    assert one.streams.ids.tolist() == other.streams.ids.tolist()
    assert one.validation.tolist() == other.validation.tolist()


def test_tune_needs_a_part_to_hold_out() -> None:
    with pytest.raises(SettingsError, match="split = 'tune': must be 'test' where"):
        TrainingSettings(epochs=1, split="tune", validation_fraction=0).validate()


def test_a_checkpoint_without_the_setting_was_trained_for_the_test(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.run.checkpoint.asdict", without_split)
    save_checkpoint(tiny_checkpoint("gru"), tmp_path / "old.safetensors")
    assert b"split" not in (tmp_path / "old.safetensors").read_bytes()
    loaded = load_checkpoint(tmp_path / "old.safetensors")
    assert loaded.training_settings.split == "test"


def without_split(value: Any) -> dict[str, Any]:
    from dataclasses import asdict

    return {name: each for name, each in asdict(value).items() if name != "split"}

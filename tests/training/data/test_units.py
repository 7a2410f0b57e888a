"""Units that stand apart: each whole, from the start symbol, and hardly any filling."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch.nn import functional as F

from tests.training.conftest import Room, tiny_settings
from tests.training.run.stops import StopAfter
from training.data.corpus.corpus import Corpus, load_corpus
from training.data.prepared import prepare_data
from training.data.streams import Position
from training.data.units import IGNORED, LONGEST, Units, record_starts
from training.evaluate.reading import unit_losses
from training.model.validation import validate_units
from training.run.checkpoint import load_checkpoint
from training.run.trainer import Outcome
from training.settings import TrainingSettings
from unroll.errors import CorpusError, SettingsError

START = 9  # no symbol of any unit, so that it is seen
NAMES = "\n".join(["ada", "bo", "charlotte", "", "di", "eve", "f", "gustav"] * 30) + "\n"


def units_of(lengths: list[int], *, streams: int = 3, window: int = 4) -> Units:
    """Make units of which no two neighbouring symbols are alike."""
    ids = torch.arange(sum(lengths), dtype=torch.int16) % 7
    starts = np.cumsum([0, *lengths])
    return Units(ids, starts, streams=streams, window=window, start_id=START, newline=-1, seed=3)


def read(units: Units, epoch: int) -> list[list[int]]:
    """Put the targets of an epoch together, unit by unit; check the inputs on the way."""
    found: list[list[int]] = []
    rows: list[list[int]] = []
    position = Position(epoch=epoch)
    while position.epoch == epoch:
        inputs, targets = units.batch(position)
        if not units.carries(position):
            found += rows
            rows = [[] for _ in range(units.rows(position))]
        for row, (xs, ys) in enumerate(zip(inputs.t().tolist(), targets.t().tolist(), strict=True)):
            for x, y in zip(xs, ys, strict=True):
                if y == IGNORED:
                    continue
                before = rows[row][-1] if rows[row] else None
                assert x == before if rows[row] else x in range(10)
                rows[row].append(y)
        position = units.after(position)
    return found + rows


@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=40), epoch=st.integers(0, 3))
def test_every_unit_is_read_whole_once_an_epoch(lengths: list[int], epoch: int) -> None:
    units = units_of(lengths)
    ends = np.cumsum([0, *lengths])
    ids = (np.arange(sum(lengths)) % 7).tolist()
    expected = [ids[a:b] for a, b in itertools.pairwise(ends.tolist())]
    assert sorted(read(units, epoch)) == sorted(expected)


def test_a_unit_begins_with_the_start_symbol_and_a_part_of_one_with_what_came_before() -> None:
    window = 4
    units = units_of([LONGEST * window + 5, 3], window=window)
    firsts = []
    for _, (inputs, targets, begins) in enumerate(units.all()):
        if begins:
            firsts += list(zip(inputs[0].tolist(), targets[0].tolist(), strict=True))
    cut = LONGEST * window
    assert sorted(firsts) == sorted([(START, 0), ((cut - 1) % 7, cut % 7), (START, (cut + 5) % 7)])


def test_epochs_differ_and_come_again() -> None:
    units = units_of(list(range(1, 40)))
    assert read(units, 0) != read(units, 1)
    assert read(units, 0) == read(units_of(list(range(1, 40))), 0)


def test_hardly_any_symbol_is_filling() -> None:
    random = np.random.default_rng(1)
    lengths = random.integers(2, 30, 20_000).tolist()
    units = units_of(lengths, streams=32, window=64)
    windows = [targets for _, targets, _ in units.all()]
    filling = sum(int((targets == IGNORED).sum()) for targets in windows)
    assert filling < 0.02 * sum(lengths)
    assert 0.9 * 32 * 64 < np.median([targets.numel() for targets in windows]) <= 32 * 64


def lines_of(text: str) -> NDArray[np.int64]:
    corpus = Corpus.of(name="any", text=text)
    return record_starts(corpus.symbols.ids, corpus.vocabulary.symbols.find("\n"))


def test_records_are_lines() -> None:
    assert lines_of("a\nbb\n\nc").tolist() == [0, 2, 5, 6, 7]
    assert lines_of("a\nbb\n").tolist() == [0, 2, 5]


def settings_of(**changes: object) -> TrainingSettings:
    return tiny_settings(streams=4, window=5, **changes)


def test_whole_records_are_held_out_and_blank_lines_are_none() -> None:
    data = prepare_data(Corpus.of(name="names", text=NAMES), settings_of(records=True))
    assert isinstance(data.streams, Units)
    assert data.held_out is not None
    assert data.validation is not None
    held = data.vocabulary.text_of(data.validation.numpy())
    assert NAMES.endswith("\n" + held)
    assert 0.05 < len(held) / len(NAMES) < 0.11
    lines = [line for line in NAMES.splitlines() if line]
    assert data.streams.count + data.held_out.count == len(lines)
    assert data.vocabulary.form.unit == "record"


def test_files_are_documents(tmp_path: Path) -> None:
    for number, text in enumerate(["one and one", "two", "three three", "four"]):
        (tmp_path / f"{number}.txt").write_text(text * 9)
    corpus = load_corpus(str(tmp_path))
    settings = settings_of(documents=True, validation_fraction=0.4)
    data = prepare_data(corpus, settings)
    assert data.validation is not None
    assert data.vocabulary.text_of(data.validation.numpy()) == "three three" * 9 + "\n" + "four" * 9


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"records": True, "documents": True}, "give only one of --documents and --records"),
        ({"records": True, "respell_names": 0.5}, "--respell-names 0"),
        ({"documents": True, "start_offset": 5}, "start_offset"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    changes: dict[str, object], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        settings_of(**changes).validate()


def test_one_file_or_line_is_refused() -> None:
    corpus = Corpus.of(name="any", text="abc" * 99)
    for unit in ("documents", "records"):
        with pytest.raises(CorpusError, match=f"leave out --{unit}"):
            prepare_data(corpus, settings_of(**{unit: True}))


def test_validation_is_the_mean_over_the_records_read_alone(room: Room) -> None:
    room.corpus = Corpus.of(name="names", text=NAMES, sha256="0" * 64)
    trainer = room.trainer("run", settings_of(records=True, epochs=3))
    assert trainer.run() is Outcome.FINISHED
    assert "nats a record" in room.written.getvalue()
    model, data = trainer.model.eval(), trainer.data
    assert data.held_out is not None
    assert data.validation is not None
    found = validate_units(model, data.held_out.all())
    total, symbols = 0.0, 0
    for line in data.vocabulary.text_of(data.validation.numpy()).splitlines(keepends=True):
        if line == "\n":
            continue
        ids = torch.from_numpy(data.vocabulary.encode("\n" + line))
        with torch.no_grad():
            logits, _ = model(ids[:-1, None], model.zero_state(1))
        total += float(F.cross_entropy(logits[:, 0], ids[1:], reduction="sum"))
        symbols += len(ids) - 1
    assert found.symbols == symbols
    assert found.loss == pytest.approx(total / symbols, abs=1e-5)
    assert found.loss < math.log(len(data.vocabulary))


def test_records_resumed_equal_uninterrupted(room: Room) -> None:
    room.corpus = Corpus.of(name="names", text=NAMES, sha256="0" * 64)
    settings = settings_of(records=True, epochs=4)
    whole = room.trainer("whole", settings)
    whole.run()
    first = room.trainer("cut", settings, stop=StopAfter(whole.streams.windows(0) + 3))
    assert first.run() is Outcome.INTERRUPTED
    assert first.streams.carries(first.progress.position)
    torch.manual_seed(4711)
    saved = load_checkpoint(room.folder("cut").last)
    second = room.trainer("cut", settings, state=saved.state)
    second.run()
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(weight, second.model.state_dict()[name])


def test_losses_of_records_come_in_the_order_of_the_text(room: Room) -> None:
    room.corpus = Corpus.of(name="names", text=NAMES, sha256="0" * 64)
    trainer = room.trainer("run", settings_of(records=True, epochs=1))
    trainer.run()
    model, data = trainer.model.eval(), trainer.data
    assert data.held_out is not None
    assert data.validation is not None
    expected = []
    for line in data.vocabulary.text_of(data.validation.numpy()).splitlines(keepends=True):
        if line != "\n":
            ids = torch.from_numpy(data.vocabulary.encode("\n" + line))
            with torch.no_grad():
                logits, _ = model(ids[:-1, None], model.zero_state(1))
            expected.append(F.cross_entropy(logits[:, 0], ids[1:], reduction="none"))
    assert unit_losses(model, data.held_out) == pytest.approx(torch.cat(expected).numpy(), abs=1e-5)

"""What a real server shows of a text is what the model does: torch's units, Score's floats."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.before import without_graphs
from tests.conftest import TINY_SYMBOLS, tiny_checkpoint
from tests.serving.running import serve
from training.settings import Cell
from unroll.bundle.manifest import INSPECT
from unroll.client.client import Client
from unroll.errors import DeadlineError, InputError, UnknownSymbolError
from unroll.options import FindUnitsOptions, GenerateOptions, InspectOptions, ScoreOptions
from unroll.results import Unit
from unroll.terms import UnitKind, UnknownSymbols

TEXT = "abc £def\nhead" * 3
LONG = TEXT * 20  # in more than one reading
H, C = UnitKind.H, UnitKind.C


def torch_units(cell: Cell, text: str, members: int = 1) -> dict[str, np.ndarray]:
    """Read a text with torch, symbol by symbol: each tensor (symbols, layers, hidden)."""
    model = tiny_checkpoint(cell, members=members).model()
    values: dict[str, list[np.ndarray]] = {}
    with torch.no_grad():
        state = model.zero_state(1)
        for symbol in "\n" + text:
            _, state = model(torch.tensor([[TINY_SYMBOLS.index(symbol)]]), state)
            for name, tensor in state.items():
                values.setdefault(name, []).append(tensor[:, 0].numpy().copy())
    return {name: np.stack(each)[1:] for name, each in values.items()}


@pytest.mark.parametrize(("model", "cell"), [("small", "gru"), ("lstm", "lstm")])
def test_units_are_torchs(client: Client, model: str, cell: Cell) -> None:
    expected = torch_units(cell, LONG)
    units = [
        Unit(layer=layer, index=index, kind=kind)
        for kind in (H, C)[: len(expected)]
        for layer in range(3)
        for index in range(7)
    ]
    found = client.inspect(LONG, InspectOptions(model=model, units=tuple(units)))
    for unit, values in zip(units, found.units, strict=True):
        right = expected[unit.kind.value][:, unit.layer, unit.index]
        np.testing.assert_allclose(values, right, atol=1e-5)


@pytest.mark.parametrize("model", ["small", "lstm"])
@pytest.mark.parametrize("text", ["a", TEXT, LONG])
def test_probabilities_and_alternatives_are_scores(client: Client, model: str, text: str) -> None:
    score = client.score(text, ScoreOptions(model=model, top_log_probs=4))
    found = client.inspect(text, InspectOptions(model=model, top_log_probs=4))
    assert (found.text, found.log_probs) == (text, score.log_probs)
    assert found.alternatives == score.alternatives
    assert (found.usage, found.fingerprint) == (score.usage, score.fingerprint)
    assert (found.position, found.units) == (len(text), ())
    after = [client.score(text + each, ScoreOptions(model=model)) for each in TINY_SYMBOLS]
    ranked = sorted(zip(TINY_SYMBOLS, (each.log_probs[-1] for each in after), strict=True),
                    key=lambda each: -each[1])  # fmt: skip
    assert found.next is not None
    assert list(zip(found.next.symbols, found.next.log_probs, strict=True)) == ranked[:4]


def test_all_alternatives_may_be_asked_for(client: Client) -> None:
    found = client.inspect("abc", InspectOptions(top_log_probs=len(TINY_SYMBOLS)))
    for each in (*found.alternatives, found.next):
        assert each is not None
        assert sorted(each.symbols) == sorted(TINY_SYMBOLS)
        assert sum(map(np.exp, each.log_probs)) == pytest.approx(1)


def test_empty_text_tells_what_comes_next(client: Client) -> None:
    units = (Unit(index=3),)
    found = client.inspect("", InspectOptions(top_log_probs=2, units=units))
    assert (found.text, found.log_probs, found.alternatives) == ("", (), ())
    assert found.units == ((),)
    first = client.inspect("a", InspectOptions(top_log_probs=2))
    assert (found.next,) == first.alternatives


def test_text_goes_on_from_sessions_and_capsules(client: Client) -> None:
    units = (Unit(index=3), Unit(layer=2, index=6))
    options = InspectOptions(top_log_probs=3, units=units)
    whole = client.inspect(TEXT, options)
    begun = client.generate(TEXT[:9], GenerateOptions(max_new_symbols=0))
    session = client.start_session()
    session.generate(TEXT[:9], GenerateOptions(max_new_symbols=0))
    for origin in ({"capsule": begun.capsule}, {"session": session.session_id}):
        rest = client.inspect(TEXT[9:], options, **origin)
        assert rest.log_probs == whole.log_probs[9:]
        assert (rest.alternatives, rest.next) == (whole.alternatives[9:], whole.next)
        assert rest.units == tuple(values[9:] for values in whole.units)
        assert rest.position == whole.position
    assert session.inspect(TEXT[9:], options) == rest
    assert client.get_session(session.session_id).position == 9


def test_unknown_symbols_are_refused_or_left_out_or_replaced(client: Client) -> None:
    with pytest.raises(UnknownSymbolError, match="text"):
        client.inspect("aXb")
    skip = InspectOptions(unknown_symbols=UnknownSymbols.SKIP)
    assert client.inspect("aXb", skip).text == "ab"
    replace = InspectOptions(unknown_symbols=UnknownSymbols.REPLACE, replacement_symbol="c")
    found = client.inspect("aXb", replace)
    assert (found.text, found.usage.unknown_symbols) == ("acb", 1)


def ask(*units: Unit, **more: object) -> Callable[[Client], object]:
    options = InspectOptions(units=units, **more)  # type: ignore[arg-type]
    return lambda client: client.inspect("abc", options)


def find(targets: str, **more: object) -> Callable[[Client], object]:
    return lambda client: client.find_units("abcd", targets, FindUnitsOptions(**more))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (ask(Unit(index=0), Unit(index=7)), "units[1].index: must be 0 to 6, got 7"),
        (ask(Unit(index=-1)), "units[0].index: must be 0 to 6, got -1"),
        (ask(Unit(layer=3, index=0)), "units[0].layer: must be 0 to 2, got 3"),
        (ask(Unit(member=1, index=0)), "units[0].member: must be 0 to 0, got 1"),
        (ask(Unit(index=0, kind=C)), "units[0].kind: must be h: a network of gru has no c"),
        (ask(*[Unit(index=0)] * 65), "units: must be at most 64, got 65"),
        (ask(top_log_probs=12), "top_log_probs: must be 0 to 11, the size of"),
        (ask(top_log_probs=-1), "top_log_probs: must be 0 to 11, the size of"),
        (ask(replacement_symbol="c"), "replacement_symbol: is 'c' while"),
        (lambda client: client.inspect("a" * 10_001), "text: has 10001 symbols, this server"),
        (find("010"), "targets: has 3 symbols, the text has 4"),
        (find("0000"), "targets: must have 0 and 1, both"),
        (find("1111"), "targets: must have 0 and 1, both"),
        (find("01x0"), "targets: must have 0 and 1, both"),
        (find("0101", unit_count=0), "unit_count: must be 1 to 64, got 0"),
        (find("0101", unit_count=65), "unit_count: must be 1 to 64, got 65"),
        (lambda client: client.find_units("a" * 10_001, "1"), "text: has 10001 symbols"),
    ],
)
def test_what_cannot_be_shown_is_named_with_what_can(
    client: Client, call: Callable[[Client], object], message: str
) -> None:
    with pytest.raises(InputError) as caught:
        call(client)
    assert message in str(caught.value)


def test_answer_that_might_not_fit_is_refused(tiny_bundles: dict[Cell, Path]) -> None:
    units = tuple(Unit(index=0) for _ in range(64))
    folder = str(tiny_bundles["gru"])
    with serve(folder, max_message_bytes=2**17) as running, running.client() as client:
        assert len(client.inspect("a" * 400, InspectOptions(units=units)).units) == 64
        with pytest.raises(InputError, match="text: has 600 symbols, of which"):
            client.inspect("a" * 600, InspectOptions(units=units))


def test_operator_says_how_much_may_be_inspected(tiny_bundles: dict[Cell, Path]) -> None:
    limits = {"max_inspect_symbols": 5, "max_inspect_units": 1}
    with serve(str(tiny_bundles["gru"]), **limits) as running, running.client() as client:
        one = (Unit(index=0),)
        assert len(client.inspect("abcde", InspectOptions(units=one)).units) == 1
        for call in (lambda: client.inspect("abcdef"), lambda: client.find_units("abcdef", "1")):
            with pytest.raises(InputError, match="text: has 6 symbols, this server takes 5"):
                call()
        with pytest.raises(InputError, match="units: must be at most 1, got 2"):
            client.inspect("a", InspectOptions(units=one * 2))


def test_deadline_ends_an_inspection(client: Client) -> None:
    with pytest.raises(DeadlineError):
        client.find_units("abcd" * 2000, "01" * 4000, timeout=0.01)


@pytest.mark.parametrize(("model", "cell"), [("small", "gru"), ("lstm", "lstm")])
def test_found_units_are_those_with_the_best_area(client: Client, model: str, cell: Cell) -> None:
    holds = np.array([symbol in "abc" for symbol in LONG])
    scores = []
    for kind, values in torch_units(cell, LONG).items():
        for layer in range(3):
            for index in range(7):
                unit = values[:, layer, index]
                higher = unit[holds][:, None] > unit[~holds]
                area = float(higher.mean())
                unit_of = Unit(layer=layer, index=index, kind=UnitKind(kind))
                scores.append((max(area, 1 - area), area < 0.5, unit_of))
    scores.sort(key=lambda each: -each[0])
    found = client.find_units(LONG, holds.tolist(), FindUnitsOptions(model=model, unit_count=5))
    assert [each.unit for each in found.units] == [unit for _, _, unit in scores[:5]]
    assert [each.falls for each in found.units] == [falls for _, falls, _ in scores[:5]]
    for each, (score, _, _) in zip(found.units, scores, strict=False):
        assert each.score == pytest.approx(score, abs=1e-3)  # units that are nearly equal
    assert found.usage.prompt_symbols == len(LONG)


def test_found_unit_shows_what_it_was_found_by(client: Client) -> None:
    holds = [symbol == "£" for symbol in TEXT]
    (best,) = client.find_units(TEXT, holds, FindUnitsOptions(model="lstm", unit_count=1)).units
    options = InspectOptions(model="lstm", units=(best.unit,))
    (values,) = client.inspect(TEXT, options).units
    there = [value for value, here in zip(values, holds, strict=True) if here]
    elsewhere = [value for value, here in zip(values, holds, strict=True) if not here]
    higher = np.mean([[(a > b) + (a == b) / 2 for b in elsewhere] for a in there])
    assert best.score == pytest.approx(1 - higher if best.falls else higher, abs=1e-12)


def test_bundle_of_before_tells_to_export_again(
    tiny_bundles: dict[Cell, Path], tmp_path: Path
) -> None:
    old = Path(shutil.copytree(tiny_bundles["gru"], tmp_path / "old"))
    without_graphs(old, INSPECT)
    with serve(str(old)) as running, running.client() as client:
        for call in (lambda: client.inspect("a"), lambda: client.find_units("ab", "01")):
            with pytest.raises(InputError, match="export the checkpoint again") as caught:
                call()
            assert caught.value.field == "model"
        assert client.score("abc").log_probs

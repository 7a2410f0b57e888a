"""What the page shows of a model's inside: alternatives, units, memory."""

import math
import re
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from playwright.sync_api import expect

from tests.conftest import TINY_SYMBOLS, tiny_checkpoint
from tests.serving.http.asking import call
from tests.serving.http.page.opened import Opened
from tests.serving.running import RunningServer, serve, wait_for
from training.model.model import CharRNN
from training.settings import Cell
from unroll.options import GenerateOptions

pytestmark = pytest.mark.slow

Open = Callable[..., Opened]
Array = NDArray[np.float64]


def shares(opened: Opened, column: int) -> list[float]:
    """The percentages of a column of the alternatives."""
    cells = opened.page.locator(f".choices tbody td:nth-child({column})").all_inner_texts()
    return [float(cell.strip("<% ")) for cell in cells]


def whole_of(text: str) -> dict[str, object]:
    """A request for all that could come next."""
    return {"text": text, "topLogProbs": len(TINY_SYMBOLS)}


def filtered(weights: Array, top_k: int, top_p: float, min_p: float) -> Array:
    """Probabilities after the filters; the likeliest come first."""
    kept = np.where(np.arange(len(weights)) < top_k, weights, 0)
    before = np.cumsum(kept) - kept
    kept[before >= top_p * kept.sum()] = 0
    kept[kept < min_p * kept[0]] = 0
    probabilities: Array = kept / kept.sum()
    return probabilities


def test_alternatives_are_those_of_score_and_choosing_one_branches(
    opened: Opened, server: RunningServer
) -> None:
    opened.settle(length=60, temperature=0.75, seed=7)
    opened.write("abc")
    first = opened.text
    opened.go_back(20)
    opened.tab("Here")
    symbols = opened.page.locator(".choices tbody button")
    expect(symbols).to_have_count(10)
    asked = {"text": first[:-19], "topLogProbs": 11}
    told = call(server, "Score", asked).json["alternatives"][-1]
    names = {"\n": "⏎", " ": "␣"}
    listed = [names.get(symbol, symbol) for symbol in told["symbols"]]
    assert symbols.all_inner_texts()[:9] == listed[:9]
    expected = [100 * math.exp(float(each)) for each in told["logProbs"]]
    assert shares(opened, 3)[:9] == pytest.approx(expected[:9], abs=0.51)
    whole = [
        float(each)
        for each in call(server, "Inspect", whole_of(first[:-20])).json["next"]["logProbs"]
    ]
    drawn = np.exp(np.array(whole) / 0.75)
    assert shares(opened, 4) == pytest.approx(100 * (drawn / drawn.sum())[:10], abs=0.51)
    opened.settle(top_k=4, top_p=0.8, min_p=0.1)
    opened.tab("Here")
    expect(symbols).to_have_count(10)
    drawn = filtered(drawn, 4, 0.8, 0.1)
    assert shares(opened, 4) == pytest.approx(100 * drawn[:10], abs=0.51)
    opened.settle(top_k="", top_p="", min_p="")
    opened.tab("Here")
    expect(symbols).to_have_count(10)
    chosen = next(at for at in range(9) if told["symbols"][at] != first[-20])
    opened.pane.focus()
    opened.page.keyboard.press(str(chosen + 1))
    opened.wait()
    expect(opened.pane).to_have_attribute("data-symbols", str(len(first) - 19 + 60))
    prompt = first[:-20] + told["symbols"][chosen]
    with server.client() as client:
        options = GenerateOptions(max_new_symbols=60, seed=7, temperature=0.75)
        assert opened.text == prompt + client.generate(prompt, options).text


BEFORE = Path(__file__).parents[3] / "compatibility/before/gru"


class Torch:
    """What torch makes of a text that a tiny model reads.

    Attributes:
        values: of c or h, by its letter: after each symbol, (T, L, H).
        log_probs: of each next symbol, (T, V).
    """

    def __init__(self, text: str, cell: Cell = "lstm") -> None:
        checkpoint = tiny_checkpoint(cell)
        model = CharRNN(checkpoint.model_settings)
        model.load_state_dict(checkpoint.weights)
        model.eval()
        L, H = checkpoint.model_settings.layers, checkpoint.model_settings.hidden_size
        state = {name: torch.zeros(L, 1, H) for name in ("hc" if cell == "lstm" else "h")}
        states, said = [], []
        with torch.no_grad():
            for symbol in "\n" + text:
                token = torch.tensor([[TINY_SYMBOLS.index(symbol)]])
                logits, state = model(token, state)
                states.append(state)
                said.append(logits[0, 0].log_softmax(0))
        self.values: dict[str, Array] = {
            name: torch.stack([each[name][:, 0] for each in states[1:]]).double().numpy()
            for name in state
        }
        self.log_probs: Array = torch.stack(said[1:]).double().numpy()


@pytest.fixture
def lstm(opened: Opened) -> Opened:
    opened.page.locator("header select").select_option("other")
    opened.settle(length=700, temperature=0.75, seed=7)
    return opened


def known(opened: Opened, key: str) -> list[float | None]:
    """What the page knows of a unit, by symbols of its text."""
    script = """async (key) => {
        const [{ state }, { valueAt }] = await Promise.all([
            import("./page/store.js"), import("./page/actions/units.js")]);
        return state.reading.symbols.map((_, at) => valueAt(state.reading, key, at) ?? null);
    }"""
    return list(opened.page.evaluate(script, key))


def show_unit(opened: Opened, index: int, layer: int, value: str) -> None:
    opened.tab("Units")
    for label, number in (("Unit", index), ("Layer", layer)):
        opened.page.locator(".chooser label", has_text=label).locator("input").fill(str(number))
    opened.page.get_by_label("Value").select_option(label=value)
    opened.button("Show").click()


def test_values_of_units_are_torchs(lstm: Opened) -> None:
    lstm.write("abc")
    show_unit(lstm, 3, 2, "cell c")
    show_unit(lstm, 5, 1, "output h")
    lstm.button("Colour by h5, layer 1").click()
    expected = Torch(lstm.text).values
    for key, values in (
        ("c3, layer 2", expected["c"][:, 1, 3]),
        ("h5, layer 1", expected["h"][:, 0, 5]),
    ):
        wait_for(lambda key=key: known(lstm, key)[-1] is not None)  # type: ignore[misc]
        told = [(at, value) for at, value in enumerate(known(lstm, key)) if value is not None]
        assert len(told) > 100
        assert [value for _, value in told] == pytest.approx(
            [values[at] for at, _ in told], abs=1e-5
        )


def test_units_are_read_while_a_text_is_written(lstm: Opened) -> None:
    show_unit(lstm, 3, 2, "cell c")
    lstm.begin_long("abc")
    wait_for(lambda: sum(value is not None for value in known(lstm, "c3, layer 2")) > 100)
    expect(lstm.pane).to_have_attribute("aria-busy", "true")
    lstm.button("Stop").click()
    lstm.wait()


def area(values: Array, holds: NDArray[np.bool_]) -> float:
    """Area under the ROC curve, of whichever direction is better."""
    pairs = values[holds][:, None] - values[~holds][None]
    share = float((pairs > 0).mean() + (pairs == 0).mean() / 2)
    return max(share, 1 - share)


def test_found_units_are_those_that_follow_the_pattern(lstm: Opened) -> None:
    lstm.write("abc")
    lstm.tab("Units")
    lstm.page.get_by_label("Regular expression").fill("[a-c]+ ?")
    lstm.button("Find").click()
    rows = lstm.page.locator("ol.plain li")
    expect(rows).to_have_count(10)
    text = lstm.text
    holds = np.array([symbol in "abc" for symbol in text])
    holds |= np.array([at > 0 and text[at] == " " and holds[at - 1] for at in range(len(text))])
    share = lstm.page.locator("aside p", has_text="Holds at").inner_text()
    assert f"{100 * holds.mean():.1f} % of 703 symbols" in share
    values = Torch(text).values
    scores = {
        f"{kind}{index}, layer {layer + 1}": area(values[kind][:, layer, index], holds)
        for kind, layer, index in product("hc", range(3), range(7))
    }
    best = sorted(scores.values(), reverse=True)[:10]
    shown = [float(each) for each in rows.locator("b").all_inner_texts()]
    assert shown == pytest.approx(best, abs=0.0006)
    names = [re.findall(r"^\w+, layer \d", row)[0] for row in rows.all_inner_texts()]
    assert [scores[name] for name in names] == pytest.approx(best, abs=1e-4)
    lstm.page.get_by_label("Regular expression").fill("[")
    lstm.button("Find").click()
    expect(lstm.page.locator(".problem")).to_contain_text("Invalid regular expression")
    for pattern, told in (("Q", "It holds nowhere"), ("[^]", "It holds everywhere")):
        lstm.page.get_by_label("Regular expression").fill(pattern)
        lstm.button("Find").click()
        expect(lstm.page.locator(".problem")).to_contain_text(told)


def test_memory_is_how_long_two_readings_differ(opened: Opened) -> None:
    opened.settle(length=700, temperature=0.75, seed=7)
    opened.write("abc")
    opened.go_back(400)
    opened.tab("Memory")
    text = opened.text
    place = len(text) - 400
    other = "£" if text[place] != "£" else "a"
    opened.page.get_by_label("Other symbol").fill(other)
    opened.button("Compare").click()
    read = slice(place, place + 301)
    first, second = (
        Torch(text, "gru").log_probs[read],
        Torch(text[:place] + other + text[place + 1 :], "gru").log_probs[read],
    )
    bits = (np.exp(first) * (first - second)).sum(1) / math.log(2)
    last = int(np.flatnonzero(bits >= 0.01).max()) + 1
    assert 1 < last < 301
    told = opened.page.locator("aside p", has_text="They differ")
    expect(told).to_contain_text(f"more than 0.01 bits for {last} symbols")
    shown = opened.page.locator("aside svg").first.get_attribute("aria-label") or ""
    (at_first,) = re.findall(r"bits: (\S+) at first", shown)
    assert float(at_first) == pytest.approx(bits[0], rel=0.06)


def test_bundle_of_before_says_what_it_cannot_show(opened_at: Open) -> None:
    with serve(f"old={BEFORE}", http_port=0) as running:
        opened = opened_at(running.server.http_address)
        opened.settle(length=100, seed=7)
        opened.write("The fog")
        opened.tab("Here")
        expect(opened.page.locator(".problem")).to_contain_text("export the checkpoint again")
        opened.tab("Units")
        opened.button("Show").click()
        expect(opened.page.locator(".problem")).to_contain_text("export the checkpoint again")
        opened.page.goto("about:blank")

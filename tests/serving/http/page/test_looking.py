"""What the page shows of a model's inside: alternatives, units, memory."""

import math
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.serving.http.asking import call
from tests.serving.http.page.opened import Opened
from tests.serving.running import RunningServer
from unroll.options import GenerateOptions

pytestmark = pytest.mark.slow

Open = Callable[..., Opened]


def shares(opened: Opened, column: str) -> list[float]:
    """The percentages of a column of the alternatives."""
    cells = opened.page.locator(f".choices tbody td:nth-child({column})").all_inner_texts()
    return [float(cell.strip("<% ")) for cell in cells]


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
    assert shares(opened, "3")[:9] == pytest.approx(expected[:9], abs=0.51)
    chosen = next(at for at in range(9) if told["symbols"][at] != first[-20])
    opened.pane.focus()
    opened.page.keyboard.press(str(chosen + 1))
    opened.wait()
    expect(opened.pane).to_have_attribute("data-symbols", str(len(first) - 19 + 60))
    prompt = first[:-20] + told["symbols"][chosen]
    with server.client() as client:
        options = GenerateOptions(max_new_symbols=60, seed=7, temperature=0.75)
        assert opened.text == prompt + client.generate(prompt, options).text

"""The page of a whole small report, looked at in a browser."""

import io
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, ViewportSize

from report.page.page import fenced, shown
from tests.report.conftest import Made

pytestmark = pytest.mark.slow

CHARTS = {"curves", "updates", "gradients", "memory", "units", "authors", "positions"}
TITLES = ["Vanilla RNN", "GRU", "LSTM"]
# How many lines a chart has, and how long each is at least: a training on a busy machine may have
# but one update.
LINES = {
    "curves": (12, 0), "updates": (6, 0), "gradients": (8, 50), "memory": (6, 10),
    "authors": (1, 50),
}  # fmt: skip


class Opened:
    """The page in a browser, with all that it said and asked for."""

    def __init__(self, page: Page, path: Path) -> None:
        self.page = page
        self.said: list[str] = []
        self.asked: list[str] = []
        page.on("console", self._say)
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("request", self._ask)
        page.goto(path.as_uri())

    def _say(self, message: ConsoleMessage) -> None:
        self.said.append(message.text)

    def _ask(self, request: Request) -> None:
        self.asked.append(request.url)


SIZE: ViewportSize = {"width": 1280, "height": 900}


@pytest.fixture(scope="module")
def opened(browser: Browser, made: Made) -> Iterator[Opened]:
    """One page for all tests, which say what they choose on it: a new one takes a second."""
    with browser.new_context(viewport=SIZE) as context:
        opened = Opened(context.new_page(), made.folder / "index.html")
        yield opened
        assert opened.said == []


def visible(opened: Opened, selector: str) -> list[str]:
    return [e.inner_text() for e in opened.page.locator(selector).all() if e.is_visible()]


def test_page_asks_for_nothing_else_and_says_no_error(browser: Browser, made: Made) -> None:
    with browser.new_context(viewport=SIZE) as context:
        opened = Opened(context.new_page(), made.folder / "index.html")
        for choice in opened.page.locator(".choice").all():
            choice.click()
        opened.page.locator("#theme").click()
    assert opened.said == []
    assert [urlsplit(url).scheme for url in opened.asked if not url.startswith("data:")] == ["file"]


def test_page_holds_no_address_of_another_resource(made: Made) -> None:
    html = (made.folder / "index.html").read_text("utf-8")
    addresses = re.findall(r"""\b(?:src|href)="([^"]*)"|url\(["']?([^"')]+)""", html)
    given = ["".join(pair) for pair in addresses]
    assert len(given) > 10
    assert [address for address in given if not address.startswith(("#", "data:"))] == []


def test_all_charts_are_drawn(opened: Opened) -> None:
    charts = opened.page.locator("figure .chart")
    assert charts.count() == len(CHARTS)
    for chart in charts.all():
        assert chart.get_attribute("aria-label")
        box = chart.locator("svg").bounding_box()
        assert box is not None
        assert box["width"] > 900
        assert box["height"] > 200
        # Not only there, but visible: the ink of lines, bars and letters.
        chart.scroll_into_view_if_needed()
        pixels = np.asarray(Image.open(io.BytesIO(chart.screenshot())).convert("RGB"), np.int16)
        saturated = (pixels.max(2) - pixels.min(2)) > 60
        assert saturated.sum() > 50  # pixels; of an empty chart: none


@pytest.mark.parametrize("name", LINES)
def test_each_chart_has_a_line_for_each_thing_that_it_compares(opened: Opened, name: str) -> None:
    lengths = opened.page.evaluate(
        """(name) => [...document.querySelectorAll(`[id^="${name}-line2d"] > path`)]
            .filter((path) => /var\\(--series/.test(path.getAttribute("style") ?? ""))
            .map((path) => path.getTotalLength())""",
        name,
    )
    count, length = LINES[name]
    assert sum(each >= length for each in lengths) >= count


def test_ids_are_unique(opened: Opened) -> None:
    ids = opened.page.evaluate("[...document.querySelectorAll('[id]')].map((e) => e.id)")
    assert len(ids) > 100
    assert sorted(set(ids)) == sorted(ids)


def test_samples_are_those_of_the_chosen_moment_and_temperature(opened: Opened) -> None:
    samples = "pre[data-moment]"
    seen = []
    for moment in ("untrained", "best"):
        for temperature in ("0.5", "1"):
            opened.page.get_by_role("radio", name=moment, exact=True).check()
            opened.page.get_by_role("radio", name=temperature, exact=True).check()
            texts = visible(opened, samples)
            assert len(texts) == 3
            assert all(len(text) > 200 for text in texts)
            seen.append(tuple(texts))
            captions = visible(opened, "p[data-moment]")
            assert [("untrained" in c) for c in captions] == [moment == "untrained"] * 3
    assert len(set(seen)) == 4


def test_text_is_coloured_by_the_chosen_unit_and_by_surprise(opened: Opened) -> None:
    traits = opened.page.locator("input[name=trait]").count()
    assert traits >= 3
    paints = []
    for number in range(traits):
        opened.page.locator(
            "label.choice", has=opened.page.locator(f"input[name=trait][value='{number}']")
        ).click()
        paints.append(_paint(opened, "#unit-1"))
        assert re.match(
            r"(AUC|R²) -?\d\.\d+ here", opened.page.locator("#unit-1 .score").inner_text()
        )
        assert re.match(r"h, layer 1, unit \d+", opened.page.locator("#unit-1 .name").inner_text())
    assert len(set(paints)) == traits
    surprise = _paint(opened, "#surprise-2")
    assert len(surprise) > 300
    assert len(set(surprise)) > 5


def _paint(opened: Opened, place: str) -> tuple[str, ...]:
    script = (
        "(place) => [...document.querySelectorAll(`${place} b`)].map((b) => b.style.background)"
    )
    return tuple(opened.page.evaluate(script, place))


def test_verdict_lays_the_models_beside_real_text(opened: Opened) -> None:
    table = opened.page.locator("h2#verdict + .table table")
    assert table.locator("thead th").all_inner_texts() == ["", *TITLES, "real text"]
    rows = [row.locator("td").all_inner_texts() for row in table.locator("tbody tr").all()]
    assert len(rows) >= 15
    assert all(cell for row in rows for cell in row[:3])
    assert ["best" in row for row in rows].count(True) == 1


@pytest.mark.parametrize("width", [360, 768, 1280, 1920])
def test_page_fits_screens_of_all_widths(opened: Opened, width: int) -> None:
    opened.page.set_viewport_size({"width": width, "height": 900})
    try:
        assert opened.page.evaluate("document.documentElement.clientWidth") == width
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    finally:
        opened.page.set_viewport_size(SIZE)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_series_stand_out_from_the_page(
    opened: Opened, scheme: Literal["light", "dark"]
) -> None:
    page = opened.page
    page.emulate_media(color_scheme=scheme)
    style = "getComputedStyle(document.documentElement).getPropertyValue"
    names = ["--page", "--ink", "--muted", "--series-0", "--series-1", "--series-2"]
    paper, *inks = [page.evaluate(f"(n) => {style}(n)", name) for name in names]
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == _rgb(paper)
    assert (_contrast(paper, "#ffffff") < 2) == (scheme == "light")
    contrasts = [_contrast(paper, ink) for ink in inks]
    assert min(contrasts) >= 4.5  # WCAG 2.2, 1.4.3


def _rgb(color: str) -> str:
    return f"rgb({', '.join(str(int(color[i : i + 2], 16)) for i in (1, 3, 5))})"


def _contrast(first: str, second: str) -> float:
    def light(color: str) -> float:
        parts = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    low, high = sorted((light(first), light(second)))
    return (high + 0.05) / (low + 0.05)


def test_page_reads_without_javascript_and_prints(browser: Browser, made: Made) -> None:
    with browser.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        page.goto((made.folder / "index.html").as_uri())
        shown_samples = [e for e in page.locator("pre[data-moment]").all() if e.is_visible()]
        assert len(shown_samples) == 3
        assert page.locator("figure svg").count() == len(CHARTS)
        assert page.pdf().startswith(b"%PDF")


def test_headings_descend_one_at_a_time(opened: Opened) -> None:
    levels = opened.page.evaluate(
        "[...document.querySelectorAll('h1, h2, h3, h4')].map((h) => Number(h.tagName[1]))"
    )
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_markdown_names_pictures_that_are_there(made: Made) -> None:
    text = (made.folder / "report.md").read_text("utf-8")
    pictures = re.findall(r"!\[[^\]]+\]\((images/[\w-]+\.png)\)", text)
    assert {Path(name).stem for name in pictures} == CHARTS | {"unit"}
    for name in pictures:
        with Image.open(made.folder / name) as picture:
            assert min(picture.size) > 200
            colors = picture.convert("RGB").getcolors(2**24)
            assert colors is not None
            assert len(colors) > 50
    assert sum((made.folder / name).stat().st_size for name in pictures) < 1_000_000
    assert all(title in text for title in TITLES)


def test_tables_of_the_markdown_are_whole(made: Made) -> None:
    text = (made.folder / "report.md").read_text("utf-8")
    tables = re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)
    assert len(tables) >= 7
    for table in tables:
        columns = [len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()]
        assert len(columns) >= 3
        assert len(set(columns)) == 1


def test_a_text_of_backticks_does_not_end_its_block() -> None:
    assert fenced("a ``` b ````") == "`````text\na ``` b ````\n`````"
    assert fenced("x```y").startswith("````text\n")
    assert [shown(symbol) for symbol in "a\n "] == ["a", "⏎", "␣"]

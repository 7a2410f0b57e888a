"""The page is for everybody: keys, screen readers, dark, phones, long texts."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.serving.http.page.opened import Opened
from tests.serving.running import RunningServer
from unroll.options import GenerateOptions

pytestmark = pytest.mark.slow

Open = Callable[..., Opened]
DESKTOP, PHONE = {"width": 1280, "height": 860}, {"width": 390, "height": 844}


@pytest.mark.parametrize(
    ("viewport", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")], ids=["desktop", "phone"]
)
def test_axe_finds_nothing_serious(
    opened_at: Open, server: RunningServer, viewport: dict[str, int], scheme: str
) -> None:
    context = {"viewport": viewport, "color_scheme": scheme, "bypass_csp": True}
    opened = opened_at(server.server.http_address, **context)
    opened.settle(length=60, seed=7, seeds_side_by_side=2)
    opened.write("abc")
    opened.go_back(20)
    names = opened.page.locator("nav button").all_inner_texts()
    assert len(names) >= 5
    for name in names:
        opened.tab(name)
        found = Axe().run(opened.page).response["violations"]
        serious = [each for each in found if each["impact"] in {"serious", "critical"}]
        assert [(each["id"], each["nodes"][0]["html"]) for each in serious] == [], name
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]


def test_text_is_read_and_left_by_keys_alone(opened: Opened) -> None:
    opened.settle(length=300, temperature=0.75, seed=7)
    opened.write("abc")
    keys, status = opened.page.keyboard, opened.page.locator(".status")
    opened.pane.focus()
    expect(status).to_contain_text("303 symbols")
    for key, place in [
        ("Home", None), ("Control+Home", 1), ("ArrowRight", 2), ("ArrowDown", None),
        ("ArrowUp", 2), ("End", None), ("Home", 1), ("ArrowLeft", 1),
    ]:  # fmt: skip
        keys.press(key)
        if place is not None:
            expect(status).to_contain_text(f"{place} of 303")
    expect(opened.page.get_by_role("status")).to_have_text("Symbol 1 of 303: a")
    keys.press("ArrowRight")
    keys.press("Enter")
    opened.wait()
    expect(opened.pane).to_have_attribute("data-symbols", "301")
    keys.press("Control+z")
    expect(opened.pane).to_have_attribute("data-symbols", "303")


def test_log_is_busy_while_a_text_is_written(opened: Opened) -> None:
    expect(opened.pane).to_have_attribute("aria-busy", "false")
    opened.begin_long("abc")
    expect(opened.pane).to_have_attribute("aria-busy", "true")
    opened.pane.focus()
    opened.page.keyboard.press("Escape")
    opened.wait()


def test_nothing_moves_for_those_who_want_it_so(opened_at: Open, server: RunningServer) -> None:
    for wanted, name in (("reduce", "none"), ("no-preference", "breathe")):
        opened = opened_at(server.server.http_address, reduced_motion=wanted)
        opened.begin_long("abc")
        busy = "getComputedStyle(document.querySelector('.busy')).animationName"
        assert opened.page.evaluate(busy) == name
        opened.button("Stop").click()
        opened.wait()


def put_in(opened: Opened, text: str, tmp_path: Path) -> None:
    """Import a text that nobody has scored."""
    node: dict[str, object] = dict.fromkeys(
        ("logProbs", "model", "fingerprint", "finish", "name", "session"), ""
    )
    node |= {"id": "long", "parent": None, "at": 0, "text": text, "marks": [], "written": None}
    file = tmp_path / "long.json"
    file.write_text(json.dumps({"version": 1, "leaf": "long", "nodes": [node]}), "utf-8")
    opened.tab("Branches")
    opened.page.locator("input[type=file]").set_input_files(file)
    expect(opened.pane).to_have_attribute("data-symbols", str(len(text)))


def test_of_a_long_text_only_what_is_seen_is_drawn(opened: Opened, tmp_path: Path) -> None:
    put_in(opened, "abc dfe\n" * 12_500, tmp_path)
    lines = opened.page.locator(".line")
    assert 5 < lines.count() < 60
    opened.pane.focus()
    opened.page.keyboard.press("Control+Home")
    expect(lines.first).to_have_text("abc dfe")
    opened.page.keyboard.press("PageDown")
    expect(opened.page.locator(".status")).to_contain_text("of 100,000")
    assert lines.count() < 60


def test_text_longer_than_a_request_may_be_goes_on(
    opened: Opened, server: RunningServer, tmp_path: Path
) -> None:
    text = "abc dfe\n" * 5_000
    put_in(opened, text, tmp_path)
    opened.settle(length=20, temperature=0.75, seed=7)
    opened.pane.focus()
    opened.page.keyboard.press("Enter")
    expect(opened.pane).to_have_attribute("data-symbols", str(len(text) + 20))
    opened.wait()
    with server.client() as client:
        options = GenerateOptions(max_new_symbols=20, temperature=0.75, seed=7)
        assert opened.text == text + client.generate(text, options).text
    prompts = [
        len(json.loads(request.post_data_buffer[request.post_data_buffer.index(b"{") :])["prompt"])
        for request in opened.requests
        if "Generate" in request.url and request.post_data_buffer
    ]
    assert sum(prompts) == len(text)
    assert max(prompts) < len(text)

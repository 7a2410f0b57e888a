"""The panel Server shows what the server is doing, while somebody looks."""

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event

import pytest
from playwright.sync_api import Locator, Route, expect

from tests.serving.http.page.opened import Opened
from tests.serving.running import ENDLESS, PATIENCE, RunningServer, wait_for
from unroll.options import GenerateOptions

pytestmark = pytest.mark.slow

LONG = GenerateOptions(model="small", max_new_symbols=ENDLESS)
METHOD = "GetStatus"


@contextmanager
def written_on(server: RunningServer) -> Iterator[None]:
    """Let another client stream one text after the other."""
    ended = Event()

    def stream() -> None:
        with server.client() as client:
            while not ended.is_set():
                for _ in client.stream("abc", LONG):
                    if ended.is_set():
                        break

    with ThreadPoolExecutor(1) as pool:
        streaming = pool.submit(stream)
        try:
            yield
        finally:
            ended.set()
        streaming.result(PATIENCE)


def shown(opened: Opened) -> tuple[Locator, Locator]:
    """The cells of what has a slot of the first model, and of what it writes in a second."""
    row = opened.page.get_by_role("table", name="Load").locator("tbody tr").first
    expect(row).to_contain_text("small")
    return row.locator("td").nth(1), row.locator("td").nth(3)


def asked(opened: Opened) -> int:
    opened.page.evaluate("1")  # what was asked before is known then
    return sum(each.url.endswith(METHOD) for each in opened.requests)


def test_figures_change_while_a_stream_runs(opened: Opened, server: RunningServer) -> None:
    opened.tab("Server")
    running, written = shown(opened)
    expect(running).to_have_text(re.compile("^0 of "))
    expect(written).to_have_text("0")
    with written_on(server), server.client() as client:
        expect(running).to_have_text(re.compile("^1 of "))
        expect(written).to_have_text(re.compile("[1-9]"))
        client.start_session()
        expect(opened.page.get_by_role("complementary")).to_contain_text("1 in memory")
    wait_for(lambda: not server.sequences())
    expect(running).to_have_text(re.compile("^0 of "))
    expect(written).to_have_text("0")


def test_nothing_is_asked_while_the_panel_is_closed_or_the_page_hidden(
    opened_at: Callable[..., Opened], server: RunningServer
) -> None:
    opened = opened_at(server.server.http_address)
    opened.page.clock.install()
    assert not asks_on(opened)
    opened.tab("Server")
    shown(opened)
    assert asks_on(opened)
    see = "Object.defineProperty(document, 'visibilityState', {value: '%s', configurable: true})"
    opened.page.evaluate(see % "hidden")
    assert not asks_on(opened)
    opened.page.evaluate(see % "visible")
    assert asks_on(opened)
    opened.button("Server").click()
    expect(opened.page.get_by_role("table", name="Load")).to_have_count(0)
    assert not asks_on(opened)


def asks_on(opened: Opened) -> bool:
    """Whether it asks again within some minutes, once what it has asked is answered."""
    for each in opened.requests:
        if each.url.endswith(METHOD):
            each.response()
    before = asked(opened)
    for _ in range(10):
        opened.page.clock.fast_forward(10_000)
    return asked(opened) > before


def test_server_that_has_no_such_method_is_told(opened: Opened) -> None:
    def refuse(route: Route) -> None:
        route.continue_(url=route.request.url.replace(METHOD, "GetNothing"))

    opened.page.route(f"**/{METHOD}", refuse)
    opened.tab("Server")
    panel = opened.page.get_by_role("complementary")
    expect(panel).to_contain_text("What the server is doing is not known: ")
    expect(panel.locator(".model-card")).to_have_count(2)

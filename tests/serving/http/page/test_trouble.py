"""What the page tells and keeps when the server asks, stalls, dies, and is long-winded."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from serving.access.tokens import NewToken, issue
from tests.ports import free_port
from tests.serving.http.page.opened import Opened
from tests.serving.running import RunningServer, serve, server_process, wait_for
from training.settings import Cell
from unroll.client.client import Client
from unroll.options import GenerateOptions

pytestmark = pytest.mark.slow

Open = Callable[..., Opened]


@contextmanager
def held(page: Page, method: str) -> Iterator[None]:
    """Hold the next call of a method back, after the page has made it."""
    calls = list[Route]()
    page.route(f"**/{method}", lambda route: calls.append(route), times=1)  # noqa: PLW0108
    yield
    wait_for(lambda: bool(page.evaluate("1") and calls))
    with page.expect_response(f"**/{method}"):
        calls[0].continue_()


def test_page_asks_for_the_token_that_the_server_wants(
    opened_at: Open, tiny_bundles: dict[Cell, Path], tmp_path: Path
) -> None:
    file = tmp_path / "tokens"
    token = issue(NewToken(name="anna", file=file))
    with serve(f"small={tiny_bundles['gru']}", tokens=file, http_port=0) as running:
        opened = opened_at(running.server.http_address, begun=False)
        field = opened.page.get_by_label("Token")
        problem = opened.page.get_by_role("dialog").locator(".problem")
        expect(field).to_be_visible()
        expect(problem).to_have_count(0)
        expect(opened.notice).to_have_count(0)
        field.fill("wrong")
        field.press("Enter")
        expect(problem).to_have_text("The server did not accept this token.")
        expect(opened.notice).to_have_count(0)
        expect(field).to_have_value("wrong")
        field.fill(token)
        field.press("Enter")
        opened.write("abc")
        assert opened.symbols == 303
        opened.reload()
        opened.write()
        assert opened.symbols == 603
        assert token not in opened.page.evaluate("JSON.stringify(localStorage)")
        opened.page.goto("about:blank")


def test_answer_to_an_earlier_token_that_comes_late_changes_nothing(
    opened_at: Open, tiny_bundles: dict[Cell, Path], tmp_path: Path
) -> None:
    file = tmp_path / "tokens"
    token = issue(NewToken(name="anna", file=file))
    with serve(f"small={tiny_bundles['gru']}", tokens=file, http_port=0) as running:
        opened = opened_at(running.server.http_address, begun=False)
        page = opened.page
        field = page.get_by_label("Token")
        expect(field).to_be_visible()
        with held(page, "ListModels"):
            with page.expect_request("**/ListModels"):
                field.fill("wrong")
                field.press("Enter")
            field.fill(token)
            field.press("Enter")
            expect(page.get_by_role("dialog")).to_have_count(0)
        opened.write("abc")
        assert opened.symbols == 303
        page.goto("about:blank")


def test_enter_before_the_models_are_known_keeps_what_was_typed(opened: Opened) -> None:
    opened.settle(length=20, seed=7)
    with held(opened.page, "ListModels"):
        opened.page.reload()
        opened.field.fill("abc")
        opened.field.press("Enter")
        opened.pane.focus()
        opened.page.keyboard.press("Enter")
        expect(opened.notice).to_be_empty()
    expect(opened.button("Write")).to_be_enabled()
    expect(opened.field).to_have_value("abc")
    opened.write("abc")
    assert opened.symbols == 23


def test_what_is_typed_while_the_server_reads_is_neither_lost_nor_sent_twice(
    opened: Opened,
) -> None:
    opened.settle(length=20, seed=7)
    opened.field.fill("abc")
    with held(opened.page, "Score"):
        opened.field.press("Enter")
        opened.field.press_sequentially("de")
        opened.field.press("Enter")
    expect(opened.pane).to_have_attribute("data-symbols", "23")
    opened.wait()
    assert opened.text.startswith("abc")
    expect(opened.field).to_have_value("de")
    opened.field.fill("abc§")
    with held(opened.page, "Score"):
        opened.field.press("Enter")
        opened.field.press_sequentially("de")
    expect(opened.notice).to_contain_text("UNKNOWN_SYMBOL")
    expect(opened.field).to_have_value("abc§de")


FORBIDDEN = """
for (const name of ["localStorage", "sessionStorage"]) {
  const get = () => { throw new DOMException("denied", "SecurityError"); };
  Object.defineProperty(window, name, { get });
}
"""


def test_page_works_where_the_browser_keeps_nothing(opened_at: Open, server: RunningServer) -> None:
    opened = opened_at(server.server.http_address)
    opened.page.add_init_script(FORBIDDEN)
    opened.reload()
    opened.settle(length=20, seed=7)
    opened.write("abc")
    assert opened.symbols == 23
    expect(opened.notice).to_contain_text("This browser lets the page keep nothing")
    opened.write()
    assert opened.symbols == 43


def test_stalled_and_killed_servers_are_told_and_survived(
    opened_at: Open, tiny_bundles: dict[Cell, Path], tmp_path: Path
) -> None:
    port = free_port()
    arguments = ["--model", f"small={tiny_bundles['gru']}", "--http-port", str(port)]
    with ExitStack() as first:
        process, _ = first.enter_context(server_process(tmp_path, *arguments))
        opened = opened_at(f"http://127.0.0.1:{port}")
        opened.settle(temperature=0.75, seed=7)
        opened.begin_long("abc")
        os.kill(process.pid, signal.SIGSTOP)
        expect(opened.notice).to_contain_text("The server has sent nothing for 5 s")
        stalled = opened.symbols
        os.kill(process.pid, signal.SIGCONT)
        expect(opened.notice).to_be_empty()
        assert opened.symbols > stalled
        process.kill()
    expect(opened.notice).to_contain_text("The connection to the server broke")
    expect(opened.notice).to_contain_text("What was written stays")
    opened.wait()
    written = opened.symbols
    (tmp_path / "port").unlink()
    opened.settle(length=50, seed="")
    with server_process(tmp_path, *arguments) as (_, address), Client(address) as client:
        opened.write()  # its capsules are of a key that is gone
        assert opened.symbols == written + 50
        options = GenerateOptions(max_new_symbols=written + 47, seed=7, temperature=0.75)
        assert opened.text == "abc" + client.generate("abc", options).text
        opened.page.goto("about:blank")


def test_ten_thousand_symbols_take_little_memory(browser: Browser, opened: Opened) -> None:
    opened.settle(length=10_000, seed=7)
    opened.write("abc")
    assert opened.symbols == 10_003
    session = browser.new_browser_cdp_session()
    processes = session.send("SystemInfo.getProcessInfo")["processInfo"]
    pages = [each["id"] for each in processes if each["type"] == "renderer"]
    own = [
        int(line.split()[1])
        for pid in pages
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith("RssAnon:")
    ]
    assert 0 < max(own) < 150 * 1024  # kB

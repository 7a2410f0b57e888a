"""A server with a page, and the page in a browser."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests.serving.http.page.opened import Opened
from tests.serving.running import RunningServer, serve
from training.settings import Cell


@pytest.fixture(scope="module")
def server(tiny_bundles: dict[Cell, Path]) -> Iterator[RunningServer]:
    models = (f"small={tiny_bundles['gru']}", f"other={tiny_bundles['lstm']}")
    with serve(*models, http_port=0) as running:
        yield running


@pytest.fixture
def opened_at(browser: Browser) -> Iterator[Callable[..., Opened]]:
    """Opens pages, each in a context of its own; what any of them did that it should not fails."""
    with ExitStack() as contexts:
        pages: list[Opened] = []

        def open_page(address: str, *, begun: bool = True, **context: object) -> Opened:
            made = contexts.enter_context(browser.new_context(**context))  # type: ignore[arg-type]
            pages.append(Opened(made.new_page(), address, begun=begun))
            return pages[-1]

        yield open_page
        for page in pages:
            page.check()


@pytest.fixture(scope="module")
def page(browser: Browser) -> Iterator[Page]:
    """One page for a test after the other: a new context takes a second of a processor."""
    with browser.new_context() as context:
        yield context.new_page()


@pytest.fixture
def opened(page: Page, server: RunningServer) -> Iterator[Opened]:
    """The page as it is when somebody sees it for the first time."""
    opened = Opened(page, server.server.http_address)
    yield opened
    opened.check()
    opened.leave()
    assert page.context.pages == [page]

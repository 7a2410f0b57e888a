"""A server with a page, and the page in a browser."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser

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


@pytest.fixture
def opened(opened_at: Callable[..., Opened], server: RunningServer) -> Opened:
    return opened_at(server.server.http_address)

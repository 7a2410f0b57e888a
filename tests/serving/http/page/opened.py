"""The page in a browser, as a user has it."""

import re
from typing import Any
from urllib.parse import urldefrag

from playwright.sync_api import CDPSession, ConsoleMessage, Error, Locator, Page, Request, expect

MILLISECONDS = 60_000  # far more than anything here takes on a busy machine

SLOW = {"offline": False, "latency": 0, "downloadThroughput": 100_000, "uploadThroughput": -1}

expect.set_options(timeout=MILLISECONDS)
TOLD = re.compile(r"Failed to load resource: .*(status of 4|ERR_)")  # the page tells it, too


class Opened:
    """One page, with all that it said and asked for.

    Args:
        page: of a browser, empty.
        address: of the server, with a fragment or without.
        begun: whether to wait until it knows the models.
    """

    def __init__(self, page: Page, address: str, *, begun: bool = True) -> None:
        self.page = page
        self.server = urldefrag(address).url.rstrip("/")
        self.said: list[str] = []
        self.requests: list[Request] = []
        self._sessions: list[CDPSession] = []
        page.set_default_timeout(MILLISECONDS)
        page.on("console", self._say)
        page.on("pageerror", self._fail)
        page.on("request", self._ask)
        page.goto(address)
        if begun:
            self._wait_until_begun()

    def _wait_until_begun(self) -> None:
        expect(self.page.locator("header option").first).to_be_attached()

    def at(self, fragment: str) -> "Opened":
        """Follow a link to the page from elsewhere."""
        self.page.goto("about:blank")
        self.page.goto(f"{self.server}#{fragment}")
        self._wait_until_begun()
        return self

    def reload(self) -> None:
        """Load the page again."""
        self.page.reload()
        self._wait_until_begun()

    def _say(self, message: ConsoleMessage) -> None:
        if not TOLD.search(message.text):
            self.said.append(message.text)

    def _fail(self, error: Error) -> None:
        self.said.append(str(error))

    def _ask(self, request: Request) -> None:
        self.requests.append(request)

    def leave(self) -> None:
        """Let the browser forget all of the page, for who opens it next."""
        page, session = self.page, self._session()
        page.goto("about:blank")
        session.send("Storage.clearDataForOrigin", {"origin": self.server, "storageTypes": "all"})
        for each in self._sessions:
            each.detach()
        page.unroute_all()
        page.remove_listener("console", self._say)
        page.remove_listener("pageerror", self._fail)
        page.remove_listener("request", self._ask)

    def _session(self) -> CDPSession:
        self._sessions.append(self.page.context.new_cdp_session(self.page))
        return self._sessions[-1]

    def check(self) -> None:
        """Fail if the page said an error, broke its policy or asked another server."""
        assert self.said == []
        elsewhere = [
            request.url
            for request in self.requests
            if not request.url.startswith((self.server, "blob:", "about:"))
        ]
        assert elsewhere == []

    @property
    def pane(self) -> Locator:
        return self.page.get_by_role("log")

    @property
    def field(self) -> Locator:
        return self.page.get_by_role("textbox", name="Text to add")

    @property
    def text(self) -> str:
        """The text that is shown, whole."""
        return str(self._state("({reading}) => reading.text()"))

    @property
    def log_probs(self) -> list[float]:
        return list(self._state("({reading}) => reading.logProbs"))

    def _state(self, function: str) -> Any:
        # The same module that the page has loaded.
        script = (
            "async (of) => { const { state } = await import('./page/store.js'); return of(state); }"
        )
        return self.page.evaluate(f"async () => ({script})({function})")

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    def tab(self, name: str) -> None:
        """Open a panel."""
        if self.button(name).get_attribute("aria-expanded") != "true":
            self.button(name).click()

    def settle(self, **values: object) -> None:
        """Fill fields of the settings, by their labels with spaces as underscores."""
        self.tab("Settings")
        for name, value in values.items():
            label = name.replace("_", " ").capitalize()
            field = self.page.locator(f'.settings label:has(> span:text-is("{label}"))')
            field.locator("input, textarea").fill(str(value))

    def write(self, prompt: str = "") -> None:
        """Type a prompt, let the model write, and wait until it has."""
        self.begin(prompt)
        self.wait()

    def begin(self, prompt: str = "") -> None:
        """Type a prompt and let the model write; returns when the first symbols are there."""
        self.field.fill(prompt)
        self.page.evaluate("() => new Promise(requestAnimationFrame)")  # what has changed is drawn
        before = self.symbols
        self.field.press("Enter")
        expect(self.pane).not_to_have_attribute("data-symbols", str(before))
        if prompt:
            expect(self.pane).not_to_have_attribute("data-symbols", str(before + len(prompt)))

    def begin_long(self, prompt: str) -> None:
        """Begin a text that is still being written when the test has done what it wants to."""
        session = self._session()
        session.send("Network.enable")
        session.send("Network.emulateNetworkConditions", SLOW)
        self.settle(length=65536)
        self.begin(prompt)

    def wait(self) -> None:
        expect(self.pane).to_have_attribute("aria-busy", "false")

    @property
    def symbols(self) -> int:
        return int(self.pane.get_attribute("data-symbols") or 0)

    def go_back(self, symbols: int) -> None:
        """Move the cursor back from the end of the text."""
        self.pane.focus()
        self.page.keyboard.press("Control+End")
        for _ in range(symbols):
            self.page.keyboard.press("ArrowLeft")

    @property
    def notice(self) -> Locator:
        return self.page.get_by_role("alert")

"""A client for asyncio."""

from collections.abc import AsyncGenerator, Sequence

import grpc

from unroll.client.faces.aio_face import AsyncFace
from unroll.client.remote.aio_calls import AsyncCalls
from unroll.client.remote.connection import DEFAULT_TARGET
from unroll.client.remote.resume import Resumption
from unroll.client.remote.security import Security
from unroll.options import GenerateOptions, Origin
from unroll.results import Piece


class AsyncClient(AsyncFace):
    """Calls a server; belongs to the event loop on which it was made.

    All methods raise the errors of unroll.errors: InputError and its subclasses for wrong requests,
    OverloadedError, DeadlineError, ClosedError and UnavailableError for temporary failures,
    ServerError for the rest.

    Args:
        target: the server's address, as `host:port`, or several addresses. All calls go to the
            first; streams with `resume` continue at the others.
        channel: your own channel (encryption, options), used instead of a new plain one; the
            client closes it.
        security: encryption, certificates and token; by default none, for servers on this machine.
        retries: maximum number of repetitions of a call; by default 0, so that the caller sees each
            refusal at once. Before each repetition the client waits as long as the server asks
            (`error.retry_after`) plus up to half of that at random, and never beyond the call's
            timeout. Every call except streams is repeated if the server refused it before it began
            (OverloadedError and its subclasses, ClosedError). Calls that change nothing (`score`,
            `inspect`, `find_units`, `get_model`, `list_models`, `get_session`, `describe`, and
            `generate` outside a session) are also repeated if the server cannot be reached. Streams
            have `resume`.

    Raises:
        InputError: the arguments do not fit together, or a token would be sent in plain text.
        SettingsError: a file of certificates cannot be used.
    """

    def __init__(
        self,
        target: str | Sequence[str] = DEFAULT_TARGET,
        *,
        channel: grpc.aio.Channel | None = None,
        security: Security = Security(),  # noqa: B008, frozen
        retries: int = 0,
    ) -> None:
        self._calls = AsyncCalls(target, channel=channel, security=security, retries=retries)
        super().__init__(self._calls)
        self.targets = self._calls.targets
        self.target = self.targets[0]

    def _resumed(
        self, prompt: str, options: GenerateOptions, origin: Origin, timeout: float | None
    ) -> AsyncGenerator[Piece]:
        targets = len(self.targets)
        resumption = Resumption(prompt, options, origin, target_count=targets, timeout=timeout)
        return self._calls.resume(resumption)

    async def wait_until_ready(self, timeout: float = 30.0) -> None:
        """Wait until the server is ready.

        Args:
            timeout: in seconds.

        Raises:
            UnavailableError: it was not within the timeout.
        """
        await self._calls.wait_until_ready(timeout)

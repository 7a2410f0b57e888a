"""A client for asyncio."""

from collections.abc import AsyncGenerator, Sequence
from types import TracebackType
from typing import Self

import grpc

from unroll.client import messages
from unroll.client.aio_calls import AsyncCalls
from unroll.client.aio_session import AsyncSession
from unroll.client.connection import DEFAULT_TARGET
from unroll.client.resume import Resumption
from unroll.client.security import Security
from unroll.options import GenerateOptions, Origin, ScoreOptions, SessionOptions
from unroll.results import Generation, ModelInfo, Piece, Score
from unroll.v1 import text_generation_pb2 as pb


class AsyncClient:
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
            `get_model`, `list_models`, `get_session`, `describe`, and `generate` outside a session)
            are also repeated if the server cannot be reached. Streams have `resume`.

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
        self.targets = self._calls.targets
        self.target = self.targets[0]

    async def generate(
        self,
        prompt: str,
        options: GenerateOptions = GenerateOptions(),  # noqa: B008, frozen
        *,
        session: str = "",
        capsule: bytes = b"",
        expected_position: int | None = None,
        timeout: float | None = None,
    ) -> Generation:
        """Continue a prompt and return the whole text.

        Args:
            prompt: the text to continue.
            options: how to generate.
            session: id of the session to continue; it advances. See `start_session`.
            capsule: of an earlier answer, to continue from instead.
            expected_position: the position at which the session or capsule is believed to be. If it
                is not, the request fails, unless it repeats the last one: then it gets the same
                answer again.
            timeout: in seconds; None waits for ever.
        """
        origin = Origin(session=session, capsule=capsule, expected_position=expected_position)
        request = messages.generate_request(prompt, options, origin)
        return await self._calls.generate(request, timeout)

    def stream(
        self,
        prompt: str,
        options: GenerateOptions = GenerateOptions(),  # noqa: B008, frozen
        *,
        session: str = "",
        capsule: bytes = b"",
        expected_position: int | None = None,
        resume: bool = False,
        timeout: float | None = None,
    ) -> AsyncGenerator[Piece]:
        """Continue a prompt and yield the text as it comes; the last piece says how it ended.

        The call starts when the first piece is requested. Closing the iterator early
        (`contextlib.aclosing`) cancels the call.

        Args:
            prompt: as in `generate`; likewise options, session, capsule and expected_position.
            options: how to generate.
            session: to continue.
            capsule: to continue from.
            expected_position: of session or capsule.
            resume: continue from the last piece at the client's next target if the server fails,
                shuts down or is full. The text is the same as without the break. Every piece
                carries a capsule. Sessions and several samples cannot be resumed.
            timeout: of the whole, in seconds; None waits for ever.
        """
        origin = Origin(session=session, capsule=capsule, expected_position=expected_position)
        if resume:
            resumption = Resumption(
                prompt, options, origin, target_count=len(self.targets), timeout=timeout
            )
            return self._calls.resume(resumption)
        return self._calls.stream(messages.generate_request(prompt, options, origin), timeout)

    async def score(
        self,
        text: str,
        options: ScoreOptions = ScoreOptions(),  # noqa: B008, frozen
        *,
        session: str = "",
        capsule: bytes = b"",
        timeout: float | None = None,
    ) -> Score:
        """Return the log-probability of each symbol of a text.

        Args:
            text: to score.
            options: how to score.
            session: id of a session that the text continues; the session does not advance.
            capsule: of an earlier answer that the text continues, instead.
            timeout: in seconds; None waits for ever.
        """
        origin = Origin(session=session, capsule=capsule)
        request = messages.score_request(text, options, origin)
        return await self._calls.score(request, timeout)

    async def start_session(
        self,
        options: SessionOptions = SessionOptions(),  # noqa: B008, frozen
        *,
        capsule: bytes = b"",
        timeout: float | None = None,
    ) -> AsyncSession:
        """Start a session: a text whose state the server keeps.

        Args:
            options: model, seed and sampling parameters.
            capsule: of an earlier answer, to start where it ended; by default at the start.
            timeout: in seconds; None waits for ever.
        """
        request = messages.start_request(options, capsule)
        response = await self._calls.ask(
            self._calls.stub.StartSession, request, timeout, is_repeatable=False
        )
        return AsyncSession(self._calls, messages.read_session(response.session))

    async def get_session(self, session_id: str, *, timeout: float | None = None) -> AsyncSession:
        """Return an existing session by its id."""
        request = messages.get_session_request(session_id)
        response = await self._calls.ask(
            self._calls.stub.GetSession, request, timeout, is_repeatable=True
        )
        return AsyncSession(self._calls, messages.read_session(response.session))

    async def get_model(self, name: str = "", *, timeout: float | None = None) -> ModelInfo:
        """Describe a model, by default the server's first."""
        request = messages.model_request(name)
        response = await self._calls.ask(
            self._calls.stub.GetModel, request, timeout, is_repeatable=True
        )
        return messages.read_model(response.model)

    async def list_models(self, *, timeout: float | None = None) -> list[ModelInfo]:
        """Describe all models; the first is the default."""
        request = pb.ListModelsRequest()
        response = await self._calls.ask(
            self._calls.stub.ListModels, request, timeout, is_repeatable=True
        )
        return [messages.read_model(model) for model in response.models]

    async def wait_until_ready(self, timeout: float = 30.0) -> None:
        """Wait until the server is ready.

        Args:
            timeout: in seconds.

        Raises:
            UnavailableError: it was not within the timeout.
        """
        await self._calls.wait_until_ready(timeout)

    async def close(self) -> None:
        """Close the connection; running calls are cancelled."""
        await self._calls.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

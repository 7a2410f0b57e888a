"""A session, for asyncio."""

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing

from unroll.client import messages
from unroll.client.aio_calls import AsyncCalls
from unroll.options import GenerateOptions, Origin, ScoreOptions
from unroll.results import Completion, Generation, Piece, Score, SessionInfo
from unroll.v1 import text_generation_pb2 as pb


class AsyncSession:
    """A text whose state the server keeps; made by `AsyncClient.start_session`.

    Each request carries the position at which the session is believed to be. So a failed request
    can be repeated: if the server had already answered it, it returns the same answer, and the
    session advances only once. If another client moved the session, the request fails with
    PositionError; `describe` fetches the position.

    Args:
        calls: of the client that made it.
        info: of the session.
    """

    def __init__(self, calls: AsyncCalls, info: SessionInfo) -> None:
        self.session_id = info.session_id
        self.position = info.position
        self._calls = calls

    async def generate(
        self,
        prompt: str = "",
        options: GenerateOptions = GenerateOptions(),  # noqa: B008, frozen
        *,
        timeout: float | None = None,
    ) -> Generation:
        """Continue the session with a prompt and an answer; as `AsyncClient.generate`."""
        request = messages.generate_request(prompt, options, self._origin)
        generation = await self._calls.generate(request, timeout)
        self._follow(generation.completion)
        return generation

    async def stream(
        self,
        prompt: str = "",
        options: GenerateOptions = GenerateOptions(),  # noqa: B008, frozen
        *,
        timeout: float | None = None,
    ) -> AsyncGenerator[Piece]:
        """Continue the session piece by piece; as `AsyncClient.stream`.

        The session advances with the last piece; if the stream is closed earlier, it does not.
        """
        request = messages.generate_request(prompt, options, self._origin)
        async with aclosing(self._calls.stream(request, timeout)) as pieces:
            async for piece in pieces:
                self._follow(piece.completion)
                yield piece

    async def score(
        self,
        text: str,
        options: ScoreOptions = ScoreOptions(),  # noqa: B008, frozen
        *,
        timeout: float | None = None,
    ) -> Score:
        """Score a text as a continuation of the session, which does not advance."""
        request = messages.score_request(text, options, Origin(session=self.session_id))
        return await self._calls.score(request, timeout)

    async def fork(
        self, seeds: Iterable[int], *, timeout: float | None = None
    ) -> list["AsyncSession"]:
        """Start one new session for each seed from the state of this one, which stays unchanged."""
        request = messages.fork_request(self.session_id, seeds)
        response = await self._calls.ask(
            self._calls.stub.ForkSession, request, timeout, is_repeatable=False
        )
        return [
            AsyncSession(self._calls, messages.read_session(fork)) for fork in response.sessions
        ]

    async def rewind(self, position: int, *, timeout: float | None = None) -> SessionInfo:
        """Rewind the session to one of its marks; `describe` lists them."""
        request = messages.rewind_request(self.session_id, position)
        response = await self._calls.ask(
            self._calls.stub.RewindSession, request, timeout, is_repeatable=False
        )
        return self._learn(response.session)

    async def describe(self, *, timeout: float | None = None) -> SessionInfo:
        """Fetch the session's position and marks, and continue from there."""
        request = messages.get_session_request(self.session_id)
        response = await self._calls.ask(
            self._calls.stub.GetSession, request, timeout, is_repeatable=True
        )
        return self._learn(response.session)

    async def end(self, *, timeout: float | None = None) -> None:
        """End the session; its capsules stay valid."""
        request = pb.EndSessionRequest(session=self.session_id)
        await self._calls.ask(self._calls.stub.EndSession, request, timeout, is_repeatable=False)

    @property
    def _origin(self) -> Origin:
        return Origin(session=self.session_id, expected_position=self.position)

    def _follow(self, completion: Completion | None) -> None:
        if completion is not None:
            self.position = completion.position

    def _learn(self, message: pb.Session) -> SessionInfo:
        info = messages.read_session(message)
        self.position = info.position
        return info

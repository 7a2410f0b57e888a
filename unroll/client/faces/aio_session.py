"""A session, for asyncio."""

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing

from unroll.client.faces.aio_backend import AsyncBackend
from unroll.options import GenerateOptions, InspectOptions, Origin, ScoreOptions
from unroll.results import Completion, Generation, Inspection, Piece, Score, SessionInfo
from unroll.sent import check_options, seeds_as_sent, whole_as_sent


class AsyncSession:
    """A text whose state is kept; made by `start_session`.

    Each request carries the position at which the session is believed to be. So a failed request
    can be repeated: if the server had already answered it, it returns the same answer, and the
    session advances only once. If another client moved the session, the request fails with
    PositionError; `describe` fetches the position.

    Args:
        backend: of the client that made it.
        info: of the session.
    """

    def __init__(self, backend: AsyncBackend, info: SessionInfo) -> None:
        self.session_id = info.session_id
        self.position = info.position
        self._backend = backend

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.session_id} at position {self.position}>"

    async def generate(
        self,
        prompt: str = "",
        options: GenerateOptions = GenerateOptions(),  # noqa: B008, frozen
        *,
        timeout: float | None = None,
    ) -> Generation:
        """Continue the session with a prompt and an answer; as `AsyncClient.generate`."""
        check_options("generate", options, GenerateOptions)
        generation = await self._backend.generate(prompt, options, self._origin, timeout)
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
        check_options("stream", options, GenerateOptions)
        stream = self._backend.stream(prompt, options, self._origin, timeout)
        async with aclosing(stream) as pieces:
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
        check_options("score", options, ScoreOptions)
        return await self._backend.score(text, options, Origin(session=self.session_id), timeout)

    async def inspect(
        self,
        text: str,
        options: InspectOptions = InspectOptions(),  # noqa: B008, frozen
        *,
        timeout: float | None = None,
    ) -> Inspection:
        """Inspect a text as a continuation of the session, which does not advance."""
        check_options("inspect", options, InspectOptions)
        return await self._backend.inspect(text, options, Origin(session=self.session_id), timeout)

    async def fork(
        self, seeds: Iterable[int], *, timeout: float | None = None
    ) -> list["AsyncSession"]:
        """Start one new session for each seed from the state of this one, which stays unchanged."""
        given = seeds_as_sent(seeds)
        forks = await self._backend.fork_session(self.session_id, given, timeout)
        return [AsyncSession(self._backend, fork) for fork in forks]

    async def rewind(self, position: int, *, timeout: float | None = None) -> SessionInfo:
        """Rewind the session to one of its marks; `describe` lists them."""
        mark = whole_as_sent("position", position)
        return self._learn(await self._backend.rewind_session(self.session_id, mark, timeout))

    async def describe(self, *, timeout: float | None = None) -> SessionInfo:
        """Fetch the session's position and marks, and continue from there."""
        return self._learn(await self._backend.get_session(self.session_id, timeout))

    async def end(self, *, timeout: float | None = None) -> None:
        """End the session; its capsules stay valid."""
        await self._backend.end_session(self.session_id, timeout)

    @property
    def _origin(self) -> Origin:
        return Origin(session=self.session_id, expected_position=self.position)

    def _follow(self, completion: Completion | None) -> None:
        if completion is not None:
            self.position = completion.position

    def _learn(self, info: SessionInfo) -> SessionInfo:
        self.position = info.position
        return info

# Made from aio_session.py by scripts/unasync.py: edit that file, then `make fix`.

"""A session, for threads."""

from collections.abc import Generator, Iterable
from contextlib import closing

from unroll.client.faces.backend import Backend
from unroll.options import GenerateOptions, InspectOptions, Origin, ScoreOptions
from unroll.results import Completion, Generation, Inspection, Piece, Score, SessionInfo
from unroll.sent import check_options, seeds_as_sent, whole_as_sent


class Session:
    """A text whose state is kept; made by `start_session`.

    Each request carries the position at which the session is believed to be. So a failed request
    can be repeated: if the server had already answered it, it returns the same answer, and the
    session advances only once. If another client moved the session, the request fails with
    PositionError; `describe` fetches the position.

    Args:
        backend: of the client that made it.
        info: of the session.
    """

    def __init__(self, backend: Backend, info: SessionInfo) -> None:
        self.session_id = info.session_id
        self.position = info.position
        self._backend = backend

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.session_id} at position {self.position}>"

    def generate(
        self,
        prompt: str = "",
        options: GenerateOptions = GenerateOptions(),  # noqa: B008, frozen
        *,
        timeout: float | None = None,
    ) -> Generation:
        """Continue the session with a prompt and an answer; as `Client.generate`."""
        check_options("generate", options, GenerateOptions)
        generation = self._backend.generate(prompt, options, self._origin, timeout)
        self._follow(generation.completion)
        return generation

    def stream(
        self,
        prompt: str = "",
        options: GenerateOptions = GenerateOptions(),  # noqa: B008, frozen
        *,
        timeout: float | None = None,
    ) -> Generator[Piece]:
        """Continue the session piece by piece; as `Client.stream`.

        The session advances with the last piece; if the stream is closed earlier, it does not.
        """
        check_options("stream", options, GenerateOptions)
        stream = self._backend.stream(prompt, options, self._origin, timeout)
        with closing(stream) as pieces:
            for piece in pieces:
                self._follow(piece.completion)
                yield piece

    def score(
        self,
        text: str,
        options: ScoreOptions = ScoreOptions(),  # noqa: B008, frozen
        *,
        timeout: float | None = None,
    ) -> Score:
        """Score a text as a continuation of the session, which does not advance."""
        check_options("score", options, ScoreOptions)
        return self._backend.score(text, options, Origin(session=self.session_id), timeout)

    def inspect(
        self,
        text: str,
        options: InspectOptions = InspectOptions(),  # noqa: B008, frozen
        *,
        timeout: float | None = None,
    ) -> Inspection:
        """Inspect a text as a continuation of the session, which does not advance."""
        check_options("inspect", options, InspectOptions)
        return self._backend.inspect(text, options, Origin(session=self.session_id), timeout)

    def fork(self, seeds: Iterable[int], *, timeout: float | None = None) -> list["Session"]:
        """Start one new session for each seed from the state of this one, which stays unchanged."""
        given = seeds_as_sent(seeds)
        forks = self._backend.fork_session(self.session_id, given, timeout)
        return [Session(self._backend, fork) for fork in forks]

    def rewind(self, position: int, *, timeout: float | None = None) -> SessionInfo:
        """Rewind the session to one of its marks; `describe` lists them."""
        mark = whole_as_sent("position", position)
        return self._learn(self._backend.rewind_session(self.session_id, mark, timeout))

    def describe(self, *, timeout: float | None = None) -> SessionInfo:
        """Fetch the session's position and marks, and continue from there."""
        return self._learn(self._backend.get_session(self.session_id, timeout))

    def end(self, *, timeout: float | None = None) -> None:
        """End the session; its capsules stay valid."""
        self._backend.end_session(self.session_id, timeout)

    @property
    def _origin(self) -> Origin:
        return Origin(session=self.session_id, expected_position=self.position)

    def _follow(self, completion: Completion | None) -> None:
        if completion is not None:
            self.position = completion.position

    def _learn(self, info: SessionInfo) -> SessionInfo:
        self.position = info.position
        return info

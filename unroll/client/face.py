# Made from aio_face.py by scripts/unasync.py: edit that file, then `make fix`.

"""What can be asked of models, wherever they run, for threads."""

from collections.abc import Generator
from types import TracebackType
from typing import Self

from unroll.client.backend import Backend
from unroll.client.session import Session
from unroll.options import GenerateOptions, Origin, ScoreOptions, SessionOptions
from unroll.results import Generation, ModelInfo, Piece, Score


class Face:
    """Generates and scores; the base of clients and of models in this process.

    Args:
        backend: who answers.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def generate(
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
        return self._backend.generate(prompt, options, origin, timeout)

    def stream(
        self,
        prompt: str,
        options: GenerateOptions = GenerateOptions(),  # noqa: B008, frozen
        *,
        session: str = "",
        capsule: bytes = b"",
        expected_position: int | None = None,
        timeout: float | None = None,
    ) -> Generator[Piece]:
        """Continue a prompt and yield the text as it comes; the last piece says how it ended.

        The call starts when the first piece is requested. Closing the iterator early, or
        dropping it, cancels the call.

        Args:
            prompt: as in `generate`; likewise options, session, capsule and expected_position.
            options: how to generate.
            session: to continue.
            capsule: to continue from.
            expected_position: of session or capsule.
            timeout: of the whole, in seconds; None waits for ever.
        """
        origin = Origin(session=session, capsule=capsule, expected_position=expected_position)
        return self._backend.stream(prompt, options, origin, timeout)

    def score(
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
        return self._backend.score(text, options, origin, timeout)

    def start_session(
        self,
        options: SessionOptions = SessionOptions(),  # noqa: B008, frozen
        *,
        capsule: bytes = b"",
        timeout: float | None = None,
    ) -> Session:
        """Start a session: a text whose state is kept.

        Args:
            options: model, seed and sampling parameters.
            capsule: of an earlier answer, to start where it ended; by default at the start.
            timeout: in seconds; None waits for ever.
        """
        info = self._backend.start_session(options, capsule, timeout)
        return Session(self._backend, info)

    def get_session(self, session_id: str, *, timeout: float | None = None) -> Session:
        """Return an existing session by its id."""
        return Session(self._backend, self._backend.get_session(session_id, timeout))

    def get_model(self, name: str = "", *, timeout: float | None = None) -> ModelInfo:
        """Describe a model, by default the server's first."""
        return self._backend.get_model(name, timeout)

    def list_models(self, *, timeout: float | None = None) -> list[ModelInfo]:
        """Describe all models; the first is the default."""
        return self._backend.list_models(timeout)

    def close(self) -> None:
        """Close the connection; running calls are cancelled."""
        self._backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

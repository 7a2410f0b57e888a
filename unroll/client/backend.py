# Made from aio_backend.py by scripts/unasync.py: edit that file, then `make fix`.

"""What answers a client, for threads: a server, or a model in this process."""

from collections.abc import Generator, Iterable
from typing import Protocol

from unroll.options import GenerateOptions, Origin, ScoreOptions, SessionOptions
from unroll.results import Generation, ModelInfo, Piece, Score, SessionInfo


class Backend(Protocol):
    """Answers in plain values; arguments and errors are those of Face and Session."""

    def generate(
        self, prompt: str, options: GenerateOptions, origin: Origin, timeout: float | None
    ) -> Generation:
        """Generate a whole text."""
        ...

    def stream(
        self, prompt: str, options: GenerateOptions, origin: Origin, timeout: float | None
    ) -> Generator[Piece]:
        """Generate a text piece by piece."""
        ...

    def score(
        self, text: str, options: ScoreOptions, origin: Origin, timeout: float | None
    ) -> Score:
        """Score a text."""
        ...

    def start_session(
        self, options: SessionOptions, capsule: bytes, timeout: float | None
    ) -> SessionInfo:
        """Start a session, at the start symbol or from a capsule."""
        ...

    def get_session(self, session_id: str, timeout: float | None) -> SessionInfo:
        """Describe a session."""
        ...

    def fork_session(
        self, session_id: str, seeds: Iterable[int], timeout: float | None
    ) -> list[SessionInfo]:
        """Start new sessions from the state of a session."""
        ...

    def rewind_session(self, session_id: str, position: int, timeout: float | None) -> SessionInfo:
        """Rewind a session to one of its marks."""
        ...

    def end_session(self, session_id: str, timeout: float | None) -> None:
        """End a session."""
        ...

    def get_model(self, name: str, timeout: float | None) -> ModelInfo:
        """Describe a model."""
        ...

    def list_models(self, timeout: float | None) -> list[ModelInfo]:
        """Describe all models."""
        ...

    def close(self) -> None:
        """End what runs."""
        ...

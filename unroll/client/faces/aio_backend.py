"""What answers a client, for asyncio: a server, or a model in this process."""

from collections.abc import AsyncGenerator, Iterable
from typing import Protocol, TypeVar

from unroll.options import (
    FindUnitsOptions,
    GenerateOptions,
    InspectOptions,
    Origin,
    ScoreOptions,
    SessionOptions,
)
from unroll.results import (
    Answer,
    FoundUnits,
    Generation,
    Inspection,
    ModelInfo,
    Piece,
    Score,
    SessionInfo,
)

R = TypeVar("R")


class AsyncBulk(Protocol[R]):
    """Many texts under way; whoever opened it closes it."""

    @property
    def room(self) -> int:
        """How many texts may be sent now."""
        ...

    @property
    def unanswered(self) -> int:
        """How many have been sent and not yet answered."""
        ...

    async def send(self, texts: list[tuple[int, str]]) -> None:
        """Send texts with their indices, no more than there is room for."""
        ...

    async def receive(self) -> list[Answer[R]]:
        """Wait for answers and return one or more; some text must be unanswered."""
        ...

    async def close(self) -> None:
        """End what still runs."""
        ...


class AsyncBackend(Protocol):
    """Answers in plain values; arguments and errors are those of AsyncFace and AsyncSession."""

    async def generate(
        self, prompt: str, options: GenerateOptions, origin: Origin, timeout: float | None
    ) -> Generation:
        """Generate a whole text."""
        ...

    def stream(
        self, prompt: str, options: GenerateOptions, origin: Origin, timeout: float | None
    ) -> AsyncGenerator[Piece]:
        """Generate a text piece by piece."""
        ...

    async def score(
        self, text: str, options: ScoreOptions, origin: Origin, timeout: float | None
    ) -> Score:
        """Score a text."""
        ...

    async def inspect(
        self, text: str, options: InspectOptions, origin: Origin, timeout: float | None
    ) -> Inspection:
        """Inspect a text."""
        ...

    async def find_units(
        self,
        text: str,
        targets: str,
        options: FindUnitsOptions,
        origin: Origin,
        timeout: float | None,
    ) -> FoundUnits:
        """Find hidden units."""
        ...

    async def generate_many(
        self, options: GenerateOptions, origin: Origin, timeout: float | None, *, in_order: bool
    ) -> AsyncBulk[Generation]:
        """Begin to generate many whole texts."""
        ...

    async def score_many(
        self, options: ScoreOptions, origin: Origin, timeout: float | None, *, in_order: bool
    ) -> AsyncBulk[Score]:
        """Begin to score many texts."""
        ...

    async def start_session(
        self, options: SessionOptions, capsule: bytes, timeout: float | None
    ) -> SessionInfo:
        """Start a session, at the start symbol or from a capsule."""
        ...

    async def get_session(self, session_id: str, timeout: float | None) -> SessionInfo:
        """Describe a session."""
        ...

    async def fork_session(
        self, session_id: str, seeds: Iterable[int], timeout: float | None
    ) -> list[SessionInfo]:
        """Start new sessions from the state of a session."""
        ...

    async def rewind_session(
        self, session_id: str, position: int, timeout: float | None
    ) -> SessionInfo:
        """Rewind a session to one of its marks."""
        ...

    async def end_session(self, session_id: str, timeout: float | None) -> None:
        """End a session."""
        ...

    async def get_model(self, name: str, timeout: float | None) -> ModelInfo:
        """Describe a model."""
        ...

    async def list_models(self, timeout: float | None) -> list[ModelInfo]:
        """Describe all models."""
        ...

    async def close(self) -> None:
        """End what runs."""
        ...

# Made from aio_face.py by scripts/unasync.py: edit that file, then `make fix`.

"""What can be asked of models, wherever they run, for threads."""

from collections.abc import Generator, Iterable
from contextlib import closing
from itertools import islice
from types import TracebackType
from typing import Self, TypeVar

from unroll.client.faces.backend import Backend, Bulk
from unroll.client.faces.session import Session
from unroll.errors import InputError
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
)
from unroll.sent import check_options, targets_as_sent, texts_as_sent, truth_as_sent

R = TypeVar("R")
AT_ONCE = 256  # texts that are read before any of them begins


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
        check_options("generate", options, GenerateOptions)
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
        resume: bool = False,
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
            resume: continue from the last piece at the client's next target if the server fails,
                shuts down or is full. The text is the same as without the break. Every piece
                carries a capsule. Sessions and several samples cannot be resumed.
            timeout: of the whole, in seconds; None waits for ever.

        Raises:
            InputError: `resume` is asked of a model in this process.
        """
        check_options("stream", options, GenerateOptions)
        origin = Origin(session=session, capsule=capsule, expected_position=expected_position)
        stream = self._resumed if truth_as_sent("resume", resume) else self._backend.stream
        return stream(prompt, options, origin, timeout)

    def _resumed(
        self, prompt: str, options: GenerateOptions, origin: Origin, timeout: float | None
    ) -> Generator[Piece]:
        raise InputError("resume", "is for streams from servers; leave it out here")

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
        check_options("score", options, ScoreOptions)
        origin = Origin(session=session, capsule=capsule)
        return self._backend.score(text, options, origin, timeout)

    def inspect(
        self,
        text: str,
        options: InspectOptions = InspectOptions(),  # noqa: B008, frozen
        *,
        session: str = "",
        capsule: bytes = b"",
        timeout: float | None = None,
    ) -> Inspection:
        """Read a text and return what the model does at each symbol.

        Args:
            text: to read; may be empty, and then only `next` is returned.
            options: what to show: alternatives, hidden units.
            session: id of a session that the text continues; the session does not advance.
            capsule: of an earlier answer that the text continues, instead.
            timeout: in seconds; None waits for ever.
        """
        check_options("inspect", options, InspectOptions)
        origin = Origin(session=session, capsule=capsule)
        return self._backend.inspect(text, options, origin, timeout)

    def find_units(
        self,
        text: str,
        targets: str | Iterable[bool],
        options: FindUnitsOptions = FindUnitsOptions(),  # noqa: B008, frozen
        *,
        session: str = "",
        capsule: bytes = b"",
        timeout: float | None = None,
    ) -> FoundUnits:
        """Find the hidden units whose values best separate a text's marked symbols from the others.

        Args:
            text: to read.
            targets: for each symbol of the text whether it is marked, or a text of 1 and 0.
            options: how many units to return.
            session: as in `inspect`; likewise capsule.
            capsule: of an earlier answer.
            timeout: in seconds; None waits for ever.
        """
        check_options("find_units", options, FindUnitsOptions)
        origin, marked = Origin(session=session, capsule=capsule), targets_as_sent(targets)
        return self._backend.find_units(text, marked, options, origin, timeout)

    def generate_many(
        self,
        prompts: Iterable[str],
        options: GenerateOptions = GenerateOptions(),  # noqa: B008, frozen
        *,
        capsule: bytes = b"",
        in_order: bool = False,
        timeout: float | None = None,
    ) -> Generator[Answer[Generation]]:
        """Continue any number of prompts and yield the texts as they are complete.

        The prompts are read just far enough ahead to keep the model busy. A prompt that fails
        yields its error and the others continue; an error that ends all of them is raised. Closing
        the iterator early (`contextlib.closing`) cancels the call.

        Args:
            prompts: to continue.
            options: how to generate each. Text k has the seed `seed + k`. Each prompt has one
                sample; answers carry capsules only if `capsules` asks for them.
            capsule: of an earlier answer, from which each text continues.
            in_order: yield the answers in the order of the prompts.
            timeout: of the whole, in seconds; None waits for ever.
        """
        check_options("generate_many", options, GenerateOptions)
        origin, given = Origin(capsule=capsule), texts_as_sent("prompts", prompts)
        bulk = self._backend.generate_many(options, origin, timeout, in_order=in_order)
        with closing(_answers(bulk, given)) as answers:
            yield from answers

    def score_many(
        self,
        texts: Iterable[str],
        options: ScoreOptions = ScoreOptions(),  # noqa: B008, frozen
        *,
        capsule: bytes = b"",
        in_order: bool = False,
        timeout: float | None = None,
    ) -> Generator[Answer[Score]]:
        """Score any number of texts and yield the scores as they are complete.

        As generate_many. Closing the iterator early, or
        dropping it, cancels the call.

        Args:
            texts: to score.
            options: how to score each.
            capsule: of an earlier answer that each text continues.
            in_order: yield the answers in the order of the texts.
            timeout: of the whole, in seconds; None waits for ever.
        """
        check_options("score_many", options, ScoreOptions)
        origin, given = Origin(capsule=capsule), texts_as_sent("texts", texts)
        bulk = self._backend.score_many(options, origin, timeout, in_order=in_order)
        with closing(_answers(bulk, given)) as answers:
            yield from answers

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
        check_options("start_session", options, SessionOptions)
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


def _answers(bulk: Bulk[R], texts: Iterable[str]) -> Generator[Answer[R]]:
    """Send texts as there is room, and yield what becomes of them."""
    numbered = enumerate(texts)
    try:
        while True:
            batch = list(islice(numbered, min(bulk.room, AT_ONCE)))
            if batch:
                bulk.send(batch)
            if not bulk.unanswered:
                return
            yield from bulk.receive()
    finally:
        bulk.close()

"""A stream that outlives its server: what to send where after a break, for both clients."""

import logging
import secrets
from dataclasses import replace

from unroll.client.remote import answers, requests, retry
from unroll.errors import (
    ClosedError,
    InputError,
    OverloadedError,
    ServerError,
    UnavailableError,
    UnrollError,
)
from unroll.options import GenerateOptions, Origin
from unroll.results import Completion, Piece, Usage
from unroll.sent import as_sent
from unroll.terms import DEFAULT_NEW_SYMBOLS, SEED_LIMIT, Capsules, FinishReason, UnknownSymbols
from unroll.v1 import text_generation_pb2 as pb

# What ends a stream and may not end the next: no server, one that is leaving, one that is full.
BREAKS = (UnavailableError, ClosedError, OverloadedError)
ATTEMPTS_AT_MOST = 8  # in a row, without a symbol received
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0  # seconds, once all targets have been tried

log = logging.getLogger(__name__)


class Resumption:
    """The progress of a stream over several attempts.

    Args:
        prompt: the text to continue.
        options: how; capsules are asked for with every chunk.
        origin: what it goes on from; no session, which lives on one server alone.
        target_count: how many servers there are to turn to.
        timeout: of the whole, in seconds, from `begin` on; None for never.

    Raises:
        InputError: it cannot be resumed.
    """

    def __init__(
        self,
        prompt: str,
        options: GenerateOptions,
        origin: Origin,
        *,
        target_count: int,
        timeout: float | None,
    ) -> None:
        if origin.session:
            raise InputError("session", "a stream in a session cannot be resumed; use its capsule")
        options = as_sent(options)
        if (options.sample_count or 1) > 1:
            raise InputError("sample_count", "must be 1 in a stream that can be resumed")
        self.target = 0
        self.request = requests.generate_request(prompt, _fixed(options, origin), origin)
        self._prompt = prompt
        self._policy = options.unknown_symbols
        self._limit = self.request.max_new_symbols
        self._target_count = target_count
        self._timeout = timeout
        self._deadline = retry.Deadline(None)
        self._received = 0  # symbols
        self._gone_on_after: int | None = None  # symbols; None while it is the first request
        self._capsule = b""
        self._failures = 0  # in a row
        self._is_cut = False  # by a server that shut down

    def begin(self) -> None:
        """Start the clock."""
        self._deadline = retry.Deadline(self._timeout)

    @property
    def seconds_left(self) -> float | None:
        """How long it may still take; None for as long as it likes."""
        return self._deadline.seconds_left

    @property
    def needs_vocabulary(self) -> bool:
        """Whether `take` needs the model's symbols to count those of the prompt."""
        return self._gone_on_after is not None and self._policy is not UnknownSymbols.REFUSE

    def take(self, message: pb.StreamGenerateResponse, vocabulary: str = "") -> Piece:
        """Take in what was received; return it as a piece of the whole."""
        piece = answers.read_piece(message)
        self._is_cut = is_cut(piece)
        if self._is_cut:  # the text is not at its end
            piece = replace(piece, completion=None)
        if piece.completion is not None and self._gone_on_after is not None:
            completion = self._of_the_whole(piece.completion, self._gone_on_after, vocabulary)
            piece = replace(piece, completion=completion)
        self._received += len(piece.text)
        self._capsule = piece.capsule
        if piece.text:
            self._failures = 0
        return piece

    def check_ended(self, piece: Piece | None) -> None:
        """Check that a stream which ended well is complete.

        Raises:
            ClosedError: the server cut it off, and it can go on.
            ServerError: it did not tell how it ended.
        """
        if self._is_cut:
            raise ClosedError("the server shut down and cut the stream off")
        answers.check_ended(piece)

    def break_off(self, error: UnrollError) -> float:
        """Prepare the next attempt.

        Args:
            error: what ended this one, of BREAKS.

        Returns:
            How many seconds to wait before it.

        Raises:
            UnrollError: the error, if it makes no sense to go on.
        """
        self._failures += 1
        left = self.seconds_left
        if (
            self._failures >= ATTEMPTS_AT_MOST
            or left == 0
            or (self._received and not self._capsule)
        ):
            raise error
        log.info("a stream broke after %d symbols and continues: %s", self._received, error)
        self.target = (self.target + 1) % self._target_count
        if self._received:
            self._go_on()
        round_ = self._failures // self._target_count
        if not round_:
            return 0.0
        asked_for = min(error.retry_after or 0.0, retry.LONGEST_PAUSE)
        pause = max(min(FIRST_PAUSE * 2.0 ** (round_ - 1), LONGEST_PAUSE), asked_for)
        return pause if left is None else min(pause, left)

    def _go_on(self) -> None:
        self._gone_on_after = self._received
        request = self.request
        # A capsule knows its model, and where it stands in its pattern.
        for field in ("model", "prompt", "expected_position", "pattern", "json_schema"):
            request.ClearField(field)
        request.capsule = self._capsule
        request.max_new_symbols = self._limit - self._received

    def _of_the_whole(self, last: Completion, before: int, vocabulary: str) -> Completion:
        known = set(vocabulary)
        needed = self.needs_vocabulary
        unknown = sum(symbol not in known for symbol in self._prompt) if needed else 0
        skipped = unknown if self._policy is UnknownSymbols.SKIP else 0
        usage = Usage(
            prompt_symbols=len(self._prompt) - skipped,
            generated_symbols=before + last.usage.generated_symbols,
            unknown_symbols=unknown,
        )
        return replace(last, usage=usage)


def is_cut(piece: Piece) -> bool:
    """Whether a piece is the last one of a server that shut down."""
    completion = piece.completion
    return completion is not None and completion.finish_reason is FinishReason.SHUTDOWN


def vocabulary_of(models: pb.ListModelsResponse, fingerprint: str) -> str:
    """Find the symbols of the model that has a fingerprint.

    Raises:
        ServerError: there is none.
    """
    for model in models.models:
        if model.fingerprint == fingerprint:
            return model.vocabulary
    raise ServerError(
        f"the server no longer describes the model {fingerprint[:12]} that it runs; try again"
    )


def _fixed(options: GenerateOptions, origin: Origin) -> GenerateOptions:
    """Fix what a server would choose, so that the next one chooses the same."""
    seed, new = options.seed, options.max_new_symbols
    if seed is None and not origin.capsule:
        seed = secrets.randbelow(SEED_LIMIT)
    new = DEFAULT_NEW_SYMBOLS if new is None else new
    return replace(options, seed=seed, max_new_symbols=new, capsules=Capsules.EVERY_CHUNK)

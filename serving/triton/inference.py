"""Texts for Triton's clients, whole or in pieces, whatever the door."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from serving.access.call import Call
from serving.texts.origins import Place
from serving.texts.parse.generate import SAMPLING
from serving.texts.text import Part, Text, Texts
from serving.triton.request import TextRequest
from serving.triton.sequences import Sequences
from unroll.errors import DeadlineError, InputError

# Where our fields have other names.
_RENAMED = {
    "prompt": "text_input",
    "max_new_symbols": "max_tokens",
    "session": "sequence_id",
    **{f"sampling.{name}": name for name in SAMPLING},
}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer, or a piece of one.

    Attributes:
        text: the next symbols; a whole text may begin with its prompt.
        finish_reason: why the text ended; empty as long as it has not.
        log_prob: of all symbols that were generated so far, a natural logarithm.
        symbols: how many were generated since the last piece.
        facts: position, seed and fingerprint, once the text has ended.
    """

    text: str
    finish_reason: str
    log_prob: float
    symbols: int
    facts: dict[str, int | str]

    def outputs(self, request: TextRequest) -> dict[str, str | float | int]:
        """Return the outputs that are wanted, by name, in a fixed order."""
        values: dict[str, str | float | int] = {
            "text_output": self.text,
            "finish_reason": self.finish_reason,
            "cumulative_logprob": self.log_prob,
            "num_output_tokens": self.symbols,
        }
        return {name: value for name, value in values.items() if name in request.outputs}


class Inference:
    """Answers requests for texts.

    Args:
        texts: that begin anew.
        sequences: of those that go on.
    """

    def __init__(self, texts: Texts, sequences: Sequences) -> None:
        self._texts = texts
        self._sequences = sequences

    async def whole(self, call: Call, request: TextRequest) -> Answer:
        """Return a whole text.

        Raises:
            UnrollError: see Texts.open, Sequences.take and Text.wholes.
        """
        async with _told(request), self._opened(call, request) as text:
            (part,) = await text.wholes()
            return _answer(text, part, 0.0, _echo(text) if request.echo else "")

    async def stream(
        self, call: Call, request: TextRequest, send: Callable[[Answer], Awaitable[None]]
    ) -> None:
        """Send the pieces of a text as they come; raises as `whole`."""
        log_prob = 0.0

        async def pass_on(part: Part) -> None:
            nonlocal log_prob
            answer = _answer(text, part, log_prob)
            log_prob = answer.log_prob
            await send(answer)

        async with _told(request), self._opened(call, request) as text:
            await text.stream(pass_on)

    @asynccontextmanager
    async def _opened(self, call: Call, request: TextRequest) -> AsyncIterator[Text]:
        if request.step is None:
            place = Place(model=request.options.model)
            async with self._open(self._texts, call, request, place) as text:
                yield text
            return
        taken = self._sequences.take(call, request.options.model, request.step, request.options)
        async with taken as place, self._open(self._sequences.texts, call, request, place) as text:
            yield text

    @asynccontextmanager
    async def _open(
        self, texts: Texts, call: Call, request: TextRequest, place: Place
    ) -> AsyncIterator[Text]:
        if request.echo:
            half = texts.limits.message // 2  # of an answer: as much again is for new symbols
            texts = texts.sharing(2)
            if len(request.prompt.encode(errors="replace")) > half:
                raise InputError(
                    "exclude_input_in_output",
                    f"must be true with a prompt of more than {half} bytes",
                )
        opened = texts.open(
            call,
            place,
            request.prompt,
            request.options,
            is_streamed=request.is_streamed,
            logit_bias=request.logit_bias,
        )
        async with opened as text:
            yield text


def _echo(text: Text) -> str:
    """Return the prompt as the model read it."""
    return text.origin.model.bundle.vocabulary.decode(text.parsed.request.prompt.tolist())


def _answer(text: Text, part: Part, log_prob: float, echo: str = "") -> Answer:
    """Describe a part; `log_prob` is that of all parts before it."""
    chunk = part.chunk
    facts: dict[str, int | str] = {}
    if chunk.finish is not None:
        fingerprint = text.origin.model.fingerprint
        facts = {"position": chunk.position, "seed": part.sample.seed, "fingerprint": fingerprint}
    return Answer(
        text=echo + chunk.text,
        finish_reason="" if chunk.finish is None else chunk.finish.value,
        log_prob=log_prob + float(chunk.log_probs.sum(dtype="f8")),
        symbols=len(chunk.text),
        facts=facts,
    )


@asynccontextmanager
async def _told(request: TextRequest) -> AsyncIterator[None]:
    """Name fields as this protocol does; raise DeadlineError if the block takes too long."""
    try:
        async with asyncio.timeout(request.seconds):
            yield
    except TimeoutError as error:
        raise DeadlineError(f"the request's timeout of {request.seconds:g} s has passed") from error
    except InputError as error:
        if error.field not in _RENAMED:
            raise
        raise type(error)(_RENAMED[error.field], error.problem) from error

"""Answers as OpenAI's clients read them."""

import json
import time
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Unpack

import grpc
import numpy as np
from numpy.typing import NDArray

from serving.http.call import HttpCall
from serving.http.openai.bodies import (
    Choice,
    Completion,
    Error,
    LogProbs,
    Refused,
    Top,
    Usage,
    WithUsage,
)
from serving.http.refusal import Refusal
from serving.texts.alternatives import alternatives_of
from serving.texts.text import Part, Text
from unroll.results import Alternatives
from unroll.terms import FinishReason

EVENTS = "text/event-stream; charset=utf-8"
DONE = b"data: [DONE]\n\n"
NO_ALTERNATIVES = Alternatives(symbols="", log_probs=())
# Where our fields have other names.
_RENAMED = {
    "max_new_symbols": "max_tokens",
    "sample_count": "n",
    "log_probs": "logprobs",
    "top_log_probs": "logprobs",
    "text": "prompt",
    "sampling.temperature": "temperature",
    "sampling.top_p": "top_p",
    "sampling.top_k": "top_k",
    "sampling.min_p": "min_p",
    "sampling.logit_bias": "logit_bias",
    "json_schema": "response_format",
}
_FINISHES = {reason: reason.value for reason in FinishReason} | {FinishReason.PATTERN: "stop"}
_TYPES = {
    grpc.StatusCode.UNAUTHENTICATED: "authentication_error",
    grpc.StatusCode.PERMISSION_DENIED: "permission_error",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "rate_limit_error",
}


@dataclass(frozen=True, kw_only=True)
class Echo:
    """The prompt, as far as it belongs to the answer.

    Attributes:
        symbols: it; empty unless it was asked for.
        log_probs: of each symbol but a given start symbol, (symbols,).
        alternatives: to each of these symbols, if they were asked for.
        start: the start symbol, if it was given; it comes before the others.
    """

    symbols: str
    log_probs: NDArray[np.float32]
    alternatives: tuple[Alternatives, ...] = ()
    start: str = ""


class Answer:
    """The answer to one request for completions.

    Args:
        call: that asks.
        log_probs: whether to tell those of all symbols.
    """

    def __init__(self, call: HttpCall, *, log_probs: bool) -> None:
        self._id = f"cmpl-{call.request_id}"
        self._created = int(time.time())
        self._log_probs = log_probs
        self._offsets: dict[int, int] = {}  # of what each choice has next
        self._read = 0
        self._written = 0

    def count_prompt(self, text: Text) -> None:
        """Count a prompt's symbols as read."""
        self._read += len(text.parsed.request.prompt)

    def choice(self, text: Text, part: Part, index: int, echo: Echo) -> Choice:
        """Describe the next part of a choice; the first begins with the prompt that is echoed."""
        chunk, first = part.chunk, index not in self._offsets
        symbols, log_probs = chunk.text, chunk.log_probs
        alternatives = alternatives_of(chunk.likeliest, text.origin.model.bundle.vocabulary)
        if first and text.parsed.request.max_new_symbols:  # else they are the prompt's already
            log_probs = np.concatenate([echo.log_probs, log_probs])
            alternatives = echo.alternatives + alternatives
        if first:
            symbols = echo.start + echo.symbols + symbols
        if first and echo.start:  # told as null
            log_probs = np.concatenate([np.zeros(1, np.float32), log_probs])
            alternatives = (NO_ALTERNATIVES, *alternatives)
        tops: list[Top | None] | None = None
        if text.parsed.request.alternatives:
            tops = list(map(_top, symbols, log_probs.tolist(), alternatives))
        scores = self._describe(symbols, log_probs, tops, index) if self._log_probs else None
        is_start = bool(echo.start or echo.symbols) and text.origin.snapshot is None
        if scores is not None and first and is_start:  # nothing comes before it
            scores["token_logprobs"][0] = None
            if scores["top_logprobs"] is not None:
                scores["top_logprobs"][0] = None
        made: Choice = {
            "index": index,
            "text": symbols,
            "logprobs": scores,
            "finish_reason": None if chunk.finish is None else _FINISHES[chunk.finish],
        }
        if part.capsule:
            made["capsule"] = b64encode(part.capsule).decode()
        if chunk.finish is not None:
            self._written += chunk.generated
            made["seed"], made["position"] = part.sample.seed, chunk.position
            if chunk.is_match is not None:
                made["is_match"] = chunk.is_match
        self._offsets[index] = self._offsets.get(index, 0) + len(symbols)
        return made

    def body(self, text: Text, choices: list[Choice], **more: Unpack[WithUsage]) -> Completion:
        """Describe an answer, or a piece of one."""
        return {
            "id": self._id,
            "object": "text_completion",
            "created": self._created,
            "model": text.origin.model.name,
            "system_fingerprint": text.origin.model.fingerprint,
            "choices": choices,
            **more,
        }

    @property
    def usage(self) -> Usage:
        """Counts of symbols so far, with those of stop strings."""
        return {
            "prompt_tokens": self._read,
            "completion_tokens": self._written,
            "total_tokens": self._read + self._written,
        }

    def _describe(
        self,
        symbols: str,
        log_probs: NDArray[np.float32],
        tops: list[Top | None] | None,
        index: int,
    ) -> LogProbs:
        offset = self._offsets.get(index, 0)
        return {
            "tokens": list(symbols),
            "token_logprobs": log_probs.tolist(),
            "top_logprobs": tops,
            "text_offset": list(range(offset, offset + len(symbols))),
        }


def _top(symbol: str, log_prob: float, alternatives: Alternatives) -> Top:
    """Describe the alternatives to a symbol, and the symbol itself."""
    likeliest = zip(alternatives.symbols, alternatives.log_probs, strict=True)
    return {**dict(likeliest), symbol: log_prob}


def dumps(body: Mapping[str, object]) -> bytes:
    """Write JSON."""
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def event(body: Mapping[str, object]) -> bytes:
    """Write one event of a stream."""
    return b"data: " + dumps(body) + b"\n\n"


async def refuse(call: HttpCall, refusal: Refusal) -> None:
    """Answer with an error; a stream that has begun ends with it."""
    field = refusal.field
    param = None if field is None else _RENAMED.get(field, field)
    fault = refusal.details.fault
    kind = "invalid_request_error" if refusal.number < 500 else "server_error"
    error: Error = {
        "message": refusal.status.message if param is None else f"{param}: {fault.description}",
        "type": _TYPES.get(refusal.code, kind),
        "param": param,
        "code": refusal.details.info.reason.lower(),
    }
    if call.has_begun:
        await call.write_raw(event(Refused(error=error)))
        await call.end()
    else:
        body = dumps(Refused(error=error))
        await call.answer(refusal.number, body, headers=refusal.headers)

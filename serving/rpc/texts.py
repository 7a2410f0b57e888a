"""Texts and scores for calls, by whichever door they came."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, nullcontext
from dataclasses import replace
from typing import TypeVar

from serving.access.call import Call
from serving.texts.constraint import constrain
from serving.texts.origins import Origin, Origins, Place
from serving.texts.parse import Limits, parse_generate
from serving.texts.sampling import by_symbol
from serving.texts.text import Text
from unroll.options import GenerateOptions

T = TypeVar("T")
SYMBOLS_AT_ONCE = 10_000  # that the event loop translates itself; it takes 1 ms


class Texts:
    """Opens texts.

    Args:
        origins: finds what they go on from.
        limits: what they may ask for.
    """

    def __init__(self, origins: Origins, limits: Limits) -> None:
        self._origins = origins
        self.limits = limits

    def sharing(self, parts: int) -> "Texts":
        """Return one of whose answers so many fit into one message."""
        limits = replace(self.limits, message=self.limits.message // parts)
        return Texts(self._origins, limits)

    @asynccontextmanager
    async def open(
        self,
        call: Call,
        place: Place,
        prompt: str | list[int],
        options: GenerateOptions,
        *,
        is_streamed: bool,
        logit_bias: Mapping[int, float] | None = None,
    ) -> AsyncIterator[Text]:
        """Find what a request goes on from, keep a session for it, and translate the request.

        Args:
            call: that asks; its further samples count as its caller's until the block's end.
            place: where it asks to begin.
            prompt: the text to continue, or its token ids; the start symbol's may come first.
            options: how.
            is_streamed: whether the text shall come in chunks.
            logit_bias: in place of the options', by token id.

        Raises:
            UnrollError: see Origins.open, constrain and parse_generate.
        """
        async with self._origins.open(place, call.identity) as origin:
            call.model = origin.model.name
            if not isinstance(prompt, str):
                ids = prompt[1:] if begins_at_start(prompt, origin) else prompt
                prompt = origin.model.bundle.vocabulary.read("prompt", ids)
            if logit_bias is not None:
                named = by_symbol(logit_bias, origin.model.bundle.vocabulary)
                options = replace(options, logit_bias=named)
            constraint = await constrain(options, origin, self._origins.automata, call.account)
            parsed = parse_generate(
                prompt,
                options,
                origin,
                self.limits,
                call.deadline,
                call.account,
                constraint,
                is_streamed=is_streamed,
            )
            call.symbols_read += len(parsed.request.prompt)
            more = parsed.samples - 1
            with call.hold(more) if more else nullcontext():
                yield Text(self._origins, origin, parsed)


def begins_at_start(prompt: str | list[int], origin: Origin) -> bool:
    """Tell whether token ids begin with the start symbol, where every text begins anyway."""
    start = origin.model.bundle.vocabulary.start_id
    return not isinstance(prompt, str) and prompt[:1] == [start] and origin.snapshot is None


async def run(symbols: int, translate: Callable[..., T], *arguments: object) -> T:
    """Translate on the event loop; a long text on another thread, so that streams go on."""
    if symbols <= SYMBOLS_AT_ONCE:
        return translate(*arguments)
    return await asyncio.to_thread(translate, *arguments)

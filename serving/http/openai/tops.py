"""The likeliest alternatives to each symbol of an answer."""

import asyncio
import time

import numpy as np
from numpy.typing import NDArray

from serving.http.call import HttpCall
from serving.http.openai.answers import Echo
from serving.http.openai.bodies import Top
from serving.http.openai.request import CompletionRequest
from serving.texts.alternatives import SYMBOLS_AT_ONCE, Walk
from serving.texts.text import Text
from unroll.bundle.vocabulary import Vocabulary
from unroll.errors import DeadlineError, InputError

ROWS_AT_MOST = 2**19  # symbols of an answer times those of the vocabulary: some seconds


class Tops:
    """Tells the alternatives of one request's answer, for each of its choices.

    Args:
        call: that asks.
        request: what it asks for.
        turn: held while symbols are told, by one request at a time.
    """

    def __init__(self, call: HttpCall, request: CompletionRequest, turn: asyncio.Lock) -> None:
        self._call = call
        self._request = request
        self._turn = turn
        self._walks: dict[int, Walk] = {}

    def check(self, texts: list[Text]) -> None:
        """Check that what is asked for does not take too long.

        Raises:
            InputError: it does, or these texts have no alternatives.
        """
        request, rows = self._request, 0
        if not request.alternatives:
            return
        for text in texts:
            Walk(text.origin)
            prompt = len(text.parsed.request.prompt) if request.echo else 0
            symbols = request.samples * (prompt + text.parsed.request.max_new_symbols)
            rows += symbols * len(text.origin.model.bundle.vocabulary)
        if rows > ROWS_AT_MOST:
            raise InputError(
                "log_probs",
                f"of the alternatives to all symbols would be {rows} numbers, {ROWS_AT_MOST} are "
                "the most; ask for fewer symbols, or for 0",
            )

    async def tell(
        self, text: Text, index: int, symbols: str, echo: Echo
    ) -> list[Top | None] | None:
        """Return the likeliest symbols at each of the next ones of a choice, and those themselves.

        Raises:
            DeadlineError: the call's deadline has passed meanwhile.
        """
        if not self._request.alternatives:
            return None
        vocabulary, walk = text.origin.model.bundle.vocabulary, self._walks.get(index)
        told: list[Top | None] = []
        if walk is None:
            if echo.start:
                symbols, told = symbols[1:], [{}]
            walk = self._walks[index] = Walk(text.origin)
            if not self._request.echo:
                await asyncio.to_thread(walk.skip, text.parsed.request.prompt)
        ids = vocabulary.encode(symbols)
        for start in range(0, len(ids), SYMBOLS_AT_ONCE):
            if self._call.deadline is not None and time.monotonic() > self._call.deadline:
                raise DeadlineError("the deadline passed while alternatives were computed")
            some = ids[start : start + SYMBOLS_AT_ONCE]
            async with self._turn:
                log_probs = await asyncio.to_thread(walk.read, some)
            told += [
                self._likeliest(row, token, vocabulary)
                for row, token in zip(log_probs, some.tolist(), strict=True)
            ]
        return told

    def _likeliest(self, row: NDArray[np.float32], token: int, vocabulary: Vocabulary) -> Top:
        """Choose from the log-probabilities of all symbols, (V,); of equals, the lowest id."""
        ids = np.argsort(-row, kind="stable")[: self._request.alternatives].tolist()
        chosen = ids if token in ids else [*ids, token]
        return {vocabulary.symbols[each]: float(row[each]) for each in chosen}

"""The automata of patterns: compiled apart, one at a time, and kept."""

import asyncio
import hashlib
import json
import subprocess
import sys
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import Any

import numpy as np

from serving.constraints.automaton import Automaton, ending_with
from serving.constraints.construction import NONE
from unroll.bundle.vocabulary import Vocabulary
from unroll.errors import InputError, OverloadedError, lacking
from unroll.terms import PATTERN_BYTES_AT_MOST, SCHEMA_BYTES_AT_MOST

CHILD = "serving.constraints.child"
SECONDS = 0.8  # of processor time for one pattern
WALL_SECONDS = 5.0  # on a machine that is so busy
MEMORY = 2**28  # bytes of the process that compiles; Python takes 30 MB of them
ENTRIES_AT_MOST = 2**20  # states times symbols
TRANSLATED_BYTES_AT_MOST = 2**15  # of the pattern that a schema becomes
KEPT_BYTES = 2**26  # of tables
ENTRY_BYTES = 1000  # of what is kept besides its table
PATIENCE = 1.0  # seconds for which a pattern waits for its caller's others


class Automata:
    """Compiles patterns and schemas; on one event loop.

    Each is compiled by a process of its own, whose time and memory are bounded; one runs at a time,
    and one waits for each caller at most. What came of it is kept, the least recently used first
    to go, failures too.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[bytes, Automaton | InputError] = OrderedDict()
        self._bytes = 0
        self._under_way: dict[bytes, asyncio.Future[None]] = {}
        self._turn = asyncio.Lock()
        self._turns: dict[str, asyncio.Lock] = {}  # of each caller that wants a pattern compiled
        self._asking: Counter[str] = Counter()

    async def of_pattern(self, pattern: str, vocabulary: Vocabulary, account: str) -> Automaton:
        """Return the automaton of a pattern.

        Args:
            pattern: in Python's syntax.
            vocabulary: of the model.
            account: of the caller.

        Raises:
            InputError: the pattern is wrong or too large, or has no match in the vocabulary.
            OverloadedError: the caller has too many patterns compiled.
        """
        _check_length("pattern", pattern, PATTERN_BYTES_AT_MOST)
        return await self._find("pattern", pattern, vocabulary, account)

    async def of_schema(self, schema: str, vocabulary: Vocabulary, account: str) -> Automaton:
        """Return the automaton of a JSON schema's values; arguments and errors as of_pattern."""
        _check_length("json_schema", schema, SCHEMA_BYTES_AT_MOST)
        if find_spec("outlines_core") is None:
            raise InputError(
                "json_schema",
                lacking("a schema", "outlines-core", "schema")
                + ", where the model runs; or give a pattern",
            )
        return await self._find("json_schema", schema, vocabulary, account)

    async def again(self, pattern: str, vocabulary: Vocabulary, account: str) -> Automaton:
        """Return the automaton of a pattern that a capsule or session holds; else as of_pattern."""
        return await self._find("pattern", pattern, vocabulary, account)

    async def _find(self, field: str, text: str, vocabulary: Vocabulary, account: str) -> Automaton:
        symbols = vocabulary.symbols[: vocabulary.sampled_size]
        end = "\n" if vocabulary.form.unit == "record" and "\n" in symbols else ""
        key = hashlib.sha256("\0".join((field, end, symbols, text)).encode()).digest()
        while key in self._under_way:
            await asyncio.shield(self._under_way[key])
        if key not in self._kept:
            await self._make(key, field, text, symbols, end, account)
        found = self._kept[key]
        self._kept.move_to_end(key)
        if isinstance(found, InputError):
            raise InputError(found.field, found.problem)
        return found

    async def _make(
        self, key: bytes, field: str, text: str, symbols: str, end: str, account: str
    ) -> None:
        self._under_way[key] = asyncio.get_running_loop().create_future()
        try:
            async with self._turn_of(account), self._turn:
                made = await asyncio.to_thread(_compile, field, text, symbols, end)
        finally:
            self._under_way.pop(key).set_result(None)
        self._keep(key, made)

    @asynccontextmanager
    async def _turn_of(self, account: str) -> AsyncIterator[None]:
        """Let each caller have one pattern among those that wait."""
        turn = self._turns.setdefault(account, asyncio.Lock())
        self._asking[account] += 1
        try:
            try:
                await asyncio.wait_for(turn.acquire(), PATIENCE)
            except TimeoutError:
                raise OverloadedError(
                    "other patterns of this caller are being compiled; try again later"
                ) from None
            try:
                yield
            finally:
                turn.release()
        finally:
            self._asking[account] -= 1
            if not self._asking[account]:
                del self._asking[account], self._turns[account]

    def _keep(self, key: bytes, made: Automaton | InputError) -> None:
        self._kept[key] = made
        self._bytes += _size(made)
        while self._bytes > KEPT_BYTES and len(self._kept) > 1:
            _, dropped = self._kept.popitem(last=False)
            self._bytes -= _size(dropped)


def _size(made: Automaton | InputError) -> int:
    return ENTRY_BYTES + (made.next.nbytes if isinstance(made, Automaton) else 0)


def _check_length(field: str, text: str, most: int) -> None:
    if (length := len(text.encode(errors="replace"))) > most:
        raise InputError(field, f"has {length:,} bytes of UTF-8; at most {most:,} are taken")


def _compile(field: str, text: str, symbols: str, end: str) -> Automaton | InputError:
    """Compile in a process of its own; what is wrong with the pattern is returned."""
    request = {
        "pattern": text if field == "pattern" else "",
        "schema": text if field == "json_schema" else "",
        "symbols": symbols,
        "end": end,
        "memory": MEMORY,
        "seconds": SECONDS,
        "longest": TRANSLATED_BYTES_AT_MOST,
    }
    command = [sys.executable, "-P", "-W", "ignore", "-m", CHILD]
    try:
        done = subprocess.run(
            command,
            input=json.dumps(request).encode(),
            capture_output=True,
            timeout=WALL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise OverloadedError(
            f"the machine is too busy to compile a pattern in {WALL_SECONDS:g} s; try again later"
        ) from None
    if done.returncode < 0:
        return InputError(field, "takes too long to compile; make it simpler")
    if done.returncode:
        return InputError(field, "takes too much memory to compile; make it simpler")
    head, _, tables = done.stdout.partition(b"\n")
    told = json.loads(head)
    if "problem" in told:
        return InputError(field, told["problem"])
    return _read(field, told, tables, symbols, end)


def _read(
    field: str, told: dict[str, Any], tables: bytes, symbols: str, end: str
) -> Automaton | InputError:
    """Read what the child wrote."""
    V, S, classes = len(symbols), told["states"], told["classes"]
    class_of = np.frombuffer(tables, np.int16, V)
    rows = np.frombuffer(tables, np.int16, S * classes, 2 * V).reshape(S, classes)
    if (S + 1) * V > ENTRIES_AT_MOST:
        return InputError(
            field,
            f"has an automaton of {S:,} states for {V:,} symbols; at most {ENTRIES_AT_MOST:,} of "
            "both multiplied are taken; write it with fewer or smaller counted repeats",
        )
    automaton = Automaton.of(
        told["pattern"],
        np.where(class_of >= 0, rows[:, class_of], np.int16(NONE)),
        np.frombuffer(tables, np.bool_, S, 2 * V + rows.nbytes),
    )
    if end:
        automaton = ending_with(automaton, symbols.index(end))
    if automaton.is_final[0]:
        return InputError(field, "matches the empty text alone; leave it out")
    return automaton

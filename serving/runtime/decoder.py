"""Runs the compiled loop of a bundle: arrays in, arrays out."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.runtime.likeliest import Likeliest
from serving.runtime.onnx import Device, open_bundle_graphs, open_graph_session
from unroll.bundle.folder import Bundle
from unroll.bundle.manifest import (
    BATCH,
    DECODE,
    DECODE_CONSTRAINED,
    DECODE_FILTERED,
    DECODE_FULL,
    DECODES,
    READ,
)

State = dict[str, NDArray[np.float32]]
"""Recurrent state by the graph's input name, each (layers, batch, hidden)."""

FREE = -1  # in `forced`: sample this symbol
LOGITS_AT_MOST = 2**24  # of a run of read.onnx; bounds the memory
ALTERNATIVES = ("alternative_ids", "alternative_log_probs")


@dataclass(frozen=True, kw_only=True)
class Automata:
    """What says which symbols may come: automata laid one after another. State 0 allows all.

    Attributes:
        bias: added to the logits in each state, before temperature; -inf bans, (S, V).
        next: the state after each state and symbol, (S V).
        states: of each row, (N,).
    """

    bias: NDArray[np.float32]
    next: NDArray[np.int64]
    states: NDArray[np.int64]

    @classmethod
    def free(cls, rows: int, symbols: int) -> "Automata":
        """Allow all to so many rows."""
        return cls(
            bias=np.zeros((1, symbols), np.float32),
            next=np.zeros(symbols, np.int64),
            states=np.zeros(rows, np.int64),
        )


@dataclass(frozen=True, kw_only=True)
class LoopRun:
    """One run of the loop: T steps of N rows.

    Attributes:
        tokens: the last symbol of each row, not yet consumed, (N,).
        forced: the symbol that comes next, or FREE to sample it, (T, N).
        uniform: one number in [0, 1) a symbol, (T, N).
        steps: after how many steps a row keeps its state as it is, (N,); what comes after them
            in the row's tokens are ids that mean nothing.
        temperature: (N,); see SamplingParams, as for the next three.
        top_k: (N,).
        top_p: (N,).
        min_p: (N,).
        asking: the rows that want to know the likeliest symbols at each step, (asking,).
        alternatives: how many of them, 0 to V.
        automata: what bans symbols or favours them; None if nothing does.
        is_scored: whether log-probabilities of forced symbols are wanted, too.
    """

    tokens: NDArray[np.int64]
    forced: NDArray[np.int64]
    uniform: NDArray[np.float32]
    steps: NDArray[np.int64]
    temperature: NDArray[np.float32]
    top_k: NDArray[np.int64]
    top_p: NDArray[np.float32]
    min_p: NDArray[np.float32]
    asking: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    alternatives: int = 0
    automata: Automata | None = None
    is_scored: bool = True

    @classmethod
    def plain(
        cls,
        tokens: NDArray[np.int64],
        forced: NDArray[np.int64],
        uniform: NDArray[np.float32],
        temperature: float | list[float] = 1.0,
    ) -> "LoopRun":
        """Describe a loop run whose rows all make every step and filter nothing."""
        rows = len(tokens)
        return cls(
            tokens=tokens,
            forced=forced,
            uniform=uniform,
            steps=np.full(rows, len(forced), np.int64),
            temperature=np.full(rows, temperature, np.float32),
            top_k=np.zeros(rows, np.int64),
            top_p=np.ones(rows, np.float32),
            min_p=np.zeros(rows, np.float32),
        )

    @property
    def is_read(self) -> bool:
        """Whether every symbol is given, but for those after a row's last step."""
        if (self.forced[0] == FREE).any():  # as of most runs that draw symbols
            return False
        steps = np.arange(len(self.forced))[:, None]
        return bool(((self.forced != FREE) | (steps >= self.steps)).all())

    @property
    def is_filtered(self) -> bool:
        """Whether a filter leaves out symbols of any row."""
        return bool(((self.top_k != 0) | (self.top_p < 1) | (self.min_p > 0)).any())

    @property
    def is_plain(self) -> bool:
        """Whether decode.onnx serves all rows: no filter, no automata, and none asks."""
        return not self.is_filtered and self.automata is None and len(self.asking) == 0


@dataclass(frozen=True, kw_only=True)
class LoopResult:
    """What a loop run gave.

    Attributes:
        tokens: the symbols that came, (T, N).
        log_probs: of each under the model, before temperature, (T, N); NaN where they may be left
            out.
        state: after the loop run, by the input's name; it has consumed all of the row's
            steps but the last symbol.
        likeliest: of each row that asked.
        automata: the state of each row's automaton after each step, (T, N); None without automata.
    """

    tokens: NDArray[np.int64]
    log_probs: NDArray[np.float32]
    state: State
    likeliest: list[Likeliest] = field(default_factory=list)
    automata: NDArray[np.int64] | None = None


class Decoder:
    """A bundle's decode graphs, loaded.

    Args:
        bundle: whose graphs.
        device: where to compute.
        threads: threads of one operator on the CPU.
        only: the graphs to load; by default all, without which some runs cannot be made.

    Raises:
        BundleError: a graph is not the one that the manifest describes.
        DeviceError: the device is not there.
    """

    def __init__(
        self, bundle: Bundle, device: Device, threads: int = 1, only: Collection[str] = ()
    ) -> None:
        graphs = DECODES if device is Device.CUDA else (*DECODES, READ)
        names = [n for n in graphs if n in bundle.manifest.graphs and (not only or n in only)]
        opened = open_bundle_graphs(
            bundle, names, lambda files: open_graph_session(files, device, threads)
        )
        self._graph_sessions = dict(zip(names, opened, strict=True))
        self._state = bundle.manifest.state
        self._sampled_size = bundle.vocabulary.sampled_size
        self._vocabulary_size = len(bundle.vocabulary)
        self._outputs = ["tokens_out", "log_probs", *(tensor.output for tensor in self._state)]
        self.provider: str = opened[0].get_providers()[0]

    @property
    def is_full(self) -> bool:
        """Whether rows may have alternatives and automata; bundles of before have no such graph."""
        return DECODE_CONSTRAINED in self._graph_sessions

    @property
    def has_read(self) -> bool:
        """Whether symbols that are all given are read without the sampler."""
        return READ in self._graph_sessions

    def zero_state(self, batch: int) -> State:
        """Return the state before any symbol."""
        return {
            tensor.input: np.zeros(
                [batch if size == BATCH else int(size) for size in tensor.shape], tensor.dtype
            )
            for tensor in self._state
        }

    def free(self, rows: int) -> Automata:
        """Return automata that allow all to so many rows."""
        return Automata.free(rows, self._sampled_size)

    def run(self, run: LoopRun, state: State) -> LoopResult:
        """Make T steps from a state; threads may do so at the same time."""
        is_asked = len(run.asking) > 0
        if self.has_read and run.is_read and not is_asked and run.automata is None:
            return self._read(run, state)
        name, outputs = DECODE, self._outputs
        feeds: dict[str, NDArray[Any]] = {
            "tokens": run.tokens,
            "forced": run.forced,
            "uniform": run.uniform,
            "steps": run.steps,
            "temperature": run.temperature,
            **state,
        }
        if run.is_filtered or is_asked:
            name = DECODE_FILTERED
            feeds |= {"top_k": run.top_k, "top_p": run.top_p, "min_p": run.min_p}
        if run.automata is not None or is_asked:
            name = DECODE_FULL if name == DECODE_FILTERED else DECODE_CONSTRAINED
            automata = run.automata or self.free(len(run.tokens))
            outputs = [*outputs, "automata"]
            feeds |= {"automaton": automata.states, "bias": automata.bias, "next": automata.next}
        if name == DECODE_FULL:
            outputs = [*outputs, *ALTERNATIVES]
            feeds["alternative_rows"] = run.asking
            feeds["alternative_count"] = np.array([run.alternatives])
        tokens, log_probs, *last = self._graph_sessions[name].run(outputs, feeds)
        state = {tensor.input: last.pop(0) for tensor in self._state}
        states = last.pop(0) if "automata" in outputs else None
        likeliest = [
            Likeliest(*(tensor[:, row] for tensor in last)) for row in range(len(run.asking))
        ]
        return LoopResult(
            tokens=tokens, log_probs=log_probs, state=state, likeliest=likeliest, automata=states
        )

    def _read(self, run: LoopRun, state: State) -> LoopResult:
        """Make T steps whose symbols are all given."""
        T, N = run.forced.shape
        forced = np.maximum(run.forced, 0)
        tokens, log_probs = run.tokens, np.full(T * N, np.nan, np.float32)
        outputs = ["log_probs", *(tensor.output for tensor in self._state)]
        at_once = max(1, LOGITS_AT_MOST // (N * self._vocabulary_size)) if run.is_scored else T
        for first in range(0, T, at_once):
            some = forced[first : first + at_once]
            feeds = {
                "tokens": tokens,
                "forced": some,
                "steps": run.steps - first,
                "asked": np.arange(some.size if run.is_scored else 0),
                **state,
            }
            told, *last = self._graph_sessions[READ].run(outputs, feeds)
            log_probs[first * N :][: len(told)] = told
            state = {t.input: new for t, new in zip(self._state, last, strict=True)}
            tokens = some[-1]
        return LoopResult(tokens=forced, log_probs=log_probs.reshape(T, N), state=state)

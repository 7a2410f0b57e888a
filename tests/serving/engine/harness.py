"""Engines driven by hand, readers, and what a request gives when it is alone."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.engine.engine import Engine
from serving.engine.sequences.request import Chunk, SequenceRequest
from serving.runtime.decoder import FREE, Decoder, LoopRun
from serving.runtime.sampling import uniforms
from unroll.bundle.vocabulary import Vocabulary
from unroll.errors import EngineError
from unroll.terms import FinishReason

PATIENCE = 60.0  # seconds; for what happens at once unless something is broken


@dataclass(frozen=True)
class Outcome:
    """All that a request gave."""

    text: str
    log_probs: tuple[float, ...]
    finish: FinishReason | None
    generated: int


class Reader:
    """A listener that keeps what it hears."""

    def __init__(self) -> None:
        self.chunks: list[Chunk] = []
        self.ended = threading.Event()

    def __call__(self, chunk: Chunk) -> None:
        self.chunks.append(chunk)
        if chunk.is_last:
            self.ended.set()

    @property
    def outcome(self) -> Outcome:
        """What has come so far."""
        return Outcome(
            text="".join(chunk.text for chunk in self.chunks),
            log_probs=tuple(float(p) for chunk in self.chunks for p in chunk.log_probs),
            finish=self.chunks[-1].finish if self.chunks else None,
            generated=self.chunks[-1].generated if self.chunks else 0,
        )

    @property
    def error(self) -> EngineError | None:
        """How it ended, if badly."""
        return self.chunks[-1].error if self.chunks else None

    def wait(self) -> Outcome:
        """Wait for the end."""
        assert self.ended.wait(PATIENCE)
        assert [chunk.is_last for chunk in self.chunks].index(True) == len(self.chunks) - 1
        return self.outcome


@contextmanager
def running(engine: Engine) -> Iterator[Engine]:
    """Run an engine's thread."""
    engine.start()
    try:
        yield engine
    finally:
        engine.close()
        assert not engine.is_running


def slot_states(engine: Engine, worker: int = 0) -> dict[str, NDArray[np.float32]]:
    """Copy what is in a worker's slots, each tensor (layers, slots, hidden)."""
    runner = engine.slots[worker].runner
    states = [runner.read(slot) for slot in range(runner.capacity)]
    return {name: np.stack([state[name] for state in states], axis=1) for name in states[0]}


def request(vocabulary: Vocabulary, prompt: str, new: int, **others: Any) -> SequenceRequest:
    """Make a request from a text."""
    return SequenceRequest(prompt=vocabulary.encode(prompt), max_new_symbols=new, **others)


def alone(decoder: Decoder, vocabulary: Vocabulary, asked: SequenceRequest) -> Outcome:
    """Read and write one symbol a loop run in a batch of one; look for stops in the whole text."""
    P = len(asked.prompt)
    token, state = vocabulary.start_id, decoder.zero_state(1)
    tokens, log_probs = [], []
    for position in range(P + asked.max_new_symbols):
        result = decoder.run(
            LoopRun(
                tokens=np.array([token]),
                forced=np.array([[asked.prompt[position] if position < P else FREE]]),
                uniform=uniforms(asked.seed, position, 1)[:, None],
                steps=np.array([1]),
                temperature=np.array([asked.sampling.temperature], np.float32),
                top_k=np.array([asked.sampling.top_k]),
                top_p=np.array([asked.sampling.top_p], np.float32),
                min_p=np.array([asked.sampling.min_p], np.float32),
            ),
            state,
        )
        token, state = int(result.tokens[0, 0]), result.state
        tokens.append(token)
        log_probs.append(float(result.log_probs[0, 0]))
    if not asked.max_new_symbols:
        return Outcome("", tuple(log_probs), FinishReason.LENGTH, 0)
    text = "".join(vocabulary.symbols[token] for token in tokens[P:])
    found = [
        (start + len(stop), start)
        for stop in asked.stop
        for start in range(len(text))
        if text.startswith(stop, start)
    ]
    end, start = min(found, default=(len(text), len(text)))
    finish = FinishReason.STOP if found else FinishReason.LENGTH
    return Outcome(text[:start], tuple(log_probs[P : P + start]), finish, end)

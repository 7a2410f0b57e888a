"""Any interleaving of requests, runs, cancellations and slow readers changes no text."""

from dataclasses import replace
from math import inf
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from export.graph.arithmetic import Precision
from serving.engine.engine import Engine
from serving.engine.options import EngineOptions
from serving.engine.sequences.request import Chunk
from serving.engine.sequences.sequence import Sequence
from serving.runtime.decoder import Decoder
from serving.runtime.onnx import Device
from tests.conftest import TINY_SYMBOLS, export_briefly, tiny_checkpoint
from tests.export.lower import own_texts
from tests.serving.engine.harness import Outcome, Reader, alone, request, slot_states
from tests.serving.runtime.runs import FILTERED, PLAIN
from training.settings import Cell
from unroll.bundle.folder import Bundle, load_bundle
from unroll.errors import CancelledError
from unroll.terms import Capsules

pytestmark = pytest.mark.slow

SLOTS = 3
texts = st.text(TINY_SYMBOLS, max_size=9) | st.sampled_from([33, 40]).map(
    lambda n: ("bad cab " * 5)[:n]
)
stops = st.lists(st.text("abc £", min_size=1, max_size=2), max_size=2).map(tuple)


class EngineMachine(RuleBasedStateMachine):
    """An engine beside what each of its sequences would write alone."""

    def __init__(self, bundle: Bundle, decoder: Decoder, workers: int) -> None:
        super().__init__()
        self.vocabulary = bundle.vocabulary
        self.engine = Engine(
            bundle, decoder, EngineOptions(slots=SLOTS, workers=workers, prefix_bytes=8192)
        )
        self.workers = range(workers)
        self.readers: dict[Sequence, Reader] = {}
        self.expected: dict[Sequence, Outcome] = {}
        self.cancelled: dict[Sequence, int] = {}  # and the number of its chunks at that time

    @rule(
        prompt=texts,
        new=st.integers(0, 24),
        seed=st.integers(0, 2**63 - 1),
        sampling=st.sampled_from(PLAIN + FILTERED),
        stop=stops,
        buffer_symbols=st.none() | st.integers(1, 6),
        snapshots=st.sampled_from(Capsules),
        chunk_seconds=st.sampled_from([0.0, inf]),
    )
    def submit(self, prompt: str, new: int, buffer_symbols: int | None, **others: object) -> None:
        """A request comes."""
        new = new or int(not prompt)
        asked = request(self.vocabulary, prompt, new, buffer_symbols=buffer_symbols, **others)
        reader = Reader()
        sequence = self.engine.submit(asked, reader)
        self.readers[sequence] = reader
        self.expected[sequence] = alone(self.engine.decoder, self.vocabulary, asked)

    @precondition(lambda self: any(self.marks()))
    @rule(data=st.data(), buffer_symbols=st.none() | st.integers(1, 6))
    def go_on(self, data: st.DataObject, buffer_symbols: int | None) -> None:
        """A text goes on from any of its snapshots: resumed, retried or rewound."""
        sequence, chunk = data.draw(st.sampled_from(self.marks()))
        chunks = self.readers[sequence].chunks
        last = next(n for n, c in enumerate(chunks) if c is chunk)  # equal ones may come twice
        sent = "".join(c.text for c in chunks[: last + 1])
        own, asked = self.expected[sequence], sequence.request
        reader = Reader()
        going_on = self.engine.submit(
            replace(
                asked,
                prompt=self.vocabulary.encode(""),
                max_new_symbols=asked.max_new_symbols - len(sent),
                origin=chunk.snapshot,
                buffer_symbols=buffer_symbols,
            ),
            reader,
        )
        self.readers[going_on] = reader
        self.expected[going_on] = Outcome(
            own.text[len(sent) :],
            own.log_probs[len(sent) :],
            own.finish,
            own.generated - len(sent),
        )

    def marks(self) -> list[tuple[Sequence, Chunk]]:
        """All snapshots within texts."""
        return [
            (sequence, chunk)
            for sequence, reader in self.readers.items()
            for chunk in reader.chunks
            if chunk.snapshot is not None and not chunk.is_last and chunk.text
        ]

    @precondition(lambda self: self.readers)
    @rule(steps=st.integers(1, 10), data=st.data())
    def run_loop(self, steps: int, data: st.DataObject) -> None:
        """A worker makes a loop run."""
        self.engine.step(data.draw(st.sampled_from(self.workers)), steps=steps)

    @precondition(lambda self: self.readers)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        """A client goes away."""
        sequence = data.draw(st.sampled_from(list(self.readers)))
        if not self.readers[sequence].ended.is_set():
            self.engine.cancel(sequence)
            self.cancelled[sequence] = len(self.readers[sequence].chunks)

    @precondition(lambda self: any(sequence.unread for sequence in self.readers))
    @rule(data=st.data())
    def read(self, data: st.DataObject) -> None:
        """A reader takes some of what was delivered."""
        unread = [sequence for sequence in self.readers if sequence.unread]
        sequence = data.draw(st.sampled_from(unread))
        self.engine.mark_read(sequence, data.draw(st.integers(1, sequence.unread)))

    @invariant()
    def every_text_is_the_beginning_of_its_own(self) -> None:
        """Compare all texts and log-probabilities."""
        for sequence, reader in self.readers.items():
            got, own = reader.outcome, self.expected[sequence]
            if reader.ended.is_set() and sequence not in self.cancelled:
                assert got == own
            assert own.text.startswith(got.text)
            assert own.log_probs[: len(got.log_probs)] == got.log_probs

    @invariant()
    def only_the_slots_of_running_sequences_hold_numbers(self) -> None:
        """Compare the slots with who holds one."""
        for worker in self.workers:
            running = len(self.engine.slots[worker])
            for tensor in slot_states(self.engine, worker).values():
                assert np.isfinite(tensor).all(axis=(0, 2)).sum() == running
                assert np.isnan(tensor).all(axis=(0, 2)).sum() == SLOTS - running

    def teardown(self) -> None:
        """Let everyone read, and the engine come to an end."""
        for _ in range(100 * len(self.readers)):
            for sequence in self.readers:
                self.engine.mark_read(sequence, sequence.unread)
            if not sum(len(self.engine.step(worker, steps=7)) for worker in self.workers):
                break
        assert self.engine.sequences() == []
        self.every_text_is_the_beginning_of_its_own()
        for sequence, reader in self.readers.items():
            reader.wait()
            if sequence in self.cancelled:
                assert isinstance(reader.error, CancelledError)
                assert len(reader.chunks) == self.cancelled[sequence] + 1


def run_machine(bundle: Bundle, workers: int, examples: int) -> None:
    """Try so many interleavings."""
    decoder = Decoder(bundle, Device.CPU)
    run_state_machine_as_test(
        lambda: EngineMachine(bundle, decoder, workers),  # type: ignore[arg-type]
        settings=settings(max_examples=examples, stateful_step_count=40, deadline=None),
    )


@pytest.mark.parametrize(("cell", "workers"), [("gru", 3), ("lstm", 1)])
def test_any_interleaving_gives_every_sequence_its_own_text(
    cell: Cell, workers: int, tiny_bundles: dict[Cell, Path]
) -> None:
    run_machine(load_bundle(tiny_bundles[cell]), workers, examples=30)


@pytest.mark.parametrize("cell", ["rnn_relu", "lstm"])  # a scale that is measured, one that is not
def test_any_interleaving_in_int8_gives_every_sequence_its_own_text(
    cell: Cell, tmp_path: Path
) -> None:
    checkpoint = tiny_checkpoint(cell)
    bundle = export_briefly(
        checkpoint, tmp_path / cell, precision=Precision.INT8, texts=own_texts(checkpoint)
    )
    run_machine(bundle, workers=2, examples=16)

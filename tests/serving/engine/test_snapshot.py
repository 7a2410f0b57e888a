"""A text that is stopped and goes on elsewhere is the text that was never stopped."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.engine.engine import Engine
from serving.engine.options import EngineOptions
from serving.engine.sequences.request import Chunk
from serving.engine.sequences.snapshot import SamplerState, Snapshot, StateLayout
from serving.runtime.decoder import Decoder
from serving.runtime.onnx import Device
from serving.runtime.sampling import SamplingParams
from tests.conftest import TINY_SYMBOLS
from tests.serving.engine.harness import Reader, alone, request
from tests.serving.runtime.runs import FILTERED, PLAIN
from training.model.model import CELLS
from training.settings import Cell
from unroll.bundle.folder import Bundle, load_bundle
from unroll.errors import InputError
from unroll.terms import Capsules, FinishReason

Loaded = dict[Cell, tuple[Bundle, Decoder]]
FINAL, EVERY_CHUNK = Capsules.FINAL, Capsules.EVERY_CHUNK
SEED = 11


@pytest.fixture(scope="module")
def loaded(tiny_bundles: dict[Cell, Path]) -> Loaded:
    """All cells' bundles."""
    bundles = {cell: load_bundle(folder) for cell, folder in tiny_bundles.items()}
    return {cell: (bundle, Decoder(bundle, Device.CPU)) for cell, bundle in bundles.items()}


def chunks_of(
    engine: Engine, prompt: str, new: int, steps: int = 5, **others: object
) -> list[Chunk]:
    """Run one request to its end; return what came."""
    reader = Reader()
    engine.submit(request(engine.bundle.vocabulary, prompt, new, **others), reader)
    while engine.step(steps=steps):
        pass
    reader.wait()
    return reader.chunks


def joined(chunks: list[Chunk]) -> tuple[str, list[float]]:
    """Return the text and the log-probabilities of chunks."""
    log_probs = [float(p) for chunk in chunks for p in chunk.log_probs]
    return "".join(chunk.text for chunk in chunks), log_probs


def carried(engine: Engine, snapshot: Snapshot | None) -> Snapshot:
    """Write a snapshot down and read it again."""
    assert snapshot is not None
    packed = snapshot.pack()
    again, length = Snapshot.unpack(memoryview(packed + b"rest"), engine.layout.size)
    assert length == len(packed)
    assert again.pack() == packed
    return again


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS)
@given(
    cuts=st.lists(st.integers(1, 39), max_size=4),
    prompt=st.text(TINY_SYMBOLS, max_size=9),
    sampling=st.sampled_from(PLAIN + FILTERED),
    steps=st.integers(1, 9),
)
@settings(max_examples=25, deadline=None)
def test_text_in_pieces_is_the_text_in_one_go(
    loaded: Loaded, cell: Cell, cuts: list[int], prompt: str, sampling: SamplingParams, steps: int
) -> None:
    bundle, decoder = loaded[cell]
    asked = request(bundle.vocabulary, prompt, 40, sampling=sampling, seed=SEED)
    whole = alone(decoder, bundle.vocabulary, asked)
    engine = Engine(bundle, decoder, EngineOptions(slots=2))
    origin, pieces = None, []
    for begin, end in itertools.pairwise(sorted({0, *cuts, 40})):
        pieces += chunks_of(
            engine, "" if begin else prompt, end - begin, steps,
            origin=origin, snapshots=FINAL, sampling=sampling, seed=SEED,
        )  # fmt: skip
        origin = carried(engine, pieces[-1].snapshot)
        assert origin.position == len(prompt) + end == pieces[-1].position
    assert joined(pieces) == (whole.text, list(whole.log_probs))


@given(cuts=st.lists(st.integers(1, 24), max_size=3), steps=st.integers(1, 9))
@settings(max_examples=30, deadline=None)
def test_prompt_split_between_requests_is_the_same_prompt(
    loaded: Loaded, cuts: list[int], steps: int
) -> None:
    bundle, decoder = loaded["lstm"]
    prompt = "bad cab fed a hag\n£ abc deaf"
    whole = alone(decoder, bundle.vocabulary, request(bundle.vocabulary, prompt, 20, seed=SEED))
    engine = Engine(bundle, decoder)
    origin, scores, ends = None, [], sorted({0, *cuts})
    for begin, end in itertools.pairwise(ends):
        read = chunks_of(engine, prompt[begin:end], 0, steps, origin=origin, snapshots=FINAL)
        scores += joined(read)[1]
        origin = read[-1].snapshot
    written = chunks_of(engine, prompt[ends[-1] :], 20, steps, origin=origin, seed=SEED)
    assert joined(written) == (whole.text, list(whole.log_probs))
    scored = alone(
        decoder, bundle.vocabulary, request(bundle.vocabulary, prompt[: ends[-1]] or "a", 0)
    )
    assert scores == list(scored.log_probs[: ends[-1]])


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("steps", [1, 3, 64])
def test_snapshot_after_a_stop_string_stands_at_its_end(
    loaded: Loaded, cell: Cell, steps: int
) -> None:
    bundle, decoder = loaded[cell]
    engine = Engine(bundle, decoder)
    free = alone(decoder, bundle.vocabulary, request(bundle.vocabulary, "abc", 90, seed=SEED))
    stop = free.text[17:20]
    end = free.text.index(stop) + len(stop)
    stopped = chunks_of(engine, "abc", 90, steps, stop=(stop,), snapshots=FINAL, seed=SEED)
    last = stopped[-1]
    assert last.finish is FinishReason.STOP
    assert joined(stopped)[0] == free.text[: end - len(stop)]
    assert carried(engine, last.snapshot).position == last.position == 3 + end
    assert last.generated == end
    rest = chunks_of(engine, "", 90 - end, 7, origin=last.snapshot, seed=SEED)
    assert joined(rest) == (free.text[end:], list(free.log_probs[end:]))


def test_stop_found_by_a_slow_readers_sequence_still_ends_it(loaded: Loaded) -> None:
    bundle, decoder = loaded["gru"]
    free = alone(decoder, bundle.vocabulary, request(bundle.vocabulary, "", 30, seed=SEED))
    asked = {"stop": (free.text[9:12],), "snapshots": FINAL, "seed": SEED, "buffer_symbols": 2}
    last = chunks_of(Engine(bundle, decoder), "", 30, 64, **asked)[-1]
    assert last.finish is FinishReason.STOP


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS)
@given(data=st.data(), steps=st.integers(1, 9), other_steps=st.integers(1, 9))
@settings(max_examples=25, deadline=None)
def test_every_chunks_snapshot_goes_on_to_the_same_rest(
    loaded: Loaded, cell: Cell, data: st.DataObject, steps: int, other_steps: int
) -> None:
    bundle, decoder = loaded[cell]
    stop = data.draw(st.lists(st.text("abc £", min_size=1, max_size=4), max_size=3).map(tuple))
    seed = data.draw(st.integers(0, 99))
    asked = request(bundle.vocabulary, "abc", 40, seed=seed, stop=stop)
    whole = alone(decoder, bundle.vocabulary, asked)
    engine = Engine(bundle, decoder)
    chunks = chunks_of(engine, "abc", 40, steps, seed=seed, stop=stop, snapshots=EVERY_CHUNK)
    assert all(chunk.snapshot for chunk in chunks)
    assert joined(chunks) == (whole.text, list(whole.log_probs))
    cut = data.draw(st.integers(0, len(chunks) - 1))
    text, log_probs = joined(chunks[: cut + 1])
    if chunks[cut].is_last:
        return
    rest = chunks_of(
        engine, "", 40 - len(text), other_steps,
        seed=seed, stop=stop, origin=carried(engine, chunks[cut].snapshot),
    )  # fmt: skip
    rest_text, rest_log_probs = joined(rest)
    assert (text + rest_text, log_probs + rest_log_probs) == (whole.text, list(whole.log_probs))
    assert rest[-1].finish is whole.finish
    assert rest[-1].generated + len(text) == whole.generated


def held_snapshot(engine: Engine, text: str) -> tuple[Snapshot, int]:
    """Cut a text where half a stop string was generated; return the number of symbols before."""
    for start in range(5, len(text) - 4):
        stop = text[start : start + 3] + ("a" if text[start + 3] != "a" else "b")
        for chunk in chunks_of(engine, "", 60, 1, seed=SEED, stop=(stop,), snapshots=EVERY_CHUNK):
            if chunk.snapshot is not None and len(chunk.snapshot.held) == 1 and chunk.text:
                return chunk.snapshot, chunk.snapshot.position - 1
    raise AssertionError("no text was ever held")


def test_held_symbols_come_first_and_bar_a_prompt(loaded: Loaded) -> None:
    bundle, decoder = loaded["rnn_tanh"]
    engine = Engine(bundle, decoder)
    free = alone(decoder, bundle.vocabulary, request(bundle.vocabulary, "", 60, seed=SEED))
    origin, sent = held_snapshot(engine, free.text)
    assert bundle.vocabulary.decode(origin.held.tolist()) == free.text[sent]
    rest = chunks_of(engine, "", 60 - sent, origin=origin, seed=SEED)
    assert joined(rest) == (free.text[sent:], list(free.log_probs[sent:]))
    assert rest[-1].generated == 60 - sent
    with pytest.raises(InputError, match="prompt: must be empty: 1 symbols"):
        request(bundle.vocabulary, "a", 9, origin=origin)
    with pytest.raises(InputError, match="max_new_symbols: must be more than the 1"):
        request(bundle.vocabulary, "", 1, origin=origin)


def test_other_stop_strings_do_not_end_a_text_within_its_held_symbols(loaded: Loaded) -> None:
    bundle, decoder = loaded["gru"]
    engine = Engine(bundle, decoder)
    free = alone(decoder, bundle.vocabulary, request(bundle.vocabulary, "", 60, seed=SEED)).text
    origin, sent = held_snapshot(engine, free)
    stop = free[sent]
    end = free.find(stop, sent + 1)
    chunks = chunks_of(
        engine, "", 60 - sent, origin=origin, seed=SEED, stop=(stop,), snapshots=FINAL
    )
    assert joined(chunks)[0] == free[sent : end if end > 0 else None]
    assert chunks[-1].position == (end + 1 if end > 0 else 60)
    assert carried(engine, chunks[-1].snapshot).position == chunks[-1].position


@given(
    st.integers(0, 2**63 - 1), st.sampled_from([0.0, 0.5, 3.0]), st.integers(0, 2**31 - 1),
    st.floats(0, 1, exclude_min=True, width=32), st.floats(0, 1, width=32),
)  # fmt: skip
def test_drawing_is_written_and_read(
    seed: int, temperature: float, top_k: int, top_p: float, min_p: float
) -> None:
    sampling = SamplingParams(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    sampler = SamplerState(seed=seed, sampling=sampling)
    assert len(sampler.pack()) == SamplerState.SIZE == 24
    assert SamplerState.unpack(memoryview(sampler.pack())) == sampler


def test_layout_packs_tensors_in_the_manifests_order(loaded: Loaded) -> None:
    bundle, decoder = loaded["lstm"]
    layout = StateLayout(bundle.manifest.state, len(bundle.vocabulary))
    random = np.random.default_rng(1)
    state = {name: random.normal(size=(3, 7)).astype(np.float32) for name in decoder.zero_state(1)}
    packed = layout.pack(state)
    assert len(packed) == layout.size == 2 * 3 * 7 * 4
    first = bundle.manifest.state[0].input
    np.testing.assert_array_equal(np.frombuffer(packed[:84], "<f4").reshape(3, 7), state[first])
    for name, tensor in layout.unpack(packed).items():
        np.testing.assert_array_equal(tensor, state[name])


@given(st.integers(0, 40))
def test_snapshot_that_ends_too_early_is_refused(length: int) -> None:
    ids, log_probs = np.array([1, 2], np.int32), np.array([-1, -2], np.float32)
    whole = Snapshot(position=5, token=3, state=bytes(8), held=ids, held_log_probs=log_probs)
    packed = whole.pack()
    assert len(packed) == 40
    if length < len(packed):
        with pytest.raises(ValueError, match="end within"):
            Snapshot.unpack(memoryview(packed[:length]), 8)

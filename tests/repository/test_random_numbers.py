"""docs/reference/random-numbers.md suffices to write the same text in another language."""

import math
import re
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from serving.runtime.decoder import FREE, Decoder, LoopRun
from serving.runtime.onnx import Device
from serving.runtime.sampling import uniforms
from unroll.bundle.folder import load_bundle
from unroll.bundle.manifest import STEP

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/reference/random-numbers.md").read_text("utf-8")
BUNDLE = ROOT / "tests/compatibility/before/gru"
MASK = 2**64 - 1


def philox(seed: int, block: int) -> list[int]:
    """Return the four words of a block: Philox4x64-10 as the page writes it down."""
    c, k = [block, 0, 0, 0], [seed, 0]
    for round_number in range(10):
        if round_number:
            k = [(k[0] + 0x9E3779B97F4A7C15) & MASK, (k[1] + 0xBB67AE8584CAA73B) & MASK]
        a, b = 0xD2E7470EE14C6C93 * c[0], 0xCA5A826395121157 * c[2]
        c = [(b >> 64) ^ c[1] ^ k[0], b & MASK, (a >> 64) ^ c[3] ^ k[1], a & MASK]
    return c


def number(seed: int, position: int) -> float:
    return (philox(seed, position // 4)[position % 4] >> 40) * 2.0**-24


def draw(
    logits: list[float],
    u: float,
    temperature: float = 1,
    top_k: int = 0,
    top_p: float = 1,
    min_p: float = 0,
) -> int:
    """Return the id of the next symbol, as the page says it is drawn."""
    if temperature == 0:
        return logits.index(max(logits))
    scaled = [x / temperature for x in logits]
    exps = [math.exp(x - max(scaled)) for x in scaled]
    p = [x / sum(exps) for x in exps]
    ranked = sorted(range(len(p)), key=lambda i: (-p[i], i))
    kept = ranked[: top_k or len(ranked)]
    mass, before, within = top_p * sum(p[i] for i in kept), 0.0, []
    for i in kept:
        if before < mass or top_p == 1:
            within.append(i)
        before += p[i]
    final = {ranked[0], *(i for i in within if p[i] >= min_p * p[ranked[0]])}
    total = sum(p[i] for i in final)
    passed = 0.0
    for i in range(len(p)):
        passed += p[i] if i in final else 0.0
        if passed > u * total:
            return i
    raise AssertionError("u is below 1")


def rows(heading: str) -> list[list[str]]:
    """Return the cells of the table below a heading, without its two head lines."""
    table = re.findall(r"^\| (.*) \|$", TEXT.split(f"### {heading}\n")[1].split("\n###")[0], re.M)
    return [[cell.strip(" `") for cell in row.split(" | ")] for row in table[1:]]


def test_numbers_of_the_page_are_those_of_an_independent_philox() -> None:
    told = rows("The numbers of seed 7")
    assert len(told) == 12
    for position, word, u in told:
        p = int(position)
        assert word == f"0x{philox(7, p // 4)[p % 4]:016X}"
        assert float(u) == pytest.approx(number(7, p), abs=5e-9)


@pytest.mark.parametrize("seed", [0, 7, 2**63 - 1])
@pytest.mark.parametrize("position", [0, 3, 250, 2**33 + 1, 2**62 - 20])
def test_independent_numbers_are_those_of_the_server(seed: int, position: int) -> None:
    expected = [number(seed, position + i) for i in range(17)]
    assert uniforms(seed, position, 17).tolist() == expected


def test_draws_of_the_page_are_those_of_its_rules() -> None:
    logits = [1.0, 3.0, 2.0, 3.0, -1.0]
    told = rows("Five logits")
    assert len(told) == 8
    for *given, chosen in told:
        t, k, p, m, u = map(float, given)
        assert draw(logits, u, t, int(k), p, m) == int(chosen)


def test_text_of_the_page_is_that_of_its_rules_and_of_the_compiled_loop() -> None:
    bundle = load_bundle(BUNDLE)
    prompt, seed, temperature = "The fog", 7, 0.8
    table = rows("A text")
    told = [(int(position), int(token)) for position, _, token, _ in table]
    for position, u, *_ in table:
        assert float(u) == pytest.approx(number(seed, int(position)), abs=5e-9)
    session = onnxruntime.InferenceSession(BUNDLE / STEP)
    ids = [bundle.vocabulary.start_id, *bundle.vocabulary.encode(prompt).tolist()]
    state = np.zeros((1, 1, 24), np.float32)
    for _ in told:
        new = ids if len(ids) == len(prompt) + 1 else ids[-1:]
        logits, state = session.run(None, {"tokens": np.array(new)[:, None], "h_0": state})
        ids.append(draw(logits[-1, 0].tolist(), number(seed, len(ids) - 1), temperature))
    drawn = ids[len(prompt) + 1 :]
    assert [(len(prompt) + i, token) for i, token in enumerate(drawn)] == told

    steps = len(prompt) + len(told)
    forced = np.full((steps, 1), FREE, np.int64)
    forced[: len(prompt), 0] = ids[1 : len(prompt) + 1]
    decoder = Decoder(bundle, Device.CPU)
    call = LoopRun.plain(np.array(ids[:1]), forced, uniforms(seed, 0, steps)[:, None], temperature)
    result = decoder.run(call, decoder.zero_state(1))
    assert result.tokens[len(prompt) :, 0].tolist() == drawn


FILTERS = [(0.5, 3, 1.0, 0.0), (1.0, 0, 0.6, 0.0), (2.0, 0, 1.0, 0.3), (1.3, 6, 0.7, 0.2)]


@pytest.mark.parametrize(("temperature", "top_k", "top_p", "min_p"), FILTERS)
def test_rules_with_filters_are_those_of_the_compiled_loop(
    temperature: float, top_k: int, top_p: float, min_p: float
) -> None:
    bundle = load_bundle(BUNDLE)
    decoder, steps = Decoder(bundle, Device.CPU), 60
    call = LoopRun(
        tokens=np.array([bundle.vocabulary.start_id]),
        forced=np.full((steps, 1), FREE, np.int64),
        uniform=uniforms(3, 0, steps)[:, None],
        steps=np.array([steps]),
        temperature=np.array([temperature], np.float32),
        top_k=np.array([top_k]),
        top_p=np.array([top_p], np.float32),
        min_p=np.array([min_p], np.float32),
    )
    text = decoder.run(call, decoder.zero_state(1)).tokens[:, 0].tolist()
    session = onnxruntime.InferenceSession(BUNDLE / STEP)
    read = np.array([bundle.vocabulary.start_id, *text[:-1]])[:, None]
    logits, _ = session.run(None, {"tokens": read, "h_0": np.zeros((1, 1, 24), np.float32)})
    drawn = [
        draw(row, number(3, p), temperature, top_k, top_p, min_p)
        for p, row in enumerate(logits[:, 0].tolist())
    ]
    assert drawn == text

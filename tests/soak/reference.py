"""The text that a request gives when it is alone: one row, one call, no server, no engine."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.runtime.decoder import FREE, Decoder, LoopRun
from serving.runtime.onnx import Device
from serving.runtime.sampling import uniforms
from tests.soak.account import Claim
from tests.soak.plan import Asked
from unroll.bundle.folder import Bundle
from unroll.terms import FinishReason

SHOWN = 40  # symbols of a text that differs


@dataclass(frozen=True, kw_only=True)
class Expected:
    """A text alone, without a stop string that ended it."""

    text: str
    log_probs: NDArray[np.float32]  # of its symbols, in nats
    finish: FinishReason
    generated: int  # symbols, those of the stop string included


class Reference:
    """Computes texts of a bundle, and the log-probabilities of given ones."""

    def __init__(self, bundle: Bundle) -> None:
        self._vocabulary = bundle.vocabulary
        self._decoder = Decoder(bundle, Device.CPU)

    def write(self, before: str, asked: Asked) -> Expected:
        """Continue a text; `before` has the prompt already."""
        tokens, log_probs = self._run(before, asked, asked.new)
        text = "".join(self._vocabulary.symbols[token] for token in tokens)
        starts = [(text.find(stop) + len(stop), text.find(stop)) for stop in asked.stop]
        found = [each for each in starts if each[1] >= 0]
        end, start = min(found, default=(len(text), len(text)))
        return Expected(
            text=text[:start],
            log_probs=log_probs[:start],
            finish=FinishReason.STOP if found else FinishReason.LENGTH,
            generated=end,
        )

    def score(self, before: str, asked: Asked) -> Expected:
        """Judge the prompt after `before`."""
        _, log_probs = self._run(before + asked.prompt, asked, 0)
        return Expected(
            text=asked.prompt,
            log_probs=log_probs[len(before) :],
            finish=FinishReason.LENGTH,
            generated=0,
        )

    def _run(
        self, before: str, asked: Asked, new: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return what came after the symbols that are read; all of it where none is new."""
        read = self._vocabulary.encode(before)
        P, T = len(read), len(read) + new
        forced = np.full((T, 1), FREE, np.int64)
        forced[:P, 0] = read
        uniform = uniforms(asked.seed, 0, T)[:, None]
        plain = LoopRun.plain(np.array([self._vocabulary.start_id]), forced, uniform)
        drawn: dict[str, Any] = {
            name: np.array([value], np.int64 if isinstance(value, int) else np.float32)
            for name, value in asked.drawn.items()
        }
        result = self._decoder.run(replace(plain, **drawn), self._decoder.zero_state(1))
        first = P if new else 0
        return result.tokens[first:, 0], result.log_probs[first:, 0]


def difference(claim: Claim, expected: Expected) -> str:
    """Tell how what came differs from what comes alone; empty if it does not."""
    got, wanted = claim.text, expected.text
    if got != (wanted if claim.is_whole else wanted[: len(got)]):
        pairs = enumerate(zip(got, wanted, strict=False))
        at = next((i for i, (a, b) in pairs if a != b), min(len(got), len(wanted)))
        return (
            f"{len(got)} symbols, from {at} on {got[at : at + SHOWN]!r}; alone {len(wanted)}, "
            f"{wanted[at : at + SHOWN]!r}"
        )
    log_probs = np.array(claim.log_probs, np.float32)
    if not np.array_equal(log_probs, expected.log_probs[: len(log_probs)]):
        return "the same text with other log-probabilities"
    if len(claim.log_probs) != len(got):
        return f"{len(got)} symbols with {len(claim.log_probs)} log-probabilities"
    if claim.is_scored:
        return ""
    if claim.is_whole and claim.finish is not expected.finish:
        return f"ended by {claim.finish}; alone by {expected.finish}"
    # A text that a shutdown cut may hold the beginning of a stop string back.
    end = len(claim.before) + (expected.generated if claim.is_whole else len(claim.text))
    has_held = not claim.is_whole and bool(claim.asked.stop)
    if claim.position not in {None, end} and not has_held:
        return f"ended at position {claim.position}; alone at {end}"
    return ""


def check(reference: Reference, claim: Claim) -> str:
    """Compare a claim with the text alone; return the difference, empty for none."""
    way = reference.score if claim.is_scored else reference.write
    asked = claim.asked
    if claim.finish is None and not claim.is_scored:  # no more than what came
        asked = replace(asked, new=max(len(claim.text), 1))
    found = difference(claim, way(claim.before, asked))
    return found and f"{claim.kind.value}, {len(claim.before)} symbols before: {found}"


def checker(bundle: Bundle, others: Sequence[Bundle]) -> Callable[[Claim], str]:
    """Return `check` with the reference of each claim's bundle: the fingerprint's, or the first."""
    references = {each.manifest.fingerprint: Reference(each) for each in others}
    default = Reference(bundle)
    return lambda claim: check(references.get(claim.fingerprint, default), claim)

"""Where sessions begin."""

from collections.abc import Sequence

import numpy as np

from serving.engine.sequences.snapshot import NO_LOG_PROBS, SamplerState, Snapshot
from serving.sessions.contents import CapsuleContents
from serving.texts.limits import FIXED_BYTES, Limits
from serving.texts.origins import Origin
from serving.texts.parse.generate import parse_sampling, parse_seed
from unroll.errors import InputError
from unroll.options import SEED, SessionOptions
from unroll.ranges import check_number

FORKS_AT_MOST = 64
MARK_BYTES = 10  # of a mark's position in an answer, at most


def begin(options: SessionOptions, origin: Origin) -> CapsuleContents:
    """Return what a new session starts with.

    Args:
        options: seed and sampling parameters.
        origin: a capsule's place, or the start symbol.

    Raises:
        InputError: an option is out of its range.
    """
    sampler = origin.sampler
    begun = SamplerState(
        seed=parse_seed(options, sampler),
        sampling=parse_sampling(options, origin),
    )
    layout, vocabulary = origin.model.engine.layout, origin.model.bundle.vocabulary
    start = Snapshot(
        position=0,
        token=vocabulary.start_id,
        state=bytes(layout.size),
        held=np.zeros(0, np.int32),
        held_log_probs=NO_LOG_PROBS,
    )
    return CapsuleContents(sampler=begun, snapshot=origin.snapshot or start)


def check_seeds(seeds: Sequence[int], marks: int, limits: Limits) -> None:
    """Check the seeds of a session's forks, which one message has to describe.

    Args:
        seeds: one for each fork.
        marks: that a session may have.
        limits: what may be asked for.

    Raises:
        InputError: there is none, or there are too many, or one is negative.
    """
    fit = limits.message // (FIXED_BYTES + MARK_BYTES * marks)
    most = min(FORKS_AT_MOST, max(fit, 1))
    if not 1 <= len(seeds) <= most:
        raise InputError("seeds", f"must be 1 to {most}, got {len(seeds)}")
    for index, seed in enumerate(seeds):
        check_number(f"seeds[{index}]", seed, SEED)

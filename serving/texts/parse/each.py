"""What each of many texts asks for, by what all of them have in common."""

import secrets
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

from serving.constraints.automaton import FREE, Constraint
from serving.texts.asker import Asker
from serving.texts.limits import Limits
from serving.texts.origins import Origin
from serving.texts.parse.generate import GenerateParser, Parsed
from serving.texts.parse.score import parse_score
from unroll.errors import InputError
from unroll.options import SEED, GenerateOptions, ScoreOptions
from unroll.ranges import check_number
from unroll.terms import SEED_LIMIT, Capsules

Parse = Callable[[int, str], Parsed]
"""Translates a text, by its key."""


def each_generate(
    options: GenerateOptions,
    origin: Origin,
    limits: Limits,
    asker: Asker,
    constraint: Constraint = FREE,
) -> Parse:
    """Return what translates prompts; arguments as in GenerateParser.

    Raises:
        InputError: what all have in common cannot be had by many.
    """
    if options.sample_count not in (None, 1):
        raise InputError(
            "sample_count",
            f"must be 1 where there are many prompts, got {options.sample_count}; give a prompt "
            "once for each sample",
        )
    common = replace(options, capsules=options.capsules or Capsules.NEVER)
    parser = GenerateParser(
        options=common,
        origin=origin,
        limits=limits,
        asker=asker,
        constraint=constraint,
        is_streamed=False,
    )
    parse_prompt = lru_cache(maxsize=1)(parser.parse)  # often all samples are of one prompt

    def parse(key: int, prompt: str) -> Parsed:
        parsed = parse_prompt(prompt)
        if common.seed is None:
            seed = secrets.randbelow(SEED_LIMIT) if origin.sampler is None else parsed.request.seed
        else:
            seed = (common.seed + key) % SEED_LIMIT
        return parsed.with_seed(seed)

    if common.seed is not None:
        check_number("seed", common.seed, SEED)
    return parse


def each_score(
    options: ScoreOptions,
    origin: Origin,
    limits: Limits,
    asker: Asker,
) -> Parse:
    """Return what translates texts to score; arguments and errors as in parse_score."""

    def parse(_: int, text: str) -> Parsed:
        return parse_score(text, options, origin, limits, asker)

    return parse

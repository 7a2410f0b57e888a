"""A request for completions, from OpenAI's fields to our options."""

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any

from serving.sessions.session import digest_of
from serving.texts.given import constraint_fields
from serving.texts.given.fields import Fields, Schema
from serving.texts.origins import Place
from unroll.errors import InputError
from unroll.options import GenerateOptions
from unroll.sent import as_sent
from unroll.terms import Capsules, UnknownSymbols

DEFAULT_TOKENS = 16
PROMPTS_AT_MOST = 256
IDS: Schema = {"type": "array", "items": {"type": "integer"}}
_PROMPTS: Schema = {
    "anyOf": [
        {"type": "string"},
        {"type": "array", "minItems": 1, "items": {"anyOf": [{"type": "string"}, IDS]}},
        IDS | {"minItems": 1},
    ]
}

Prompt = str | list[int]


@dataclass(frozen=True, kw_only=True)
class CompletionRequest:
    """What is asked for.

    Attributes:
        place: where each text begins.
        prompts: one text or more, or their token ids.
        options: how they go on.
        logit_bias: of token ids; None for what is in force.
        samples: of each.
        echo: whether a text begins with its prompt.
        is_streamed: whether the texts come as they are made.
        wants_usage: whether a stream ends with the counts of symbols.
    """

    place: Place
    prompts: list[Prompt]
    options: GenerateOptions
    logit_bias: dict[int, float] | None
    samples: int
    echo: bool
    is_streamed: bool
    wants_usage: bool

    @property
    def reads_only(self) -> bool:
        """Whether nothing is to be written."""
        return self.options.max_new_symbols == 0


def read(fields: Fields) -> CompletionRequest:
    """Read a request.

    Raises:
        InputError: a field is unknown, of the wrong kind or not supported.
    """
    model, prompts = fields.text("model"), _prompts(fields)
    echo, is_streamed = fields.truth("echo"), fields.truth("stream")
    alternatives, samples = fields.whole("logprobs"), fields.whole("n")
    tokens = fields.whole("max_tokens")
    tokens = DEFAULT_TOKENS if tokens is None else tokens
    if not tokens and not echo:
        raise InputError("max_tokens", "must be 1 or more without `echo`, got 0")
    unknown, replacement = unknown_symbols(fields)
    options = GenerateOptions(
        model=model,
        max_new_symbols=tokens,
        stop=fields.texts("stop"),
        seed=fields.whole("seed"),
        temperature=fields.number("temperature"),
        top_p=fields.number("top_p"),
        top_k=fields.whole("top_k"),
        min_p=fields.number("min_p"),
        log_probs=alternatives is not None,
        top_log_probs=alternatives or 0,
        capsules=fields.choice("capsules", {each.value: each for each in Capsules})
        or Capsules.NEVER,
        sample_count=samples,
        unknown_symbols=unknown,
        replacement_symbol=replacement,
        pattern=constraint_fields.pattern(fields),
        json_schema=constraint_fields.json_schema(fields),
    )
    place = _place(fields, model, prompts)
    wants_usage = _wants_usage(fields)
    logit_bias = constraint_fields.logit_bias(fields)
    _check_unsupported(fields, samples)
    fields.check_all_known()
    return CompletionRequest(
        place=place,
        prompts=prompts,
        options=as_sent(options),
        logit_bias=logit_bias,
        samples=1 if samples is None else samples,
        echo=echo,
        is_streamed=is_streamed,
        wants_usage=wants_usage and is_streamed,
    )


def unknown_symbols(fields: Fields) -> tuple[UnknownSymbols, str]:
    """Read what to do with symbols outside the vocabulary, and what shall replace them."""
    policy: UnknownSymbols | None = fields.choice(
        "unknown_symbols", {each.value: each for each in UnknownSymbols}
    )
    return policy or UnknownSymbols.REFUSE, fields.text("replacement_symbol")


def _prompts(fields: Fields) -> list[Prompt]:
    value = fields.get("prompt", _PROMPTS)
    is_list = isinstance(value, list)
    listed: list[Any] = value if is_list else ["" if value is None else value]
    if is_list and listed and all(map(_is_id, listed)):
        return [listed]
    if not 1 <= len(listed) <= PROMPTS_AT_MOST:
        raise InputError("prompt", f"must be 1 to {PROMPTS_AT_MOST} prompts, got {len(listed)}")
    for each in listed:
        if not (isinstance(each, str) or (isinstance(each, list) and all(map(_is_id, each)))):
            raise InputError(
                "prompt", "must be a text, a list of texts, a list of token ids or a list of such"
            )
    return listed


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _place(fields: Fields, model: str, prompts: list[Prompt]) -> Place:
    session, expected = fields.text("session"), fields.whole("expected_position")
    try:
        capsule = base64.b64decode(fields.text("capsule"), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError("capsule", "must be in base64, as an answer has it") from error
    if session and capsule:
        raise InputError("session", "a text goes on from a session or from a capsule, not both")
    if session and len(prompts) > 1:
        raise InputError("prompt", f"must be one in a session, got {len(prompts)}")
    return Place(
        model=model,
        capsule=capsule or None,
        session=session or None,
        expected_position=expected,
        digest=digest_of(json.dumps(fields.values, sort_keys=True).encode()),
    )


def _wants_usage(fields: Fields) -> bool:
    options = fields.get("stream_options", {"type": "object"})
    if options is None:
        return False
    if not isinstance(options, dict):
        raise InputError("stream_options", 'must be an object, as {"include_usage": true}')
    return options.get("include_usage") is True


def _check_unsupported(fields: Fields, samples: int | None) -> None:
    fields.get("user", {})  # is heeded by doing nothing
    fields.refuse("suffix", "", advice="leave it out")
    if fields.whole("best_of") not in {None, 1 if samples is None else samples}:
        raise InputError("best_of", "is not supported; it must be n")
    for name in ("presence_penalty", "frequency_penalty"):
        fields.refuse(name, 0, advice="leave it out or at 0")

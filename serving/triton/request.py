"""A request for a text in Triton's terms, from plain values to our options.

A value is an input tensor's, a request parameter's or one of `sampling_parameters`; it means the
same wherever it stands. Names are those of Triton's backend for vLLM.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from serving.texts.given import constraint_fields
from serving.texts.given.fields import Fields, Schema, read_object
from serving.triton.constraint import read_constraint
from serving.triton.step import ID_LENGTH_AT_MOST, Step, read_step
from unroll.errors import InputError, shown
from unroll.options import GenerateOptions
from unroll.sent import as_sent
from unroll.terms import Capsules

DEFAULT_TOKENS = 16
OUTPUTS = {
    "text_output": "BYTES",
    "finish_reason": "BYTES",
    "cumulative_logprob": "FP32",
    "num_output_tokens": "UINT32",
}
RETURNS = {f"return_{name}": name for name in OUTPUTS if name != "text_output"}
INPUTS = {
    "text_input": "BYTES",
    "stream": "BOOL",
    "sampling_parameters": "BYTES",
    "exclude_input_in_output": "BOOL",
    **dict.fromkeys(RETURNS, "BOOL"),
}
BOOLEAN: Schema = {"type": "boolean"}
NUMBER: Schema = {"type": ["number", "string", "null"]}
# Which clients of vLLM also send as texts.
_NUMBERS = {"max_tokens", "temperature", "top_p", "top_k", "min_p", "seed"}
_ASK_NOTHING: dict[str, tuple[object, ...]] = {
    "n": (1,), "best_of": (1,), "presence_penalty": (0,), "frequency_penalty": (0,),
    "repetition_penalty": (1,), "min_tokens": (0,), "priority": (0,),
}  # fmt: skip
_UNSUPPORTED = ("use_beam_search", "return_logprobs", "return_num_input_tokens")  # unless false
_WITHOUT_MEANING = ("ignore_eos", "skip_special_tokens")  # no symbol here ends a text


@dataclass(frozen=True, kw_only=True)
class TextRequest:
    """What is asked for.

    Attributes:
        prompt: the text to continue.
        options: how.
        logit_bias: of token ids; None for what is in force.
        echo: whether the answer begins with the prompt.
        is_streamed: whether the text comes as it is made.
        outputs: that are wanted, of OUTPUTS.
        seconds: within which it has to be answered; None for any time.
        step: of a sequence; None for a text of its own.
        wants_empty_end: whether a last answer without a text shall tell the end of a stream.
    """

    prompt: str
    options: GenerateOptions
    logit_bias: dict[int, float] | None
    echo: bool
    is_streamed: bool
    outputs: frozenset[str]
    seconds: float | None
    step: Step | None
    wants_empty_end: bool


def check_id(name: str) -> str:
    """Return a request's id.

    Raises:
        InputError: it is too long.
    """
    if len(name) > ID_LENGTH_AT_MOST:
        raise InputError("id", f"must have at most {ID_LENGTH_AT_MOST} symbols, has {len(name)}")
    return name


def put(values: dict[str, Any], name: str, value: Any) -> None:
    """Add a value to those of a request.

    Raises:
        InputError: there is one of that name.
    """
    if name in values:
        raise InputError(name[:100], "is given twice; give it once")
    values[name] = value


def fields_of(values: dict[str, Any]) -> Fields:
    """Return a request's fields, those of its sampling parameters among them.

    Raises:
        InputError: there is no text, a value is given twice, or the parameters are no JSON.
    """
    flat = {name: value for name, value in values.items() if name != "sampling_parameters"}
    if (sampling := Fields(values).text("sampling_parameters")) != "":
        for name, value in read_object("sampling_parameters", sampling).items():
            put(flat, name, value)
    if flat.get("text_input") is None:
        raise InputError("text_input", "is missing; give the text to continue, which may be empty")
    return Fields({name: _number(name, value) for name, value in flat.items()})


def read(
    model: str, fields: Fields, outputs: Iterable[str] = (), *, is_decoupled: bool
) -> TextRequest:
    """Read a request.

    Args:
        model: that is asked.
        fields: of the request.
        outputs: that are named; if none is, all are meant.
        is_decoupled: whether it may have more than one answer.

    Raises:
        InputError: a value is unknown, of the wrong kind or not supported.
    """
    is_streamed = _streams(fields, is_decoupled=is_decoupled)
    request = TextRequest(
        prompt=fields.text("text_input"),
        options=_options(model, fields),
        logit_bias=constraint_fields.logit_bias(fields),
        echo=_echoes(fields, is_streamed=is_streamed),
        is_streamed=is_streamed,
        outputs=_outputs(fields, outputs),
        seconds=_seconds(fields),
        step=read_step(fields),
        wants_empty_end=fields.truth("triton_enable_empty_final_response") and is_decoupled,
    )
    for name, harmless in _ASK_NOTHING.items():
        fields.refuse(name, *harmless, advice="leave it out")
    for name in _UNSUPPORTED:
        if fields.truth(name):
            raise InputError(name, "is not supported; leave it out")
    for name in _WITHOUT_MEANING:
        fields.truth(name)
    fields.known |= dict.fromkeys(_NUMBERS, NUMBER)
    fields.check_all_known()
    return request


def _number(name: str, value: Any) -> Any:
    """Return the number that a text stands for, where a number is wanted."""
    if name not in _NUMBERS or not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value  # which is refused for its kind


def _options(model: str, fields: Fields) -> GenerateOptions:
    tokens, top_k = fields.whole("max_tokens"), fields.whole("top_k")
    tokens = DEFAULT_TOKENS if tokens is None else tokens
    if tokens < 1:
        raise InputError("max_tokens", f"must be 1 or more, got {tokens}")
    pattern, json_schema = read_constraint(fields)
    options = GenerateOptions(
        model=model,
        max_new_symbols=tokens,
        stop=fields.texts("stop"),
        seed=fields.whole("seed"),
        temperature=fields.number("temperature"),
        top_p=fields.number("top_p"),
        top_k=0 if top_k == -1 else top_k,  # vLLM's word for all
        min_p=fields.number("min_p"),
        pattern=pattern,
        json_schema=json_schema,
        capsules=Capsules.NEVER,
    )
    return as_sent(options)


def _streams(fields: Fields, *, is_decoupled: bool) -> bool:
    if fields.get("stream", BOOLEAN) is None:
        return is_decoupled
    is_streamed = fields.truth("stream")
    if is_streamed and not is_decoupled:
        raise InputError(
            "stream",
            "must be false here; ask model NAME_stream by ModelStreamInfer, or generate_stream",
        )
    return is_streamed


def _echoes(fields: Fields, *, is_streamed: bool) -> bool:
    """As vLLM has it: the prompt comes with a whole text, unless it is excluded."""
    if fields.get("exclude_input_in_output", BOOLEAN) is None:
        return not is_streamed
    echo = not fields.truth("exclude_input_in_output")
    if echo and is_streamed:
        raise InputError("exclude_input_in_output", "must be true in a stream, got false")
    return echo


def _outputs(fields: Fields, named: Iterable[str]) -> frozenset[str]:
    wanted = set(named) or set(OUTPUTS)
    for name in wanted:
        if name not in OUTPUTS:
            known = ", ".join(OUTPUTS)
            raise InputError("outputs", f"there is no {shown(name)}; known: {known}")
    for flag, name in RETURNS.items():
        if fields.get(flag, BOOLEAN) is not None:
            (wanted.add if fields.truth(flag) else wanted.discard)(name)
    return frozenset(wanted)


def _seconds(fields: Fields) -> float | None:
    microseconds = fields.whole("timeout")
    if microseconds is not None and microseconds < 0:
        raise InputError("timeout", f"must be 0 or more microseconds, got {microseconds}")
    return microseconds / 1e6 if microseconds else None

"""The bodies of answers, as OpenAI's clients and those of vLLM's tokenizer routes read them."""

from typing import NotRequired, TypedDict

Top = dict[str, float]


class LogProbs(TypedDict):
    """Each symbol of a choice, with what the model made of it and where in the text it is."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[Top | None] | None
    text_offset: list[int]


class Choice(TypedDict):
    """One text, or a piece of it; the last piece has seed and position, and tells of a match."""

    index: int
    text: str
    logprobs: LogProbs | None
    finish_reason: str | None
    capsule: NotRequired[str]
    seed: NotRequired[int]
    position: NotRequired[int]
    is_match: NotRequired[bool]


class Usage(TypedDict):
    """Counts of symbols."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class WithUsage(TypedDict, total=False):
    """What an answer may tell at its end."""

    usage: Usage | None


class Completion(WithUsage):
    """An answer, or an event of a stream."""

    id: str
    object: str
    created: int
    model: str
    system_fingerprint: str
    choices: list[Choice]


class Model(TypedDict):
    """A served model."""

    id: str
    object: str
    created: int
    owned_by: str
    fingerprint: str
    vocabulary: str
    start_symbol: str
    unknown_symbol: str
    cell: str
    layers: int
    hidden_size: int
    parameters: int
    precision: str


class ModelList(TypedDict):
    """All models; the first is the default model."""

    object: str
    data: list[Model]


class Tokenized(TypedDict):
    """The token ids of a text."""

    count: int
    max_model_len: int
    tokens: list[int]


class Detokenized(TypedDict):
    """The text of token ids."""

    prompt: str


class TokenizerInfo(TypedDict):
    """What harnesses ask of a tokenizer."""

    tokenizer_class: str
    bos_token: str
    eos_token: str
    pad_token: None
    unk_token: str | None
    chat_template: None
    vocabulary_size: int


class Error(TypedDict):
    """Why a request was refused."""

    message: str
    type: str
    param: str | None
    code: str


class Refused(TypedDict):
    """The answer to a request that was refused."""

    error: Error

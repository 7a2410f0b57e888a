import datetime

from google.protobuf import any_pb2 as _any_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CapsuleDelivery(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CAPSULE_DELIVERY_UNSPECIFIED: _ClassVar[CapsuleDelivery]
    CAPSULE_DELIVERY_FINAL: _ClassVar[CapsuleDelivery]
    CAPSULE_DELIVERY_EVERY_CHUNK: _ClassVar[CapsuleDelivery]
    CAPSULE_DELIVERY_NEVER: _ClassVar[CapsuleDelivery]

class UnknownSymbols(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    UNKNOWN_SYMBOLS_UNSPECIFIED: _ClassVar[UnknownSymbols]
    UNKNOWN_SYMBOLS_REFUSE: _ClassVar[UnknownSymbols]
    UNKNOWN_SYMBOLS_SKIP: _ClassVar[UnknownSymbols]
    UNKNOWN_SYMBOLS_REPLACE: _ClassVar[UnknownSymbols]

class FinishReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FINISH_REASON_UNSPECIFIED: _ClassVar[FinishReason]
    FINISH_REASON_LENGTH: _ClassVar[FinishReason]
    FINISH_REASON_STOP: _ClassVar[FinishReason]
    FINISH_REASON_SHUTDOWN: _ClassVar[FinishReason]
    FINISH_REASON_PATTERN: _ClassVar[FinishReason]

class UnitKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    UNIT_KIND_UNSPECIFIED: _ClassVar[UnitKind]
    UNIT_KIND_H: _ClassVar[UnitKind]
    UNIT_KIND_C: _ClassVar[UnitKind]
CAPSULE_DELIVERY_UNSPECIFIED: CapsuleDelivery
CAPSULE_DELIVERY_FINAL: CapsuleDelivery
CAPSULE_DELIVERY_EVERY_CHUNK: CapsuleDelivery
CAPSULE_DELIVERY_NEVER: CapsuleDelivery
UNKNOWN_SYMBOLS_UNSPECIFIED: UnknownSymbols
UNKNOWN_SYMBOLS_REFUSE: UnknownSymbols
UNKNOWN_SYMBOLS_SKIP: UnknownSymbols
UNKNOWN_SYMBOLS_REPLACE: UnknownSymbols
FINISH_REASON_UNSPECIFIED: FinishReason
FINISH_REASON_LENGTH: FinishReason
FINISH_REASON_STOP: FinishReason
FINISH_REASON_SHUTDOWN: FinishReason
FINISH_REASON_PATTERN: FinishReason
UNIT_KIND_UNSPECIFIED: UnitKind
UNIT_KIND_H: UnitKind
UNIT_KIND_C: UnitKind

class SamplingParams(_message.Message):
    __slots__ = ("temperature", "top_k", "top_p", "min_p", "logit_bias")
    class LogitBiasEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    TOP_P_FIELD_NUMBER: _ClassVar[int]
    MIN_P_FIELD_NUMBER: _ClassVar[int]
    LOGIT_BIAS_FIELD_NUMBER: _ClassVar[int]
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    logit_bias: _containers.ScalarMap[str, float]
    def __init__(self, temperature: _Optional[float] = ..., top_k: _Optional[int] = ..., top_p: _Optional[float] = ..., min_p: _Optional[float] = ..., logit_bias: _Optional[_Mapping[str, float]] = ...) -> None: ...

class GenerateRequest(_message.Message):
    __slots__ = ("model", "prompt", "max_new_symbols", "stop", "seed", "sampling", "log_probs", "unknown_symbols", "replacement_symbol", "session", "capsule", "expected_position", "capsules", "sample_count", "top_log_probs", "pattern", "json_schema")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    MAX_NEW_SYMBOLS_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    LOG_PROBS_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_SYMBOLS_FIELD_NUMBER: _ClassVar[int]
    REPLACEMENT_SYMBOL_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    CAPSULE_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_POSITION_FIELD_NUMBER: _ClassVar[int]
    CAPSULES_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_COUNT_FIELD_NUMBER: _ClassVar[int]
    TOP_LOG_PROBS_FIELD_NUMBER: _ClassVar[int]
    PATTERN_FIELD_NUMBER: _ClassVar[int]
    JSON_SCHEMA_FIELD_NUMBER: _ClassVar[int]
    model: str
    prompt: str
    max_new_symbols: int
    stop: _containers.RepeatedScalarFieldContainer[str]
    seed: int
    sampling: SamplingParams
    log_probs: bool
    unknown_symbols: UnknownSymbols
    replacement_symbol: str
    session: str
    capsule: bytes
    expected_position: int
    capsules: CapsuleDelivery
    sample_count: int
    top_log_probs: int
    pattern: str
    json_schema: str
    def __init__(self, model: _Optional[str] = ..., prompt: _Optional[str] = ..., max_new_symbols: _Optional[int] = ..., stop: _Optional[_Iterable[str]] = ..., seed: _Optional[int] = ..., sampling: _Optional[_Union[SamplingParams, _Mapping]] = ..., log_probs: _Optional[bool] = ..., unknown_symbols: _Optional[_Union[UnknownSymbols, str]] = ..., replacement_symbol: _Optional[str] = ..., session: _Optional[str] = ..., capsule: _Optional[bytes] = ..., expected_position: _Optional[int] = ..., capsules: _Optional[_Union[CapsuleDelivery, str]] = ..., sample_count: _Optional[int] = ..., top_log_probs: _Optional[int] = ..., pattern: _Optional[str] = ..., json_schema: _Optional[str] = ...) -> None: ...

class Alternatives(_message.Message):
    __slots__ = ("symbols", "log_probs")
    SYMBOLS_FIELD_NUMBER: _ClassVar[int]
    LOG_PROBS_FIELD_NUMBER: _ClassVar[int]
    symbols: str
    log_probs: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, symbols: _Optional[str] = ..., log_probs: _Optional[_Iterable[float]] = ...) -> None: ...

class GenerateResponse(_message.Message):
    __slots__ = ("text", "log_probs", "completion", "further_samples", "alternatives")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    LOG_PROBS_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_FIELD_NUMBER: _ClassVar[int]
    FURTHER_SAMPLES_FIELD_NUMBER: _ClassVar[int]
    ALTERNATIVES_FIELD_NUMBER: _ClassVar[int]
    text: str
    log_probs: _containers.RepeatedScalarFieldContainer[float]
    completion: Completion
    further_samples: _containers.RepeatedCompositeFieldContainer[GenerateResponse]
    alternatives: _containers.RepeatedCompositeFieldContainer[Alternatives]
    def __init__(self, text: _Optional[str] = ..., log_probs: _Optional[_Iterable[float]] = ..., completion: _Optional[_Union[Completion, _Mapping]] = ..., further_samples: _Optional[_Iterable[_Union[GenerateResponse, _Mapping]]] = ..., alternatives: _Optional[_Iterable[_Union[Alternatives, _Mapping]]] = ...) -> None: ...

class StreamGenerateResponse(_message.Message):
    __slots__ = ("text", "log_probs", "completion", "sample_index", "capsule", "alternatives")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    LOG_PROBS_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_INDEX_FIELD_NUMBER: _ClassVar[int]
    CAPSULE_FIELD_NUMBER: _ClassVar[int]
    ALTERNATIVES_FIELD_NUMBER: _ClassVar[int]
    text: str
    log_probs: _containers.RepeatedScalarFieldContainer[float]
    completion: Completion
    sample_index: int
    capsule: bytes
    alternatives: _containers.RepeatedCompositeFieldContainer[Alternatives]
    def __init__(self, text: _Optional[str] = ..., log_probs: _Optional[_Iterable[float]] = ..., completion: _Optional[_Union[Completion, _Mapping]] = ..., sample_index: _Optional[int] = ..., capsule: _Optional[bytes] = ..., alternatives: _Optional[_Iterable[_Union[Alternatives, _Mapping]]] = ...) -> None: ...

class Completion(_message.Message):
    __slots__ = ("finish_reason", "usage", "seed", "fingerprint", "position", "capsule", "is_match")
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    CAPSULE_FIELD_NUMBER: _ClassVar[int]
    IS_MATCH_FIELD_NUMBER: _ClassVar[int]
    finish_reason: FinishReason
    usage: Usage
    seed: int
    fingerprint: str
    position: int
    capsule: bytes
    is_match: bool
    def __init__(self, finish_reason: _Optional[_Union[FinishReason, str]] = ..., usage: _Optional[_Union[Usage, _Mapping]] = ..., seed: _Optional[int] = ..., fingerprint: _Optional[str] = ..., position: _Optional[int] = ..., capsule: _Optional[bytes] = ..., is_match: _Optional[bool] = ...) -> None: ...

class Usage(_message.Message):
    __slots__ = ("prompt_symbol_count", "generated_symbol_count", "unknown_symbol_count")
    PROMPT_SYMBOL_COUNT_FIELD_NUMBER: _ClassVar[int]
    GENERATED_SYMBOL_COUNT_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_SYMBOL_COUNT_FIELD_NUMBER: _ClassVar[int]
    prompt_symbol_count: int
    generated_symbol_count: int
    unknown_symbol_count: int
    def __init__(self, prompt_symbol_count: _Optional[int] = ..., generated_symbol_count: _Optional[int] = ..., unknown_symbol_count: _Optional[int] = ...) -> None: ...

class ScoreRequest(_message.Message):
    __slots__ = ("model", "text", "unknown_symbols", "replacement_symbol", "session", "capsule", "top_log_probs")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_SYMBOLS_FIELD_NUMBER: _ClassVar[int]
    REPLACEMENT_SYMBOL_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    CAPSULE_FIELD_NUMBER: _ClassVar[int]
    TOP_LOG_PROBS_FIELD_NUMBER: _ClassVar[int]
    model: str
    text: str
    unknown_symbols: UnknownSymbols
    replacement_symbol: str
    session: str
    capsule: bytes
    top_log_probs: int
    def __init__(self, model: _Optional[str] = ..., text: _Optional[str] = ..., unknown_symbols: _Optional[_Union[UnknownSymbols, str]] = ..., replacement_symbol: _Optional[str] = ..., session: _Optional[str] = ..., capsule: _Optional[bytes] = ..., top_log_probs: _Optional[int] = ...) -> None: ...

class ScoreResponse(_message.Message):
    __slots__ = ("log_probs", "bits_per_character", "usage", "fingerprint", "alternatives")
    LOG_PROBS_FIELD_NUMBER: _ClassVar[int]
    BITS_PER_CHARACTER_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    ALTERNATIVES_FIELD_NUMBER: _ClassVar[int]
    log_probs: _containers.RepeatedScalarFieldContainer[float]
    bits_per_character: float
    usage: Usage
    fingerprint: str
    alternatives: _containers.RepeatedCompositeFieldContainer[Alternatives]
    def __init__(self, log_probs: _Optional[_Iterable[float]] = ..., bits_per_character: _Optional[float] = ..., usage: _Optional[_Union[Usage, _Mapping]] = ..., fingerprint: _Optional[str] = ..., alternatives: _Optional[_Iterable[_Union[Alternatives, _Mapping]]] = ...) -> None: ...

class Unit(_message.Message):
    __slots__ = ("member", "layer", "index", "kind")
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    LAYER_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    member: int
    layer: int
    index: int
    kind: UnitKind
    def __init__(self, member: _Optional[int] = ..., layer: _Optional[int] = ..., index: _Optional[int] = ..., kind: _Optional[_Union[UnitKind, str]] = ...) -> None: ...

class InspectRequest(_message.Message):
    __slots__ = ("model", "text", "unknown_symbols", "replacement_symbol", "session", "capsule", "top_log_probs", "units")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_SYMBOLS_FIELD_NUMBER: _ClassVar[int]
    REPLACEMENT_SYMBOL_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    CAPSULE_FIELD_NUMBER: _ClassVar[int]
    TOP_LOG_PROBS_FIELD_NUMBER: _ClassVar[int]
    UNITS_FIELD_NUMBER: _ClassVar[int]
    model: str
    text: str
    unknown_symbols: UnknownSymbols
    replacement_symbol: str
    session: str
    capsule: bytes
    top_log_probs: int
    units: _containers.RepeatedCompositeFieldContainer[Unit]
    def __init__(self, model: _Optional[str] = ..., text: _Optional[str] = ..., unknown_symbols: _Optional[_Union[UnknownSymbols, str]] = ..., replacement_symbol: _Optional[str] = ..., session: _Optional[str] = ..., capsule: _Optional[bytes] = ..., top_log_probs: _Optional[int] = ..., units: _Optional[_Iterable[_Union[Unit, _Mapping]]] = ...) -> None: ...

class InspectResponse(_message.Message):
    __slots__ = ("text", "log_probs", "alternatives", "next", "units", "usage", "fingerprint", "position")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    LOG_PROBS_FIELD_NUMBER: _ClassVar[int]
    ALTERNATIVES_FIELD_NUMBER: _ClassVar[int]
    NEXT_FIELD_NUMBER: _ClassVar[int]
    UNITS_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    text: str
    log_probs: _containers.RepeatedScalarFieldContainer[float]
    alternatives: _containers.RepeatedCompositeFieldContainer[Alternatives]
    next: Alternatives
    units: _containers.RepeatedCompositeFieldContainer[UnitValues]
    usage: Usage
    fingerprint: str
    position: int
    def __init__(self, text: _Optional[str] = ..., log_probs: _Optional[_Iterable[float]] = ..., alternatives: _Optional[_Iterable[_Union[Alternatives, _Mapping]]] = ..., next: _Optional[_Union[Alternatives, _Mapping]] = ..., units: _Optional[_Iterable[_Union[UnitValues, _Mapping]]] = ..., usage: _Optional[_Union[Usage, _Mapping]] = ..., fingerprint: _Optional[str] = ..., position: _Optional[int] = ...) -> None: ...

class UnitValues(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, values: _Optional[_Iterable[float]] = ...) -> None: ...

class FindUnitsRequest(_message.Message):
    __slots__ = ("model", "text", "targets", "session", "capsule", "unit_count")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    CAPSULE_FIELD_NUMBER: _ClassVar[int]
    UNIT_COUNT_FIELD_NUMBER: _ClassVar[int]
    model: str
    text: str
    targets: str
    session: str
    capsule: bytes
    unit_count: int
    def __init__(self, model: _Optional[str] = ..., text: _Optional[str] = ..., targets: _Optional[str] = ..., session: _Optional[str] = ..., capsule: _Optional[bytes] = ..., unit_count: _Optional[int] = ...) -> None: ...

class FindUnitsResponse(_message.Message):
    __slots__ = ("units", "usage", "fingerprint")
    UNITS_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    units: _containers.RepeatedCompositeFieldContainer[FoundUnit]
    usage: Usage
    fingerprint: str
    def __init__(self, units: _Optional[_Iterable[_Union[FoundUnit, _Mapping]]] = ..., usage: _Optional[_Union[Usage, _Mapping]] = ..., fingerprint: _Optional[str] = ...) -> None: ...

class FoundUnit(_message.Message):
    __slots__ = ("unit", "score", "falls")
    UNIT_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    FALLS_FIELD_NUMBER: _ClassVar[int]
    unit: Unit
    score: float
    falls: bool
    def __init__(self, unit: _Optional[_Union[Unit, _Mapping]] = ..., score: _Optional[float] = ..., falls: _Optional[bool] = ...) -> None: ...

class GenerateManyRequest(_message.Message):
    __slots__ = ("common", "in_order", "items")
    COMMON_FIELD_NUMBER: _ClassVar[int]
    IN_ORDER_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    common: GenerateRequest
    in_order: bool
    items: _containers.RepeatedCompositeFieldContainer[GenerateItem]
    def __init__(self, common: _Optional[_Union[GenerateRequest, _Mapping]] = ..., in_order: _Optional[bool] = ..., items: _Optional[_Iterable[_Union[GenerateItem, _Mapping]]] = ...) -> None: ...

class GenerateItem(_message.Message):
    __slots__ = ("key", "prompt")
    KEY_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    key: int
    prompt: str
    def __init__(self, key: _Optional[int] = ..., prompt: _Optional[str] = ...) -> None: ...

class GenerateManyResponse(_message.Message):
    __slots__ = ("answers",)
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    answers: _containers.RepeatedCompositeFieldContainer[GenerateAnswer]
    def __init__(self, answers: _Optional[_Iterable[_Union[GenerateAnswer, _Mapping]]] = ...) -> None: ...

class GenerateAnswer(_message.Message):
    __slots__ = ("key", "response", "error")
    KEY_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    key: int
    response: GenerateResponse
    error: ItemError
    def __init__(self, key: _Optional[int] = ..., response: _Optional[_Union[GenerateResponse, _Mapping]] = ..., error: _Optional[_Union[ItemError, _Mapping]] = ...) -> None: ...

class ScoreManyRequest(_message.Message):
    __slots__ = ("common", "in_order", "items")
    COMMON_FIELD_NUMBER: _ClassVar[int]
    IN_ORDER_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    common: ScoreRequest
    in_order: bool
    items: _containers.RepeatedCompositeFieldContainer[ScoreItem]
    def __init__(self, common: _Optional[_Union[ScoreRequest, _Mapping]] = ..., in_order: _Optional[bool] = ..., items: _Optional[_Iterable[_Union[ScoreItem, _Mapping]]] = ...) -> None: ...

class ScoreItem(_message.Message):
    __slots__ = ("key", "text")
    KEY_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    key: int
    text: str
    def __init__(self, key: _Optional[int] = ..., text: _Optional[str] = ...) -> None: ...

class ScoreManyResponse(_message.Message):
    __slots__ = ("answers",)
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    answers: _containers.RepeatedCompositeFieldContainer[ScoreAnswer]
    def __init__(self, answers: _Optional[_Iterable[_Union[ScoreAnswer, _Mapping]]] = ...) -> None: ...

class ScoreAnswer(_message.Message):
    __slots__ = ("key", "response", "error")
    KEY_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    key: int
    response: ScoreResponse
    error: ItemError
    def __init__(self, key: _Optional[int] = ..., response: _Optional[_Union[ScoreResponse, _Mapping]] = ..., error: _Optional[_Union[ItemError, _Mapping]] = ...) -> None: ...

class ItemError(_message.Message):
    __slots__ = ("code", "message", "details")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    DETAILS_FIELD_NUMBER: _ClassVar[int]
    code: int
    message: str
    details: _containers.RepeatedCompositeFieldContainer[_any_pb2.Any]
    def __init__(self, code: _Optional[int] = ..., message: _Optional[str] = ..., details: _Optional[_Iterable[_Union[_any_pb2.Any, _Mapping]]] = ...) -> None: ...

class GetModelRequest(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: str
    def __init__(self, model: _Optional[str] = ...) -> None: ...

class GetModelResponse(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: Model
    def __init__(self, model: _Optional[_Union[Model, _Mapping]] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models",)
    MODELS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[Model]
    def __init__(self, models: _Optional[_Iterable[_Union[Model, _Mapping]]] = ...) -> None: ...

class GetStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetStatusResponse(_message.Message):
    __slots__ = ("models", "sessions_in_use", "sessions_in_memory", "start_time")
    MODELS_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_IN_USE_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_IN_MEMORY_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[ModelStatus]
    sessions_in_use: int
    sessions_in_memory: int
    start_time: _timestamp_pb2.Timestamp
    def __init__(self, models: _Optional[_Iterable[_Union[ModelStatus, _Mapping]]] = ..., sessions_in_use: _Optional[int] = ..., sessions_in_memory: _Optional[int] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ModelStatus(_message.Message):
    __slots__ = ("name", "fingerprint", "queued", "running", "slots", "workers", "symbols_read", "symbols_written")
    NAME_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    QUEUED_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    WORKERS_FIELD_NUMBER: _ClassVar[int]
    SYMBOLS_READ_FIELD_NUMBER: _ClassVar[int]
    SYMBOLS_WRITTEN_FIELD_NUMBER: _ClassVar[int]
    name: str
    fingerprint: str
    queued: int
    running: int
    slots: int
    workers: int
    symbols_read: int
    symbols_written: int
    def __init__(self, name: _Optional[str] = ..., fingerprint: _Optional[str] = ..., queued: _Optional[int] = ..., running: _Optional[int] = ..., slots: _Optional[int] = ..., workers: _Optional[int] = ..., symbols_read: _Optional[int] = ..., symbols_written: _Optional[int] = ...) -> None: ...

class Model(_message.Message):
    __slots__ = ("name", "fingerprint", "vocabulary", "start_symbol", "cell", "layer_count", "hidden_size", "parameter_count", "precision", "validation_loss", "corpus_sha256", "runtime", "execution_provider", "member_count", "unknown_symbol")
    NAME_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    VOCABULARY_FIELD_NUMBER: _ClassVar[int]
    START_SYMBOL_FIELD_NUMBER: _ClassVar[int]
    CELL_FIELD_NUMBER: _ClassVar[int]
    LAYER_COUNT_FIELD_NUMBER: _ClassVar[int]
    HIDDEN_SIZE_FIELD_NUMBER: _ClassVar[int]
    PARAMETER_COUNT_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    VALIDATION_LOSS_FIELD_NUMBER: _ClassVar[int]
    CORPUS_SHA256_FIELD_NUMBER: _ClassVar[int]
    RUNTIME_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_PROVIDER_FIELD_NUMBER: _ClassVar[int]
    MEMBER_COUNT_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_SYMBOL_FIELD_NUMBER: _ClassVar[int]
    name: str
    fingerprint: str
    vocabulary: str
    start_symbol: str
    cell: str
    layer_count: int
    hidden_size: int
    parameter_count: int
    precision: str
    validation_loss: float
    corpus_sha256: str
    runtime: str
    execution_provider: str
    member_count: int
    unknown_symbol: str
    def __init__(self, name: _Optional[str] = ..., fingerprint: _Optional[str] = ..., vocabulary: _Optional[str] = ..., start_symbol: _Optional[str] = ..., cell: _Optional[str] = ..., layer_count: _Optional[int] = ..., hidden_size: _Optional[int] = ..., parameter_count: _Optional[int] = ..., precision: _Optional[str] = ..., validation_loss: _Optional[float] = ..., corpus_sha256: _Optional[str] = ..., runtime: _Optional[str] = ..., execution_provider: _Optional[str] = ..., member_count: _Optional[int] = ..., unknown_symbol: _Optional[str] = ...) -> None: ...

class StartSessionRequest(_message.Message):
    __slots__ = ("model", "capsule", "seed", "sampling")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    CAPSULE_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    model: str
    capsule: bytes
    seed: int
    sampling: SamplingParams
    def __init__(self, model: _Optional[str] = ..., capsule: _Optional[bytes] = ..., seed: _Optional[int] = ..., sampling: _Optional[_Union[SamplingParams, _Mapping]] = ...) -> None: ...

class StartSessionResponse(_message.Message):
    __slots__ = ("session",)
    SESSION_FIELD_NUMBER: _ClassVar[int]
    session: Session
    def __init__(self, session: _Optional[_Union[Session, _Mapping]] = ...) -> None: ...

class ForkSessionRequest(_message.Message):
    __slots__ = ("session", "seeds")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    SEEDS_FIELD_NUMBER: _ClassVar[int]
    session: str
    seeds: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, session: _Optional[str] = ..., seeds: _Optional[_Iterable[int]] = ...) -> None: ...

class ForkSessionResponse(_message.Message):
    __slots__ = ("sessions",)
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    sessions: _containers.RepeatedCompositeFieldContainer[Session]
    def __init__(self, sessions: _Optional[_Iterable[_Union[Session, _Mapping]]] = ...) -> None: ...

class RewindSessionRequest(_message.Message):
    __slots__ = ("session", "position")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    session: str
    position: int
    def __init__(self, session: _Optional[str] = ..., position: _Optional[int] = ...) -> None: ...

class RewindSessionResponse(_message.Message):
    __slots__ = ("session",)
    SESSION_FIELD_NUMBER: _ClassVar[int]
    session: Session
    def __init__(self, session: _Optional[_Union[Session, _Mapping]] = ...) -> None: ...

class GetSessionRequest(_message.Message):
    __slots__ = ("session",)
    SESSION_FIELD_NUMBER: _ClassVar[int]
    session: str
    def __init__(self, session: _Optional[str] = ...) -> None: ...

class GetSessionResponse(_message.Message):
    __slots__ = ("session",)
    SESSION_FIELD_NUMBER: _ClassVar[int]
    session: Session
    def __init__(self, session: _Optional[_Union[Session, _Mapping]] = ...) -> None: ...

class EndSessionRequest(_message.Message):
    __slots__ = ("session",)
    SESSION_FIELD_NUMBER: _ClassVar[int]
    session: str
    def __init__(self, session: _Optional[str] = ...) -> None: ...

class EndSessionResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Session(_message.Message):
    __slots__ = ("id", "model", "fingerprint", "position", "marks", "seed", "sampling", "create_time", "expire_time", "pattern")
    ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    MARKS_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    PATTERN_FIELD_NUMBER: _ClassVar[int]
    id: str
    model: str
    fingerprint: str
    position: int
    marks: _containers.RepeatedScalarFieldContainer[int]
    seed: int
    sampling: SamplingParams
    create_time: _timestamp_pb2.Timestamp
    expire_time: _timestamp_pb2.Timestamp
    pattern: str
    def __init__(self, id: _Optional[str] = ..., model: _Optional[str] = ..., fingerprint: _Optional[str] = ..., position: _Optional[int] = ..., marks: _Optional[_Iterable[int]] = ..., seed: _Optional[int] = ..., sampling: _Optional[_Union[SamplingParams, _Mapping]] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., pattern: _Optional[str] = ...) -> None: ...

"""The settings of the commands that ask a server or a bundle for texts and scores."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from unroll.client.commands.records import STANDARD, Format, RecordFormat, output_format
from unroll.client.commands.server_settings import ServerSettings
from unroll.errors import SettingsError
from unroll.options import (
    MIN_P,
    NEW_SYMBOLS,
    SEED,
    TEMPERATURE,
    TOP_K,
    TOP_LOG_PROBS,
    TOP_P,
    GenerateOptions,
    ScoreOptions,
)
from unroll.ranges import Range, flag
from unroll.sent import as_sent
from unroll.terms import UnknownSymbols

_TEXT = Parameter(
    allow_leading_hyphen=True, negative=()
)  # a text may begin with a hyphen, or be one


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class BatchSettings(ServerSettings):
    """Ask for one text, or for many with `--input` or `--output`."""

    bundle: Path | None = None
    """Run the bundle in this folder, in this process, instead of asking a server."""

    device: Literal["cpu", "cuda"] = "cpu"
    """Device that computes a --bundle."""

    kernels: Literal["onnx", "native"] = "onnx"
    """What computes a --bundle: ONNX Runtime, or the native kernels, which are faster and have to
    be compiled first, by `make kernels` or `python -m serving.runtime.native`. On the CPU the texts
    are the same."""

    workers: Annotated[int, Range(1, 65536)] = 1
    """Number of threads that compute a --bundle side by side, each on a core of its own."""

    slots: Annotated[int, Range(1, 65536)] = 64
    """Number of texts that each worker of a --bundle computes at the same time."""

    input: Annotated[Path | None, _TEXT] = None
    """File of texts, one on each line, or - for standard input. The text is the whole line. In a
    .tsv file, it is the first field. In a .jsonl file, each line is a string, or an object that
    holds the text as `prompt` (`score`: as `text`)."""

    output: Annotated[Path | None, _TEXT] = None
    """File to write, one record on each line, in the order of the input. Records are JSON objects,
    or TSV if the file's name ends in .tsv. Default: standard output."""

    input_format: Format | None = None
    """Format of the input, whatever its suffix is."""

    output_format: RecordFormat | None = None
    """Format of the output, whatever its suffix is: jsonl or tsv."""

    resume: Annotated[bool, Parameter(negative=())] = False
    """Continue where the output ends. The result is that of a run without a break."""

    top_log_probs: Annotated[int, TOP_LOG_PROBS] = 0
    """Number of the likeliest symbols to return at each place. JSON records hold them as
    `alternatives`, beside `log_probs`."""

    unknown_symbols: UnknownSymbols = UnknownSymbols.REFUSE
    """What to do with symbols of the given text that are not in the model's vocabulary."""

    replacement_symbol: Annotated[str, _TEXT] = ""
    """Symbol of the vocabulary that replaces them, with `replace`."""

    @property
    def is_batch(self) -> bool:
        """Whether records are asked for."""
        return self.input is not None or self.output is not None

    @property
    def computing(self) -> dict[str, Any]:
        """How to compute a bundle, as `unroll.load` takes it."""
        return {name: getattr(self, name) for name in _COMPUTING}

    def validate(self) -> None:
        """Check what the server cannot; raises as the base does."""
        super().validate()
        _check_apart(self)
        if self.unknown_symbols is UnknownSymbols.REPLACE and not self.replacement_symbol:
            raise SettingsError(
                "unknown_symbols = 'replace': needs --replacement-symbol, one symbol of the "
                "model's vocabulary"
            )
        form = output_format(self.output or STANDARD, self.output_format)
        if self.top_log_probs and self.is_batch and form is not RecordFormat.JSONL:
            raise SettingsError(
                f"top_log_probs = {self.top_log_probs}: needs records in JSON; change "
                "--output-format, or leave --top-log-probs out"
            )
        if self.resume and self.output in (None, STANDARD):
            raise SettingsError("resume: continues a file; name it with --output")


_COMPUTING = ("device", "kernels", "workers", "slots")
_ASKING = tuple(field.name for field in fields(ServerSettings) if field.name != "timeout")


def _check_apart(settings: BatchSettings) -> None:
    """Check that nothing is said of a server where a bundle is run, and the other way round."""
    has_bundle = settings.bundle is not None
    why = "is for a server, and --bundle needs none" if has_bundle else "is for a --bundle only"
    standard = {field.name: field.default for field in fields(settings)}
    for name in _ASKING if has_bundle else _COMPUTING:
        value = getattr(settings, name)
        if value != standard[name]:
            raise SettingsError(f"{name} = {str(value)!r}: {why}; leave {flag(name)} out")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ScoreSettings(BatchSettings):
    """Score a text, or with `--input` each line of a file, in bits per character.

    The score is the mean of -log2 p over the symbols, under the model. A server does it, or with
    `--bundle` this process.
    """

    text: Annotated[str | None, _TEXT] = None
    """Text to score, or - to read it from standard input."""

    top_log_probs: Annotated[int, TOP_LOG_PROBS] = 0
    """Number of the likeliest symbols to return at each place. JSON records hold them as
    `alternatives`, beside `log_probs`. A single text is printed with them, one symbol on each
    line."""

    model: str = ""
    """Name of the model. Default: the server's first model."""

    def validate(self) -> None:
        """Check what the server cannot; raises as the base does."""
        super().validate()
        if (self.text is None) == (self.input is None):
            raise SettingsError("text: give either --text or an --input file of texts")

    @property
    def options(self) -> ScoreOptions:
        """What to ask for."""
        return ScoreOptions(
            model=self.model,
            top_log_probs=self.top_log_probs,
            unknown_symbols=self.unknown_symbols,
            replacement_symbol=self.replacement_symbol,
        )


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class GenerateSettings(BatchSettings):
    """Continue a prompt, or with `--input` each line of a file.

    A single text appears as it is written. A server writes it, or with `--bundle` this process.
    """

    prompt: Annotated[str, _TEXT] = ""
    """Text to continue, or - to read it from standard input. Without one, the text begins at the
    model's start symbol."""

    model: str = ""
    """Name of the model. Default: the server's first model."""

    max_new_symbols: Annotated[int | None, NEW_SYMBOLS] = None
    """Maximum number of symbols to generate; 256 by default."""

    temperature: Annotated[float | None, TEMPERATURE] = None
    """Divides the logits: 0 takes the likeliest symbol each time. 1 by default."""

    top_k: Annotated[int | None, TOP_K] = None
    """Draw only from the k likeliest symbols; 0, the default, keeps all."""

    top_p: Annotated[float | None, TOP_P] = None
    """Draw only from the likeliest symbols whose probabilities sum to this. 1, the default, keeps
    all."""

    min_p: Annotated[float | None, MIN_P] = None
    """Drop symbols less probable than this fraction of the likeliest one's probability. 0, the
    default, keeps all."""

    logit_bias: Annotated[tuple[str, ...], _TEXT] = ()
    """Add BIAS to the logit of a symbol before temperature, as SYMBOL=BIAS: -100 to 100, or -inf,
    which bans the symbol. Repeat it for more."""

    pattern: Annotated[str | None, _TEXT] = None
    """Regular expression that the text has to match as a whole."""

    json_schema: Path | None = None
    """File with a JSON schema, in place of a pattern: the text is a value of the schema."""

    seed: Annotated[int | None, SEED] = None
    """Seed of the random numbers. Record k has this seed + k. By default a seed is chosen, and
    printed on standard error when the text ends or is interrupted."""

    samples: Annotated[int, Range(1, 2**62)] = 1
    """Number of texts for each prompt. Each text is a record."""

    stop: Annotated[tuple[str, ...], _TEXT] = ()
    """Stop before this text. Repeat it for more."""

    @property
    def is_batch(self) -> bool:
        """Whether records are asked for."""
        return super().is_batch or self.samples > 1

    def validate(self) -> None:
        """Check what the server cannot; raises as the base does."""
        super().validate()
        if self.prompt and self.input is not None:
            raise SettingsError("prompt: give either --prompt or an --input file of prompts")
        if self.top_log_probs and not self.is_batch:
            raise SettingsError(
                f"top_log_probs = {self.top_log_probs}: is written in records only; give an "
                "--output file, or leave --top-log-probs out"
            )
        as_sent(self.options)

    @property
    def _schema(self) -> str:
        if self.json_schema is None:
            return ""
        try:
            return self.json_schema.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or error
            raise SettingsError(
                f"json_schema = {str(self.json_schema)!r}: cannot be read: {why}; give the name "
                "of a file that holds the schema"
            ) from error

    @property
    def options(self) -> GenerateOptions:
        """What to ask for."""
        return GenerateOptions(
            model=self.model,
            max_new_symbols=self.max_new_symbols,
            stop=self.stop,
            seed=self.seed,
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            min_p=self.min_p,
            log_probs=self.top_log_probs > 0,
            top_log_probs=self.top_log_probs,
            logit_bias=dict(map(_bias, self.logit_bias)) or None,
            pattern=self.pattern,
            json_schema=self._schema,
            unknown_symbols=self.unknown_symbols,
            replacement_symbol=self.replacement_symbol,
        )


def _bias(given: str) -> tuple[str, float]:
    """Read SYMBOL=BIAS; the symbol may be an equals sign itself."""
    symbol, bias = given[:1], given[2:]
    try:
        if given[1:2] != "=":
            raise ValueError("no equals sign behind one symbol")
        return symbol, float(bias)
    except ValueError as error:
        raise SettingsError(
            f"logit_bias = {given!r}: must be SYMBOL=BIAS, as e=2.5; change --logit-bias"
        ) from error

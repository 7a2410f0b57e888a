"""The commands that ask a server, or a bundle: generate, score, models, health."""

import secrets
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from typing import Any, TypeVar

from unroll.bundle.manifest import architecture
from unroll.cli import in_utf8, run
from unroll.client.client import Client
from unroll.client.commands.batch import generate_records, score_records
from unroll.client.commands.output import give_up_standard_output, passed_over, writing
from unroll.client.commands.records import escaped
from unroll.client.commands.server_settings import (
    HealthSettings,
    ModelsSettings,
    ServerSettings,
)
from unroll.client.commands.settings import BatchSettings, GenerateSettings, ScoreSettings
from unroll.client.faces.face import Face
from unroll.errors import InputError, UnrollError, counted
from unroll.options import InspectOptions
from unroll.results import Completion
from unroll.terms import SEED_LIMIT

CHECK_SECONDS = 5.0
S = TypeVar("S", bound=ServerSettings)
SIGNALLED = 128  # plus the signal's number: what a shell calls a process that a signal ended


def generate(tokens: Sequence[str] | None = None) -> None:
    """Run `unroll generate`."""
    run(GenerateSettings, _ask(_generate), name="unroll generate", tokens=tokens, loose="prompt")


def score(tokens: Sequence[str] | None = None) -> None:
    """Run `unroll score`."""
    run(ScoreSettings, _ask(_score), name="unroll score", tokens=tokens, loose="text")


def models(tokens: Sequence[str] | None = None) -> None:
    """Run `unroll models`."""
    run(ModelsSettings, _ask(_list_models), name="unroll models", tokens=tokens)


def health(tokens: Sequence[str] | None = None) -> None:
    """Run `unroll health`."""
    run(HealthSettings, _ask(_check), name="unroll health", tokens=tokens)


def _ask(question: Callable[[Any, S], None]) -> Callable[[S], None]:
    """Connect, or load a bundle, as settings say and ask; `| head` ends it quietly, and Ctrl-C."""

    def call(given: S) -> None:
        settings = in_utf8(given)
        settings.validate()
        try:
            with _terminable(), _model(settings) as model:
                question(model, settings)
        except KeyboardInterrupt as error:
            number = error.args[0] if error.args else signal.SIGINT
            raise SystemExit(SIGNALLED + number) from None
        except BrokenPipeError:  # `| head` has seen enough
            give_up_standard_output()

    return call


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM interrupt the block as Ctrl-C does."""

    def interrupt(number: int, _: object) -> None:
        raise KeyboardInterrupt(number)

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _model(settings: ServerSettings) -> Face:
    if isinstance(settings, BatchSettings) and settings.bundle is not None:
        local = import_module("serving.local.model")  # which imports half the server
        loaded: Face = local.load(settings.bundle, **settings.computing)
        return loaded
    return Client(settings.address, security=settings.security)


def _check(client: Client, settings: ServerSettings) -> None:
    client.wait_until_ready(settings.timeout or CHECK_SECONDS)


def _generate(model: Face, settings: GenerateSettings) -> None:
    if settings.is_batch:
        prompt = _text("prompt", settings.prompt) if settings.input is None else ""
        generate_records(model, replace(settings, prompt=prompt))
    else:
        _stream(model, settings)


def _stream(model: Face, settings: GenerateSettings) -> None:
    prompt = _text("prompt", settings.prompt)
    seed = secrets.randbelow(SEED_LIMIT) if settings.seed is None else settings.seed
    options = replace(settings.options, seed=seed)
    started, written = time.perf_counter(), 0
    done: Completion | None = None
    try:
        for piece in model.stream(prompt, options, timeout=settings.timeout or None):
            written, done = written + len(piece.text), piece.completion
            _write(piece.text)
    except (KeyboardInterrupt, UnrollError):
        if written:  # the seed makes the text again
            _write("\n")
            sys.stderr.write(f"interrupted; seed {seed}, {counted(written, 'symbol')}\n")
        raise
    _write("\n")
    assert done is not None
    seconds, generated = time.perf_counter() - started, done.usage.generated_symbols
    facts = (
        f"seed {seed}",
        f"ended by {done.finish_reason.value}",
        counted(generated, "symbol"),
        f"{generated / seconds:,.0f} symbols/s",
        passed_over(settings, done.usage.unknown_symbols),
    )
    sys.stderr.write(", ".join(filter(None, facts)) + "\n")


def _score(model: Face, settings: ScoreSettings) -> None:
    text = None if settings.text is None else _text("text", settings.text)
    if text is None or settings.is_batch:
        score_records(model, replace(settings, text=text))
        return
    score = model.score(text, settings.options, timeout=settings.timeout or None)
    _write(
        f"{score.bits_per_character:.4f} bits per character over "
        f"{counted(score.usage.prompt_symbols, 'symbol')}\n"
    )
    if settings.top_log_probs:
        _tell_alternatives(model, settings, text)
    if told := passed_over(settings, score.usage.unknown_symbols):
        sys.stderr.write(f"{told}\n")


def _tell_alternatives(model: Face, settings: ScoreSettings, text: str) -> None:
    """Write a line for each symbol: it, its log-probability, and as much of each alternative."""
    options = InspectOptions(**vars(settings.options))
    found = model.inspect(text, options, timeout=settings.timeout or None)
    for symbol, log_prob, each in zip(found.text, found.log_probs, found.alternatives, strict=True):
        told = [(symbol, log_prob), *zip(each.symbols, each.log_probs, strict=True)]
        _write("\t".join(f"{escaped(one)}\t{value:.4f}" for one, value in told) + "\n")


def _list_models(client: Client, settings: ServerSettings) -> None:
    for model in client.list_models(timeout=settings.timeout or None):
        loss = "" if model.validation_loss is None else f", loss {model.validation_loss:.4f}"
        _write(
            f"{model.name}: "
            f"{architecture(model.cell, model.hidden_size, model.layers, model.members)}, "
            f"{model.parameters:,} parameters, {len(model.vocabulary)} symbols{loss}, "
            f"fingerprint {model.fingerprint[:12]}, {model.runtime}, {model.execution_provider}\n"
        )


def _text(setting: str, given: str) -> str:
    """Return a text that was given, or read it where that is a hyphen."""
    if given != "-":
        return given
    try:
        return sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            setting, f"standard input is not UTF-8 at byte {error.start}; convert it to UTF-8"
        ) from error


def _write(text: str) -> None:
    with writing():
        sys.stdout.write(text)
        sys.stdout.flush()

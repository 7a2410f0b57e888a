"""Command line of the client: `python -m unroll.client --help`."""

import os
import sys
import time
from collections.abc import Sequence

from unroll.bundle.manifest import architecture
from unroll.cli import run
from unroll.client.client import Client
from unroll.client.results import Piece
from unroll.client.settings import ClientSettings
from unroll.errors import InputError

CHECK_SECONDS = 5.0
INTERRUPTED = 130  # what a shell calls a process that Ctrl-C ended


def main(tokens: Sequence[str] | None = None) -> None:
    """Parse the command line and call the server."""
    run(ClientSettings, _call, name="python -m unroll.client", tokens=tokens)


def _call(settings: ClientSettings) -> None:
    settings.validate()
    timeout = settings.timeout or None
    try:
        with Client(settings.target, security=settings.security) as client:
            if settings.check:
                client.wait_until_ready(settings.timeout or CHECK_SECONDS)
            elif settings.list_models:
                _list_models(client, timeout)
            elif settings.score:
                _score(client, settings, timeout)
            else:
                _stream(client, settings, timeout)
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _stream(client: Client, settings: ClientSettings, timeout: float | None) -> None:
    started = time.perf_counter()
    last: Piece | None = None
    try:
        for last in client.stream(_prompt(settings), settings.generate_options, timeout=timeout):
            _write(last.text)
    finally:
        if last is not None:
            _write("\n")
    assert last is not None
    assert last.completion is not None
    done, seconds = last.completion, time.perf_counter() - started
    generated = done.usage.generated_symbols
    sys.stderr.write(
        f"seed {done.seed}, ended by {done.finish_reason.value}, {generated:,} symbols, "
        f"{generated / seconds:,.0f} symbols/s\n"
    )


def _score(client: Client, settings: ClientSettings, timeout: float | None) -> None:
    score = client.score(_prompt(settings), settings.score_options, timeout=timeout)
    _write(
        f"{score.bits_per_character:.4f} bits per character over "
        f"{score.usage.prompt_symbols:,} symbols\n"
    )


def _list_models(client: Client, timeout: float | None) -> None:
    for model in client.list_models(timeout=timeout):
        loss = "" if model.validation_loss is None else f", loss {model.validation_loss:.4f}"
        _write(
            f"{model.name}: "
            f"{architecture(model.cell, model.hidden_size, model.layers, model.members)}, "
            f"{model.parameters:,} parameters, {len(model.vocabulary)} symbols{loss}, "
            f"fingerprint {model.fingerprint[:12]}, {model.runtime}, {model.execution_provider}\n"
        )


def _prompt(settings: ClientSettings) -> str:
    if settings.prompt != "-":
        return settings.prompt
    try:
        return sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError("prompt", f"standard input is not UTF-8 at byte {error.start}") from error


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


if __name__ == "__main__":
    main()

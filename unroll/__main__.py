"""The command `unroll`: one subcommand for each thing that one does with a model."""

import gc
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import Annotated, NamedTuple

from cyclopts import App, CycloptsError, Parameter

from unroll.errors import INTERRUPTED, MissingExtraError, UnrollError, lacking
from unroll.refusal import refusal

Tokens = Annotated[str, Parameter(show=False, allow_leading_hyphen=True)]


class Command(NamedTuple):
    """Where a subcommand's `main(tokens)` is, imported only when it runs.

    Attributes:
        place: as `module:function`.
        help: one line.
        extra: of the distribution, with what the command needs; empty for none.
    """

    place: str
    help: str
    extra: str = ""


COMMANDS = {
    "train": Command("training.__main__:main", "Train a model on a text.", "train"),
    "adopt": Command(
        "export.adopt.__main__:main", "Make a checkpoint of a model from elsewhere.", "cpu,export"
    ),
    "export": Command("export.__main__:main", "Compile a checkpoint into a bundle.", "cpu,export"),
    "serve": Command("serving.__main__:main", "Serve bundles over gRPC and HTTP."),
    "generate": Command(
        "unroll.client.commands.ask:generate", "Continue a prompt, or each prompt of a file."
    ),
    "score": Command("unroll.client.commands.ask:score", "Score a text, or each text of a file."),
    "models": Command("unroll.client.commands.ask:models", "List a server's models."),
    "health": Command("unroll.client.commands.ask:health", "Ask whether a server is ready."),
    "load": Command("unroll.client.load.command:main", "Load a server and measure it."),
    "evaluate": Command(
        "training.evaluate.__main__:main", "Measure a model on held-out text.", "train"
    ),
    "report": Command(
        "report.__main__:main", "Train three models and write a page about them.", "report"
    ),
    "token": Command("serving.access.tokens:main", "Make a token for a caller."),
}

OPTIONS = ("--help", "--version", "--install-completion")


def main(tokens: Sequence[str] | None = None) -> None:
    """Run the command line; `sys.argv[1:]` by default."""
    app = App(
        name="unroll",
        help="Train, compile and serve recurrent language models.",
        version=_versions,
        exit_on_error=False,
        print_error=False,
        suppress_keyboard_interrupt=False,
    )
    for name, command in COMMANDS.items():
        subcommand = App(name=name, help=command.help, help_flags=(), version_flags=())
        subcommand.default(_starter(name, command))
        app.command(subcommand)
    app.register_install_completion_command(help="Install shell completion.")
    try:
        app(tokens)
    except (CycloptsError, UnrollError) as error:
        ours = refusal(error, None, OPTIONS)
        sys.stderr.write(f"unroll: {ours}\n")
        raise SystemExit(ours.exit_status) from error
    except KeyboardInterrupt:
        sys.stderr.write("unroll: interrupted\n")
        raise SystemExit(INTERRUPTED) from None


def _starter(name: str, command: Command) -> Callable[..., None]:
    def start(*tokens: Tokens) -> None:
        module, function = command.place.split(":")
        try:
            with _interruptible(name):
                imported = _import(module)
        except ModuleNotFoundError as error:
            if not command.extra or error.name is None or _is_ours(error.name):
                raise
            told = lacking(f"unroll {name}", error.name, command.extra)
            raise MissingExtraError(told) from error
        getattr(imported, function)(tokens)

    return start


@contextmanager
def _interruptible(name: str) -> Iterator[None]:
    """Let Ctrl-C end the process at once while a command is imported.

    A KeyboardInterrupt there may become any error of the module that it meets.
    """
    here = threading.current_thread() is threading.main_thread()
    if not here or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return

    def end(*_: object) -> None:
        os.write(2, f"unroll {name}: interrupted\n".encode())
        os._exit(INTERRUPTED)

    signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _import(name: str) -> ModuleType:
    """Import a module; what comes with it stays, so that nobody searches it for cycles.

    The searches would make a sixth of a start's time, and go on at each later one.
    """
    if name in sys.modules:
        return sys.modules[name]
    gc.disable()
    try:
        return import_module(name)
    finally:
        gc.freeze()
        gc.enable()


def _is_ours(module: str) -> bool:
    return module.split(".", maxsplit=1)[0] in {"unroll", "serving", "training", "export", "report"}


def _versions() -> str:
    return f"unroll {_version_of('unroll')}, ONNX Runtime {_runtime_version()}"


def _runtime_version() -> str:
    found = (_version_of(name) for name in ("onnxruntime", "onnxruntime-gpu"))
    return next(filter(None, found), "not installed")


def _version_of(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""


if __name__ == "__main__":
    main()

"""The command `unroll adopt`: a model that another program trained becomes a checkpoint."""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from rich.console import Console

from export.adopt.adopt import adopt_file
from export.adopt.written import Adoption
from unroll.bundle.manifest import architecture
from unroll.cli import in_utf8, run


@Parameter(name="*")
@dataclass(frozen=True)
class AdoptSettings:
    """Turn a torch model that another program trained into a checkpoint for `unroll export`."""

    weights: Path
    """The model's state_dict, as safetensors or as torch.save wrote it. Nothing is unpickled."""

    _: KW_ONLY

    vocabulary: Path
    """File of the symbols: JSON (a list in the order of the ids, or an object of symbols and ids),
    a text that lists each symbol once, or the text that the model was trained on, whose symbols
    are sorted."""

    checkpoint: Path | None = None
    """Folder to write. Default: runs/ and the name of the weights."""

    map: Annotated[tuple[str, ...], Parameter(negative=())] = ()
    """What a weight or module is, as THEIRS=OURS, where OURS begins with embedding, recurrent or
    decoder. Needed only if names and shapes do not tell. Repeat it for more."""

    nonlinearity: Literal["tanh", "relu"] | None = None
    """Nonlinearity of a vanilla RNN, which weights do not tell."""

    start_symbol: str | None = None
    """Symbol that every text is read after. Default: a newline, else the first symbol."""

    corpus: Path | None = None
    """Text that the model was trained on. int8 is calibrated and judged on it. Default: the
    vocabulary, if that is a text."""

    encoding: str = "utf-8"
    """Encoding of the vocabulary and of the corpus. Python's open() reads and writes cp1252 on
    Windows where nothing else is said."""


def main(tokens: Sequence[str] | None = None) -> None:
    """Run the command line."""
    run(AdoptSettings, _adopt, name="unroll adopt", tokens=tokens)


def _adopt(given: AdoptSettings) -> None:
    settings = in_utf8(given, "start_symbol")
    made = adopt_file(
        settings.weights,
        settings.vocabulary,
        settings.checkpoint or Path("runs") / settings.weights.stem,
        nonlinearity=settings.nonlinearity,
        start_symbol=settings.start_symbol,
        corpus=settings.corpus,
        encoding=settings.encoding,
        renamed=settings.map,
    )
    Console().print(describe(made), markup=False, highlight=False, soft_wrap=True)


def describe(made: Adoption) -> str:
    """Return what was adopted, in a few lines."""
    model, proof = made.model, made.proof
    names = ", ".join(f"{ours}: {theirs or 'the module'}" for ours, theirs in made.names.items())
    loss = "" if made.loss is None else f"; {made.loss:.4f} nats per symbol on the end of its text"
    return (
        f"{architecture(model.cell, model.hidden_size, model.layers, 1)}, "
        f"{model.vocabulary_size} symbols, embedding {model.embedding_size}{loss}\n"
        f"{names}\n"
        f"proved: {proof.symbols:,} symbols, log-probabilities at most {proof.difference:.1e} nats "
        f"apart from {proof.way}\n"
        f"{made.checkpoint} holds the checkpoint: unroll export --checkpoint {made.checkpoint} "
        f"--bundle bundles/{Path(made.checkpoint).name}"
    )


if __name__ == "__main__":
    main()

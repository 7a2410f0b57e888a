"""Adopt a model: from a live module or from a file to a checkpoint, proved."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import torch
from torch import nn

from export.adopt.assemble import Reference, assemble, model_settings
from export.adopt.parts import Nonlinearity, Parts, find_parts, sizes_written
from export.adopt.proof import Proof, Run, find_way, prove
from export.adopt.vocabulary import (
    Named,
    Symbols,
    check_size,
    make_vocabulary,
    order_symbols,
    plain_corpus,
    read_symbols,
)
from export.adopt.weights import read_weights
from export.quality import judged_rows, loss_in_torch
from training.data.splits import split_symbols
from training.data.symbols import Ids
from training.log.metrics import Metrics
from training.model.model import CharRNN, ModelSettings
from training.run.checkpoint import BEST, Checkpoint, load_checkpoint, save_checkpoint
from training.settings import TrainingSettings
from unroll.errors import AdoptionError

PathOrName = str | PathLike[str]
MEASURED = 512  # symbols of each stream, for the loss that is told


@dataclass(frozen=True, kw_only=True)
class Adoption:
    """An adopted model.

    Attributes:
        checkpoint: folder that `unroll export --checkpoint` takes.
        model: its cell and sizes.
        names: what its parts are called in the weights.
        proof: what was compared with theirs.
        loss: on the end of its text, in nats per symbol; None without a text.
    """

    checkpoint: Path
    model: ModelSettings
    names: dict[str, str]
    proof: Proof
    loss: float | None


def adopt(
    module: nn.Module,
    vocabulary: Symbols,
    checkpoint: PathOrName = Path("runs/adopted"),
    *,
    start_symbol: str | None = None,
    corpus: PathOrName | None = None,
    encoding: str = "utf-8",
    renamed: Iterable[str] = (),
    run: Run | None = None,
) -> Adoption:
    """Adopt a model that another program trained: embedding + RNN, GRU or LSTM + linear decoder.

    The module itself reads 10,000 symbols; the checkpoint is written only if it says the same.

    Args:
        module: the model; it is read, not changed.
        vocabulary: its symbols in the order of their ids, or a mapping of symbols and ids, either
            way round.
        checkpoint: folder to write, for `unroll export --checkpoint`.
        start_symbol: the symbol that every text is read after; by default a newline where there is
            one, else the first symbol.
        corpus: the text that it was trained on, which int8 is calibrated and judged on.
        encoding: of that text.
        renamed: THEIRS=OURS where names and shapes do not tell what is what; OURS begins with
            embedding, recurrent or decoder.
        run: calls the module: takes token ids (T,), returns logits (T, V); by default the ways that
            such modules are called in are tried.

    Raises:
        AdoptionError: it is another kind of model, or does not say what its weights say.
        CorpusError: the text cannot be read.
    """
    text = None if corpus is None else plain_corpus(Path(corpus), encoding)
    named = Named(symbols=order_symbols(vocabulary), corpus=text)
    renamed = tuple(renamed)
    with _still(_unwrapped(module)) as still:
        parts = find_parts(
            still.state_dict(),
            _checked_size(still.state_dict(), named, renamed),
            nonlinearity=_nonlinearity(still),
            renamed=renamed,
        )
        model = _model(parts)
        way = "run=" if run is not None else ""
        if run is None:
            run, way = find_way(still, model)
        proof = prove(model, run, way)
    return _write(parts, model, named, start_symbol, encoding, corpus, proof, Path(checkpoint))


def adopt_file(
    weights: Path,
    vocabulary: Path,
    checkpoint: Path,
    *,
    nonlinearity: Nonlinearity | None = None,
    start_symbol: str | None = None,
    corpus: Path | None = None,
    encoding: str = "utf-8",
    renamed: Sequence[str] = (),
) -> Adoption:
    """Adopt a model from a file of its weights; arguments and errors as `adopt`.

    It is compared with a model of torch's own modules that is made of the same file.

    Args:
        weights: a state_dict, in safetensors or as torch.save writes it.
        vocabulary: see read_symbols.
        checkpoint: folder to write.
        nonlinearity: of a vanilla RNN.
        start_symbol: that every text is read after.
        corpus: that the model was trained on; by default the vocabulary, if it is a text.
        encoding: of texts.
        renamed: THEIRS=OURS.
    """
    theirs, named = read_weights(weights), read_symbols(vocabulary, encoding)
    text_path = corpus or (vocabulary if named.corpus else None)
    size = _checked_size(theirs, named, renamed, vocabulary)
    if corpus is not None:
        named = Named(symbols=named.symbols, corpus=plain_corpus(corpus, encoding))
    parts = find_parts(theirs, size, nonlinearity=nonlinearity, renamed=renamed)
    model = _model(parts)
    proof = prove(model, Reference(parts).eval(), "torch's modules of the same weights")
    return _write(parts, model, named, start_symbol, encoding, text_path, proof, checkpoint)


def _checked_size(
    weights: dict[str, torch.Tensor],
    named: Named,
    renamed: Iterable[str],
    path: Path | None = None,
) -> int:
    written = sizes_written(weights, renamed)
    if len(written) == 1:
        check_size(named.symbols, written.pop(), named.corpus, path)
    return len(named.symbols)


def _model(parts: Parts) -> CharRNN:
    model = CharRNN(model_settings(parts))
    model.load_state_dict(assemble(parts))
    return model.eval()


def _write(
    parts: Parts,
    model: CharRNN,
    named: Named,
    start_symbol: str | None,
    encoding: str,
    corpus: PathOrName | None,
    proof: Proof,
    folder: Path,
) -> Adoption:
    vocabulary, text = make_vocabulary(named.symbols, start_symbol), named.corpus
    loss = None if text is None else _loss(model, text.under(vocabulary).symbols.ids)
    settings = TrainingSettings(
        corpus="" if corpus is None else str(Path(corpus).resolve()),
        encoding=encoding,
        nfc=False,
        repair=False,
        cell=parts.cell,
    )
    made = Checkpoint(
        model_settings=model.settings,
        training_settings=settings,
        vocabulary=vocabulary,
        corpus_name=text.name if text else "",
        corpus_sha256=text.sha256 if text else "",
        metrics=Metrics(update=0, epoch=0, training_loss=0.0, validation_loss=loss, seconds=0.0),
        weights=model.state_dict(),
        is_adopted=True,
    )
    _make_folder(folder)
    save_checkpoint(made, folder / BEST)
    return Adoption(
        checkpoint=folder, model=model.settings, names=parts.names, proof=proof, loss=loss
    )


def _make_folder(folder: Path) -> None:
    """Make the folder of a checkpoint, or take that of an earlier adoption.

    Raises:
        AdoptionError: another run is there.
    """
    if (folder / BEST).exists() and not load_checkpoint(folder).is_adopted:
        raise AdoptionError(
            f"checkpoint = {folder}: holds a model that was trained there; name another folder"
        )
    folder.mkdir(parents=True, exist_ok=True)


def _loss(model: CharRNN, ids: Ids) -> float | None:
    """Return the loss on the end of a text, which export holds out as well."""
    held_out = ids[split_symbols(len(ids), TrainingSettings()).held_out.start :]
    if len(held_out) < 2:
        return None
    rows = judged_rows(held_out, model.settings.vocabulary_size)
    return loss_in_torch(model, rows[:MEASURED])


def _unwrapped(module: nn.Module) -> nn.Module:
    """Return the model inside what torch.compile or DataParallel put around it."""
    for name in ("_orig_mod", "module"):
        inner = getattr(module, name, None)
        if isinstance(inner, nn.Module) and len(list(module.children())) == 1:
            return _unwrapped(inner)
    return module


@contextmanager
def _still(module: nn.Module) -> Iterator[nn.Module]:
    """Give a module in float32, without dropout; afterwards it is as it was before."""
    weights = list(module.parameters())
    if not weights:
        raise AdoptionError(f"{type(module).__name__} has no weights; give the model itself")
    if any(weight.dtype != torch.float32 for weight in weights):
        module = deepcopy(module).float()
    modes = [(each, each.training) for each in module.modules()]
    module.eval()
    try:
        yield module
    finally:
        for each, mode in modes:
            each.training = mode


def _nonlinearity(module: nn.Module) -> Nonlinearity | None:
    """Return that of a vanilla RNN."""
    for each in module.modules():
        if isinstance(each, nn.RNN | nn.RNNCell):
            return "relu" if each.nonlinearity == "relu" else "tanh"
    return None

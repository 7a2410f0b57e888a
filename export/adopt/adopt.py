"""Adopt a model: from a live module or from a file to a checkpoint, proved."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from os import PathLike
from pathlib import Path

import torch
from torch import nn

from export.adopt.assemble import Reference, assemble, model_settings
from export.adopt.parts import Nonlinearity, Parts, find_parts, sizes_written
from export.adopt.proof import Run, find_way, prove
from export.adopt.vocabulary import (
    Symbols,
    Text,
    check_size,
    make_vocabulary,
    order_symbols,
    read_symbols,
)
from export.adopt.weights import read_weights
from export.adopt.written import Adoption, write
from training.model.model import CharRNN
from unroll.errors import AdoptionError

PathOrName = str | PathLike[str]


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
    symbols, renamed = order_symbols(vocabulary), tuple(renamed)
    text = None if corpus is None else Text.read(Path(corpus), encoding)
    with _still(_unwrapped(module)) as still:
        weights = still.state_dict()
        _check_size(weights, renamed, symbols)
        parts = find_parts(
            weights, len(symbols), nonlinearity=_nonlinearity(still), renamed=renamed
        )
        model = _model(parts)
        way = "run=" if run is not None else ""
        if run is None:
            run, way = find_way(still, model)
        proof = prove(model, run, way)
    named = make_vocabulary(symbols, start_symbol)
    return write(model, parts.names, named, text, proof, Path(checkpoint))


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
    theirs = read_weights(weights)
    symbols, listed_in = read_symbols(vocabulary, encoding)
    _check_size(theirs, renamed, symbols, listed_in)
    text = listed_in if corpus is None else Text.read(corpus, encoding)
    parts = find_parts(theirs, len(symbols), nonlinearity=nonlinearity, renamed=renamed)
    model = _model(parts)
    proof = prove(model, Reference(parts).eval(), "torch's modules of the same weights")
    named = make_vocabulary(symbols, start_symbol)
    return write(model, parts.names, named, text, proof, checkpoint)


def _check_size(
    weights: Mapping[str, torch.Tensor],
    renamed: Iterable[str],
    symbols: str,
    text: Text | None = None,
) -> None:
    written = sizes_written(weights, renamed)
    if len(written) == 1:
        check_size(symbols, written.pop(), text)


def _model(parts: Parts) -> CharRNN:
    model = CharRNN(model_settings(parts))
    model.load_state_dict(assemble(parts))
    return model.eval()


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

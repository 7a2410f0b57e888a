"""What cannot be adopted: the reason, and the nearest model that can."""

import re
from collections.abc import Iterable, Mapping
from typing import NoReturn

from torch import Tensor

from unroll.errors import AdoptionError

SHAPE = "embedding + nn.RNN, nn.GRU or nn.LSTM + one linear decoder"
# What a weight's name gives away, and what to do instead.
KNOWN = (
    (
        re.compile(r"attn|attention|q_proj|k_proj|in_proj|query", re.IGNORECASE),
        "is of an attention layer, which looks at all symbols at once and has no state of constant "
        "size; the nearest is the same model without it, or `unroll train --cell gru` on its text",
    ),
    (
        re.compile(r"conv", re.IGNORECASE),
        "is of a convolution; the nearest is an embedding of its width in its place",
    ),
    (
        re.compile(r"norm|\bln_?\w*\.|\bbn\d*\.", re.IGNORECASE),
        "is of a normalisation, which the compiled loop does not compute; the nearest is the same "
        "model trained without it",
    ),
    (
        re.compile(r"wpe|\bpos", re.IGNORECASE),
        "is of an embedding of positions; a recurrent model knows its position by its state: train "
        "it without",
    ),
)


def refuse_bidirectional(names: Iterable[str]) -> None:
    """Refuse layers that read backwards, if there are some."""
    for name in names:
        raise AdoptionError(
            f"{name}: the layers are bidirectional; they read what comes after a symbol, which "
            "nobody knows while a text is written. The nearest is the same model with "
            "bidirectional=False, trained again"
        )


def refuse_projection(names: Iterable[str]) -> None:
    """Refuse an LSTM with projections, if it is one."""
    for name in names:
        raise AdoptionError(
            f"{name}: the LSTM has projections (proj_size), which the compiled loop does not "
            "compute; the nearest is proj_size=0 with a smaller hidden_size, trained again"
        )


def refuse_several(modules: list[str]) -> NoReturn:
    """Refuse more than one recurrent module."""
    raise AdoptionError(
        f"{', '.join(modules)}: several recurrent modules; what goes between them is not told by "
        "their weights. The nearest is one module of several layers, nn.GRU(..., num_layers="
        f"{len(modules)}), or cells in one nn.ModuleList"
    )


def refuse_without_layers(named: Mapping[str, Tensor]) -> NoReturn:
    """Refuse weights without recurrent layers."""
    _refuse_known(named)
    raise AdoptionError(
        f"no recurrent layer: none of {_listed(named)} is called weight_ih or weight_hh as torch's "
        f"are; what can be adopted is {SHAPE}. A cell that was written by hand: name its weights "
        "with --map THEIRS=recurrent.weight_ih_l0, and so on"
    )


def refuse_leftovers(rest: Mapping[str, Tensor], missing: str, V: int, H: int) -> NoReturn:
    """Refuse weights that have no place, or the lack of one.

    Args:
        rest: the weights that are not of the recurrent layers.
        missing: what was looked for among them; empty if nothing is missing.
        V: size of the vocabulary.
        H: width of the recurrent layers.
    """
    _refuse_known(rest)
    if not missing:
        raise AdoptionError(
            f"{_listed(rest)}: has no place in {SHAPE}; the nearest is the model without it, "
            "trained again. If it is one of these parts, say so with --map THEIRS=OURS"
        )
    sizes = sorted({t.shape[0] for t in rest.values() if t.ndim == 2 and H in t.shape} - {V})
    hint = f"; is the vocabulary, of {V} symbols, that of a model of {sizes[0]}?" if sizes else ""
    raise AdoptionError(
        f"no weight is {missing}; there are {_listed(rest) or 'no others'}{hint}. What can be "
        f"adopted is {SHAPE}; --map THEIRS=OURS says which weight is which"
    )


def _refuse_known(named: Mapping[str, Tensor]) -> None:
    for name, tensor in named.items():
        for pattern, reason in KNOWN:
            if pattern.search(name):
                raise AdoptionError(f"{name} {tuple(tensor.shape)}: {reason}")


def _listed(named: Mapping[str, Tensor], most: int = 6) -> str:
    shown = [f"{name} {tuple(tensor.shape)}" for name, tensor in list(named.items())[:most]]
    return ", ".join(shown) + (f" and {len(named) - most} more" if len(named) > most else "")

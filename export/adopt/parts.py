"""The parts of a recurrent language model, found in the weights of one by shape and name."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from export.adopt.names import rename, unwrap
from export.adopt.refusals import (
    refuse_bidirectional,
    refuse_leftovers,
    refuse_projection,
    refuse_several,
    refuse_without_layers,
)
from training.settings import Cell
from unroll.errors import AdoptionError

Nonlinearity = Literal["tanh", "relu"]
WRAPPERS = (
    "_orig_mod",
    "module",
    "model",
    "net",
    "network",
)  # torch.compile's, DataParallel's, ...
RECURRENT = re.compile(
    r"^(?:(?P<module>.*)\.)?(?P<kind>weight|bias)_(?P<of>ih|hh)(?:_l(?P<layer>\d+))?$"
)
READS = re.compile(r"embed|emb\b|encoder|wte|lookup|input", re.IGNORECASE)
WRITES = re.compile(r"decoder|fc|out|head|linear|proj|dense|logits", re.IGNORECASE)
GATES: dict[int, Literal["rnn", "gru", "lstm"]] = {1: "rnn", 3: "gru", 4: "lstm"}


@dataclass(frozen=True, kw_only=True)
class Parts:
    """A model's weights by what they do.

    Attributes:
        cell: of the recurrent layers.
        embedding: (V, E), perhaps of a linear layer that reads one-hot symbols; None where the
            first recurrent layer reads them.
        layers: of each layer weight_ih (G * H, E or H), weight_hh (G * H, H) and, where it has
            biases, bias_ih and bias_hh (G * H,).
        decoder: (V, H); the embedding again where the two are tied.
        decoder_bias: (V,); None where there is none.
        names: what they are called in the weights, by part.
    """

    cell: Cell
    embedding: Tensor | None
    layers: list[dict[str, Tensor]]
    decoder: Tensor
    decoder_bias: Tensor | None
    names: dict[str, str] = field(default_factory=dict)

    @property
    def hidden_size(self) -> int:
        """Width H."""
        return int(self.layers[0]["weight_hh"].shape[1])

    @property
    def embedding_size(self) -> int:
        """Width E of what the first layer reads."""
        return int(self.layers[0]["weight_ih"].shape[1])


def find_parts(
    weights: Mapping[str, Tensor],
    vocabulary_size: int,
    *,
    nonlinearity: Nonlinearity | None = None,
    renamed: Iterable[str] = (),
) -> Parts:
    """Find the parts of a model.

    Args:
        weights: a state_dict.
        vocabulary_size: V.
        nonlinearity: of a vanilla RNN, which its weights do not tell.
        renamed: what weights shall be called, as THEIRS=OURS; see rename.

    Raises:
        AdoptionError: there is a part too many or too few; names it, with the nearest model that
            can be adopted.
    """
    named = rename(unwrap(weights), renamed)
    layers, module = _layers(named)
    cell = _cell(layers, nonlinearity)
    rest = {name: tensor for name, tensor in named.items() if not RECURRENT.match(name)}
    V, E = vocabulary_size, layers[0]["weight_ih"].shape[1]
    H = layers[0]["weight_hh"].shape[1]
    embedding = _matrix(rest, (V, E), READS, WRITES, is_alone=H != E)
    decoder = _matrix(rest, (V, H), WRITES, READS, is_alone=H != E)
    is_tied = embedding is None or decoder is None
    if is_tied and H == E and (embedding or decoder):
        embedding = decoder = embedding or decoder
    if decoder is None:
        refuse_leftovers(rest, f"a decoder's weight of shape {(V, H)}", V, H)
        raise AssertionError
    if embedding is None and E != V:
        embedding = _from_linear(rest, V, E)
    if embedding is None and E != V:
        refuse_leftovers(rest, f"an embedding of shape {(V, E)}", V, H)
    bias = _bias(rest, decoder, V)
    leftovers = {n: t for n, t in rest.items() if n not in {embedding, decoder, bias}}
    if leftovers:
        refuse_leftovers(leftovers, "", V, H)
    told = {"embedding": embedding or "none: one-hot", "recurrent": module, "decoder": decoder}
    return Parts(
        cell=cell,
        embedding=None if embedding is None else rest[embedding],
        layers=layers,
        decoder=rest[decoder],
        decoder_bias=None if bias is None else rest[bias],
        names=told,
    )


def sizes_written(weights: Mapping[str, Tensor], renamed: Iterable[str] = ()) -> set[int]:
    """Return how many symbols a decoder may write, by the weights that could be one."""
    named = rename(unwrap(weights), renamed)
    layers, _ = _layers(named)
    H = layers[0]["weight_hh"].shape[1]
    rest = {name: tensor for name, tensor in named.items() if not RECURRENT.match(name)}
    fitting = {n: t for n, t in rest.items() if t.ndim == 2 and t.shape[1] == H}
    written = {n: t for n, t in fitting.items() if WRITES.search(n)} or fitting
    return {int(tensor.shape[0]) for tensor in written.values()}


def _layers(named: Mapping[str, Tensor]) -> tuple[list[dict[str, Tensor]], str]:
    """Return the recurrent layers in order, and the name of what holds them."""
    refuse_bidirectional([name for name in named if name.endswith("_reverse")])
    refuse_projection([name for name in named if re.search(r"weight_hr_l\d+$", name)])
    stacks: dict[str, dict[int, dict[str, Tensor]]] = {}
    for name, tensor in named.items():
        found = RECURRENT.match(name)
        if found:
            module, layer = found["module"] or "", found["layer"]
            if layer is None:  # a cell, perhaps one of a list: its layer is its place there
                place = module.rpartition(".")[2]
                layer = place if place.isdigit() else "0"
                module = module.removesuffix(place).rstrip(".") if place.isdigit() else module
            stack = stacks.setdefault(module, {})
            stack.setdefault(int(layer), {})[f"{found['kind']}_{found['of']}"] = tensor
    if not stacks:
        refuse_without_layers(named)
    if len(stacks) > 1:
        refuse_several(sorted(stacks))
    ((module, by_place),) = stacks.items()
    layers = [by_place[place] for place in sorted(by_place)]
    _check_layers(layers)
    return layers, module


def _check_layers(layers: list[dict[str, Tensor]]) -> None:
    for place, layer in enumerate(layers):
        missing = {"weight_ih", "weight_hh"} - layer.keys()
        if missing:
            raise AdoptionError(
                f"layer {place} has no {', '.join(sorted(missing))}; save the whole state_dict"
            )
    H = layers[0]["weight_hh"].shape[1]
    for place, layer in enumerate(layers):
        rows, width = layer["weight_hh"].shape
        wanted = (rows, layers[0]["weight_ih"].shape[1] if place == 0 else H)
        if width != H or rows % H or tuple(layer["weight_ih"].shape) != wanted:
            shapes = {name: tuple(tensor.shape) for name, tensor in layer.items()}
            raise AdoptionError(
                f"layer {place} has {shapes}, the first layer H = {H}; layers must be of one size, "
                "as those of one nn.GRU with num_layers are"
            )


def _cell(layers: list[dict[str, Tensor]], nonlinearity: Nonlinearity | None) -> Cell:
    rows, H = layers[0]["weight_hh"].shape
    kind = GATES.get(rows // H)
    if kind is None:
        raise AdoptionError(
            f"a cell of {rows // H} gates (weight_hh of shape {(rows, H)}) is unknown; nn.RNN has "
            "1, nn.GRU 3, nn.LSTM 4"
        )
    if kind != "rnn" and nonlinearity is not None:
        raise AdoptionError(
            f"nonlinearity = {nonlinearity!r}: the weights are of a {kind.upper()}, which has none "
            "to choose; leave it out"
        )
    if kind != "rnn":
        return kind
    if nonlinearity is None:
        raise AdoptionError(
            "nonlinearity: the weights of a vanilla RNN do not tell it; give --nonlinearity tanh "
            "(torch's default) or --nonlinearity relu"
        )
    return "rnn_relu" if nonlinearity == "relu" else "rnn_tanh"


def _matrix(
    rest: Mapping[str, Tensor],
    shape: tuple[int, int],
    ours: re.Pattern[str],
    others: re.Pattern[str],
    *,
    is_alone: bool,
) -> str | None:
    """Find the one weight of a shape; where several have it, by its name."""
    fitting = [n for n, t in rest.items() if n.endswith("weight") and tuple(t.shape) == shape]
    if is_alone and len(fitting) == 1:
        return fitting[0]
    named = [name for name in fitting if ours.search(name)]
    if len(named) != 1:
        named = [name for name in fitting if ours.search(name) and not others.search(name)]
    if not named and len(fitting) == 1 and not others.search(fitting[0]):
        named = fitting
    if len(named) > 1 or (not named and len(fitting) > 2):
        raise AdoptionError(
            f"{', '.join(named or fitting)}: each has shape {shape}; say which is which with "
            "--map THEIRS=embedding and --map THEIRS=decoder"
        )
    return named[0] if named else None


def _from_linear(rest: dict[str, Tensor], V: int, E: int) -> str | None:
    """Make an embedding of the linear layer (E, V) that reads one-hot symbols, if there is one."""
    name = _matrix(rest, (E, V), READS, WRITES, is_alone=True)
    if name is not None:
        bias = rest.pop(name.removesuffix("weight") + "bias", None)
        table = rest[name].T
        rest[name] = table if bias is None else table + bias
    return name


def _bias(rest: Mapping[str, Tensor], decoder: str, V: int) -> str | None:
    own = decoder.removesuffix("weight") + "bias"
    if own in rest:
        return own
    others = [name for name, tensor in rest.items() if tuple(tensor.shape) == (V,)]
    return others[0] if len(others) == 1 else None

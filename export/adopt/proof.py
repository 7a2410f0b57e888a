"""Whether what was adopted says what theirs says, symbol by symbol."""

from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from inspect import signature
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.model.model import CharRNN
from unroll.errors import AdoptionError

SYMBOLS = 10_000
NUMBERS_AT_MOST = 2**27  # log-probabilities held at once: of large vocabularies fewer symbols
TOLERANCE = 1e-4  # of log-probabilities, in nats
FIRST = 32  # symbols on which each way of calling a module is tried
PIECE = 256

Run = Callable[[Tensor], Any]
"""From token ids (T,) to the logits or log-probabilities after each, (T, V)."""


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What was compared.

    Attributes:
        symbols: how many were read.
        difference: the greatest of their log-probabilities, in nats.
        way: how their module was called.
    """

    symbols: int
    difference: float
    way: str


def prove(model: CharRNN, theirs: Run, way: str) -> Proof:
    """Read the same symbols with both.

    Args:
        model: what was adopted.
        theirs: their module.
        way: how it is called.

    Raises:
        AdoptionError: they differ.
    """
    V = model.settings.vocabulary_size
    tokens = proof_tokens(V)
    with torch.no_grad():
        differences = _differences(model, tokens, _log_probs(theirs(tokens), len(tokens), V))
    proof = Proof(symbols=len(tokens), difference=float(differences.max()), way=way)
    if not proof.difference <= TOLERANCE:
        first = int((~(differences <= TOLERANCE)).nonzero()[0])
        raise AdoptionError(
            f"the adopted model differs from theirs, called as {way}: log-probabilities up to "
            f"{proof.difference:.3g} nats apart, from symbol {first} of {len(tokens)} on. "
            "Something that the weights do not show lies between the layers (an activation, a "
            "normalisation, a sum with the input), or the module was called otherwise in "
            "training: pass run="
        )
    return proof


def find_way(module: nn.Module, model: CharRNN) -> tuple[Run, str]:
    """Find how a module is called, by trying what such modules take.

    Raises:
        AdoptionError: in no way does it say what the adopted weights say.
    """
    V = model.settings.vocabulary_size
    tokens = proof_tokens(V)[:FIRST]
    tried: list[tuple[float, str]] = []
    problems: list[str] = []
    for way, run in _ways(module, model):
        try:
            with torch.no_grad():
                differences = _differences(model, tokens, _log_probs(run(tokens), FIRST, V))
        except Exception as error:  # whatever their module makes of what it does not take
            problems.append(f"{way}: {type(error).__name__}: {error}".splitlines()[0])
            continue
        tried.append((float(differences.max()), way))
        if tried[-1][0] <= TOLERANCE:
            return run, way
    if not tried:
        raise AdoptionError(
            f"{type(module).__name__} cannot be called in any way that is known here "
            f"({problems[0] if problems else 'it takes no argument'}); pass run=, which takes "
            "token ids (T,) and returns logits (T, V)"
        )
    difference, way = min(tried)
    raise AdoptionError(
        f"{type(module).__name__} is not embedding + {model.settings.cell} + decoder alone: called "
        f"as {way}, log-probabilities are {difference:.3g} nats apart. Something that the "
        "weights do not show lies between the layers (an activation, a normalisation, a sum with "
        "the input); the nearest is the model without it. Or it keeps its state (set it to zero "
        "first), or it is called otherwise: pass run=, which takes token ids (T,) and returns "
        "logits (T, V)"
    )


def proof_tokens(vocabulary_size: int) -> Tensor:
    """Return the token ids that are read, (T,)."""
    count = min(SYMBOLS, max(NUMBERS_AT_MOST // vocabulary_size, FIRST))
    return torch.from_numpy(np.random.default_rng(25).integers(0, vocabulary_size, count))


def _differences(model: CharRNN, tokens: Tensor, theirs: Tensor) -> Tensor:
    """Return the greatest difference at each symbol, (T,)."""
    state, found = model.zero_state(1), []
    for start in range(0, len(tokens), PIECE):
        piece = tokens[start : start + PIECE]
        logits, state = model(piece[:, None], state)  # (T, 1, V)
        ours = torch.log_softmax(logits[:, 0], -1)
        found.append((ours - theirs[start : start + PIECE]).abs().amax(-1))
    return torch.cat(found).nan_to_num(nan=torch.inf)


def _log_probs(answer: Any, T: int, V: int) -> Tensor:
    """Read logits, log-probabilities or probabilities out of what a module returned, (T, V)."""
    if isinstance(answer, Mapping):
        answer = answer.get("logits", next(iter(answer.values())))
    first: Tensor = answer[0] if isinstance(answer, tuple | list) else answer
    shape = tuple(first.shape)
    if len(shape) == 3 and shape[-1] != V == shape[1]:  # (N, V, T), as cross_entropy wants it
        first = first.transpose(1, 2)
    if shape not in {(T, V), (T, 1, V), (1, T, V), (1, V, T)}:
        raise ValueError(f"it gives {shape} for {T} of {V} symbols")
    rows = first.detach().cpu().float().reshape(T, V)
    sums = rows.sum(-1)
    if bool((rows >= 0).all()) and bool(((sums - 1).abs() < 1e-3).all()):
        return rows.log()
    return torch.log_softmax(rows, -1)


def _ways(module: nn.Module, model: CharRNN) -> Iterator[tuple[str, Run]]:
    """List what a module may take: tokens in some shape, and perhaps a state or targets."""
    V, device = model.settings.vocabulary_size, next(iter(module.parameters())).device
    shapes: dict[str, Run] = {
        "tokens (T, 1)": lambda tokens: tokens[:, None],
        "tokens (1, T)": lambda tokens: tokens[None],
        "tokens (T,)": lambda tokens: tokens,
    }
    forms: dict[str, Run] = {"": lambda x: x, "one-hot ": lambda x: F.one_hot(x, V).float()}
    extras = [
        (name, extra) for name, extra in _extras(model, device) if _takes(module, 1 + len(extra))
    ]
    for kind, form in forms.items():
        for name, shape in shapes.items():
            for more, extra in extras:
                yield f"{kind}{name}{more}", partial(_call, module, form, shape, extra, device)
            if _takes(module, 2):
                yield f"{kind}{name}, targets", partial(_teach, module, form, shape, device)
    for more, extra in extras:
        if len(extra) == 1:
            for kind, form in forms.items():
                for one in ((1,), (1, 1)):
                    run = partial(_step, module, form, one, extra[0], device)
                    yield f"one {kind}token {one} after another{more}", run


def _call(
    module: nn.Module,
    form: Run,
    shape: Run,
    extra: tuple[Any, ...],
    device: torch.device,
    tokens: Tensor,
) -> Any:
    return _fresh(module)(form(shape(tokens.to(device))), *extra)


def _teach(module: nn.Module, form: Run, shape: Run, device: torch.device, tokens: Tensor) -> Any:
    given = shape(tokens.to(device))
    return _fresh(module)(form(given), given)


def _step(
    module: nn.Module,
    form: Run,
    shape: tuple[int, ...],
    state: Any,
    device: torch.device,
    tokens: Tensor,
) -> Tensor:
    module, rows = _fresh(module), []
    for token in tokens.to(device):
        answer, state = module(form(token.reshape(shape)), state)
        rows.append(answer.reshape(1, -1))
    return torch.cat(rows)


def _fresh(module: nn.Module) -> nn.Module:
    """Copy a module, since some keep their state from call to call."""
    try:
        return deepcopy(module)
    except RuntimeError:  # what it keeps has gradients
        return module


def _extras(model: CharRNN, device: torch.device) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """List what may follow the tokens: nothing, no state, or the zero state in some form."""
    zero = tuple(tensor.to(device) for tensor in model.zero_state(1).values())
    flat = tuple(tensor[:, 0] for tensor in zero)
    yield "", ()
    yield ", None", (None,)
    yield ", state", (zero if len(zero) > 1 else zero[0],)
    yield ", state (L, H)", (flat if len(flat) > 1 else flat[0],)
    if len(zero) > 1:
        yield ", h, c", zero


def _takes(module: nn.Module, count: int) -> bool:
    try:
        signature(module.forward).bind(*range(count))
    except TypeError:
        return False
    return True

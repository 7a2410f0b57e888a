"""The same figure from a running server, which reads texts as one stream."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from training.evaluate.reading import Advance, Losses
from training.run.checkpoint import Checkpoint
from unroll.client.client import Client
from unroll.errors import InputError, ParityError
from unroll.options import ScoreOptions
from unroll.results import ModelInfo

APART_AT_MOST = 1e-4  # nats per symbol


@dataclass(frozen=True, kw_only=True)
class Served:
    """What a server makes of a text.

    Attributes:
        target: its address.
        model: the model's name there.
        fingerprint: the model's.
        losses: what each symbol costs, in nats, shape (symbols,).
    """

    target: str
    model: str
    fingerprint: str
    losses: Losses


def require_same_model(client: Client, name: str, checkpoint: Checkpoint) -> ModelInfo:
    """Return a server's description of a model that was compiled from a checkpoint.

    Raises:
        InputError: it was compiled from another, or to a lower precision.
        UnrollError: the server cannot be reached, or has no such model.
    """
    served, of = client.get_model(name), checkpoint.model_settings
    same = {
        "vocabulary": (served.vocabulary, checkpoint.vocabulary.symbols),
        "start symbol": (served.start_symbol, checkpoint.vocabulary.start_symbol),
        "unknown symbol": (served.unknown_symbol, checkpoint.vocabulary.unknown_symbol),
        "cell": (served.cell, of.cell),
        "layers": (served.layers, of.layers),
        "networks side by side": (served.members, of.members),
        "hidden size": (served.hidden_size, of.hidden_size),
        "sha256 of the corpus": (served.corpus_sha256, checkpoint.corpus_sha256),
        "validation loss": (served.validation_loss, checkpoint.metrics.validation_loss),
        "precision": (served.precision, "fp32"),
    }
    for what, (there, here) in same.items():
        if there != here:
            raise InputError(
                "model",
                f"{served.name} at {client.target} has {what} {there!r}, the checkpoint has "
                f"{here!r}; serve the bundle that was exported from it, in fp32, or name it with "
                "--model",
            )
    return served


def served_losses(client: Client, served: ModelInfo, text: str) -> Served:
    """Have a server score a text, in one call.

    Raises:
        InputError: the text is longer than the server scores in a call (--max-score-symbols,
            1,000,000 by default).
        UnrollError: the call failed.
    """
    score = client.score(text, ScoreOptions(model=served.name))
    return Served(
        target=client.target,
        model=served.name,
        fingerprint=score.fingerprint,
        losses=-np.array(score.log_probs, np.float64),
    )


def served_unit_losses(
    client: Client, served: ModelInfo, texts: Iterable[str], advance: Advance = lambda _: None
) -> Served:
    """Have a server score texts that stand apart, in one call for many.

    Raises:
        InputError: a text is longer than the server scores.
        UnrollError: the call failed.
    """
    losses = []
    for answer in client.score_many(texts, ScoreOptions(model=served.name), in_order=True):
        log_probs = answer.result.log_probs
        losses.append(-np.array(log_probs, np.float64))
        advance(len(log_probs))
    return Served(
        target=client.target,
        model=served.name,
        fingerprint=served.fingerprint,
        losses=np.concatenate(losses),
    )


def require_parity(served: Losses, torch: Losses) -> None:
    """Check that a server's figure is torch's.

    Raises:
        ParityError: they differ by more than 1e-4 nats per symbol.
    """
    apart = abs(float(served.mean()) - float(torch.mean()))
    if not apart <= APART_AT_MOST:
        raise ParityError(
            f"target: {served.mean():.6f} nats per symbol from the server, {torch.mean():.6f} from "
            f"torch; they differ by {apart:.1e}, at most {APART_AT_MOST:g} is allowed; export the "
            "checkpoint again and serve that bundle"
        )

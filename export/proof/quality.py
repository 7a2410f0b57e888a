"""What a reduced precision costs: it is calibrated on the training text and judged on the rest."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from export.graph.arithmetic import UNIT, Scale
from serving.runtime.decoder import Decoder, LoopRun
from training.data.corpus import load_same_corpus
from training.data.decoding import Rules
from training.data.prepared import prepare_data
from training.data.symbols import Ids
from training.model.model import CharRNN, ModelSettings, Network
from training.model.validation import read_streams
from training.run.checkpoint import Checkpoint
from unroll.bundle.manifest import Rung
from unroll.errors import SettingsError

WORSE_AT_MOST = 0.005  # nats per symbol
ROWS = 64
CALL = 256  # steps
CALIBRATION = 64 * 1024  # symbols
# Symbols that are read to judge by: the two losses are of the same symbols, so that their
# difference is known far better than either. A step costs more the more symbols there are.
JUDGED_AT_MOST, JUDGED_AT_LEAST = 2**17, 2**13
LOGITS_AT_MOST = 2**27


@dataclass(frozen=True, kw_only=True)
class Texts:
    """The parts of a training's text, as token ids.

    Attributes:
        training: (symbols,).
        validation: (symbols,).
    """

    training: Ids
    validation: Ids


def load_texts(checkpoint: Checkpoint, corpus: str | None = None) -> Texts:
    """Find the text that a model was trained on, split as its training split it.

    Args:
        checkpoint: of the model.
        corpus: name or path of the text; by default where the training found it.

    Raises:
        CorpusError: it is not there.
        SettingsError: it is another text, or the training kept none of it for validation.
    """
    settings = checkpoint.training_settings
    if not corpus and not settings.corpus:
        raise SettingsError(
            "precision: is calibrated and judged on the text that the model was trained on, and "
            "the model was adopted without one; name it with --corpus"
        )
    text = load_same_corpus(
        corpus or settings.corpus, Rules.of(settings), sha256=checkpoint.corpus_sha256
    )
    data = prepare_data(text.under(checkpoint.vocabulary), settings)
    if data.validation is None:
        raise SettingsError(
            "precision: the training kept no text for validation, so what a lower precision costs "
            "cannot be measured; train with --validation-fraction above 0, or export in fp32"
        )
    return Texts(training=data.streams.ids.cpu().numpy(), validation=data.validation.cpu().numpy())


def measure_scales(model: CharRNN, training: Ids) -> list[Scale]:
    """Choose what an 8-bit h means in each layer.

    The h of a ReLU network has no bound but zero: the largest that its training text gives becomes
    the largest that can be told apart. All other cells' h lies in (-1, 1).
    """
    if model.settings.cell != "rnn_relu":
        return [UNIT] * (model.settings.members * model.settings.layers)
    rows = _rows(training[:CALIBRATION])
    with torch.inference_mode():
        scales = []
        for network in model.networks:
            x = nn.functional.embedding(torch.from_numpy(rows), network.embedding)
            for layer in _layers(network, model.settings):
                x, _ = layer(x)
                scales.append(Scale(step=max(float(x.max()), 1e-6) / 255, zero_point=0))
    return scales


def _layers(network: Network, settings: ModelSettings) -> Iterator[nn.RNN]:
    """Yield each layer of a ReLU network as one of its own."""
    H = settings.hidden_size
    for index in range(settings.layers):
        inputs = H if index else settings.embedding_size
        layer = nn.RNN(inputs, H, nonlinearity="relu")
        layer.load_state_dict(
            {
                f"{name}_l0": network.recurrent[f"{name}_l{index}"]
                for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            }
        )
        yield layer


def judge(decoder: Decoder, model: CharRNN, validation: Ids) -> Rung:
    """Compare the loss of the compiled loop with torch's on the validation text.

    Both read the text in 64 streams, each from the zero state; of a long text, the beginning of
    each stream.

    Returns:
        By how many nats per symbol the loop is worse; below 0, it is better.
    """
    rows = judged_rows(validation, model.settings.vocabulary_size)
    compiled, trained = _compiled_loss(decoder, rows), loss_in_torch(model, rows)
    return Rung(
        name="quality: validation loss",
        difference=compiled - trained,
        limit=WORSE_AT_MOST,
        compared=f"{rows[1:].size} of {len(validation)} symbols, {trained:.4f} nats in torch, "
        f"{compiled:.4f} here",
    )


def judged_rows(validation: Ids, vocabulary_size: int) -> NDArray[np.int64]:
    """Return what is read of a validation text to judge by, (T, N)."""
    symbols = min(JUDGED_AT_MOST, max(JUDGED_AT_LEAST, LOGITS_AT_MOST // vocabulary_size))
    return _rows(validation, symbols)


def loss_in_torch(model: CharRNN, rows: NDArray[np.int64]) -> float:
    """Return the mean loss of a model in nats per symbol; rows (T, N) start from zero states."""
    tokens = torch.from_numpy(rows)
    return read_streams(model, tokens[:-1], tokens[1:]).loss


def _rows(ids: Ids, judged: int | None = None) -> NDArray[np.int64]:
    """Lay a text out in columns, (T, N); of each only the beginning, if so many are enough."""
    N = min(ROWS, max(len(ids) // 2, 1))
    T = len(ids) // N
    columns = ids[: N * T].reshape(N, T)
    if judged is not None:
        columns = columns[:, : 1 + judged // N]
    return np.ascontiguousarray(columns.T, np.int64)


def _compiled_loss(decoder: Decoder, rows: NDArray[np.int64]) -> float:
    N, total = rows.shape[1], 0.0
    state = decoder.zero_state(N)
    for t in range(0, len(rows) - 1, CALL):
        forced = rows[t + 1 : t + 1 + CALL]
        run = LoopRun.plain(rows[t], forced, np.zeros(forced.shape, np.float32))
        result = decoder.run(run, state)
        total -= float(result.log_probs.sum(dtype=np.float64))
        state = result.state
    return total / rows[1:].size

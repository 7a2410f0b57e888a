"""What a reduced precision costs: it is calibrated on the training text and judged on the rest."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from export.graph.arithmetic import UNIT, Scale
from serving.runtime.decoder import Decoder, LoopRun, State
from training.data.corpus.corpus import load_same_corpus
from training.data.corpus.symbols import Ids
from training.data.decoding.decode import Rules
from training.data.prepared import prepare_data
from training.data.units import Batch, Units
from training.model.model import CharRNN, ModelSettings, Network
from training.model.validation import LOGITS_AT_MOST as WINDOW_LOGITS
from training.model.validation import read_units
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
        units: the documents or records of both, where they stand apart.
    """

    training: Ids
    validation: Ids
    units: tuple[Units, Units] | None = None


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
    of_training, held_out = data.streams, data.held_out
    return Texts(
        training=of_training.ids.cpu().numpy(),
        validation=data.validation.cpu().numpy(),
        units=(of_training, held_out) if isinstance(of_training, Units) and held_out else None,
    )


def measure_scales(model: CharRNN, texts: Texts) -> list[Scale]:
    """Choose what an 8-bit h means in each layer.

    The h of a ReLU network has no bound but zero: the largest that its training text gives becomes
    the largest that can be told apart. All other cells' h lies in (-1, 1).
    """
    if model.settings.cell != "rnn_relu":
        return [UNIT] * (model.settings.members * model.settings.layers)
    if texts.units:
        batches = _first(texts.units[0], CALIBRATION)
    else:
        rows = torch.from_numpy(_rows(texts.training[:CALIBRATION]))
        batches = iter([(rows, rows, True)])
    greatest = [1e-6] * (model.settings.members * model.settings.layers)
    state: list[Tensor | None] = []
    with torch.inference_mode():
        for inputs, _, begins in batches:
            state = [None] * len(greatest) if begins else state
            place = 0
            for network in model.networks:
                x = nn.functional.embedding(inputs, network.embedding)
                for layer in _layers(network, model.settings):
                    x, state[place] = layer(x, state[place])
                    greatest[place] = max(greatest[place], float(x.max()))
                    place += 1
    return [Scale(step=most / 255, zero_point=0) for most in greatest]


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


def judge(decoder: Decoder, model: CharRNN, texts: Texts) -> Rung:
    """Compare the loss of the compiled loop with torch's on the validation text.

    Both read documents or records that stand apart as training does, and any other text in 64
    streams, each from the zero state; of a long text, the beginning of each stream.

    Returns:
        By how many nats per symbol the loop is worse; below 0, it is better.
    """
    V = model.settings.vocabulary_size
    if texts.units:
        batches = list(_first(texts.units[1], _judged_at_most(V)))
    else:
        batches = [_batch(judged_rows(texts.validation, V))]
    trained = read_units(model, _windows(batches, V))
    compiled = _compiled_loss(decoder, batches)
    return Rung(
        name="quality: validation loss",
        difference=compiled - trained.loss,
        limit=WORSE_AT_MOST,
        compared=f"{trained.symbols} of {len(texts.validation)} symbols, {trained.loss:.4f} nats "
        f"in torch, {compiled:.4f} here",
    )


def judged_rows(validation: Ids, vocabulary_size: int) -> NDArray[np.int64]:
    """Return what is read of a validation text to judge by, (T, N)."""
    return _rows(validation, _judged_at_most(vocabulary_size))


def loss_in_torch(model: CharRNN, rows: NDArray[np.int64]) -> float:
    """Return the mean loss of a model in nats per symbol; rows (T, N) start from zero states."""
    return read_units(model, _windows([_batch(rows)], model.settings.vocabulary_size)).loss


def _judged_at_most(vocabulary_size: int) -> int:
    return min(JUDGED_AT_MOST, max(JUDGED_AT_LEAST, LOGITS_AT_MOST // vocabulary_size))


def _first(units: Units, symbols: int) -> Iterator[Batch]:
    """Yield windows of units until they have so many symbols."""
    for inputs, targets, begins in units.all():
        yield inputs.cpu(), targets.cpu(), begins
        symbols -= int((targets >= 0).sum())
        if symbols <= 0:
            return


def _batch(rows: NDArray[np.int64]) -> Batch:
    """Make one window of rows, (T, N), that begin from the zero state."""
    tokens = torch.from_numpy(rows)
    return tokens[:-1], tokens[1:], True


def _windows(batches: Iterable[Batch], vocabulary_size: int) -> Iterator[Batch]:
    """Cut batches into windows of which all logits fit into the memory."""
    for inputs, targets, begins in batches:
        steps = max(1, min(CALL, WINDOW_LOGITS // (inputs.shape[1] * vocabulary_size)))
        for t in range(0, len(inputs), steps):
            yield inputs[t : t + steps], targets[t : t + steps], begins and t == 0


def _rows(ids: Ids, judged: int | None = None) -> NDArray[np.int64]:
    """Lay a text out in columns, (T, N); of each only the beginning, if so many are enough."""
    N = min(ROWS, max(len(ids) // 2, 1))
    T = len(ids) // N
    columns = ids[: N * T].reshape(N, T)
    if judged is not None:
        columns = columns[:, : 1 + judged // N]
    return np.ascontiguousarray(columns.T, np.int64)


def _compiled_loss(decoder: Decoder, batches: Iterable[Batch]) -> float:
    total, symbols = 0.0, 0
    state: State = {}
    for inputs, targets, begins in _windows(batches, vocabulary_size=1):
        state = decoder.zero_state(inputs.shape[1]) if begins else state
        is_text = (targets >= 0).numpy()
        forced = np.where(is_text, targets.numpy(), 0)
        run = LoopRun.plain(inputs[0].numpy(), forced, np.zeros(forced.shape, np.float32))
        result = decoder.run(run, state)
        total -= float(result.log_probs.sum(where=is_text, dtype=np.float64))
        symbols += int(is_text.sum())
        state = result.state
    return total / symbols

"""The checkpoint of an adopted model."""

from dataclasses import dataclass
from pathlib import Path

from export.adopt.proof import Proof
from export.adopt.vocabulary import Text
from export.proof.quality import judged_rows, loss_in_torch
from training.data.corpus.symbols import Ids
from training.data.splits import split_symbols
from training.log.metrics import Metrics
from training.model.model import CharRNN, ModelSettings
from training.run.checkpoint import BEST, Checkpoint, load_checkpoint, save_checkpoint
from training.settings import TrainingSettings
from unroll.bundle.vocabulary import Vocabulary
from unroll.errors import AdoptionError

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


def write(
    model: CharRNN,
    names: dict[str, str],
    vocabulary: Vocabulary,
    text: Text | None,
    proof: Proof,
    folder: Path,
) -> Adoption:
    """Write the checkpoint of a model that has been proved.

    Args:
        model: with the adopted weights.
        names: what its parts are called in theirs.
        vocabulary: of the model.
        text: that it was trained on, if somebody told.
        proof: what was compared.
        folder: to write into.

    Raises:
        AdoptionError: another run is there.
        CorpusError: the text has symbols that the vocabulary lacks.
    """
    corpus = None if text is None else text.corpus.under(vocabulary)
    loss = None if corpus is None else _loss(model, corpus.symbols.ids)
    settings = TrainingSettings(
        corpus="" if text is None else str(text.path.resolve()),
        encoding="utf-8" if text is None else text.encoding,
        nfc=False,
        repair=False,
        cell=model.settings.cell,
    )
    made = Checkpoint(
        model_settings=model.settings,
        training_settings=settings,
        vocabulary=vocabulary,
        corpus_name="" if corpus is None else corpus.name,
        corpus_sha256="" if corpus is None else corpus.sha256,
        metrics=Metrics(update=0, epoch=0, training_loss=0.0, validation_loss=loss, seconds=0.0),
        weights=model.state_dict(),
        is_adopted=True,
    )
    if (folder / BEST).exists() and not load_checkpoint(folder).is_adopted:
        raise AdoptionError(
            f"checkpoint = {folder}: holds a model that was trained there; name another folder"
        )
    folder.mkdir(parents=True, exist_ok=True)
    save_checkpoint(made, folder / BEST)
    return Adoption(checkpoint=folder, model=model.settings, names=names, proof=proof, loss=loss)


def _loss(model: CharRNN, ids: Ids) -> float | None:
    """Return the loss on the end of a text, which export holds out as well."""
    held_out = ids[split_symbols(len(ids), TrainingSettings()).held_out.start :]
    if len(held_out) < 2:
        return None
    rows = judged_rows(held_out, model.settings.vocabulary_size)
    return loss_in_torch(model, rows[:MEASURED])

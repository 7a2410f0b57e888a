"""Checkpoints: one safetensors file, complete in itself.

The weights stand under their names in the model (`embedding.weight`, `recurrent.weight_ih_l0`,
...); what only resuming needs stands under `training.moments.*`, `training.recurrent.*` and
`training.random.*` (of several processes: all their streams side by side, and the random numbers of
process r > 0 under names that end in `.r`). The metadata hold one entry, `unroll`, with JSON:

    format_version   1
    model            cell, vocabulary_size, embedding_size, hidden_size, layers, dropout
    training         the settings of the training
    vocabulary       symbols in id order, start_symbol; unknown_symbol where there is one
    text_form        line_ends, unicode: what every text is brought into; missing before 0.2
    corpus           name, sha256; empty where an adopted model came without its text
    adopted          whether another program trained it; missing before 0.2
    metrics          update, epoch, training_loss, validation_loss, seconds
    progress         how far the training has come; null where it cannot be resumed
"""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from dacite import Config, DaciteError, from_dict
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from training.log.metrics import Metrics
from training.model.model import CharRNN, ModelSettings
from training.model.optimizer import MOMENTS
from training.run.state import Progress, TrainingState
from training.settings import TrainingSettings
from unroll.bundle.form import TextForm
from unroll.bundle.vocabulary import Vocabulary
from unroll.errors import CheckpointError, SettingsError, counted

FORMAT_VERSION = 1
KEY = "unroll"
PARTS = ("moments", "recurrent", "random")
UPDATES_AT_LEAST = 100  # fewer train hardly more than the bias: the warm-up alone takes 50
# Checkpoints of 0.1 do not say how their text was repaired: it was as ftfy thought fit.
REPAIRED_BY_FTFY = {"repair": None}
BEST, LAST, METRICS = "best.safetensors", "last.safetensors", "metrics.jsonl"  # in a run's folder
# What reading a description raises that is not what a checkpoint's should be; RuntimeError is
# torch's about sizes.
WRONG = (
    CheckpointError, SettingsError, DaciteError,
    ValueError, KeyError, TypeError, AttributeError, RuntimeError,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A trained model with all that is needed to use it and to know where it comes from."""

    model_settings: ModelSettings
    training_settings: TrainingSettings
    vocabulary: Vocabulary
    corpus_name: str
    corpus_sha256: str
    metrics: Metrics
    weights: dict[str, Tensor]
    state: TrainingState | None = None
    """What resuming needs; in `last.safetensors` only."""

    is_adopted: bool = False
    """Whether another program trained it; then the training loss means nothing."""

    def model(self) -> CharRNN:
        """Build the model with its weights, in evaluation mode."""
        model = CharRNN(self.model_settings)
        model.load_state_dict(self.weights)
        return model.eval()

    @property
    def doubt(self) -> str | None:
        """Why nobody should expect much of the model; None where there is no such reason."""
        updates, loss = self.metrics.update, self.metrics.loss
        uniform = math.log(len(self.vocabulary))
        if self.is_adopted or (updates >= UPDATES_AT_LEAST and loss < uniform):
            return None
        return (
            f"hardly trained: {counted(updates, 'update')}, loss {loss:.2f} nats per symbol, where "
            f"a uniform guess costs {uniform:.2f}; give the training more time"
        )


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint; under its name there is always a whole file, the old or the new one."""
    tensors = dict(checkpoint.weights)
    if checkpoint.state is not None:
        for part in PARTS:
            named: dict[str, Tensor] = getattr(checkpoint.state, part)
            tensors |= {f"training.{part}.{name}": tensor for name, tensor in named.items()}
    temporary = path.with_name(f".{path.name}.part")
    try:
        save_file(tensors, temporary, {KEY: json.dumps(_description(checkpoint))})
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _description(checkpoint: Checkpoint) -> dict[str, Any]:
    state, vocabulary = checkpoint.state, checkpoint.vocabulary
    settings = asdict(checkpoint.training_settings)
    progress = asdict(state.progress) if state else None
    if progress and progress["best_loss"] == math.inf:
        del progress["best_loss"]  # JSON has no infinity
    return {
        "format_version": FORMAT_VERSION,
        "model": asdict(checkpoint.model_settings),
        "training": settings | {"runs_dir": str(settings["runs_dir"])},
        "vocabulary": _written(vocabulary),
        "text_form": asdict(vocabulary.form),
        "corpus": {"name": checkpoint.corpus_name, "sha256": checkpoint.corpus_sha256},
        "adopted": checkpoint.is_adopted,
        "metrics": asdict(checkpoint.metrics),
        "progress": progress,
    }


def _written(vocabulary: Vocabulary) -> dict[str, str]:
    unknown = vocabulary.unknown_symbol
    return {
        "symbols": vocabulary.symbols,
        "start_symbol": vocabulary.start_symbol,
        **({"unknown_symbol": unknown} if unknown else {}),
    }


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint and check all that it says twice.

    Args:
        path: a checkpoint, or the folder of a run, whose best one is taken.

    Raises:
        CheckpointError: there is none, or it is damaged, incomplete, inconsistent or of another
            version.
    """
    file = path / BEST if path.is_dir() else path
    if not file.is_file():
        raise CheckpointError(f"{file}: no such checkpoint; {_way_to_get_one(file)}")
    try:
        with safe_open(file, framework="pt") as opened:
            metadata = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{file}: damaged, or not a safetensors file ({error}); train again or restore a copy"
        ) from error
    description = _read_description(file, metadata)
    try:
        return _assemble(description, tensors)
    except WRONG as error:
        reason = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else error
        raise CheckpointError(f"{file}: {reason}; the file was changed, train again") from error


def _way_to_get_one(file: Path) -> str:
    if file.name == BEST and (file.parent / LAST).is_file():
        return "the run was stopped before its first validation: continue it with --resume"
    if file.name == BEST and (file.parent / METRICS).is_file():
        return "the run ended before anything was saved: train again"
    return "train one with `unroll train`"


def _read_description(file: Path, metadata: dict[str, str]) -> dict[str, Any]:
    if KEY not in metadata:
        raise CheckpointError(
            f"{file}: no {KEY!r} among its metadata ({', '.join(sorted(metadata)) or 'none'}); "
            "it is another program's file"
        )
    try:
        description = json.loads(metadata[KEY])
    except ValueError as error:
        raise CheckpointError(f"{file}: its description is not JSON: {error}") from error
    version = description.get("format_version") if isinstance(description, dict) else None
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{file}: format version {version!r}, this program reads {FORMAT_VERSION}; train again "
            "or use the program that wrote it"
        )
    return dict(description)


def _assemble(description: dict[str, Any], tensors: dict[str, Tensor]) -> Checkpoint:
    exact = Config(strict=True)
    model_settings = from_dict(ModelSettings, description["model"], exact)
    form = from_dict(TextForm, description.get("text_form", {}), exact)
    vocabulary = Vocabulary(**description["vocabulary"], form=form)
    if len(vocabulary) != model_settings.vocabulary_size:
        raise CheckpointError(
            f"vocabulary of {len(vocabulary)} symbols, model of {model_settings.vocabulary_size}"
        )
    weights = {name: t for name, t in tensors.items() if not name.startswith("training.")}
    if model_settings.layers > len(weights):  # before a model of so many layers is built
        raise CheckpointError(f"layers = {model_settings.layers}, but {len(weights)} weights")
    with torch.device("meta"), _Undrawn():
        model = CharRNN(model_settings)
    _check_weights(weights, model)
    return Checkpoint(
        model_settings=model_settings,
        training_settings=from_dict(
            TrainingSettings,
            REPAIRED_BY_FTFY | description["training"],
            Config(strict=True, cast=[Path, float]),
        ),
        vocabulary=vocabulary,
        corpus_name=description["corpus"]["name"],
        corpus_sha256=description["corpus"]["sha256"],
        metrics=from_dict(Metrics, description["metrics"], exact),
        weights=weights,
        state=_state(description["progress"], tensors, model),
        is_adopted=description.get("adopted", False) is True,
    )


class _Undrawn(TorchFunctionMode):
    """Leaves out normal numbers: to draw them on "meta", torch imports its compiler, a second."""

    def __torch_function__(
        self, func: Callable[..., Any], _: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        return kwargs["tensor"] if func is nn.init.normal_ else func(*args, **kwargs)


def _check_weights(weights: dict[str, Tensor], model: CharRNN) -> None:
    expected = model.state_dict()
    missing, unknown = sorted(expected.keys() - weights), sorted(weights.keys() - expected)
    if missing or unknown:
        raise CheckpointError(f"weights missing: {missing}, weights unknown: {unknown}")
    for name, weight in weights.items():
        if weight.shape != expected[name].shape:
            shapes = f"{tuple(weight.shape)}, its settings say {tuple(expected[name].shape)}"
            raise CheckpointError(f"{name} has shape {shapes}")
        if weight.dtype != torch.float32:
            raise CheckpointError(f"{name} is {weight.dtype}, must be torch.float32")
        if not bool(weight.isfinite().all()):
            raise CheckpointError(f"{name} holds values that are not finite")


def _state(
    progress: dict[str, Any] | None, tensors: dict[str, Tensor], model: CharRNN
) -> TrainingState | None:
    parts: dict[str, dict[str, Tensor]] = {part: {} for part in PARTS}
    for name, tensor in tensors.items():
        if name.startswith("training."):
            _, part, rest = name.split(".", 2)
            parts[part][rest] = tensor
    if progress is None:
        return None
    read = from_dict(Progress, progress, Config(strict=True))
    _check_state(parts, model, begun=read.update > 0)
    weights = {name: tensors[name] for name in model.state_dict()}
    return TrainingState(progress=read, weights=weights, **parts)


def _check_state(parts: dict[str, dict[str, Tensor]], model: CharRNN, *, begun: bool) -> None:
    expected = {f"{n}.{m}": w for n, w in model.state_dict().items() for m in MOMENTS}
    wrong = sorted(parts["moments"].keys() ^ (expected.keys() if begun else set()))
    if wrong:
        raise CheckpointError(f"optimizer moments missing or unknown: {wrong}")
    for name, moment in parts["moments"].items():
        shape = torch.Size() if name.endswith(".step") else expected[name].shape
        if moment.shape != shape:
            raise CheckpointError(f"moment {name} has shape {tuple(moment.shape)}, not {shape}")
    zero = model.zero_state(1)
    names = {name: (tensor.shape[0], tensor.shape[2]) for name, tensor in zero.items()}
    found = {name: (t.shape[0], t.shape[-1]) for name, t in parts["recurrent"].items()}
    if found != names:
        raise CheckpointError(f"recurrent state is {found} (layers, size), not {names}")
    if "cpu" not in parts["random"]:
        raise CheckpointError("random numbers: the generator's state is missing")

"""Everything that can be set about a training, with the rules between the settings."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from unroll.errors import SettingsError
from unroll.ranges import Range, check_ranges, wrong_setting

Cell = Literal["rnn_tanh", "rnn_relu", "gru", "lstm"]
Split = Literal["test", "tune"]
SEED_LIMIT = 2**63  # of torch's generator


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """Train a character-level recurrent language model on a text."""

    corpus: str = "casebook"
    """Name of a corpus (casebook, sherlock, shakespeare, tinyshakespeare) or path of a text."""

    encoding: str = "utf-8"
    """Encoding of the text."""

    max_symbols: Annotated[int, Range(0, 10**12)] = 0
    """Train on the first so many symbols only; 0 takes all. The vocabulary is the whole text's."""

    validation_fraction: Annotated[float, Range(0, 0.5)] = 0.1
    """Share of the text, at its end, that is kept for validation."""

    split: Split = "test"
    """What is kept: the text's end (test); or, to choose settings by, the end of what precedes that
    (tune), and the text's end is never read."""

    name: str = ""
    """Name of the run; by default the corpus's name and the cell's."""

    runs_dir: Path = Path("runs")
    """Folder that holds a folder for every run."""

    resume: bool = False
    """Continue the run of that name where it was saved, with the settings it was started with."""

    cell: Cell = "gru"
    """Recurrent cell."""

    embedding_size: Annotated[int, Range(1, 2**16)] = 64
    """Size E of a symbol's embedding."""

    hidden_size: Annotated[int, Range(1, 2**16)] = 256
    """Size H of a layer's state."""

    layers: Annotated[int, Range(1, 1024)] = 1
    """Number L of recurrent layers."""

    members: Annotated[int, Range(1, 1024)] = 1
    """Number M of networks side by side, of these sizes each: every one is trained by a loss of its
    own, and their logits are averaged."""

    dropout: Annotated[float, Range(0, below=1)] = 0.2
    """Probability of dropping an activation, between layers and after the last."""

    weight_dropout: Annotated[float, Range(0, below=1)] = 0.0
    """Probability of dropping a recurrent weight for the length of a window."""

    init: Literal["tuned", "torch"] = "tuned"
    """Initial weights: chosen for each cell, or as torch does it."""

    streams: Annotated[int, Range(1, 2**20)] = 64
    """Number N of stretches of the text that are read side by side."""

    window: Annotated[int, Range(1, 2**20)] = 64
    """Number T of symbols that gradients flow back through."""

    respell_names: Annotated[float, Range(0, 1)] = 0.0
    """Share of the names (words that the text never writes in lower case) that each epoch spells
    otherwise, so that none is learned by heart."""

    start_offset: Annotated[int, Range(0, 10**12)] = 0
    """Each epoch starts at a random one of the first so many symbols and ends with the text; 0 lets
    it start at any symbol and go round."""

    epochs: Annotated[int, Range(0, 10**9)] = 0
    """Length of the training in epochs; give this or minutes."""

    minutes: Annotated[float, Range(0, 10**6)] = 0.0
    """Length of the training in minutes, validation and samples included."""

    optimizer: Literal["adamw", "adam"] = "adamw"
    """Optimizer."""

    learning_rate: Annotated[float, Range(above=0, most=10)] = 4e-3
    """Highest learning rate."""

    schedule: Literal["linear", "constant"] = "linear"
    """Learning rate after the warm-up: falling to zero, or staying."""

    warmup_fraction: Annotated[float, Range(0, below=1)] = 0.03
    """Share of the training in which the rate rises from zero. By the clock, over 50
    updates at least; 0 is none."""

    weight_decay: Annotated[float, Range(0, 1000)] = 0.02
    """Weight decay of the matrices (adamw only)."""

    beta2: Annotated[float, Range(above=0, below=1)] = 0.99
    """Decay of the optimizer's second moment."""

    gradient_clip: Annotated[float, Range(0, 10**9)] = 1.0
    """Highest norm of the gradient; 0 leaves it as it is."""

    validate_every: Annotated[int, Range(0, 10**9)] = 0
    """Validate, sample and save after every so many updates; 0 does it after each epoch."""

    patience: Annotated[int, Range(0, 10**9)] = 0
    """Stop after so many validations in a row without a better one; 0 never does."""

    sample_symbols: Annotated[int, Range(0, 10**6)] = 200
    """Length of the sample that is drawn at every validation; 0 draws none."""

    snapshots: bool = False
    """Keep the weights before the first update and, at validations, whenever the number of updates
    has doubled, in the run's folder `snapshots`."""

    tensorboard: bool = False
    """Write curves and samples for TensorBoard too; needs the extra `tensorboard`."""

    seed: Annotated[int, Range(0, below=SEED_LIMIT)] = 25
    """Seed of everything random."""

    threads: Annotated[int, Range(0, 1024)] = 0
    """Processor threads; 0 leaves it to torch. On a busy processor 1 is best, because of two
    each spends its time waiting for the other."""

    device: Literal["cpu", "cuda"] = "cpu"
    """Where to train."""

    precision: Literal["auto", "fp32", "tf32", "bf16"] = "fp32"
    """What the operands of products are rounded to while training; sums and weights are
    float32 in any case, and so is every validation; cuDNN's layers carry the state through a window
    in bf16, too, those of the CPU in float32. auto takes bf16 where the device multiplies it
    natively, else fp32, and says so."""

    def validate(self) -> None:
        """Check every range and every rule between settings.

        Raises:
            SettingsError: one is broken; the message names the setting, its value and the range.
        """
        check_ranges(self)
        if self.split != "test" and self.validation_fraction == 0:
            raise wrong_setting("split", self.split, "'test' where validation_fraction is 0")
        if set(self.name) & set("/\\") or self.name in {".", ".."}:
            raise wrong_setting("name", self.name, "a plain folder name")
        if (self.epochs > 0) == (self.minutes > 0):
            raise SettingsError(
                f"epochs = {self.epochs} and minutes = {self.minutes:g}: a training needs exactly "
                "one of them above 0; set one and leave the other out (or take a --preset)"
            )
        if self.optimizer == "adam" and self.weight_decay > 0:
            raise SettingsError(
                f"weight_decay = {self.weight_decay:g}: adam has none here; set it to 0, or "
                "optimizer = adamw"
            )

    @property
    def run_name(self) -> str:
        """The run's name, derived from corpus and cell where none is given."""
        return self.name or f"{Path(self.corpus).stem}-{self.cell}"

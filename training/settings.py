"""The settings of a training, and the rules between them."""

import os
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
    """Name of a corpus (casebook, sherlock, shakespeare, tinyshakespeare), or path of a text: a
    file, plain or packed with gzip or zstd; a folder; a pattern such as `notes/*.md`; or several of
    these with `:` between them."""

    encoding: str = "utf-8"
    """Encoding of the text."""

    bad_bytes: Literal["refuse", "replace"] = "refuse"
    """What to do with bytes that are invalid in the encoding: refuse the text, or put U+FFFD in
    their place."""

    keep_line_ends: bool = False
    """Keep carriage returns. By default CRLF and CR become newlines, here and in every prompt and
    text to score."""

    nfc: bool = True
    """If the text is in Unicode's composed form (NFC), convert every prompt and text to score to it
    as well, so that an accented letter is found however it was typed."""

    repair: bool | None = True
    """Repair a text that was encoded as UTF-8 twice (an e with an accent became two symbols). The
    run says what was changed."""

    documents: bool = False
    """Read each file from a zero state, and hold out whole files. By default all is one text."""

    records: bool = False
    """Read each line from a zero state, and hold out whole lines: for names, molecules or log
    lines. The model then writes one line and ends. By default all is one text."""

    rare_symbols: Annotated[int, Range(0, 10**9)] = 0
    """Read every symbol that occurs fewer times than this in the training part as one unknown
    symbol, and later every symbol outside the vocabulary. The model reads the unknown symbol and
    never writes it. For large alphabets, such as Chinese; 0 keeps all symbols."""

    max_symbols: Annotated[int, Range(0, 10**12)] = 0
    """Use only this many symbols from the beginning of the text; 0 uses all. The vocabulary is
    always that of the whole text."""

    validation_fraction: Annotated[float, Range(0, 0.5)] = 0.1
    """Share of the text, at its end, that is held out for validation."""

    split: Split = "test"
    """`test` holds out the end of the text. `tune` holds out the part before it and never reads the
    end; use it to choose settings."""

    name: str = ""
    """Name of the run. Default: the names of corpus and cell."""

    runs_dir: Path = Path("runs")
    """Folder that holds one folder for each run."""

    resume: bool = False
    """Continue the run of this name from its last save, with the settings it was started with."""

    from_: str = ""
    """Start a new run with the weights of this one (a folder or a checkpoint file): for more time,
    on another text, or at another rate. Settings that are not given are the old run's."""

    add_symbols: str = ""
    """With `--from`: symbols to add to the vocabulary, so that the text may contain them."""

    cell: Cell = "gru"
    """Recurrent cell."""

    embedding_size: Annotated[int, Range(1, 2**16)] = 64
    """Size E of the embedding of a symbol."""

    hidden_size: Annotated[int, Range(1, 2**16)] = 256
    """Size H of the state of a layer."""

    layers: Annotated[int, Range(1, 1024)] = 1
    """Number L of recurrent layers."""

    members: Annotated[int, Range(1, 1024)] = 1
    """Number M of networks side by side, each of these sizes and trained by its own loss. Their
    logits are averaged."""

    dropout: Annotated[float, Range(0, below=1)] = 0.2
    """Probability of dropping an activation, between layers and after the last one."""

    weight_dropout: Annotated[float, Range(0, below=1)] = 0.0
    """Probability of dropping a recurrent weight for the length of a window."""

    init: Literal["tuned", "torch"] = "tuned"
    """Initial weights: tuned for each cell, or torch's defaults."""

    streams: Annotated[int, Range(1, 2**20)] = 64
    """Batch size N: the number of stretches of the text that are read side by side."""

    window: Annotated[int, Range(1, 2**20)] = 64
    """Length T of the windows through which gradients flow back, in symbols."""

    respell_names: Annotated[float, Range(0, 1)] = 0.0
    """Share of the names that each epoch spells differently, so that the model does not learn them
    by heart. A name is a word that the text never writes in lower case. Switched off for texts
    that this does not suit, such as German, program code and texts of over 16 million symbols."""

    start_offset: Annotated[int, Range(0, 10**12)] = 0
    """Start each epoch at a random one of this many first symbols, and end it with the text. With 0
    an epoch starts at any symbol and wraps around."""

    epochs: Annotated[int, Range(0, 10**9)] = 0
    """Length of the training in epochs: how often the whole text is read. Given with minutes, what
    comes first ends the training. A length that you give replaces that of a preset."""

    minutes: Annotated[float, Range(0, 10**6)] = 0.0
    """Length of the training in minutes; the text is read as often as they allow, which may be
    less than once. Given with epochs, what comes first ends the training. Validation and samples
    take at most a tenth of the minutes: of a long text, validation reads stretches that are spread
    evenly."""

    optimizer: Literal["adamw", "adam"] = "adamw"
    """Optimizer."""

    learning_rate: Annotated[float, Range(above=0, most=10)] = 4e-3
    """Peak learning rate."""

    schedule: Literal["linear", "constant"] = "linear"
    """Learning rate after the warm-up: linear decay to zero, or constant."""

    warmup_fraction: Annotated[float, Range(0, below=1)] = 0.03
    """Share of the training in which the learning rate rises from zero; 0 disables. If the length
    is in minutes, the warm-up takes at least 50 updates."""

    weight_decay: Annotated[float, Range(0, 1000)] = 0.02
    """Weight decay of the matrices (adamw only)."""

    beta2: Annotated[float, Range(above=0, below=1)] = 0.99
    """Decay of the optimizer's second moment."""

    gradient_clip: Annotated[float, Range(0, 10**9)] = 1.0
    """Maximum norm of the gradient; 0 disables clipping."""

    validate_every: Annotated[int, Range(0, 10**9)] = 0
    """Validate, sample and save after every this many updates; 0 does so once an epoch."""

    patience: Annotated[int, Range(0, 10**9)] = 0
    """Stop after this many validations in a row without a better loss; 0 disables."""

    sample_symbols: Annotated[int, Range(0, 10**6)] = 200
    """Length of the sample that each validation writes, in symbols; shorter if it would take more
    than a fiftieth of the minutes; 0 writes none."""

    snapshots: bool = False
    """Keep the weights in the run's folder `snapshots`: before the first update, and whenever the
    number of updates has doubled at a validation."""

    tensorboard: bool = False
    """Also write curves and samples for TensorBoard. Needs the extra `tensorboard`."""

    seed: Annotated[int, Range(0, below=SEED_LIMIT)] = 25
    """Seed of all random numbers."""

    threads: Annotated[int, Range(0, 1024)] = 0
    """Number of threads; 0 leaves it to torch. Use 1 on a busy processor, where threads wait for
    each other."""

    device: Literal["cpu", "cuda"] = "cpu"
    """Device to train on."""

    precision: Literal["auto", "fp32", "tf32", "bf16"] = "fp32"
    """Precision of the operands of matrix products. Sums, weights and validation are always
    float32. On CUDA with bf16, cuDNN also carries the state in bf16. `auto` takes bf16 where the
    device has it, else fp32, and logs which."""

    def validate(self) -> None:
        """Check every range and every rule between settings.

        Raises:
            SettingsError: one is broken; the message names the setting, its value and the range.
        """
        check_ranges(self)
        if not self.corpus:
            raise wrong_setting("corpus", self.corpus, "the name of a corpus or the path of a text")
        if self.split != "test" and self.validation_fraction == 0:
            raise wrong_setting("split", self.split, "'test' where validation_fraction is 0")
        if set(self.name) & set("/\\") or self.name in {".", ".."}:
            raise wrong_setting("name", self.name, "a plain folder name")
        self._validate_length()
        self._validate_apart()
        if self.add_symbols and not self.from_:
            raise SettingsError(
                "add_symbols: a new model has all symbols of its text; leave it out, or name a run "
                "to go on with (--from)"
            )
        if self.optimizer == "adam" and self.weight_decay > 0:
            raise SettingsError(
                f"weight_decay = {self.weight_decay:g}: adam has no weight decay here; set it to "
                "0, or "
                "optimizer = adamw"
            )

    def _validate_length(self) -> None:
        if not self.epochs and not self.minutes:
            raise SettingsError(
                "epochs = 0 and minutes = 0: a training lasts a number of epochs or of minutes, so "
                "at least one of them is above 0; give --epochs, --minutes or a --preset"
            )

    def _validate_apart(self) -> None:
        if self.documents and self.records:
            raise SettingsError(
                "documents and records: files or lines are kept apart, not both; give only one of "
                "--documents and --records"
            )
        if self.apart and self.start_offset:
            raise SettingsError(
                f"start_offset = {self.start_offset}: each epoch shuffles the {self.unit}s, so it "
                "has no meaning; leave it out"
            )
        if self.apart and self.respell_names:
            raise SettingsError(
                f"respell_names = {self.respell_names:g}: names are respelled in one long text "
                f"only, not in {self.unit}s; set --respell-names 0"
            )

    @property
    def apart(self) -> bool:
        """Whether the text consists of units that are read each from a zero state."""
        return bool(self.unit)

    @property
    def unit(self) -> str:
        """What such a unit is called; empty for one long text."""
        return "record" if self.records else "document" if self.documents else ""

    @property
    def is_of_0_1(self) -> bool:
        """Whether a run was started by 0.1, which did not measure what it did to its text."""
        return self.repair is None

    @property
    def run_name(self) -> str:
        """The run's name, derived from corpus and cell where none is given."""
        return self.name or f"{corpus_name(self.corpus)}-{self.cell}"


def corpus_name(corpus: str) -> str:
    """Return a short name for what names a corpus: of files, the first one's stem."""
    stem = (
        Path(corpus.split(os.pathsep, maxsplit=1)[0]).name.removesuffix(".gz").removesuffix(".zst")
    )
    name = Path(stem).stem
    return "".join(symbol for symbol in name if symbol not in "*?[]") or "text"

"""The contents of a bundle's manifest.json."""

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from unroll.bundle.form import AS_IT_IS, TextForm
from unroll.bundle.vocabulary import Vocabulary

FORMAT_VERSION = 2
MANIFEST = "manifest.json"
STEP = "step.onnx"
DECODE = "decode.onnx"
DECODE_FILTERED = "decode-filtered.onnx"
DECODE_FULL = "decode-full.onnx"
DECODE_CONSTRAINED = "decode-constrained.onnx"
DECODES = (DECODE, DECODE_FILTERED, DECODE_FULL, DECODE_CONSTRAINED)
INSPECT = "inspect.onnx"
READ = "read.onnx"
# Bundles of 0.1 have none of them, and stay valid.
LATER = {DECODE_FULL, DECODE_CONSTRAINED, INSPECT, READ}
WEIGHTS = "weights.bin"
BATCH = "batch"
TIME = "time"
SLOTS = "slots"


@dataclass(frozen=True, kw_only=True)
class Unrolled:
    """One of the graphs that a bundle for CUDA has besides: `length` steps of the loop's body."""

    length: int
    filtered: bool

    @property
    def name(self) -> str:
        """Name of its file."""
        return f"unrolled-{self.length}{'-filtered' if self.filtered else ''}.onnx"


def unrolled(*lengths: int) -> tuple[Unrolled, ...]:
    """The graphs of these lengths, with filters and without."""
    return tuple(
        Unrolled(length=length, filtered=filtered)
        for length in lengths
        for filtered in (False, True)
    )


UNROLLED = unrolled(8, 1)
UNROLLED_IN_0_1 = unrolled(32, 8, 1)  # those bundles stay valid


def unrolled_among(graphs: Collection[str]) -> tuple[Unrolled, ...]:
    """The unrolled graphs among a bundle's, the longest first; none if it is for the CPU alone."""
    return tuple(kind for kind in UNROLLED_IN_0_1 if kind.name in graphs)


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """An input or output of a graph: name, dtype (numpy's name), shape (names are symbolic)."""

    name: str
    dtype: str
    shape: list[int | str]


@dataclass(frozen=True, kw_only=True)
class StateTensor:
    """A recurrent state tensor: the graph's input and output names, dtype and shape.

    The shape is (layers, "batch", hidden), of a model of several networks the layers of all. Zero
    is the state before any symbol.
    """

    input: str
    output: str
    dtype: str
    shape: list[int | str]


@dataclass(frozen=True, kw_only=True)
class GraphSpec:
    """The inputs and outputs of one graph, in order."""

    inputs: list[TensorSpec]
    outputs: list[TensorSpec]


@dataclass(frozen=True, kw_only=True)
class FileSpec:
    """Size in bytes and sha256 in hex of one file."""

    size: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class ModelSummary:
    """What the model is, for people. The native kernels go by it, too, and are then proved."""

    cell: str
    layers: int
    hidden_size: int
    embedding_size: int
    parameters: int
    precision: str
    members: int = 1


def architecture(cell: str, hidden_size: int, layers: int, members: int) -> str:
    """Return a model's sizes in one line: `gru 512x1`, or `2 x gru 432x1` of two side by side."""
    return f"{members} x " * (members > 1) + f"{cell} {hidden_size}x{layers}"


@dataclass(frozen=True, kw_only=True)
class TrainingSummary:
    """Where the weights come from; losses in nats per symbol."""

    corpus: str
    corpus_sha256: str
    updates: int
    training_loss: float | None
    validation_loss: float | None


@dataclass(frozen=True, kw_only=True)
class Rung:
    """A rung of the parity ladder: its name, greatest difference, the limit, what it compared."""

    name: str
    difference: float
    limit: float
    compared: str


@dataclass(frozen=True, kw_only=True)
class ParityReport:
    """What the compiled graphs were compared on, and how far they were from torch."""

    torch_version: str
    onnxruntime_version: str
    rungs: list[Rung]


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The bundle's own description of itself."""

    format_version: int
    symbols: str
    start_symbol: str
    state: list[StateTensor]
    graphs: dict[str, GraphSpec]
    files: dict[str, FileSpec]
    model: ModelSummary
    training: TrainingSummary
    parity: ParityReport
    fingerprint: str
    text_form: TextForm = AS_IT_IS
    unknown_symbol: str = ""

    @property
    def vocabulary(self) -> Vocabulary:
        """The model's vocabulary.

        Raises:
            ValueError: it contradicts itself.
        """
        return Vocabulary(self.symbols, self.start_symbol, self.text_form, self.unknown_symbol)


def fingerprint_of(
    symbols: str,
    start_symbol: str,
    state: list[StateTensor],
    files: Mapping[str, FileSpec],
    text_form: TextForm = AS_IT_IS,
    unknown_symbol: str = "",
) -> str:
    """Hash all that determines the text: vocabulary, state, decode graphs, weights, texts' form.

    A form that leaves every text as it is does not enter it, nor does the absence of an unknown
    symbol: bundles had neither before.

    The other graphs do not enter it: they compute what those two compute, bit for bit on the CPU.
    So a bundle that has more of them is the same model, and its capsules go on elsewhere.

    Returns:
        A sha256 in hex.
    """
    determines_text: dict[str, Any] = {
        "symbols": symbols,
        "start_symbol": start_symbol,
        "state": [asdict(tensor) for tensor in state],
        "files": {name: files[name].sha256 for name in (DECODE, DECODE_FILTERED, WEIGHTS)},
    }
    if text_form != AS_IT_IS:
        determines_text["text_form"] = asdict(text_form)
    if unknown_symbol:
        determines_text["unknown_symbol"] = unknown_symbol
    canonical = json.dumps(determines_text, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()

"""The settings of an evaluation."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from training.settings import Split
from unroll.errors import SettingsError
from unroll.ranges import Range, check_ranges


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """Measure a trained model on text that it was not trained on."""

    checkpoint: Path
    """Run folder (its best checkpoint is used) or checkpoint file."""

    corpus: str | None = None
    """Name or path of the text. Default: the text of the training, where the training found it.
    Another text is measured on its last tenth, and refused if the training text contains that."""

    split: Split | None = None
    """Part of the text to measure on. Default: the part that the training held out."""

    adaptive: Annotated[bool, Parameter(negative=())] = False
    """Also measure with weights that learn from the text while it is read. That figure cannot be
    compared with others, and takes minutes."""

    target: str = ""
    """Address of a server, as HOST:PORT, that scores the same text. The figures must agree. The
    token is read from the variable UNROLL_TOKEN, if set."""

    model: str = ""
    """Name of the model on that server. Default: its first model."""

    json: Path | None = None
    """File to write the figures to."""

    threads: Annotated[int, Range(0, 1024)] = 0
    """Number of threads; 0 leaves it to torch. 1 is best for a single stream."""

    device: Literal["cpu", "cuda"] = "cpu"
    """Device to compute on."""

    def validate(self) -> None:
        """Check what can be checked before anything is read.

        Raises:
            SettingsError: a rule is broken; the message names the setting and its value.
        """
        check_ranges(self)
        if self.model and not self.target:
            raise SettingsError(f"model = {self.model!r}: needs a server; name one with --target")
        if self.json is not None and not self.json.parent.is_dir():
            raise SettingsError(
                f"json = {str(self.json)!r}: there is no folder {self.json.parent}; make it, or "
                "change --json"
            )

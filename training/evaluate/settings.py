"""Everything that can be set about an evaluation."""

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
    """A run's folder (its best checkpoint is taken) or a checkpoint file."""

    corpus: str | None = None
    """Name or path of the text; by default what the model was trained on, where the training found
    it. Of another text the last tenth is taken, unless the training's text holds it."""

    split: Split | None = None
    """Which part of the text; by default the one that the training held out."""

    adaptive: Annotated[bool, Parameter(negative=())] = False
    """Also let the weights follow the text while it is read, at a rate chosen on training text: a
    figure apart from all others, which takes minutes."""

    target: str = ""
    """Address of a server, as HOST:PORT: it scores the text too, and the figures must agree. Its
    token is taken from the variable UNROLL_TOKEN, if set."""

    model: str = ""
    """Name of the model there; by default the server's first."""

    json: Path | None = None
    """File to write the figures to."""

    threads: Annotated[int, Range(0, 1024)] = 0
    """Processor threads; 0 leaves it to torch. One is best for a single stream."""

    device: Literal["cpu", "cuda"] = "cpu"
    """Where to read."""

    def validate(self) -> None:
        """Check what can be checked before anything is read.

        Raises:
            SettingsError: a rule is broken; the message names the setting and its value.
        """
        check_ranges(self)
        if self.model and not self.target:
            raise SettingsError(
                f"model = {self.model!r}: is of use with a server alone; name one with --target"
            )
        if self.json is not None and not self.json.parent.is_dir():
            raise SettingsError(
                f"json = {str(self.json)!r}: there is no folder {self.json.parent}; make it, or "
                "change --json"
            )

"""Where `buf` is."""

from importlib.metadata import distribution
from pathlib import Path

_BUF = distribution("buf-bin")
(BUF,) = (
    Path(str(_BUF.locate_file(file))).resolve()
    for file in _BUF.files or ()
    if file.stem == "buf" and file.parent.name == "bin"
)

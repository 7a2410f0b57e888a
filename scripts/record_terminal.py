"""Write what a command prints as an SVG: `python scripts/record_terminal.py FILE COMMAND...`.

The command runs in a pseudo terminal, so that it prints as to a person; the picture holds its last
lines. docs/images/demo.svg is `python scripts/record_terminal.py docs/images/demo.svg make demo`.
"""

import io
import os
import pty
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

COLUMNS, LINES = 96, 33


def record(command: list[str]) -> list[str]:
    """Run a command in a pseudo terminal and return its last lines; exit as it does if it fails."""
    output = bytearray()

    def read(terminal: int) -> bytes:
        data = os.read(terminal, 1024)
        output.extend(data)
        return data

    os.environ["COLUMNS"] = str(COLUMNS)
    if status := os.waitstatus_to_exitcode(pty.spawn(command, read)):
        raise SystemExit(status)
    lines = output.decode("utf-8").replace("\r\n", "\n").split("\n")
    return [line.rpartition("\r")[2] for line in lines][-LINES:]  # a progress bar's last state


def main(file: str, *command: str) -> None:
    """Run the command and write the picture."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    for line in [f"$ {' '.join(command)}", "...", *record([*command])]:
        console.print(Text.from_ansi(line), highlight=False)
    Path(file).write_text(console.export_svg(title=" ".join(command)), "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])

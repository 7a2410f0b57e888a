"""Write the blocking half of the client, which is the asyncio half without asyncio.

`python scripts/unasync.py` writes it; with `--check` it compares, and fails where they differ.
"""

import re
import subprocess
import sys
from difflib import unified_diff
from pathlib import Path

CLIENT = Path(__file__).parents[1] / "unroll" / "client"
FILES = {
    "aio.py": "client.py",
    "faces/aio_backend.py": "faces/backend.py",
    "remote/aio_bulk.py": "remote/bulk.py",
    "remote/aio_calls.py": "remote/calls.py",
    "faces/aio_face.py": "faces/face.py",
    "faces/aio_session.py": "faces/session.py",
}
REPLACED = (
    # Texts that differ; each must occur somewhere.
    (
        r"belongs to the event loop on which it was made\.",
        "one client can be used by many threads.",
    ),
    (
        r"Closing the iterator early\n( +)\(`contextlib\.aclosing`\) cancels the call\.",
        r"Closing the iterator early, or\n\1dropping it, cancels the call.",
    ),
    (r"for asyncio\b", "for threads"),
    # Modules.
    (r"\bunroll\.client\.(\w+)\.aio_", r"unroll.client.\1."),
    (r"\bimport asyncio\b", "import time"),
    (r"\bfrom asyncio import Queue\b", "from queue import SimpleQueue as Queue"),
    (r"\basyncio\.sleep\b", "time.sleep"),
    (r"\bgrpc\.aio\.", "grpc."),
    # Words.
    (r"\basync (?=def |for |with )", ""),
    (r"\bawait ", ""),
    (r"\baclosing\b", "closing"),
    (r"\ba(iter|next)\(", r"\1("),
    (r"\b__a(enter|exit)__\b", r"__\1__"),
    (r"\bAsync(?=[A-Z])", ""),
)
RUFF = [sys.executable, "-m", "ruff"]


def blocking(name: str, unused: set[str]) -> str:
    """Return the blocking twin of a file of the client; forget of `unused` what it replaced."""
    text = (CLIENT / name).read_text(encoding="utf-8")
    for pattern, replacement in REPLACED:
        text, count = re.subn(pattern, replacement, text)
        if count:
            unused.discard(pattern)
    head = (
        f"# Made from {Path(name).name} by scripts/unasync.py: edit that file, then `make fix`.\n\n"
    )
    fixes = ["check", "--quiet", "--select", "I,UP028", "--fix", "--unsafe-fixes"]
    return _ruff(["format"], FILES[name], _ruff(fixes, FILES[name], head + text))


def _ruff(command: list[str], name: str, text: str) -> str:
    arguments = [*RUFF, *command, "--stdin-filename", str(CLIENT / name), "-"]
    return subprocess.run(
        arguments, input=text, capture_output=True, encoding="utf-8", check=True
    ).stdout


def main() -> None:
    """Write or compare all files."""
    unused = {pattern for pattern, _ in REPLACED}
    made = {name: blocking(source, unused) for source, name in FILES.items()}
    if unused:
        raise SystemExit(f"nothing to replace any more for {sorted(unused)}; leave it out")
    if "--check" not in sys.argv:
        for name, text in made.items():
            (CLIENT / name).write_text(text, encoding="utf-8")
        return
    differences = [line for name, text in made.items() for line in _compared(name, text)]
    if differences:
        sys.stdout.write("\n".join([*differences, ""]))
        sys.exit("the blocking client is not what the asyncio client makes; run `make fix`")


def _compared(name: str, text: str) -> list[str]:
    file = CLIENT / name
    found = file.read_text(encoding="utf-8") if file.exists() else ""
    lines = (found.splitlines(), text.splitlines())
    return list(unified_diff(*lines, name, f"{name} made anew", n=1, lineterm=""))


if __name__ == "__main__":
    main()

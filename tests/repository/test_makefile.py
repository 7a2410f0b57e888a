"""What the Makefile makes of its variables."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def make(*arguments: str) -> str:
    """Return what make prints, called as by a person and not by another make."""
    environment = {name: v for name, v in os.environ.items() if "MAKE" not in name}
    done = subprocess.run(
        ["make", "--silent", *arguments],
        cwd=ROOT,
        env={name: v for name, v in environment.items() if name not in {"ARGS", "MFLAGS"}},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


@pytest.mark.parametrize("prompt", ["costs $5, $HOME", """it's "x" `y` \\n""", "£ — é", "-"])
def test_prompt_reaches_the_command_as_it_was_typed(prompt: str) -> None:
    show = '--eval=show: ; @printf "%s" "$$PROMPT"'
    assert make(show, "show", f"PROMPT={prompt}") == prompt


def test_what_models_need_is_all_that_the_demo_installs() -> None:
    flags = ("--dry-run", "--always-make", "READY=none")
    told = {target: make(*flags, target) for target in ("demo", "test")}
    assert "--editable '.[report,export,cpu]'" in told["demo"]
    assert "--editable '.[dev,cpu]'" in told["test"]
    assert "[dev" not in told["demo"]


@pytest.mark.parametrize(
    ("given", "is_quick"),
    [
        ("CELL=lstm", True),
        ("ARGS=--threads 1", True),
        ("EPOCHS=3", False),
        ("MINUTES=3", False),
        ("PRESET=lab", False),
        ("ARGS=--epochs 3", False),
        ("ARGS=--config my.toml", False),
        ("ARGS=--resume", False),
    ],
)
def test_the_quick_preset_is_for_trainings_of_no_given_length(given: str, is_quick: bool) -> None:
    assert ("--preset quick" in make("--dry-run", "train", given)) == is_quick


def test_path_of_a_corpus_may_hold_a_space() -> None:
    assert "--corpus 'my texts/a.txt'" in make("--dry-run", "train", "CORPUS=my texts/a.txt")


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_bundle_is_exported_for_the_device_that_will_serve_it(device: str) -> None:
    for target in ("export", "serve"):
        assert f"--device {device}" in make("--dry-run", target, f"DEVICE={device}")


def test_bundle_of_a_lower_precision_lies_beside_that_of_fp32() -> None:
    assert "--bundle bundles/tiny --device" in " ".join(
        make("--dry-run", "export", "NAME=tiny").replace("\\\n", " ").split()
    )
    told = make("--dry-run", "export", "serve", "NAME=tiny", "PRECISION=int8")
    assert "--bundle bundles/tiny-int8" in told
    assert "--precision int8" in told
    assert "--model tiny-int8=bundles/tiny-int8" in told


def test_report_is_told_what_was_given_and_nothing_else() -> None:
    told = make("--dry-run", "report", "CORPUS=my texts/a.txt", "MINUTES=2", "ARGS=--fresh")
    assert "unroll report --corpus 'my texts/a.txt' --minutes 2 --fresh" in " ".join(
        told.replace("\\\n", " ").split()
    )
    assert "--" not in make("--dry-run", "report").split("unroll report", 1)[1]

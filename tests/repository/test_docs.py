"""Pages of the repository link to what is there, and the index names every page."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
README_LINES_AT_MOST = 120
PAGES = [*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *(ROOT / "deploy").glob("*.md")]
OF_TODAY = [page for page in PAGES if page.name != "CHANGELOG.md"]  # which names what is gone


def links(text: str) -> list[str]:
    """List the targets of a page's links and images within the repository."""
    found = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return [target for target in found if not re.match(r"[a-z]+:", target)]


def anchors(text: str) -> set[str]:
    """List the anchors that GitHub gives a page's headings."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings_that_are_there(page: Path) -> None:
    broken = []
    for link in links(page.read_text("utf-8")):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and anchor not in anchors(target.read_text("utf-8"))):
            broken.append(link)
    assert broken == []


def test_index_names_every_page() -> None:
    index = DOCS / "index.md"
    named = {(DOCS / link).resolve() for link in links(index.read_text("utf-8"))}
    assert {page for page in DOCS.rglob("*.md") if page not in named} == {index}


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= README_LINES_AT_MOST


@pytest.mark.parametrize("page", OF_TODAY, ids=lambda page: str(page.relative_to(ROOT)))
def test_modules_and_targets_that_a_page_runs_are_there(page: Path) -> None:
    text = page.read_text("utf-8")
    modules = re.findall(
        r"python -m ((?:benchmarks|serving|tests|training|examples)[\w.]*\w)", text
    )
    files = [ROOT / module.replace(".", "/") for module in modules]
    missing = [file for file in files if not (file.with_suffix(".py").exists() or file.is_dir())]
    targets = re.findall(r"(?:`|^    )make ([a-z-]+)", text, re.MULTILINE)
    known = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert missing == []
    assert set(targets) - set(known) == set()

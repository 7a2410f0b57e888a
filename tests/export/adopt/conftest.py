"""Adoptions that are proved in a moment."""

import pytest


@pytest.fixture
def brief_proofs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let theirs and ours read 1,000 symbols; the road of a student's model reads all 10,000."""
    monkeypatch.setattr("export.adopt.proof.SYMBOLS", 1000)

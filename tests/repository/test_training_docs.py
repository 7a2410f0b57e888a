"""docs/training.md tells what is there."""

import os
from pathlib import Path

from tests.repository.tables import between, put, settings_table
from training.settings import TrainingSettings

PAGE = Path(__file__).parents[2] / "docs" / "training.md"


def test_table_of_settings_is_that_of_the_code() -> None:
    table, text = settings_table(TrainingSettings), PAGE.read_text("utf-8")
    if os.environ.get("WRITE_DOCS"):
        PAGE.write_text(put("settings", table, text), "utf-8")
    assert between("settings", text) == table, "WRITE_DOCS=1 writes it anew"

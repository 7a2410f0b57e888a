"""The tables of docs/reference that are made from the code: settings, options and metrics."""

from enum import Enum
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.parser import text_string_to_metric_families

import unroll
from export.__main__ import ExportSettings
from export.adopt.__main__ import AdoptSettings
from report.settings import ReportSettings
from serving.access.tokens import NewToken
from serving.settings import ServerSettings
from training.evaluate.settings import EvaluationSettings
from training.settings import TrainingSettings
from unroll.client.commands import settings as client
from unroll.client.commands.server_settings import HealthSettings, ModelsSettings
from unroll.client.load.settings import LoadSettings

ROOT = Path(__file__).parents[2]
SETTINGS = ROOT / "docs" / "reference" / "settings.md"
OPTIONS_PAGE = ROOT / "docs" / "reference" / "options.md"
METRICS = ROOT / "docs" / "reference" / "metrics.md"
COMMANDS: dict[str, type[Any]] = {
    "unroll serve": ServerSettings,
    "unroll train": TrainingSettings,
    "unroll evaluate": EvaluationSettings,
    "unroll adopt": AdoptSettings,
    "unroll export": ExportSettings,
    "unroll generate": client.GenerateSettings,
    "unroll score": client.ScoreSettings,
    "unroll models": ModelsSettings,
    "unroll health": HealthSettings,
    "unroll load": LoadSettings,
    "unroll report": ReportSettings,
    "unroll token": NewToken,
}
OPTIONS: dict[str, type[Any]] = {
    each.__name__: each
    for each in (
        unroll.GenerateOptions,
        unroll.ScoreOptions,
        unroll.SessionOptions,
        unroll.InspectOptions,
        unroll.FindUnitsOptions,
        unroll.Security,
    )
}
TERMS: dict[str, type[Enum]] = {
    each.__name__: each for each in (unroll.Capsules, unroll.UnknownSymbols, unroll.UnitKind)
}
PROCESS = {each.name for each in ProcessCollector(registry=CollectorRegistry()).collect()}


def metrics_table(page: str) -> str:
    """One row a family of a metrics page, but for those about the process."""
    rows = []
    for family in text_string_to_metric_families(page):
        if family.name not in PROCESS:
            name = family.name + ("_total" if family.type == "counter" else "")
            labels = sorted({key for sample in family.samples for key in sample.labels} - {"le"})
            names = ", ".join(labels)
            rows.append(f"| `{name}` | {family.type} | {names} | {family.documentation} |")
    rows.append("| `process_*` | | | Memory, processor time and open files of the process. |")
    return "\n".join(["| metric | type | labels | meaning |", "|---|---|---|---|", *rows])

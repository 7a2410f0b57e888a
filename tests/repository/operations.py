"""The tables of docs/operations.md, made from the code: `python -m tests.serving.operations`."""

from pathlib import Path

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.parser import text_string_to_metric_families

from serving.settings import ServerSettings
from tests.repository.tables import put, settings_table

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"
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


if __name__ == "__main__":
    PAGE.write_text(
        put("settings", settings_table(ServerSettings), PAGE.read_text("utf-8")), "utf-8"
    )

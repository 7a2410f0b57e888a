"""A chart: drawn once, written as SVG that follows the page's colours, and as PNG."""

import io
import re
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, MUTED, GRID = "#1b2027", "#5b6570", "#dfe3e8"
SERIES = ("#c2410c", "#0b6bb8", "#0a7d55")  # told apart by every kind of colour vision
DASHES = ("-", "--", ":")
VARIABLES = {
    INK: "--ink", MUTED: "--muted", GRID: "--grid",
    "#ffffff": "--page", SERIES[0]: "--series-0", SERIES[1]: "--series-1", SERIES[2]: "--series-2",
}  # fmt: skip
STYLE: dict[Any, Any] = {
    "font.size": 9.5, "axes.titlesize": 10, "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "text.color": INK, "axes.labelcolor": MUTED, "axes.edgecolor": MUTED,
    "axes.titlecolor": INK, "xtick.color": MUTED, "ytick.color": MUTED,
    "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": True, "grid.color": GRID, "grid.linewidth": 0.8, "axes.axisbelow": True,
    "legend.frameon": False, "lines.linewidth": 1.8, "lines.solid_capstyle": "round",
    "svg.fonttype": "none", "svg.hashsalt": "unroll",
}  # fmt: skip
WIDTH = 10.5  # inches


@dataclass(frozen=True)
class Chart:
    """A picture with the words that belong to it.

    Attributes:
        name: of its file, and in the page.
        draw: draws on as many axes as there are columns.
        alt: what it shows, for those who cannot see it.
        caption: what to look at.
        height: in inches.
        columns: axes side by side.
        share_y: whether the axes have the same scale.
    """

    name: str
    draw: Callable[[list[Axes]], None]
    _: KW_ONLY
    alt: str
    caption: str
    height: float
    columns: int = 1
    share_y: bool = False

    def svg(self) -> str:
        """Return the picture as an SVG element for a page that defines VARIABLES."""
        written = io.StringIO()
        with mpl.rc_context(STYLE):
            figure = self._figure()
            figure.savefig(
                written, format="svg", transparent=True, metadata={"Date": None, "Creator": None}
            )
        svg = written.getvalue()[written.getvalue().index("<svg") :]
        svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
        for color, variable in VARIABLES.items():
            svg = svg.replace(color, f"var({variable})")
        svg = re.sub(r"'DejaVu Sans'(, [^;\"]*)?", "var(--font)", svg)
        svg = re.sub(r'\bid="', f'id="{self.name}-', svg)
        svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{self.name}-", svg)
        return re.sub(
            r'width="[\d.]+pt"',
            'width="100%"',
            re.sub(r' height="[\d.]+pt"', "", svg, count=1),
            count=1,
        )

    def png(self, path: Path) -> None:
        """Write the picture on white."""
        with mpl.rc_context(STYLE):
            self._figure().savefig(path, format="png", dpi=110, facecolor="white")

    def _figure(self) -> Figure:
        figure = Figure(figsize=(WIDTH, self.height), layout="constrained")
        axes = figure.subplots(1, self.columns, squeeze=False, sharey=self.share_y)
        self.draw(list(axes[0]))
        return figure

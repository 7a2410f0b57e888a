"""What the charts draw."""

import io

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from report.page.charts import draw_curve


@pytest.mark.parametrize("updates", [1, 2, 1000])
def test_a_curve_is_seen_however_short_the_training_was(updates: int) -> None:
    figure = Figure(figsize=(3, 2), dpi=100)
    axes = figure.add_subplot()
    axes.set_axis_off()
    x = np.arange(1, updates + 1, dtype=np.float64)
    draw_curve(axes, x, x, color="#ff0000")
    png = io.BytesIO()
    figure.savefig(png)
    pixels = np.asarray(Image.open(png).convert("RGB"))
    assert (pixels == (255, 0, 0)).all(2).sum() > 10

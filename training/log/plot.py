"""The loss curves of a run as a picture."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.log.metrics import read_metrics


def rolling_average(values: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Average each `width` values in a row, shape (values - width + 1,); width in [1, values]."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    averages: NDArray[np.float64] = (sums[width:] - sums[:-width]) / width
    return averages


def plot_losses(log: Path, picture: Path) -> None:
    """Draw training loss, its rolling average and validation loss over the updates, as PNG.

    Args:
        log: the run's metrics.
        picture: the file to write.
    """
    from matplotlib.figure import Figure

    records = list(read_metrics(log))
    losses = np.array([r["loss"] for r in records if r["event"] == "update"], np.float64)
    validated = [r for r in records if r.get("validation_loss") is not None]
    if not len(losses):
        return
    figure = Figure(figsize=(7, 4), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    width = max(1, len(losses) // 50)
    updates = np.arange(1, len(losses) + 1)
    axes.plot(updates, losses, color="0.8", linewidth=0.5, label="training loss")
    average = rolling_average(losses, width)
    axes.plot(updates[width - 1 :], average, color="C0", label=f"average of {width} updates")
    if validated:
        points = [r["update"] for r in validated], [r["validation_loss"] for r in validated]
        axes.plot(*points, "o-", color="C1", markersize=3, label="validation loss")
    axes.set(xlabel="update", ylabel="nats per symbol", ylim=(0, None), title=log.parent.name)
    axes.legend(frameon=False)
    figure.savefig(picture, format="png")

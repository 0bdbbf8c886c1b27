"""Attributions of the cells of an image, as a heat map over it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from inferwatch.pictures.contributions import is_attribution
from inferwatch.pictures.panel import Panel, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def is_image(panel: Panel) -> bool:
    """Return whether the features are the cells of an image."""
    return is_attribution(panel) and len(panel.entry.get("shape", ())) > 1


def image_inches(_: Panel) -> float:
    """Return how high an image is drawn."""
    return 4.2


def draw_heatmap(axes: Axes, panel: Panel) -> None:
    """Draw contributions over the image they are about, stronger the larger they are.

    Both are taken together over what comes before height and width: contributions as sums, images as means.
    """
    height, width = panel.entry["shape"][-2:]
    heat = np.array(panel.entry["values"], dtype=np.float64).reshape(-1, height, width).sum(axis=0)
    most = float(np.abs(heat).max()) or 1.0
    over: float | NDArray[np.float64] = 1.0
    if panel.values is not None:
        image = np.array(panel.values, dtype=np.float64).reshape(-1, height, width).mean(axis=0)
        axes.imshow(image, cmap="gray", alpha=0.6, interpolation="nearest")
        over = 0.9 * np.abs(heat) / most  # what counts little leaves the image to be seen
    shown = axes.imshow(heat, cmap="RdBu_r", vmin=-most, vmax=most, alpha=over, interpolation="nearest")
    axes.figure.colorbar(shown, ax=axes, label="contribution to the prediction")
    axes.set_axis_off()
    title(axes, panel.headline())

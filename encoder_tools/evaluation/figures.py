"""Figures of a report as PNG: distributions, clicks, and pictures of single results."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from geosam_es.core.topology import polygon_parts
from geosam_es.errors import ModelError

from .evaluate import Outcome
from .metrics import bootstrap_mean

__all__ = [
    "COLOURS",
    "TRUTH_COLOUR",
    "Panel",
    "clicks_figure",
    "distribution_figure",
    "figure_class",
    "new_figure",
    "panels_figure",
    "png",
]

COLOURS = ("#d1495b", "#1b7fbd", "#2a9d5c", "#8a5fbf", "#c98a1b", "#4d4d4d")
"""Colours of the decoders, in their order."""

TRUTH_COLOUR = "#ffd23f"
_DPI = 110
_PANEL_INCHES = 2.3


class Panel(NamedTuple):
    """A picture of one result.

    Attributes
    ----------
    image : uint8 (H, W, 3), optional
        None without a raster.
    extent : tuple of float
        Left, right, bottom and top of the image in native pixels.
    outcome : Outcome
    colour : str
        Colour of the mask's outline.
    """

    image: NDArray[np.uint8] | None
    extent: tuple[float, float, float, float]
    outcome: Outcome
    colour: str


def figure_class() -> Any:
    """Return the class of matplotlib's figures. Commands call it before the work whose result is drawn.

    Raises
    ------
    ModelError
        If matplotlib cannot be imported.
    """
    try:
        from matplotlib.figure import Figure
    except Exception as error:  # builds for another system or NumPy fail in many ways
        raise ModelError(
            f"matplotlib cannot be imported ({error})", 'install it with: pip install "geosam-es[evaluate]"'
        ) from error
    return Figure


def new_figure(width: float, height: float) -> Any:
    """Return an empty matplotlib figure of a size in inches, without using a display; see `figure_class`."""
    return figure_class()(figsize=(width, height), dpi=_DPI, layout="constrained")


def png(figure: Any) -> bytes:
    """Return a figure as PNG."""
    buffer = io.BytesIO()
    # Without version and date, equal figures give equal files.
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def distribution_figure(outcomes: Sequence[Outcome]) -> bytes:
    """Draw the distribution of the IoU for each kind of prompts and decoder."""
    kinds = list(dict.fromkeys(outcome.prompts for outcome in outcomes))
    decoders = list(dict.fromkeys(outcome.decoder for outcome in outcomes))
    figure = new_figure(max(4.5, 1.2 + 1.5 * len(kinds) * len(decoders) ** 0.5), 3.4)
    axes = figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
    for axis, kind in zip(axes, kinds):
        for place, decoder in enumerate(decoders):
            values = [o.scores.iou for o in outcomes if o.prompts == kind and o.decoder == decoder]
            _draw_distribution(axis, place, values, COLOURS[place % len(COLOURS)])
        axis.set_title(kind, fontsize=10)
        axis.set_xticks(range(len(decoders)), decoders, fontsize=8, rotation=20 if len(decoders) > 2 else 0)
        axis.set_ylim(-0.02, 1.02)
        axis.grid(axis="y", alpha=0.3)
    axes[0].set_ylabel("IoU of each object")
    return png(figure)


def _draw_distribution(axis: Any, place: int, values: Sequence[float], colour: str) -> None:
    """Draw a dot per object, spread sideways, with quartiles and mean."""
    shift = np.random.default_rng(0).uniform(-0.28, 0.28, len(values))
    axis.scatter(place + shift, values, s=7, alpha=0.35, color=colour, linewidths=0)
    low, middle, high = np.percentile(values, [25, 50, 75])
    axis.plot([place, place], [low, high], color=colour, linewidth=6, alpha=0.8, solid_capstyle="butt")
    axis.plot([place - 0.2, place + 0.2], [middle, middle], color="black", linewidth=1.5)
    axis.plot(place, float(np.mean(values)), marker="D", color="white", markeredgecolor="black", markersize=5)


def clicks_figure(outcomes: Sequence[Outcome], kind: str) -> bytes:
    """Draw the mean IoU after each click with its interval, for each decoder."""
    figure = new_figure(5.2, 3.4)
    axis = figure.subplots()
    decoders = list(dict.fromkeys(outcome.decoder for outcome in outcomes))
    for place, decoder in enumerate(decoders):
        ious = np.array([o.ious for o in outcomes if o.prompts == kind and o.decoder == decoder])
        intervals = [bootstrap_mean(column) for column in ious.T]
        clicks = np.arange(1, ious.shape[1] + 1)
        colour = COLOURS[place % len(COLOURS)]
        axis.plot(clicks, [i.mean for i in intervals], marker="o", color=colour, label=decoder)
        axis.fill_between(clicks, [i.low for i in intervals], [i.high for i in intervals], color=colour, alpha=0.15)
    axis.set_xticks(clicks)
    axis.set_xlabel("clicks")
    axis.set_ylabel("mean IoU")
    axis.set_ylim(0, 1)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    return png(figure)


def panels_figure(rows: Sequence[Sequence[Panel]]) -> bytes:
    """Draw rows of pictures, each with mask, truth and prompts."""
    columns = max(len(row) for row in rows)
    figure = new_figure(_PANEL_INCHES * columns, (_PANEL_INCHES + 0.3) * len(rows))
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for row, line in zip(rows, axes):
        for axis in line:
            axis.set_axis_off()
        for panel, axis in zip(row, line):
            _draw_panel(axis, panel)
    return png(figure)


def _draw_panel(axis: Any, panel: Panel) -> None:
    left, right, bottom, top = panel.extent
    if panel.image is not None:
        axis.imshow(panel.image, extent=panel.extent, interpolation="nearest")
    else:
        axis.add_patch(_rectangle(left, top, right - left, bottom - top, facecolor="#8f8f8f", edgecolor="none"))
    outcome = panel.outcome
    _draw_outline(axis, outcome.truth.geometry, TRUTH_COLOUR, "--")
    _draw_outline(axis, outcome.answer, panel.colour, "-")
    for point in outcome.given.points:
        face = "#37d67a" if point.positive else "#ff2d2d"
        axis.plot(point.x, point.y, marker="o", markersize=4, color=face, markeredgecolor="black", markeredgewidth=0.6)
    box = outcome.given.box
    if box is not None:
        patch = _rectangle(box.min_x, box.min_y, box.width, box.height, fill=False, edgecolor="white", linewidth=0.8)
        axis.add_patch(patch)
    axis.set_xlim(left, right)
    axis.set_ylim(bottom, top)
    axis.set_aspect("equal")
    name = f"{outcome.truth.object_id} {outcome.truth.class_name}".strip()
    axis.set_title(f"{name}, {outcome.decoder}\n{outcome.prompts}: IoU {outcome.scores.iou:.2f}", fontsize=7)


def _rectangle(x: float, y: float, width: float, height: float, **style: Any) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((x, y), width, height, **style)


def _draw_outline(axis: Any, geometry: BaseGeometry, colour: str, style: str) -> None:
    """Draw all rings as one line with gaps, which is fast for noisy masks with thousands of rings."""
    gap = np.full((1, 2), np.nan)
    rings = [
        part
        for polygon in polygon_parts(geometry)
        for ring in (polygon.exterior, *polygon.interiors)
        for part in (np.asarray(ring.coords), gap)
    ]
    if rings:
        x, y = np.concatenate(rings).T
        axis.plot(x, y, color="black", linewidth=2.2, alpha=0.5)
        axis.plot(x, y, color=colour, linewidth=1.2, linestyle=style)

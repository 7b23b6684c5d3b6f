"""What the panel says about the polygon being drawn, and about the one it is compared with."""

from __future__ import annotations

from html import escape

from qgis.core import QgsCoordinateReferenceSystem
from qgis.PyQt.QtCore import QLocale

from ...errors import EditError
from ...inference.session import Result
from ...qgis_support.crs import EllipsoidArea
from ...qgis_support.messages import tr
from ..stores.decoder_choice import Comparison
from .decoder_row import decoder_label

__all__ = ["comparison_text", "result_text"]


def result_text(result: Result, crs: QgsCoordinateReferenceSystem) -> str:
    """Return score, rank, area, detail and time, or what to do if there is no polygon."""
    if result.geometry.is_empty:
        return tr("The model finds no object here: add a point or draw a box")
    return tr("Score {score} · {rank} of {count} · {area} · detail {detail} % · {time:.0f} ms").format(
        time=result.milliseconds, **_figures(result, crs)
    )


def _short_text(result: Result, crs: QgsCoordinateReferenceSystem) -> str:
    if result.geometry.is_empty:
        return tr("no object")
    return tr("Score {score} · {rank} of {count} · {area} · detail {detail} %").format(**_figures(result, crs))


def _figures(result: Result, crs: QgsCoordinateReferenceSystem) -> dict[str, str]:
    return {
        "score": QLocale().toString(float(result.score), "f", 2),
        "rank": str(result.rank + 1),
        "count": str(result.candidates),
        "area": _area(result, crs),
        # As QGIS calls the native resolution 100 %.
        "detail": QLocale().toString(100 / 2.0**result.level, "g", 3),
    }


def _area(result: Result, crs: QgsCoordinateReferenceSystem) -> str:
    try:
        area = EllipsoidArea(crs).area_m2(result.geometry)
    except EditError:
        return tr("area unknown: check the CRS of the raster")
    kind, digits = ("f", 0) if area >= 10 else ("g", 2)
    return f"{QLocale().toString(area, kind, digits)} m²"


def comparison_text(
    decoder: str, result: Result, comparison: Comparison, crs: QgsCoordinateReferenceSystem, colours: tuple[str, str]
) -> str:
    """Return the results of two decoders, one per line with its colour on the map, and their agreement.

    Parameters
    ----------
    decoder : str
        Name of the decoder in use.
    result : Result
        Its result.
    comparison : Comparison
        The result of the other decoder.
    crs : QgsCoordinateReferenceSystem
        CRS of both polygons.
    colours : tuple of str
        Colours of the polygon and of the dashed outline.

    Returns
    -------
    str
        HTML.
    """
    lines = [
        f'<span style="color:{colour}">■</span> <b>{escape(decoder_label(name))}</b>: {escape(_short_text(one, crs))}'
        for name, one, colour in zip((decoder, comparison.decoder), (result, comparison.result), colours)
    ]
    agreement = QLocale().toString(100 * comparison.agreement, "f", 0)
    lines.append(escape(tr("Agreement (IoU): {percent} %").format(percent=agreement)))
    return "<br>".join(lines)

"""What the panel says of the polygon being drawn, and of the one it is compared with."""

from __future__ import annotations

from html import escape

from qgis.core import QgsCoordinateReferenceSystem
from qgis.PyQt.QtCore import QLocale

from ...inference.session import Result
from ...qgis_support.crs import EllipsoidArea, to_qgs
from ...qgis_support.messages import tr
from ..stores.decoder_choice import Comparison
from .decoder_row import decoder_label

__all__ = ["comparison_text", "result_text"]


def result_text(result: Result, crs: QgsCoordinateReferenceSystem) -> str:
    """Return score, rank, area and time, or what to do where there is no polygon."""
    if result.geometry.is_empty:
        return tr("The model sees no object here: add a point or draw a box")
    return tr("Score {score} · {rank} of {count} · {area} m² · {time:.0f} ms").format(
        time=result.milliseconds, **_figures(result, crs)
    )


def _short_text(result: Result, crs: QgsCoordinateReferenceSystem) -> str:
    if result.geometry.is_empty:
        return tr("no object")
    return tr("Score {score} · {rank} of {count} · {area} m²").format(**_figures(result, crs))


def _figures(result: Result, crs: QgsCoordinateReferenceSystem) -> dict[str, str]:
    area = EllipsoidArea(crs).area_m2(to_qgs(result.geometry))
    # A point stands before decimals in one language, and for thousands in another.
    locale = QLocale()
    return {
        "score": locale.toString(float(result.score), "f", 2),
        "rank": str(result.rank + 1),
        "count": str(result.candidates),
        "area": locale.toString(area, "f", 0),
    }


def comparison_text(
    decoder: str, result: Result, comparison: Comparison, crs: QgsCoordinateReferenceSystem, colours: tuple[str, str]
) -> str:
    """Return the answers of two decoders below each other, each with its colour on the map, and how well they agree.

    Parameters
    ----------
    decoder : str
        Name of the one that answers.
    result : Result
        Its answer.
    comparison : Comparison
        The other one's.
    crs : QgsCoordinateReferenceSystem
        Of both polygons.
    colours : tuple of str
        Of the polygon and of the outline.

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
    lines.append(escape(tr("Agreement of the two (IoU): {percent} %").format(percent=agreement)))
    return "<br>".join(lines)

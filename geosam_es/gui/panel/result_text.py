"""What the panel says about the polygon being drawn, and about the one it is compared with."""

from __future__ import annotations

from html import escape

import numpy as np
from qgis.core import QgsCoordinateReferenceSystem
from qgis.PyQt.QtCore import QLocale
from shapely.geometry.base import BaseGeometry

from ...errors import EditError
from ...inference.session import Result
from ...qgis_support.crs import EllipsoidArea
from ...qgis_support.messages import tr
from ..stores.decoder_choice import Comparison
from .decoder_row import decoder_label

__all__ = ["SURE", "area_text", "candidate_text", "comparison_text", "is_uncertain", "result_text", "result_tip"]

SURE = 0.5
"""A polygon with a lower expected IoU is more likely wrong."""
_HECTARE_M2 = 10_000


def is_uncertain(result: Result) -> bool:
    """Return whether the model expects the polygon to be wrong."""
    return result.score < SURE and not result.geometry.is_empty


def candidate_text(result: Result) -> str:
    """Return which of how many candidates is shown; nothing if there is no choice."""
    return f"{result.rank + 1}/{result.candidates}" if result.candidates > 1 else ""


def result_text(result: Result, crs: QgsCoordinateReferenceSystem) -> str:
    """Return the area, how sure the model is, and which candidate it is; or what to do if there is no polygon."""
    if result.geometry.is_empty:
        return tr("The model finds no object here: add a point or draw a box")
    return _description(result, crs)


def result_tip(result: Result) -> str:
    """Return the details of a result that few users need; none of a polygon that was shaped by hand."""
    if result.is_shaped:
        return ""
    score = QLocale().toString(float(result.score), "f", 2)
    tip = tr("Candidate {rank} of {count}, expected IoU {score}, detail {detail} %, {time:.0f} ms")
    return tip.format(
        rank=result.rank + 1,
        count=result.candidates,
        score=score,
        detail=_detail(result),
        time=result.milliseconds,
    )


def _description(result: Result, crs: QgsCoordinateReferenceSystem) -> str:
    parts = [area_text(result.geometry, crs), _certainty(result), _candidate(result)]
    if result.level != 0:
        parts.append(tr("detail {detail} %").format(detail=_detail(result)))
    return " · ".join(part for part in parts if part)


def _certainty(result: Result) -> str:
    if result.is_shaped:
        return tr("shaped by hand")
    score = QLocale().toString(float(result.score), "f", 2)
    if not is_uncertain(result):
        return tr("sure ({score})").format(score=score)
    has_box = result.proposal.prompts.box is not None
    text = tr("uncertain: add points ({score})") if has_box else tr("uncertain: draw a box ({score})")
    return text.format(score=score)


def _candidate(result: Result) -> str:
    masks, ranking = result.proposal.masks, result.proposal.ranking
    if len(masks) > 1 or len(ranking) != 3:
        return candidate_text(result)
    # The decoder is trained to give an object at three sizes, in no fixed order.
    sizes = {index: int(np.count_nonzero(masks[0][index].logits > 0)) for index in ranking}
    by_size = sorted(ranking, key=lambda index: -sizes[index])
    return (tr("whole"), tr("part"), tr("sub-part"))[by_size.index(ranking[result.rank])]


def _detail(result: Result) -> str:
    # As QGIS calls the native resolution 100 %.
    return str(QLocale().toString(100 / 2.0**result.level, "g", 3))


def area_text(geometry: BaseGeometry, crs: QgsCoordinateReferenceSystem) -> str:
    """Return the area on the ellipsoid, for people."""
    try:
        area = EllipsoidArea(crs).area_m2(geometry)
    except EditError:
        return tr("area unknown: check the CRS of the raster")
    locale = QLocale()
    # QGIS leaves the separators out by default; nobody counts the digits of an area.
    locale.setNumberOptions(locale.numberOptions() & ~QLocale.NumberOption.OmitGroupSeparator)
    if round(area) >= _HECTARE_M2:
        return f"{locale.toString(area / _HECTARE_M2, 'f', 2)} ha"
    kind, digits = ("f", 0) if area >= 10 else ("g", 2)
    return f"{locale.toString(area, kind, digits)} m²"


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
    lines = []
    for name, one, colour in zip((decoder, comparison.decoder), (result, comparison.result), colours):
        text = tr("no object") if one.geometry.is_empty else _description(one, crs)
        lines.append(f'<span style="color:{colour}">■</span> <b>{escape(decoder_label(name))}</b>: {escape(text)}')
    agreement = QLocale().toString(100 * comparison.agreement, "f", 0)
    lines.append(escape(tr("Agreement (IoU): {percent} %").format(percent=agreement)))
    return "<br>".join(lines)

"""Checks and mends a layer of polygons that share borders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
import shapely
from qgis.core import (  # type: ignore[attr-defined]
    NULL,
    QgsFeature,
    QgsFeatureRequest,
    QgsProcessingContext,
    QgsProcessingFeatureSource,
    QgsProcessingFeedback,
    QgsProcessingOutputNumber,
    QgsProcessingParameterNumber,
    QgsWkbTypes,
)
from shapely.geometry.base import BaseGeometry

from ..core.codes import code_text
from ..core.coverage import MAX_GAP_M2, Rules, require_simplify, simplify
from ..core.coverage_check import Finding, check, mend
from ..core.faces import middle
from ..errors import EditError, marked
from ..qgis_support.crs import EllipsoidArea, from_qgs
from ..qgis_support.fields import REAL, TEXT, make_fields
from ..qgis_support.messages import tr, translated
from .base import OneSentenceAlgorithm
from .drawing import polygon_feature, to_multi_polygon
from .image import CancelledError

__all__ = ["CheckCoverageAlgorithm"]

_LINE_M = 0.5
"""Half the width at which lines are drawn in the layer of findings."""


class CheckCoverageAlgorithm(OneSentenceAlgorithm):
    """``geosam-es check``, without a process of its own."""

    ID = "checkcoverage"
    TITLE = marked("Check coverage")
    HELP = marked(
        "For polygons that share borders, such as a map of habitats or of land cover. The algorithm finds invalid "
        "polygons, overlaps, enclosed gaps, narrow open gaps, slivers, parts below the minimum area, borders whose "
        "vertices differ between the two sides, and, with a class field, neighbours of the same class. Each "
        "finding becomes a polygon with its kind, its size, the ids of the polygons and a remedy.\n\n"
        "The mended polygons are optional. Every remedy is applied: an overlap is left to the smallest polygon; "
        "gaps, slivers and small parts go to the neighbour with the longest border; neighbours of the same class "
        "are merged, and keep the attributes of the larger one. Enclosed gaps larger than the limit, such as lakes "
        "that are no part of the map, are listed last as large gaps. They do not count as faults and are kept. "
        "Simplifying changes both sides of a border in the same way."
    )
    GROUP = "polygons"
    CLASS = "CLASS_FIELD"
    TOLERANCE = "TOLERANCE_M"
    MIN_AREA = "MIN_AREA_M2"
    MAX_GAP = "MAX_GAP_M2"
    SIMPLIFY = "SIMPLIFY_M"
    FINDINGS = "FINDINGS"
    OUTPUT = "OUTPUT"
    FOUND = "FOUND"
    LEFT = "LEFT"

    def initAlgorithm(self, configuration: dict[str, Any] | None = None) -> None:  # noqa: N802
        """Declare the parameters and outputs."""
        self.add_input(tr("Polygons"))
        self.add_field(self.CLASS, tr("Class field"))
        double = QgsProcessingParameterNumber.Type.Double
        self.add_number(self.TOLERANCE, tr("Open gaps and slivers up to this width (m)"), double, 0.5)
        self.add_number(self.MIN_AREA, tr("Minimum area (m²)"), double, 0)
        text = tr("Largest enclosed gap that counts as a fault (m²)")
        self.add_number(self.MAX_GAP, text, double, MAX_GAP_M2, optional=True)
        self.add_number(self.SIMPLIFY, tr("Simplify the mended polygons (m)"), double, 0, advanced=True)
        self.add_sink(self.FINDINGS, tr("Findings"))
        self.add_sink(self.OUTPUT, tr("Mended polygons"), optional=True, createByDefault=False)
        self.addOutput(QgsProcessingOutputNumber(self.FOUND, tr("Findings")))
        self.addOutput(QgsProcessingOutputNumber(self.LEFT, tr("Findings in the mended polygons")))

    def execute(
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> dict[str, Any]:
        """Write the findings and the mended polygons; see `OneSentenceAlgorithm.execute`."""
        with suppress(CancelledError):
            self._run(parameters, context, feedback)
        return self.outputs

    def _run(self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback) -> None:
        source = self.input_source(parameters, context)
        crs = source.sourceCrs()
        if not crs.isValid():
            raise EditError(tr("The layer of polygons has no CRS"), tr("set it in the layer properties"))
        index = self.field_index(parameters, self.CLASS, source, context)
        simplify_m = self.parameterAsDouble(parameters, self.SIMPLIFY, context)
        is_mending = bool(parameters.get(self.OUTPUT))
        if is_mending and simplify_m > 0:
            require_simplify()
        features, polygons = _read(source)
        classes = {key: _class(features[key].attribute(index)) for key in polygons} if index >= 0 else None
        meter = EllipsoidArea(crs)
        metres = meter.metres_per_unit(*middle(polygons.values())) if polygons else (1.0, 1.0)
        rules = Rules(
            self.parameterAsDouble(parameters, self.TOLERANCE, context),
            self.parameterAsDouble(parameters, self.MIN_AREA, context),
            metres_per_unit=metres,
            max_gap_m2=self.parameterAsDouble(parameters, self.MAX_GAP, context),
            scale_at=meter.metres_per_unit,
        )

        def stop(*_counts: int) -> None:
            if feedback.isCanceled():
                raise CancelledError

        def show(first: int, done: int, total: int) -> None:
            feedback.setProgress(first + 50 * done / total)
            stop()

        found = check(polygons, rules, classes, progress=partial(show, 0))
        write = self.open_sink(parameters, self.FINDINGS, context, _fields(), crs)
        write([_finding_feature(finding, _LINE_M / max(metres)) for finding in found])
        self.outputs[self.FOUND] = _count(found)
        for label, count in Counter(translated(finding.label) for finding in found).items():
            feedback.pushInfo(f"{label}: {count}")
        if not found:
            feedback.pushInfo(tr("Nothing found"))
        feedback.setProgress(50)
        if not is_mending:
            return
        mended, rest = mend(polygons, rules, classes, known=found, progress=partial(show, 50), checking=stop)
        if simplify_m > 0 and mended:
            mended = simplify(mended, simplify_m, rules)
            rest = check(mended, rules, classes, progress=stop)
        feedback.pushInfo(tr("Findings in the mended polygons: {count}").format(count=_count(rest)))
        if QgsWkbTypes.hasZ(source.wkbType()):
            feedback.pushInfo(tr("The mended polygons have no Z values"))
        # Only now, so that a cancelled run leaves no empty layer.
        write = self.open_sink(parameters, self.OUTPUT, context, source.fields(), crs)
        area = source.fields().indexOf("area_m2")
        measures = area >= 0 and source.fields()[area].isNumeric()
        for key, feature in features.items():
            if key in mended:
                feature.setGeometry(to_multi_polygon(mended[key]))
                if measures and mended[key] != polygons[key]:
                    feature.setAttribute(area, meter.area_m2(mended[key]))
            elif key in polygons:
                continue
            write([feature])
        self.outputs[self.LEFT] = _count(rest)


def _read(source: QgsProcessingFeatureSource) -> tuple[dict[int, QgsFeature], dict[int, BaseGeometry]]:
    """Return all features, and the polygons of those that have one."""
    flag = QgsProcessingFeatureSource.Flag.FlagSkipGeometryValidityChecks  # type: ignore[attr-defined]
    features = {feature.id(): feature for feature in source.getFeatures(QgsFeatureRequest(), flag)}
    polygons = {key: from_qgs(feature.geometry()) for key, feature in features.items() if feature.hasGeometry()}
    if not np.isin(shapely.get_type_id(list(polygons.values())), (3, 6)).all():
        raise EditError(
            tr("{name} is not a polygon layer").format(name=source.sourceName()), tr("choose another layer of polygons")
        )
    return features, polygons


def _count(found: Iterable[Finding]) -> int:
    return sum(finding.is_fault for finding in found)


def _class(value: Any) -> str | None:
    return None if value in (None, NULL, "") else code_text(value)


def _fields() -> Any:
    return make_fields(kind=TEXT, size=REAL, unit=TEXT, polygons=TEXT, remedy=TEXT)


def _finding_feature(finding: Finding, reach: float) -> QgsFeature:
    place = finding.place if finding.place.area > 0 else shapely.buffer(finding.place, reach)
    ids = ", ".join(map(str, finding.ids))
    texts = translated(finding.label), translated(finding.remedy)
    return polygon_feature(_fields(), place, [texts[0], finding.size, finding.unit, ids, texts[1]])

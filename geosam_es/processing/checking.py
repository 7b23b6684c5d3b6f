"""Checks and mends a layer of polygons that share borders."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import shapely
from qgis.core import (  # type: ignore[attr-defined]
    NULL,
    QgsFeature,
    QgsFeatureRequest,
    QgsFeatureSink,
    QgsProcessing,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeatureSource,
    QgsProcessingFeedback,
    QgsProcessingOutputNumber,
    QgsProcessingParameterFeatureSink,
    QgsProcessingParameterFeatureSource,
    QgsProcessingParameterField,
    QgsProcessingParameterNumber,
    QgsWkbTypes,
)
from shapely.geometry.base import BaseGeometry

from ..core.coverage import Rules, simplify
from ..core.coverage_check import Finding, check, mend, middle
from ..errors import EditError, VectorError
from ..qgis_support.coverage_texts import kind_text, remedy_text
from ..qgis_support.crs import EllipsoidArea, from_qgs
from ..qgis_support.fields import REAL, TEXT, make_fields
from ..qgis_support.messages import tr
from .base import OneSentenceAlgorithm, to_multi_polygon
from .image import CancelledError

__all__ = ["CheckCoverageAlgorithm"]

_LINE_M = 0.5
"""Half the width at which lines are drawn in the layer of findings."""


class CheckCoverageAlgorithm(OneSentenceAlgorithm):
    """``geosam-es check``, without a process of its own."""

    ID = "checkcoverage"
    GROUP = "polygons"
    INPUT = "INPUT"
    CLASS = "CLASS_FIELD"
    TOLERANCE = "TOLERANCE_M"
    MIN_AREA = "MIN_AREA_M2"
    MAX_GAP = "MAX_GAP_M2"
    SIMPLIFY = "SIMPLIFY_M"
    FINDINGS = "FINDINGS"
    OUTPUT = "OUTPUT"
    FOUND = "FOUND"
    LEFT = "LEFT"

    def displayName(self) -> str:  # noqa: N802
        """Return the name in the toolbox."""
        return tr("Check coverage")

    def shortHelpString(self) -> str:  # noqa: N802
        """Return the help text of the dialog."""
        return tr(
            "For polygons that share borders, such as a map of habitats or of land cover. The algorithm finds invalid "
            "polygons, overlaps, enclosed gaps, narrow open gaps, slivers, parts below the minimum area, borders whose "
            "vertices differ between the two sides, and, with a class field, neighbours of the same class. Each "
            "finding becomes a polygon with its kind, its size, the ids of the polygons and a remedy.\n\n"
            "The mended polygons are optional. Every remedy is applied: an overlap is left to the smallest polygon; "
            "gaps, slivers and small parts go to the neighbour with the longest border; neighbours of the same class "
            "are merged, and keep the attributes of the larger one. Enclosed gaps larger than the limit stay, such as "
            "lakes that are no part of the map. Simplifying changes both sides of a border in the same way."
        )

    def initAlgorithm(self, configuration: dict[str, Any] | None = None) -> None:  # noqa: N802
        """Declare the parameters and outputs."""
        polygon = QgsProcessing.SourceType.TypeVectorPolygon  # type: ignore[attr-defined]
        self.addParameter(QgsProcessingParameterFeatureSource(self.INPUT, tr("Polygons"), [polygon]))
        self.addParameter(
            QgsProcessingParameterField(
                self.CLASS, tr("Class field"), parentLayerParameterName=self.INPUT, optional=True
            )
        )
        double = QgsProcessingParameterNumber.Type.Double
        self.add_number(self.TOLERANCE, tr("Open gaps and slivers up to this width (m)"), double, 0.5)
        self.add_number(self.MIN_AREA, tr("Minimum area (m²)"), double, 0)
        self.add_number(self.MAX_GAP, tr("Largest enclosed gap (m²)"), double)
        self.add_number(self.SIMPLIFY, tr("Simplify the mended polygons (m)"), double, 0, advanced=True)
        self.addParameter(QgsProcessingParameterFeatureSink(self.FINDINGS, tr("Findings"), polygon))
        mended = QgsProcessingParameterFeatureSink(
            self.OUTPUT, tr("Mended polygons"), polygon, optional=True, createByDefault=False
        )
        self.addParameter(mended)
        self.addOutput(QgsProcessingOutputNumber(self.FOUND, tr("Findings")))
        self.addOutput(QgsProcessingOutputNumber(self.LEFT, tr("Findings in the mended polygons")))

    def execute(
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> dict[str, Any]:
        """Write the findings and the mended polygons; see `OneSentenceAlgorithm.execute`."""
        source = self.parameterAsSource(parameters, self.INPUT, context)
        if source is None:
            raise QgsProcessingException(self.invalidSourceError(parameters, self.INPUT))
        crs = source.sourceCrs()
        if not crs.isValid():
            raise EditError(tr("The layer of polygons has no CRS"), tr("set it in the layer properties"))
        class_field = self.parameterAsString(parameters, self.CLASS, context)
        if class_field and source.fields().lookupField(class_field) < 0:
            raise VectorError(
                "{source} has no field {field}",
                "choose one of its fields, or none",
                source=source.sourceName(),
                field=class_field,
            )
        features, polygons = _read(source)
        classes = {key: _class(features[key], class_field) for key in polygons} if class_field else None
        wanted = self.parameterAsDouble(parameters, self.MAX_GAP, context)
        max_gap = np.inf if parameters.get(self.MAX_GAP) is None else wanted
        metres = (1.0, 1.0)
        if polygons:
            metres = EllipsoidArea(crs).metres_per_unit(*middle(polygons.values()))
        rules = Rules(
            self.parameterAsDouble(parameters, self.TOLERANCE, context),
            self.parameterAsDouble(parameters, self.MIN_AREA, context),
            metres_per_unit=metres,
        )
        found = check(polygons, rules, classes, max_gap_m2=max_gap)
        outputs: dict[str, Any] = {self.FOUND: len(found)}
        multi = QgsWkbTypes.Type.MultiPolygon
        sink, outputs[self.FINDINGS] = self.parameterAsSink(parameters, self.FINDINGS, context, _fields(), multi, crs)
        if sink is None:
            raise QgsProcessingException(self.invalidSinkError(parameters, self.FINDINGS))
        for finding in found:
            sink.addFeature(_finding_feature(finding, _LINE_M / max(metres)), QgsFeatureSink.Flag.FastInsert)
        counts = Counter(finding.kind for finding in found)
        for kind, count in counts.items():
            feedback.pushInfo(f"{kind_text(kind)}: {count}")
        if not found:
            feedback.pushInfo(tr("Nothing found"))
        feedback.setProgress(50)
        sink, output = self.parameterAsSink(parameters, self.OUTPUT, context, source.fields(), multi, crs)
        if sink is None or feedback.isCanceled():
            return outputs

        def show(done: int, total: int) -> None:
            feedback.setProgress(50 + 50 * done / total)
            if feedback.isCanceled():
                raise CancelledError

        try:
            mended, _ = mend(polygons, rules, classes, max_gap_m2=max_gap, progress=show)
        except CancelledError:
            return outputs
        simplify_m = self.parameterAsDouble(parameters, self.SIMPLIFY, context)
        if simplify_m > 0 and mended:
            mended = simplify(mended, simplify_m, rules)
        rest = check(mended, rules, classes, max_gap_m2=max_gap)
        feedback.pushInfo(tr("Findings in the mended polygons: {count}").format(count=len(rest)))
        for key, feature in features.items():
            if key in mended:
                feature.setGeometry(to_multi_polygon(mended[key]))
            elif key in polygons:
                continue
            sink.addFeature(feature, QgsFeatureSink.Flag.FastInsert)
        return {**outputs, self.OUTPUT: output, self.LEFT: len(rest)}


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


def _class(feature: QgsFeature, field: str) -> str | None:
    value = feature[field]
    return None if value in (None, NULL, "") else str(value)


def _fields() -> Any:
    return make_fields(kind=TEXT, size=REAL, unit=TEXT, polygons=TEXT, remedy=TEXT)


def _finding_feature(finding: Finding, reach: float) -> QgsFeature:
    place = finding.place if finding.place.area > 0 else shapely.buffer(finding.place, reach)
    feature = QgsFeature(_fields())
    feature.setGeometry(to_multi_polygon(place))
    ids = ", ".join(map(str, finding.ids))
    feature.setAttributes([kind_text(finding.kind), finding.size, finding.unit, ids, remedy_text(finding.kind)])
    return feature

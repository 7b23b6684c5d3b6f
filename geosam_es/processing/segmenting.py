"""Segmenting from a layer of points or of boxes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import shapely
from qgis.core import (
    NULL,
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransform,
    QgsFeature,
    QgsFeatureRequest,
    QgsFeatureSink,
    QgsFields,
    QgsGeometry,
    QgsProcessing,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeatureSource,
    QgsProcessingFeedback,
    QgsProcessingParameterCrs,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterEnum,
    QgsProcessingParameterFeatureSink,
    QgsProcessingParameterFeatureSource,
    QgsProcessingParameterField,
    QgsProcessingParameterNumber,
    QgsWkbTypes,
)

from ..errors import EditError
from ..inference.batch import (
    ALL_CANDIDATES,
    BEST_CANDIDATE,
    ObjectAnswer,
    ObjectPrompts,
    ObjectResult,
    PromptFeature,
    SegmentOptions,
    answer_objects,
    group_prompts,
)
from ..inference.session import open_segmenter
from ..qgis_support.crs import EllipsoidArea, to_qgs, transform_geometry
from ..qgis_support.messages import tr, translated
from .base import StoreAlgorithm, raster_crs, to_multi_polygon
from .fields import REAL, TEXT, WHOLE, make_fields

__all__ = ["SegmentBoxesAlgorithm", "SegmentPointsAlgorithm"]

CANDIDATES = [BEST_CANDIDATE, "1", "2", "3", ALL_CANDIDATES]
OBJECT_FIELD = "object"
LABEL_FIELD = "label"


class _Meter:
    """Measures shapely geometries on the ellipsoid with QGIS."""

    def __init__(self, crs: QgsCoordinateReferenceSystem, context: QgsProcessingContext) -> None:
        self._area = EllipsoidArea(crs, context.project())

    def area_m2(self, geometry: shapely.Geometry) -> float:
        """See `AreaMeter.area_m2`."""
        return float(self._area.area_m2(to_qgs(geometry)))


class _SegmentAlgorithm(StoreAlgorithm):
    """What segmenting from points and from boxes have in common."""

    INPUT = "INPUT"
    OBJECT = "OBJECT_FIELD"
    LABEL = "LABEL_FIELD"
    LEVEL = "LEVEL"
    SIMPLIFY = "SIMPLIFY"
    MIN_AREA = "MIN_AREA_M2"
    FILL_HOLES = "FILL_HOLES_M2"
    CANDIDATE = "CANDIDATE"
    CRS = "CRS"
    OUTPUT = "OUTPUT"

    def group(self) -> str:
        """Return the heading in the toolbox."""
        return tr("Segmentation")

    def groupId(self) -> str:  # noqa: N802
        """Return the heading's name for scripts."""
        return "segmentation"

    def add_input(self, description: str, kind: int) -> None:
        """Add the layer of prompts."""
        self.addParameter(QgsProcessingParameterFeatureSource(self.INPUT, description, [kind]))

    def add_field(self, name: str, description: str) -> None:
        """Add the choice of a field of the layer."""
        self.addParameter(
            QgsProcessingParameterField(name, description, parentLayerParameterName=self.INPUT, optional=True)
        )

    def add_options(self) -> None:
        """Add how the polygons are made."""
        number = QgsProcessingParameterNumber.Type
        self.addParameter(
            QgsProcessingParameterEnum(
                self.CANDIDATE,
                tr("Which of the model's masks to keep"),
                CANDIDATES,
                defaultValue=BEST_CANDIDATE,
                usesStaticStrings=True,
            )
        )
        self._add_number(self.MIN_AREA, tr("Leave out parts smaller than (m²)"), number.Double, 0)
        self._add_number(self.FILL_HOLES, tr("Fill holes smaller than (m²)"), number.Double, 0)
        self._add_number(self.SIMPLIFY, tr("Simplify outlines by at most (pixels)"), number.Double, 1, True)
        self._add_number(
            self.LEVEL,
            tr("Finest level to answer from (0: full resolution)"),
            number.Integer,
            0,
            True,
        )
        crs = QgsProcessingParameterCrs(self.CRS, tr("CRS of the polygons (the raster's if not set)"), optional=True)
        self._add_advanced(crs)
        self.addParameter(
            QgsProcessingParameterFeatureSink(self.OUTPUT, tr("Polygons"), QgsProcessing.SourceType.TypeVectorPolygon)
        )

    def _add_number(self, name: str, text: str, kind: int, default: float, advanced: bool = False) -> None:
        parameter = QgsProcessingParameterNumber(name, text, kind, default, minValue=0)
        if advanced:
            self._add_advanced(parameter)
        else:
            self.addParameter(parameter)

    def _add_advanced(self, parameter: QgsProcessingParameterDefinition) -> None:
        parameter.setFlags(parameter.flags() | QgsProcessingParameterDefinition.Flag.FlagAdvanced)
        self.addParameter(parameter)

    def run_on_store(
        self, store: Path, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> dict[str, Any]:
        """Segment every object of the layer; see `StoreAlgorithm.run_on_store`."""
        source = self.parameterAsSource(parameters, self.INPUT, context)
        if source is None:
            raise QgsProcessingException(self.invalidSourceError(parameters, self.INPUT))
        segmenter = open_segmenter(store)
        crs = raster_crs(segmenter.reader.metadata)
        out_crs = self.parameterAsCrs(parameters, self.CRS, context) if parameters.get(self.CRS) else crs
        options = self._options(parameters, context)
        objects = self._objects(parameters, source, crs, context, feedback)
        fields = _output_fields(options)
        sink, sink_id = self.parameterAsSink(
            parameters, self.OUTPUT, context, fields, QgsWkbTypes.Type.MultiPolygon, out_crs
        )
        if sink is None:
            raise QgsProcessingException(self.invalidSinkError(parameters, self.OUTPUT))
        to_output = QgsCoordinateTransform(crs, out_crs, context.transformContext())
        left_out = 0
        for done, answer in enumerate(answer_objects(segmenter, objects, options, _Meter(crs, context)), start=1):
            reason = _why_left_out(answer)
            try:
                features = [_feature(item, fields, to_output) for item in answer.results]
            except EditError as error:
                features, reason = [], translated(error)
            if not sink.addFeatures(features, QgsFeatureSink.Flag.FastInsert):
                raise QgsProcessingException(self.writeFeatureError(sink, parameters, self.OUTPUT))
            if reason:
                left_out += 1
                text = tr("Left out object {object}: {reason}")
                feedback.pushWarning(text.format(object=answer.name, reason=reason))
            feedback.setProgress(100.0 * done / len(objects))
            if feedback.isCanceled():
                break
        if left_out:
            text = tr("{count} of {total} objects have no polygon.")
            feedback.pushInfo(text.format(count=left_out, total=len(objects)))
        return {self.OUTPUT: sink_id}

    def _options(self, parameters: dict[str, Any], context: QgsProcessingContext) -> SegmentOptions:
        return SegmentOptions(
            level=self.parameterAsInt(parameters, self.LEVEL, context),
            simplify_tolerance=self.parameterAsDouble(parameters, self.SIMPLIFY, context),
            min_area_m2=self.parameterAsDouble(parameters, self.MIN_AREA, context),
            fill_holes_m2=self.parameterAsDouble(parameters, self.FILL_HOLES, context),
            candidate=self.parameterAsEnumString(parameters, self.CANDIDATE, context),
        )

    def _objects(
        self,
        parameters: dict[str, Any],
        source: QgsProcessingFeatureSource,
        crs: QgsCoordinateReferenceSystem,
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> list[ObjectPrompts]:
        object_field = self._field(parameters, self.OBJECT, OBJECT_FIELD, source, context)
        label_field = self._field(parameters, self.LABEL, LABEL_FIELD, source, context)
        features = _prompt_features(source, object_field, label_field, crs, context, feedback)
        return group_prompts(features, source.sourceName())

    def _field(
        self,
        parameters: dict[str, Any],
        name: str,
        default: str,
        source: QgsProcessingFeatureSource,
        context: QgsProcessingContext,
    ) -> int:
        """Return the place of the field chosen, or else of the one called by the default name, or -1."""
        if self.parameterDefinition(name) is None:
            return -1
        chosen = self.parameterAsString(parameters, name, context)
        return int(source.fields().lookupField(chosen or default))


class SegmentPointsAlgorithm(_SegmentAlgorithm):
    """Clicks from a layer of points."""

    def name(self) -> str:
        """Return the name for scripts."""
        return "segmentpoints"

    def displayName(self) -> str:  # noqa: N802
        """Return the name in the toolbox."""
        return tr("Segment from points")

    def shortHelpString(self) -> str:  # noqa: N802
        """Return the help beside the dialog."""
        return tr(
            "Draws a polygon around what each point lies on, from a store of precomputed embeddings.\n\n"
            "Points with the same value in the object field belong to one object; without that field every point is "
            "an object of its own. The label field tells positive points (1) from negative ones (0). Fields called "
            "object and label are found by themselves. The points may have any CRS.\n\n"
            "Candidate: best keeps the mask that the model itself rates highest; 1, 2 and 3 are its masks by rank, "
            "and all keeps every one, told apart by the field candidate.\n\n"
            "Points that cannot be answered (outside the raster, no data, not encoded) are named in the log. Areas "
            "are measured on the ellipsoid.",
        )

    def initAlgorithm(self, configuration: dict[str, Any] | None = None) -> None:  # noqa: N802
        """Declare the parameters."""
        self.add_store_parameter()
        self.add_input(tr("Points"), QgsProcessing.SourceType.TypeVectorPoint)
        self.add_field(self.OBJECT, tr("Field of the object that a point belongs to"))
        self.add_field(self.LABEL, tr("Field with 1 for positive and 0 for negative points"))
        self.add_options()


class SegmentBoxesAlgorithm(_SegmentAlgorithm):
    """Boxes from a layer of polygons."""

    def name(self) -> str:
        """Return the name for scripts."""
        return "segmentboxes"

    def displayName(self) -> str:  # noqa: N802
        """Return the name in the toolbox."""
        return tr("Segment from boxes")

    def shortHelpString(self) -> str:  # noqa: N802
        """Return the help beside the dialog."""
        return tr(
            "Draws a polygon around the object in the bounding box of each feature, from a store of precomputed "
            "embeddings. The polygons may be rough outlines, and have any CRS.\n\n"
            "The object field names the objects in the output; a field called object is found by itself, and without "
            "one the feature's id is used.\n\n"
            "Boxes that cannot be answered (outside the raster, no data, not encoded) are named in the log. Areas are "
            "measured on the ellipsoid.",
        )

    def initAlgorithm(self, configuration: dict[str, Any] | None = None) -> None:  # noqa: N802
        """Declare the parameters."""
        self.add_store_parameter()
        self.add_input(tr("Boxes or polygons"), QgsProcessing.SourceType.TypeVectorPolygon)
        self.add_field(self.OBJECT, tr("Field with the name of the object"))
        self.add_options()


def _prompt_features(
    source: QgsProcessingFeatureSource,
    object_field: int,
    label_field: int,
    crs: QgsCoordinateReferenceSystem,
    context: QgsProcessingContext,
    feedback: QgsProcessingFeedback,
) -> Iterator[PromptFeature]:
    """Read features in the raster's CRS; those without a place in it are reported."""
    request = QgsFeatureRequest().setDestinationCrs(crs, context.transformContext())
    # Only their places count, so that crossed outlines do no harm.
    for feature in source.getFeatures(request, QgsProcessingFeatureSource.Flag.FlagSkipGeometryValidityChecks):
        object_id = None if object_field < 0 else _text(feature.attribute(object_field))
        if object_id is None:
            object_id = str(feature.id()) if object_field < 0 else f"feature {feature.id()}"
        geometry = feature.geometry()
        if geometry.isNull() or geometry.isEmpty():
            feedback.pushWarning(
                tr("Left out feature {id}: it has no geometry, or no place in the raster's CRS").format(id=feature.id())
            )
            continue
        label = None if label_field < 0 else _value(feature.attribute(label_field))
        yield PromptFeature(_prompt_geometry(geometry), label, object_id)


def _prompt_geometry(geometry: QgsGeometry) -> shapely.Geometry:
    if geometry.type() == QgsWkbTypes.GeometryType.PolygonGeometry:
        box = geometry.boundingBox()
        return shapely.box(box.xMinimum(), box.yMinimum(), box.xMaximum(), box.yMaximum())
    return shapely.MultiPoint([(vertex.x(), vertex.y()) for vertex in geometry.vertices()])


def _value(value: Any) -> Any:
    return None if value is None or value == NULL else value


def _text(value: Any) -> str | None:
    value = _value(value)
    if value is None:
        return None
    # A number from a column of reals; 3.0 is object 3.
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _output_fields(options: SegmentOptions) -> QgsFields:
    kinds = {"object": TEXT, "score": REAL, "level": WHOLE, "area_m2": REAL, "model": TEXT}
    if options.candidate == ALL_CANDIDATES:
        kinds["candidate"] = WHOLE
    return make_fields(**kinds)


def _why_left_out(answer: ObjectAnswer) -> str:
    if answer.refusal is not None:
        return translated(answer.refusal)
    return "" if answer.results else tr("The mask is empty or smaller than the minimum area")


def _feature(item: ObjectResult, fields: QgsFields, to_output: QgsCoordinateTransform) -> QgsFeature:
    result = item.result
    geometry = transform_geometry(to_multi_polygon(result.geometry), to_output)
    values = [item.object_id, result.score, result.level, item.area_m2, result.model, result.rank + 1]
    feature = QgsFeature(fields)
    feature.setGeometry(geometry)
    feature.setAttributes(values[: fields.count()])
    return feature

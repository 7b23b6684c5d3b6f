"""Segments from a layer of points or of boxes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import shapely
from qgis.core import (  # type: ignore[attr-defined]
    NULL,
    QgsCoordinateTransform,
    QgsFeature,
    QgsFeatureRequest,
    QgsField,
    QgsFields,
    QgsGeometry,
    QgsProcessing,
    QgsProcessingContext,
    QgsProcessingFeatureSource,
    QgsProcessingFeedback,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterCrs,
    QgsProcessingParameterNumber,
    QgsProcessingParameterScale,
    QgsWkbTypes,
)
from shapely.geometry.base import BaseGeometry

from ..core.globe import are_degrees
from ..core.prompts import Bounds
from ..errors import EditError, VectorError, marked
from ..inference.batch import (
    ALL_CANDIDATES,
    BEST_CANDIDATE,
    ObjectAnswer,
    ObjectResult,
    PromptFeature,
    SegmentOptions,
    answer_objects,
    group_prompts,
    level_for_ground,
    tiles_wanted,
)
from ..inference.segmenter import Segmenter
from ..inference.session import open_segmenter
from ..inference.updating import GONE, SAME, UpdatedObject, UpdateOptions, outline_prompts, update_objects
from ..qgis_support.classes import ClassList, classes_of_layer
from ..qgis_support.crs import (
    EllipsoidArea,
    check_map_crs,
    from_qgs,
    prompt_to_raster,
    raster_crs,
    transform,
    transform_polygon,
)
from ..qgis_support.fields import LONG, REAL, TEXT, WHOLE, append_copy, is_plain, make_fields
from ..qgis_support.messages import tr, translated
from .area import check_crs
from .base import ChoiceParameter
from .drawing import Call, SegmentationAlgorithm, polygon_feature
from .image import Image, prepare_tiles
from .styling import PolygonStyle

__all__ = ["SegmentBoxesAlgorithm", "SegmentPointsAlgorithm", "UpdatePolygonsAlgorithm"]

OBJECT_FIELD = "object"
LABEL_FIELD = "label"
_LEAST_SIZE_M = 0.001
_SHARE_OF_TILES = 0.9
"""Part of the progress for preparing tiles, which takes much longer than drawing polygons on them."""


class _PromptFields(NamedTuple):
    """Indices of fields of the prompt layer.

    Attributes
    ----------
    object, label : int
        -1 if there is no such field.
    copied : list of int
        Fields copied to the polygons.
    """

    object: int
    label: int
    copied: list[int]


class _SegmentAlgorithm(SegmentationAlgorithm):
    """What the two algorithms share."""

    IS_UPDATE = False
    OBJECT = "OBJECT_FIELD"
    LABEL = "LABEL_FIELD"
    SCALE = "SCALE"
    OBJECT_SIZE = "OBJECT_SIZE_M"
    MIN_AREA = "MIN_AREA_M2"
    FILL_HOLES = "FILL_HOLES_M2"
    ALL_PARTS = "ALL_PARTS"
    CANDIDATE = "CANDIDATE"
    CRS = "CRS"

    def __init__(self) -> None:
        super().__init__()
        self._classes: ClassList | None = None

    def add_options(self) -> None:
        """Add the parameters for the polygons."""
        number = QgsProcessingParameterNumber.Type
        if not self.IS_UPDATE:
            text = tr("Candidate masks to keep")
            self.addParameter(ChoiceParameter(self.CANDIDATE, text, _candidates(), BEST_CANDIDATE))
        self.add_number(self.MIN_AREA, tr("Drop parts smaller than (m²)"), number.Double, 0)
        self.add_number(self.FILL_HOLES, tr("Fill holes smaller than (m²)"), number.Double, 0)
        self.add_advanced(QgsProcessingParameterBoolean(self.ALL_PARTS, tr("Keep all pieces"), False, optional=True))
        self.add_detail()
        text = tr("Size of the objects (m), instead of the level of detail")
        self.add_number(self.OBJECT_SIZE, text, number.Double, None, _LEAST_SIZE_M, advanced=True)
        text = tr("Scale of the map, instead of the level of detail")
        scale = QgsProcessingParameterScale(self.SCALE, text, optional=True)
        scale.setMinimum(1)
        self.add_advanced(scale)
        text = tr("CRS of the polygons (by default that of the raster)")
        self.add_advanced(QgsProcessingParameterCrs(self.CRS, text, optional=True))
        self.add_sink(self.OUTPUT, tr("Polygons"))

    def checkParameterValues(  # noqa: N802
        self, parameters: dict[str, Any], context: QgsProcessingContext
    ) -> tuple[bool, str | None]:
        """Refuse a scale together with a size; called by QGIS before a run."""
        call = Call(parameters, context, QgsProcessingFeedback())
        if all(self._optional(name, call) for name in (self.SCALE, self.OBJECT_SIZE)):
            return False, tr("Give the scale of the map or the size of the objects, not both.")
        return super().checkParameterValues(parameters, context)

    def prepareAlgorithm(  # noqa: N802
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback | None
    ) -> bool:
        """Read the classes of the prompts too; see `ImageAlgorithm`."""
        layer = self.parameterAsVectorLayer(parameters, self.INPUT, context)
        self._classes = classes_of_layer(layer) if layer is not None else None
        return super().prepareAlgorithm(parameters, context, feedback)

    def draw(self, image: Image, segmenter: Segmenter, call: Call) -> None:
        """Segment every object of the layer; see `SegmentationAlgorithm.draw`."""
        source = self.input_source(call.parameters, call.context)
        live, crs = image.live, image.crs
        out_crs = self.parameterAsCrs(call.parameters, self.CRS, call.context) if call.parameters.get(self.CRS) else crs
        check_map_crs(out_crs)
        # QGIS would give coordinates back unchanged if there is no transform.
        to_output = transform(crs, out_crs, call.context.project())
        check_crs(source)
        to_raster = transform(source.sourceCrs(), crs, call.context.project())
        meter = EllipsoidArea(crs, call.context.project())
        level = self._level(segmenter, meter, call)
        options = self._options(level, call)
        prompt_fields = self._prompt_fields(source, call)
        thresholds = self.thresholds(segmenter, call)
        # No coordinate of a polygon that has not changed is touched.
        drawn: list[BaseGeometry] | None = [] if thresholds is not None and out_crs == source.sourceCrs() else None
        prompts = _prompt_features(source, prompt_fields, to_raster, segmenter.map_bounds, call.feedback, drawn)
        objects = group_prompts(prompts, source.sourceName()) if thresholds is None else outline_prompts(prompts)
        fields = _output_fields(options, source.fields(), prompt_fields, self.IS_UPDATE)
        what = tr("objects of {layer}") if thresholds is None else tr("{layer} updated")
        what = what.format(layer=source.sourceName())
        sink = self.open_output(what, image, call, fields, out_crs)

        def write(answer: ObjectAnswer) -> None:
            sink([_feature(item, fields, options, to_output, drawn) for item in answer.results])

        style = PolygonStyle(_copied_classes(self._classes, source.fields(), prompt_fields, fields))
        style.use_for(self.outputs[self.OUTPUT], call.context)
        share = 0.0
        if live is not None:
            wanted = tiles_wanted(segmenter, objects, options)
            share = prepare_tiles(image, segmenter, wanted, call.feedback, _SHARE_OF_TILES)
        if thresholds is None:
            answers = answer_objects(segmenter, objects, options, meter)
        else:
            answers = update_objects(segmenter, objects, options, thresholds, meter)
        _write(answers, write, len(objects), share, call.feedback)

    def thresholds(self, segmenter: Segmenter, call: Call) -> UpdateOptions | None:
        """Return how old polygons are compared with the image; None if the layer has other prompts."""
        return None

    def _level(self, segmenter: Segmenter, meter: EllipsoidArea, call: Call) -> int:
        """Return the level: that of the size of the objects, of the scale of the map, or the one that is given."""
        level = self.parameterAsInt(call.parameters, self.LEVEL, call.context)
        scale, size_m = (self._optional(name, call) for name in (self.SCALE, self.OBJECT_SIZE))
        if scale or size_m:
            level = level_for_ground(segmenter, meter, scale=scale, object_size_m=size_m)
            call.feedback.pushInfo(tr("Finest level of detail: {level}").format(level=level))
        if level < segmenter.finest_level:
            text = tr(
                "The prepared image has no level {level}; its finest level, {finest}, is used. The algorithm Prepare "
                "raster adds enlarged levels."
            )
            call.feedback.pushWarning(text.format(level=level, finest=segmenter.finest_level))
        return level

    def _optional(self, name: str, call: Call) -> float | None:
        """Return a positive number, or None if the user gave none."""
        # An empty text counts as 0, and a text may be "nan".
        value = self.parameterAsDouble(call.parameters, name, call.context)
        return value if 0 < value < math.inf else None

    def _options(self, level: int, call: Call) -> SegmentOptions:
        return SegmentOptions(
            level=level,
            simplify_tolerance=self.parameterAsDouble(call.parameters, self.SIMPLIFY, call.context),
            min_area_m2=self.parameterAsDouble(call.parameters, self.MIN_AREA, call.context),
            fill_holes_m2=self.parameterAsDouble(call.parameters, self.FILL_HOLES, call.context),
            candidate=BEST_CANDIDATE if self.IS_UPDATE else self.choice(call.parameters, self.CANDIDATE, call.context),
            all_parts=self.parameterAsBool(call.parameters, self.ALL_PARTS, call.context),
        )

    def _prompt_fields(self, source: QgsProcessingFeatureSource, call: Call) -> _PromptFields:
        object_field = self.field_index(call.parameters, self.OBJECT, source, call.context, OBJECT_FIELD)
        label_field = self.field_index(call.parameters, self.LABEL, source, call.context, LABEL_FIELD)
        copied = [  # type: ignore[var-annotated]
            index
            for index, field in enumerate(source.fields())  # type: ignore[arg-type]
            if index not in (object_field, label_field) and field.name().lower() != "fid" and is_plain(field)
        ]
        return _PromptFields(object_field, label_field, copied)


class SegmentPointsAlgorithm(_SegmentAlgorithm):
    """Uses the points of a layer as clicks."""

    ID = "segmentpoints"
    TITLE = marked("Segment from points")
    HELP = marked(
        "Draws the polygon of the object at each point of a layer. Choose a raster: its tiles under the points are "
        "prepared first, and kept for the next time. Or choose the folder of a prepared image.\n\n"
        "Points with the same value in the object field belong to one object; without that field each point is "
        "one object. The label field separates positive points (1) from negative points (0). Fields named object "
        "and label are used by default. The points may have any CRS. The polygons get the other attributes of the "
        "first point, and the style of the layer if it shows classes.\n\n"
        "Of the masks that fit, keep the one with the highest score, the one with a rank, or all; then the field "
        "candidate has the rank.\n\n"
        "For small or large objects, set the level of detail, or else the size of the objects in metres or the "
        "scale of a map on which you would click them. Objects of less than 100 pixels need enlarged levels.\n\n"
        "Points outside the raster, without data or on tiles that cannot be prepared are listed in the log. Areas "
        "are measured on the ellipsoid."
    )

    def initAlgorithm(self, configuration: dict[str, Any] | None = None) -> None:  # noqa: N802
        """Declare the parameters."""
        self.add_image_parameters()
        self.add_input(tr("Points"), QgsProcessing.SourceType.TypeVectorPoint)  # type: ignore[attr-defined]
        self.add_field(self.OBJECT, tr("Object field"))
        self.add_field(self.LABEL, tr("Label field"))
        self.add_options()


class SegmentBoxesAlgorithm(_SegmentAlgorithm):
    """Uses the bounding boxes of a layer of polygons."""

    ID = "segmentboxes"
    TITLE = marked("Segment from boxes")
    HELP = marked(
        "Draws the polygon of the object in the bounding box of each feature, which may be a rough outline, in any "
        "CRS. Choose a raster: its tiles under the boxes are prepared first, and kept for the next time. Or choose "
        "the folder of a prepared image.\n\n"
        "The object field identifies the objects in the output. A field named object is used by default, or else "
        "the feature id. The polygons get the other attributes of the feature.\n\n"
        "The size of a box chooses its level of detail. Boxes of less than 100 pixels get enlarged levels if the "
        "image has them.\n\n"
        "Boxes outside the raster, without data or on tiles that cannot be prepared are listed in the log. Areas "
        "are measured on the ellipsoid."
    )

    def initAlgorithm(self, configuration: dict[str, Any] | None = None) -> None:  # noqa: N802
        """Declare the parameters."""
        self.add_image_parameters()
        self.add_input(tr("Boxes or polygons"))
        self.add_field(self.OBJECT, tr("Object field"))
        self.add_options()


class UpdatePolygonsAlgorithm(_SegmentAlgorithm):
    """Uses the polygons of an older image as outlines."""

    ID = "updatepolygons"
    TITLE = marked("Update polygons")
    HELP = marked(
        "Finds the objects of an older layer of polygons on a newer image. Choose the newer raster, or the folder "
        "of its prepared image. The tiles under the polygons are prepared first, and kept for the next time.\n\n"
        "The output has the new outline of each polygon, its IoU with the old one, and a verdict: same, moved, "
        "changed or gone. Polygons that are the same or gone keep their vertices, a moved one its shape, and a "
        "changed one the vertices where its border differs by less than the tolerance. The other attributes are "
        "copied.\n\n"
        "An object is the same or moved if the IoU, in its place or displaced, reaches the first threshold. It is "
        "gone if the score of the model is below the second one.\n\n"
        "If the model draws an object differently from you, the object may be called changed or gone. With the "
        "prepared older image, the outlines that the model draws on both images are compared. This avoids most of "
        "these errors."
    )
    IS_UPDATE = True
    SAME_IOU = "SAME_IOU"
    GONE_SCORE = "GONE_SCORE"
    TOLERANCE = "TOLERANCE"
    OLD_STORE = "OLD_STORE"

    def initAlgorithm(self, configuration: dict[str, Any] | None = None) -> None:  # noqa: N802
        """Declare the parameters."""
        number, defaults = QgsProcessingParameterNumber.Type, UpdateOptions()
        self.add_image_parameters()
        self.add_input(tr("Old polygons"), QgsProcessing.SourceType.TypeVectorPolygon)  # type: ignore[attr-defined]
        self.add_field(self.OBJECT, tr("Object field"))
        self.add_number(self.SAME_IOU, tr("Minimum IoU of an unchanged object"), number.Double, defaults.same_iou)
        self.add_number(
            self.GONE_SCORE, tr("Minimum score of an object that is not gone"), number.Double, defaults.gone_score
        )
        self.add_number(self.TOLERANCE, tr("Tolerance for borders (pixels)"), number.Double, defaults.tolerance)
        self.add_optional_folder(self.OLD_STORE, tr("Folder of the prepared older image, in the same CRS"))
        self.add_options()

    def thresholds(self, segmenter: Segmenter, call: Call) -> UpdateOptions:
        """Read the options of the comparison."""
        names = (self.SAME_IOU, self.GONE_SCORE, self.TOLERANCE)
        folder = self.parameterAsFile(call.parameters, self.OLD_STORE, call.context)
        older = open_segmenter(Path(folder)) if folder else None
        if older is not None and raster_crs(older.reader.metadata) != raster_crs(segmenter.reader.metadata):
            raise EditError(tr("The older image has another CRS"), tr("prepare it in the CRS of the newer one"))
        same, gone, tolerance = (self.parameterAsDouble(call.parameters, name, call.context) for name in names)
        return UpdateOptions(same, gone, tolerance, older)


def _write(
    answers: Iterable[ObjectAnswer],
    write: Callable[[ObjectAnswer], None],
    total: int,
    share_before: float,
    feedback: QgsProcessingFeedback,
) -> None:
    """Write the polygons, and report the objects that have none."""
    skipped = 0
    for done, answer in enumerate(answers, start=1):
        reason = _why_skipped(answer)
        try:
            write(answer)
        except EditError as error:
            reason = translated(error)
        if reason:
            skipped += 1
            text = tr("Skipped object {object}: {reason}")
            feedback.pushWarning(text.format(object=answer.prompts.name, reason=reason))
        feedback.setProgress(100.0 * (share_before + (1 - share_before) * done / total))
        if feedback.isCanceled():
            break
    if skipped:
        text = tr("{count} of {total} objects were skipped.")
        feedback.pushInfo(text.format(count=skipped, total=total))


def _prompt_features(
    source: QgsProcessingFeatureSource,
    fields: _PromptFields,
    to_raster: QgsCoordinateTransform,
    extent: Bounds,
    feedback: QgsProcessingFeedback,
    drawn: list[BaseGeometry] | None,
) -> Iterator[PromptFeature]:
    """Read the features in the CRS of the raster; those that cannot be transformed are reported.

    The geometries are added to ``drawn`` as they are in the layer.
    """
    _check_degrees(source)
    # Only coordinates are used, so invalid geometries do no harm.
    skip_checks = QgsProcessingFeatureSource.Flag.FlagSkipGeometryValidityChecks  # type: ignore[attr-defined]
    for feature in source.getFeatures(QgsFeatureRequest(), skip_checks):
        try:
            geometry = prompt_to_raster(_prompt_geometry(feature.geometry()), to_raster, extent)
        except EditError:
            geometry = shapely.Polygon()
        if geometry.is_empty:
            feedback.pushWarning(
                tr("Skipped feature {id}: it has no geometry or lies outside the CRS of the raster").format(
                    id=feature.id()
                )
            )
            continue
        values = [_value(value) for value in feature.attributes()]
        label = values[fields.label] if fields.label >= 0 else None
        object_id = values[fields.object] if fields.object >= 0 else feature.id()
        attributes = {source.fields().at(index).name(): values[index] for index in fields.copied}
        if drawn is not None:
            drawn.append(_prompt_geometry(feature.geometry()))
        yield PromptFeature(geometry, label, object_id, attributes)


def _check_degrees(source: QgsProcessingFeatureSource) -> None:
    """Refuse a layer whose CRS is geographic and of whose features none has coordinates in degrees."""
    if not source.sourceCrs().isGeographic():
        return
    request = QgsFeatureRequest().setNoAttributes()
    skip_checks = QgsProcessingFeatureSource.Flag.FlagSkipGeometryValidityChecks  # type: ignore[attr-defined]
    corner = None
    for feature in source.getFeatures(request, skip_checks):
        box = feature.geometry().boundingBox()
        if box.isNull() or not box.isFinite():
            continue
        bounds = np.array([(box.xMinimum(), box.yMinimum(), box.xMaximum(), box.yMaximum())])
        if are_degrees(bounds).any():
            return
        corner = corner or (box.xMinimum(), box.yMinimum())
    if corner is not None:
        raise VectorError(
            "{source} has coordinates such as ({x:.8g}, {y:.8g}), which are not longitude and latitude",
            "set the CRS that they are in, in the properties of the layer",
            source=source.sourceName(),
            x=corner[0],
            y=corner[1],
        )


def _prompt_geometry(geometry: QgsGeometry) -> BaseGeometry:
    if geometry.isNull() or geometry.isEmpty():
        return shapely.Polygon()
    if geometry.type() == QgsWkbTypes.GeometryType.PolygonGeometry:  # type: ignore[attr-defined]
        return from_qgs(geometry)
    return shapely.MultiPoint([(vertex.x(), vertex.y()) for vertex in geometry.vertices()])


def _candidates() -> dict[str, str]:
    rank = tr("The one with rank {rank}")
    ranks = {number: rank.format(rank=number) for number in ("1", "2", "3")}
    return {BEST_CANDIDATE: tr("The one with the highest score"), **ranks, ALL_CANDIDATES: tr("All")}


def _value(value: Any) -> Any:
    return None if value is None or value == NULL else value


def _output_fields(options: SegmentOptions, prompts: QgsFields, chosen: _PromptFields, is_update: bool) -> QgsFields:
    """Return the fields of the polygons. The object keeps its type, and the copied fields come last."""
    kinds = {"score": REAL, "level": WHOLE, "area_m2": REAL, "model": TEXT}
    if options.candidate == ALL_CANDIDATES:
        kinds["candidate"] = WHOLE
    if is_update:
        kinds.update(verdict=TEXT, iou=REAL)
    first = QgsField(prompts.at(chosen.object)) if chosen.object >= 0 else QgsField("object", LONG)
    first.setName(OBJECT_FIELD)
    fields = QgsFields()
    for field in (first, *make_fields(**kinds)):  # type: ignore[misc]
        fields.append(field)
    for index in chosen.copied:
        append_copy(fields, prompts.at(index))
    return fields


def _copied_classes(
    classes: ClassList | None, prompts: QgsFields, chosen: _PromptFields, fields: QgsFields
) -> ClassList | None:
    """Return the classes of the prompts for the field that they are copied to; None if they are not copied."""
    index = prompts.lookupField(classes.field) if classes is not None and classes.field is not None else -1
    if classes is None or index not in chosen.copied:
        return None
    # The copied fields come last.
    place = chosen.copied.index(index) - len(chosen.copied)
    return replace(classes, field=fields.names()[place])


def _why_skipped(answer: ObjectAnswer) -> str:
    if answer.refusal is not None:
        return translated(answer.refusal)
    return "" if answer.results else tr("The mask is empty or smaller than the minimum area")


def _feature(
    item: ObjectResult,
    fields: QgsFields,
    options: SegmentOptions,
    to_output: QgsCoordinateTransform,
    drawn: list[BaseGeometry] | None,
) -> QgsFeature:
    result = item.result
    score = None if math.isnan(result.score) else result.score
    values = [item.object_id, score, result.level, item.area_m2, result.model]
    if options.candidate == ALL_CANDIDATES:
        values.append(result.rank + 1)
    if isinstance(item, UpdatedObject):
        values += [item.verdict, item.iou]
    if drawn is not None and isinstance(item, UpdatedObject) and item.verdict in (SAME, GONE):
        polygon = drawn[item.prompts.feature - 1]
    else:
        polygon = transform_polygon(result.geometry, to_output)
    return polygon_feature(fields, polygon, [*values, *item.attributes.values()])

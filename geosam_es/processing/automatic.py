"""Draws all objects of an image, without prompts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import shapely
from qgis.core import (  # type: ignore[attr-defined]
    QgsFeature,
    QgsFeatureSink,
    QgsFields,
    QgsProcessing,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterExtent,
    QgsProcessingParameterFeatureSink,
    QgsProcessingParameterFeatureSource,
    QgsProcessingParameterNumber,
    QgsWkbTypes,
)
from shapely.geometry.base import BaseGeometry

from ..core.grid import FINEST_LEVEL
from ..errors import EditError
from ..inference.automatic import (
    AutomaticMask,
    AutomaticOptions,
    automatic_masks,
    default_options,
    rows_of_tiles,
)
from ..inference.automatic_coverage import CoverageOptions, CoveragePolygon, automatic_coverage
from ..inference.batch import middle_pixel_m
from ..inference.segmenter import Segmenter
from ..inference.session import open_segmenter
from ..qgis_support.crs import EllipsoidArea
from ..qgis_support.fields import REAL, TEXT, WHOLE, make_fields
from ..qgis_support.messages import tr
from ..store.reader import TileState
from .area import read_area
from .base import ImageAlgorithm, to_multi_polygon
from .image import CancelledError, Image, encode_missing, open_image, patient_segmenter, prepared_text
from .styling import PolygonStyle

__all__ = ["AutomaticMasksAlgorithm"]

_SHARE_OF_TILES = 0.2
"""Part of the progress for preparing tiles; decoding a grid of points on them takes longer."""


class AutomaticMasksAlgorithm(ImageAlgorithm):
    """``geosam-es auto``, without a process of its own."""

    ID = "automaticmasks"
    GROUP = "segmentation"
    AREA = "AREA"
    EXTENT = "EXTENT"
    LEVEL = "LEVEL"
    SIMPLIFY = "SIMPLIFY"
    COVERAGE = "COVERAGE"
    MIN_AREA = "MIN_AREA"
    OUTPUT = "OUTPUT"

    def displayName(self) -> str:  # noqa: N802
        """Return the name in the toolbox."""
        return tr("Segment everything")

    def shortHelpString(self) -> str:  # noqa: N802
        """Return the help text of the dialog."""
        return tr(
            "Draws all objects of a raster, of an extent such as the view, or of the area of a polygon layer. The "
            "tiles that are missing are prepared first, and kept for the next time.\n\n"
            "A grid of points prompts the image at each level of detail. Masks with a good predicted IoU and stability "
            "score are kept, and duplicates are removed. The polygons may overlap: an object and its parts are both "
            "drawn. As a coverage, every pixel with data lies in exactly one polygon: the better mask wins, areas "
            "without a mask are grouped by similarity, and what is smaller than the minimum mapping unit joins a "
            "neighbour.\n\n"
            "More points find more small objects and take longer. Lower thresholds find more objects, and more false "
            "ones. Options left empty get values that suit the model."
        )

    def initAlgorithm(self, configuration: dict[str, Any] | None = None) -> None:  # noqa: N802
        """Declare the parameters."""
        self.add_image_parameters()
        self.addParameter(QgsProcessingParameterExtent(self.EXTENT, tr("Extent"), optional=True))
        polygon = QgsProcessing.SourceType.TypeVectorPolygon  # type: ignore[attr-defined]
        self.addParameter(
            QgsProcessingParameterFeatureSource(
                self.AREA, tr("Area of interest (by default all)"), [polygon], optional=True
            )
        )
        double, integer = QgsProcessingParameterNumber.Type.Double, QgsProcessingParameterNumber.Type.Integer
        for name, (text, most) in _numbers().items():
            is_count = name == "points_per_side"
            kind = integer if is_count else double
            self.add_number(name.upper(), text, kind, None, int(is_count), most, advanced=not is_count)
        text = tr("Finest level of detail (0: as the image, -1: enlarged, 1: coarser)")
        self.add_number(self.LEVEL, text, integer, 0, FINEST_LEVEL, advanced=True)
        self.add_number(self.SIMPLIFY, tr("Simplify outlines (pixels)"), double, 1, advanced=True)
        self.addParameter(
            QgsProcessingParameterBoolean(self.COVERAGE, tr("As a coverage, without overlaps and gaps"), False)
        )
        text = tr("Minimum mapping unit of the coverage (square metres; by default 400 pixels)")
        self.add_number(self.MIN_AREA, text, double, None, 0, advanced=True)
        self.addParameter(QgsProcessingParameterFeatureSink(self.OUTPUT, tr("Polygons"), polygon))

    def execute(
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> dict[str, Any]:
        """Draw the objects; see `OneSentenceAlgorithm.execute`."""
        with closing(open_image(self.source, self.store(parameters, context), self.options)) as image:
            return self._draw(image, parameters, context, feedback)

    def _draw(
        self,
        image: Image,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> dict[str, Any]:
        feedback.pushInfo(tr("Prepared image: {path}").format(path=image.store))
        live = image.live
        segmenter = open_segmenter(image.store) if live is None else patient_segmenter(live, feedback)
        crs = image.crs
        if not crs.isValid():
            raise EditError(tr("The raster has no CRS"), tr("set it in the properties of its layer"))
        area = self._area(parameters, image, segmenter, context)
        finest = self.parameterAsInt(parameters, self.LEVEL, context)
        coarsest = len(segmenter.pyramid.grids) - 1
        levels = range(min(max(finest, segmenter.finest_level), coarsest), coarsest + 1)
        options = self._options(parameters, segmenter, context)
        kinds = {"predicted_iou": REAL, "stability_score": REAL, "level": WHOLE, "area_m2": REAL, "point_x": REAL}
        is_coverage = self.parameterAsBool(parameters, self.COVERAGE, context)
        made = make_fields(**kinds, point_y=REAL, model=TEXT, **({"group": WHOLE} if is_coverage else {}))
        multi_polygon = QgsWkbTypes.Type.MultiPolygon
        sink, output = self.parameterAsSink(parameters, self.OUTPUT, context, made, multi_polygon, crs)
        if sink is None:
            raise QgsProcessingException(self.invalidSinkError(parameters, self.OUTPUT))
        PolygonStyle(None, fills=not is_coverage).use_for(output, context)
        simplify = self.parameterAsDouble(parameters, self.SIMPLIFY, context)
        meter = EllipsoidArea(crs, context.project())
        share = 0.0

        def on_progress(done: int, total: int) -> None:
            if feedback.isCanceled():
                raise CancelledError
            feedback.setProgress(100.0 * (share + (1 - share) * done / max(total, 1)))

        try:
            tiles = [tile for row in rows_of_tiles(segmenter, levels, area) for tile in row]
            missing = [tile for tile in tiles if segmenter.reader.state(tile) is TileState.MISSING]
            if live is not None and missing:
                share = _SHARE_OF_TILES
                feedback.pushInfo(prepared_text(encode_missing(live, missing, feedback, share)))
            elif missing:
                feedback.pushWarning(tr("{count} tiles are not prepared and are left out").format(count=len(missing)))
            masks = automatic_masks(segmenter, options, levels, area, on_progress)
            found: Iterator[AutomaticMask | CoveragePolygon] = masks
            if is_coverage:
                pixels = (
                    self.parameterAsDouble(parameters, self.MIN_AREA, context) / middle_pixel_m(segmenter, meter) ** 2
                )
                unit = CoverageOptions(
                    pixels or CoverageOptions.min_area, simplify * CoverageOptions.simplify_tolerance
                )
                has_data = None if live is None else live.read_valid
                found = automatic_coverage(segmenter, masks, unit, area, has_data, levels[0])
            for mask in found:
                feature = _feature(mask, segmenter, meter, simplify, made)
                if not sink.addFeature(feature, QgsFeatureSink.Flag.FastInsert):
                    raise QgsProcessingException(self.writeFeatureError(sink, parameters, self.OUTPUT))
        except CancelledError:
            feedback.pushInfo(tr("Stopped. The tiles prepared so far are kept."))
        return {self.OUTPUT: output}

    def _area(
        self, parameters: dict[str, Any], image: Image, segmenter: Segmenter, context: QgsProcessingContext
    ) -> BaseGeometry | None:
        """Return the area in native pixels; None for the whole raster."""
        raster = segmenter.reader.metadata.raster
        parts: list[BaseGeometry] = []
        if parameters.get(self.EXTENT):
            extent = self.parameterAsExtent(parameters, self.EXTENT, context, image.crs)
            parts.append(shapely.box(extent.xMinimum(), extent.yMinimum(), extent.xMaximum(), extent.yMaximum()))
        source = self.parameterAsSource(parameters, self.AREA, context)
        if source is not None:
            parts.append(read_area(source, image.crs, raster, context))
        if not parts:
            return None
        area = shapely.intersection_all(parts)
        if not area.intersects(shapely.box(*segmenter.map_bounds)):
            raise EditError(tr("The area lies outside the raster"), tr("choose another extent or layer"))
        return raster.transform.inverse().apply_geometry(area)

    def _options(
        self, parameters: dict[str, Any], segmenter: Segmenter, context: QgsProcessingContext
    ) -> AutomaticOptions:
        given: dict[str, Any] = {
            name: self.parameterAsDouble(parameters, name.upper(), context)
            for name in _numbers()
            if parameters.get(name.upper()) is not None
        }
        if "points_per_side" in given:
            given["points_per_side"] = int(given["points_per_side"])
        return replace(default_options(segmenter), **given)


def _numbers() -> dict[str, tuple[str, float]]:
    """Return the text and the maximum of the options that are numbers, by the names of `AutomaticOptions`."""
    return {
        "points_per_side": (tr("Points along the side of a tile"), 256),
        "pred_iou_thresh": (tr("Minimum predicted IoU"), 1),
        "stability_score_thresh": (tr("Minimum stability score"), 1),
        "stability_score_offset": (tr("Logit offset for the stability score"), 100),
        "box_nms_thresh": (tr("Box IoU above which masks are duplicates"), 1),
        "min_mask_region_area": (tr("Remove parts and holes with fewer pixels"), 1e9),
    }


def _feature(
    mask: AutomaticMask | CoveragePolygon,
    segmenter: Segmenter,
    meter: EllipsoidArea,
    simplify: float,
    fields: QgsFields,
) -> QgsFeature:
    metadata = segmenter.reader.metadata
    transform = metadata.raster.transform
    polygon = mask.on_map(transform, simplify)
    # Ground without a mask has no scores.
    scores = [None if math.isnan(score) else score for score in (mask.predicted_iou, mask.stability_score)]
    values = [*scores, mask.level, meter.area_m2(polygon), *transform.apply(*mask.point), str(metadata.model["name"])]
    feature = QgsFeature(fields)
    feature.setGeometry(to_multi_polygon(polygon))
    feature.setAttributes([*values, mask.group] if isinstance(mask, CoveragePolygon) else values)
    return feature

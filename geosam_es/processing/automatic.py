"""Draws all objects of an image, without prompts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import shapely
from qgis.core import (
    QgsFeature,
    QgsFields,
    QgsProcessingParameterExtent,
    QgsProcessingParameterNumber,
)
from shapely.geometry.base import BaseGeometry

from ..errors import EditError, marked
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
from ..qgis_support.crs import EllipsoidArea
from ..qgis_support.fields import REAL, TEXT, WHOLE, make_fields
from ..qgis_support.messages import tr
from .area import read_area
from .drawing import Call, SegmentationAlgorithm, polygon_feature
from .image import CancelledError, Image, prepare_tiles
from .styling import PolygonStyle

__all__ = ["AutomaticMasksAlgorithm"]

_SHARE_OF_TILES = 0.2
"""Part of the progress for preparing tiles; decoding a grid of points on them takes longer."""

_ALL_MASKS = 0.9
"""Part of the progress when a coverage has all masks."""


class AutomaticMasksAlgorithm(SegmentationAlgorithm):
    """``geosam-es auto``, without a process of its own."""

    ID = "automaticmasks"
    TITLE = marked("Segment everything")
    HELP = marked(
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
    AREA = "AREA"
    EXTENT = "EXTENT"
    COVERAGE = "COVERAGE"
    MIN_AREA = "MIN_AREA"

    def initAlgorithm(self, configuration: dict[str, Any] | None = None) -> None:  # noqa: N802
        """Declare the parameters."""
        self.add_image_parameters()
        self.addParameter(QgsProcessingParameterExtent(self.EXTENT, tr("Extent"), optional=True))
        self.add_input(tr("Area of interest (by default all)"), name=self.AREA, optional=True)
        double, integer = QgsProcessingParameterNumber.Type.Double, QgsProcessingParameterNumber.Type.Integer
        for name, (text, most) in _numbers().items():
            is_count = name == "points_per_side"
            kind = integer if is_count else double
            self.add_number(name.upper(), text, kind, None, int(is_count), most, advanced=not is_count)
        self.add_detail()
        self.add_flag(self.COVERAGE, tr("As a coverage, without overlaps and gaps"))
        text = tr("Minimum mapping unit of the coverage (square metres; by default 400 pixels)")
        self.add_number(self.MIN_AREA, text, double, None, 0, advanced=True)
        self.add_sink(self.OUTPUT, tr("Polygons"))

    def draw(self, image: Image, segmenter: Segmenter, call: Call) -> None:
        """Draw the objects; see `SegmentationAlgorithm.draw`."""
        live, crs = image.live, image.crs
        area = self._area(image, segmenter, call)
        finest = self.parameterAsInt(call.parameters, self.LEVEL, call.context)
        coarsest = len(segmenter.pyramid.grids) - 1
        levels = range(min(max(finest, segmenter.finest_level), coarsest), coarsest + 1)
        options = self._options(segmenter, call)
        kinds = {"predicted_iou": REAL, "stability_score": REAL, "level": WHOLE, "area_m2": REAL, "point_x": REAL}
        is_coverage = self.parameterAsBool(call.parameters, self.COVERAGE, call.context)
        made = make_fields(**kinds, point_y=REAL, model=TEXT, **({"group": WHOLE} if is_coverage else {}))
        what = tr("coverage") if is_coverage else tr("all objects")
        write = self.open_output(what, image, call, made)
        PolygonStyle(None, fills=not is_coverage).use_for(self.outputs[self.OUTPUT], call.context)
        simplify = self.parameterAsDouble(call.parameters, self.SIMPLIFY, call.context)
        meter = EllipsoidArea(crs, call.context.project())

        def progress(first: float, last: float) -> Callable[[int, int], None]:
            def on_progress(done: int, total: int) -> None:
                if call.feedback.isCanceled():
                    raise CancelledError
                call.feedback.setProgress(100.0 * (first + (last - first) * done / max(total, 1)))

            return on_progress

        tiles = [tile for row in rows_of_tiles(segmenter, levels, area) for tile in row]
        share = prepare_tiles(image, segmenter, tiles, call.feedback, _SHARE_OF_TILES)
        until = _ALL_MASKS if is_coverage else 1.0
        masks = automatic_masks(segmenter, options, levels, area, progress(share, until))
        found: Iterator[AutomaticMask | CoveragePolygon] = masks
        if is_coverage:
            pixels = (
                self.parameterAsDouble(call.parameters, self.MIN_AREA, call.context)
                / middle_pixel_m(segmenter, meter) ** 2
            )
            unit = CoverageOptions(pixels or CoverageOptions.min_area, simplify * CoverageOptions.simplify_tolerance)
            has_data = None if live is None else live.read_valid
            found = automatic_coverage(segmenter, masks, unit, area, has_data, levels[0], progress(until, 1.0))
        for mask in found:
            write([_feature(mask, segmenter, meter, simplify, made)])

    def _area(self, image: Image, segmenter: Segmenter, call: Call) -> BaseGeometry | None:
        """Return the area in native pixels; None for the whole raster."""
        raster = segmenter.reader.metadata.raster
        parts: list[BaseGeometry] = []
        if call.parameters.get(self.EXTENT):
            extent = self.parameterAsExtent(call.parameters, self.EXTENT, call.context, image.crs)
            parts.append(shapely.box(extent.xMinimum(), extent.yMinimum(), extent.xMaximum(), extent.yMaximum()))
        source = self.parameterAsSource(call.parameters, self.AREA, call.context)
        if source is not None:
            parts.append(read_area(source, image.crs, raster, call.context))
        if not parts:
            return None
        area = shapely.intersection_all(parts)
        if not area.intersects(shapely.box(*segmenter.map_bounds)):
            raise EditError(tr("The area lies outside the raster"), tr("choose another extent or layer"))
        return raster.transform.inverse().apply_geometry(area)

    def _options(self, segmenter: Segmenter, call: Call) -> AutomaticOptions:
        given: dict[str, Any] = {
            name: self.parameterAsDouble(call.parameters, name.upper(), call.context)
            for name in _numbers()
            if call.parameters.get(name.upper()) not in (None, "")
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
    return polygon_feature(fields, polygon, [*values, mask.group] if isinstance(mask, CoveragePolygon) else values)

"""Finds more objects like a few examples."""

from __future__ import annotations

from typing import Any

from qgis.core import (
    QgsProcessingParameterNumber,
)
from shapely.geometry.base import BaseGeometry

from ..errors import marked
from ..inference.segmenter import Segmenter
from ..inference.similar import SimilarObjects, search_level
from ..qgis_support.crs import EllipsoidArea
from ..qgis_support.fields import REAL, make_fields
from ..qgis_support.messages import tr
from ..store.metadata import read_metadata
from .area import read_area, read_polygons
from .drawing import Call, SegmentationAlgorithm, polygon_feature
from .image import CancelledError, Image, prepare_tiles

__all__ = ["FindSimilarAlgorithm"]

_SHARE_OF_TILES = 0.5
"""Share of the progress bar for preparing the tiles."""


class FindSimilarAlgorithm(SegmentationAlgorithm):
    """Finds the other objects of an image that look like the polygons of a layer."""

    ID = "findsimilar"
    TITLE = marked("Find similar objects")
    HELP = marked(
        "Finds the other objects of an image that look like the examples. A few polygons of one kind are enough. "
        "Choose a raster: all its tiles are prepared first, and kept for the next time. Or choose the folder of a "
        "prepared image.\n\n"
        "Each polygon has its likeness to the examples, from 0 to 1, the score of the model and its area. A lower "
        "minimum likeness finds more objects, and more that are wrong.\n\n"
        "To improve the result, copy correct polygons to the examples and wrong ones to the counterexamples, "
        "and run the algorithm again."
    )
    REJECTED = "REJECTED"
    THRESHOLD = "THRESHOLD"

    def initAlgorithm(self, configuration: dict[str, Any] | None = None) -> None:  # noqa: N802
        """Declare the parameters."""
        self.add_image_parameters()
        self.add_input(tr("Examples"))
        self.add_input(tr("Counterexamples, such as rejected polygons"), name=self.REJECTED, optional=True)
        self.add_number(
            self.THRESHOLD, tr("Minimum likeness"), QgsProcessingParameterNumber.Type.Double, 0.5, maximum=1
        )
        self.add_sink(self.OUTPUT, tr("Similar objects"))

    def draw(self, image: Image, segmenter: Segmenter, call: Call) -> None:
        """Find the objects; see `SegmentationAlgorithm.draw`."""
        raster = segmenter.reader.metadata.raster
        # Refuses examples outside the raster before anything is prepared.
        read_area(self.input_source(call.parameters, call.context), image.crs, raster, call.context)
        fields = make_fields(likeness=REAL, score=REAL, area_m2=REAL)
        examples = self._polygons(self.INPUT, image, call)
        rejected = self._polygons(self.REJECTED, image, call)
        write = self.open_output(tr("similar objects"), image, call, fields)

        def progress(done: int, total: int) -> None:
            call.feedback.setProgress(100.0 * (share + (1 - share) * done / max(total, 1)))
            if call.feedback.isCanceled():
                raise CancelledError

        meter = EllipsoidArea(image.crs, call.context.project())
        # What is learnt of the background depends on the tiles that are there.
        tiles = list(segmenter.reader.tiles(search_level(segmenter.pyramid, examples)))
        share = prepare_tiles(image, segmenter, tiles, call.feedback, _SHARE_OF_TILES)
        finder = SimilarObjects(segmenter, examples)
        finder.learn([], rejected)
        threshold = self.parameterAsDouble(call.parameters, self.THRESHOLD, call.context)
        for found in finder.search(threshold=threshold, progress=progress):
            polygon = raster.transform.apply_geometry(found.polygon)
            write([polygon_feature(fields, polygon, [found.likeness, found.score, meter.area_m2(polygon)])])

    def _polygons(self, name: str, image: Image, call: Call) -> list[BaseGeometry]:
        """Return the polygons of a layer in native pixels; none if it is left out."""
        source = self.parameterAsSource(call.parameters, name, call.context)
        if source is None:
            return []
        raster = read_metadata(image.store).raster
        to_native = raster.transform.inverse().apply_geometry
        return [to_native(polygon) for polygon in read_polygons(source, image.crs, raster, call.context)]

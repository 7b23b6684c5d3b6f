"""The base class of the algorithms that draw polygons on an image, and the features of polygons."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsFeature,
    QgsFields,
    QgsGeometry,
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingParameterNumber,
)
from shapely.geometry.base import BaseGeometry

from ..core.grid import FINEST_LEVEL
from ..errors import EditError
from ..inference.segmenter import Segmenter
from ..inference.session import open_segmenter
from ..qgis_support.crs import to_qgs
from ..qgis_support.messages import tr
from ..store.metadata import read_metadata
from .base import ImageAlgorithm, Write
from .image import Image, open_image, patient_segmenter

__all__ = ["Call", "SegmentationAlgorithm", "polygon_feature", "to_multi_polygon"]


class Call(NamedTuple):
    """What QGIS passes to an algorithm for a run."""

    parameters: dict[str, Any]
    context: QgsProcessingContext
    feedback: QgsProcessingFeedback


class SegmentationAlgorithm(ImageAlgorithm):
    """An algorithm that draws polygons on an image; subclasses implement `draw`."""

    GROUP = "segmentation"
    LEVEL = "LEVEL"
    SIMPLIFY = "SIMPLIFY"
    OUTPUT = "OUTPUT"

    def add_detail(self) -> None:
        """Add the parameters for the level and for simplifying."""
        number = QgsProcessingParameterNumber.Type
        self.add_number(self.SIMPLIFY, tr("Simplify outlines (pixels)"), number.Double, 1, advanced=True)
        text = tr("Finest level of detail (0: as the image, -1: enlarged, 1: coarser)")
        self.add_number(self.LEVEL, text, number.Integer, 0, FINEST_LEVEL, advanced=True)

    def open_output(
        self, what: str, image: Image, call: Call, fields: QgsFields, crs: QgsCoordinateReferenceSystem | None = None
    ) -> Write:
        """Open the output. Its layer in the project is named by the raster and by what it holds, unless a user did."""
        write = self.open_sink(call.parameters, self.OUTPUT, call.context, fields, crs or image.crs)
        output = self.outputs[self.OUTPUT]
        if call.context.willLoadLayerOnCompletion(output):
            details = call.context.layerToLoadOnCompletionDetails(output)
            if details.name == self.parameterDefinition(self.OUTPUT).description():
                details.name = f"{Path(read_metadata(image.store).raster.file_name).stem}: {what}"
        return write

    def execute(
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> dict[str, Any]:
        """Open the image and draw; see `OneSentenceAlgorithm.execute`."""
        with closing(open_image(self.source, self.store(parameters, context), self.options)) as image:
            feedback.pushInfo(tr("Prepared image: {path}").format(path=image.store))
            live = image.live
            segmenter = open_segmenter(image.store) if live is None else patient_segmenter(live, feedback)
            if not image.crs.isValid():
                raise EditError(tr("The raster has no CRS"), tr("set it in the properties of its layer"))
            self.draw(image, segmenter, Call(parameters, context, feedback))
        return self.outputs

    def draw(self, image: Image, segmenter: Segmenter, call: Call) -> None:
        """Draw the polygons; errors are those of `execute`."""
        raise NotImplementedError


def to_multi_polygon(geometry: BaseGeometry) -> QgsGeometry:
    """Return a polygon or multipolygon as a multipolygon, the geometry type of the sinks."""
    converted = to_qgs(geometry)
    converted.convertToMultiType()
    return converted


def polygon_feature(fields: QgsFields, polygon: BaseGeometry, values: Sequence[Any]) -> QgsFeature:
    """Return a feature with a polygon or multipolygon."""
    feature = QgsFeature(fields)
    feature.setGeometry(to_multi_polygon(polygon))
    feature.setAttributes(values)
    return feature

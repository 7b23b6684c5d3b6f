"""Finds more objects like a few examples."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from qgis.core import (  # type: ignore[attr-defined]
    QgsFeature,
    QgsFeatureSink,
    QgsProcessing,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProcessingParameterFeatureSink,
    QgsProcessingParameterFeatureSource,
    QgsProcessingParameterNumber,
    QgsWkbTypes,
)
from shapely.geometry.base import BaseGeometry

from ..errors import EditError
from ..inference.session import open_segmenter
from ..inference.similar import SimilarObjects
from ..qgis_support.crs import EllipsoidArea
from ..qgis_support.fields import REAL, make_fields
from ..qgis_support.messages import tr
from ..store.layout import read_metadata
from .area import read_polygons
from .base import ImageAlgorithm, to_multi_polygon
from .image import CancelledError, Image, open_image, patient_segmenter

__all__ = ["FindSimilarAlgorithm"]


class FindSimilarAlgorithm(ImageAlgorithm):
    """Finds the other objects of an image that look like the polygons of a layer."""

    ID = "findsimilar"
    GROUP = "segmentation"
    REJECTED = "REJECTED"
    THRESHOLD = "THRESHOLD"
    OUTPUT = "OUTPUT"

    def displayName(self) -> str:  # noqa: N802
        """Return the name in the toolbox."""
        return tr("Find similar objects")

    def shortHelpString(self) -> str:  # noqa: N802
        """Return the help text of the dialog."""
        return tr(
            "Finds the other objects of an image that look like the examples. A few polygons of one kind are enough. "
            "Choose a raster: all its tiles are prepared first, and kept for the next time. Or choose the folder of a "
            "prepared image.\n\n"
            "Each polygon has its likeness to the examples, from 0 to 1, the score of the model and its area. A lower "
            "minimum likeness finds more objects, and more that are wrong.\n\n"
            "To improve the result, copy correct polygons to the examples and wrong ones to the counterexamples, "
            "and run the algorithm again."
        )

    def initAlgorithm(self, configuration: dict[str, Any] | None = None) -> None:  # noqa: N802
        """Declare the parameters."""
        polygons = QgsProcessing.SourceType.TypeVectorPolygon  # type: ignore[attr-defined]
        self.add_image_parameters()
        self.add_input(tr("Examples"), polygons)
        text = tr("Counterexamples, such as rejected polygons")
        self.addParameter(QgsProcessingParameterFeatureSource(self.REJECTED, text, [polygons], optional=True))
        self.add_number(
            self.THRESHOLD, tr("Minimum likeness"), QgsProcessingParameterNumber.Type.Double, 0.5, maximum=1
        )
        self.addParameter(QgsProcessingParameterFeatureSink(self.OUTPUT, tr("Similar objects"), polygons))

    def execute(
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> dict[str, Any]:
        """Find the objects; see `OneSentenceAlgorithm.execute`."""
        with closing(open_image(self.source, self.store(parameters, context), self.options)) as image:
            if not image.crs.isValid():
                raise EditError(tr("The raster has no CRS"), tr("set it in the properties of its layer"))
            return self._find(image, parameters, context, feedback)

    def _find(
        self,
        image: Image,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> dict[str, Any]:
        live = image.live
        segmenter = open_segmenter(image.store) if live is None else patient_segmenter(live, feedback)
        to_map = segmenter.reader.metadata.raster.transform
        fields, multi_polygon = make_fields(likeness=REAL, score=REAL, area_m2=REAL), QgsWkbTypes.Type.MultiPolygon
        examples = self._polygons(self.INPUT, image, parameters, context)
        rejected = self._polygons(self.REJECTED, image, parameters, context)
        sink, sink_id = self.parameterAsSink(parameters, self.OUTPUT, context, fields, multi_polygon, image.crs)
        if sink is None:
            raise QgsProcessingException(self.invalidSinkError(parameters, self.OUTPUT))

        def progress(done: int, total: int) -> None:
            feedback.setProgress(100.0 * done / max(total, 1))
            if feedback.isCanceled():
                raise CancelledError

        meter = EllipsoidArea(image.crs, context.project())
        try:
            finder = SimilarObjects(segmenter, examples)
            finder.learn([], rejected)
            threshold = self.parameterAsDouble(parameters, self.THRESHOLD, context)
            for found in finder.search(threshold=threshold, progress=progress):
                polygon = to_map.apply_geometry(found.polygon)
                feature = QgsFeature(fields)
                feature.setGeometry(to_multi_polygon(polygon))
                feature.setAttributes([found.likeness, found.score, meter.area_m2(polygon)])
                if not sink.addFeature(feature, QgsFeatureSink.Flag.FastInsert):
                    raise QgsProcessingException(self.writeFeatureError(sink, parameters, self.OUTPUT))
        except CancelledError:
            feedback.pushInfo(tr("Stopped. The tiles prepared so far are kept."))
        return {self.OUTPUT: sink_id}

    def _polygons(
        self, name: str, image: Image, parameters: dict[str, Any], context: QgsProcessingContext
    ) -> list[BaseGeometry]:
        """Return the polygons of a layer in native pixels; none if it is left out."""
        source = self.parameterAsSource(parameters, name, context)
        if source is None:
            if name == self.INPUT:
                raise QgsProcessingException(self.invalidSourceError(parameters, name))
            return []
        raster = read_metadata(image.store).raster
        to_native = raster.transform.inverse().apply_geometry
        return [to_native(polygon) for polygon in read_polygons(source, image.crs, raster, context)]

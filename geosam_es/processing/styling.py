"""The style of polygons that QGIS loads when an algorithm ends: that of the panel."""

from __future__ import annotations

from contextlib import suppress
from typing import ClassVar

from qgis.core import (
    QgsCategorizedSymbolRenderer,
    QgsMapLayer,
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingLayerPostProcessorInterface,
    QgsSingleSymbolRenderer,
    QgsVectorLayer,
)
from qgis.PyQt.QtGui import QColor

from ..errors import EditError
from ..qgis_support.classes import ClassList, apply_classes, fill_symbol
from ..qgis_support.settings import Settings

__all__ = ["PolygonStyle"]

_OUTLINE_MM = 0.4


class PolygonStyle(QgsProcessingLayerPostProcessorInterface):
    """Shows the image through the polygons, in the colours of their classes or in that of the panel.

    Parameters
    ----------
    classes : ClassList, optional
        Classes of the polygons, with the name of their field.
    fills : bool
        Whether polygons without classes are filled; those of a coverage would tint the whole image.
    """

    # QGIS does not own it, and may call it when the algorithm is gone.
    _kept: ClassVar[set[PolygonStyle]] = set()

    def __init__(self, classes: ClassList | None, fills: bool = True) -> None:
        super().__init__()
        self._classes = classes
        self._fills = fills

    def use_for(self, output: str, context: QgsProcessingContext) -> None:
        """Style an output, if QGIS loads it into the project."""
        if context.willLoadLayerOnCompletion(output):
            self._kept.add(self)
            context.layerToLoadOnCompletionDetails(output).setPostProcessor(self)

    def postProcessLayer(  # noqa: N802
        self, layer: QgsMapLayer | None, context: QgsProcessingContext, feedback: QgsProcessingFeedback | None
    ) -> None:
        """Style the layer; called by QGIS on the GUI thread."""
        self._kept.discard(self)
        if not isinstance(layer, QgsVectorLayer):
            return
        classes = self._classes
        # A Shapefile shortens the names of fields.
        if classes is not None and classes.field is not None and layer.fields().lookupField(classes.field) >= 0:
            # The format of the output may not hold the codes.
            with suppress(EditError):
                apply_classes(layer, classes.field, classes)
        if not isinstance(layer.renderer(), QgsCategorizedSymbolRenderer):
            settings = Settings()
            opacity = settings.fill_opacity / 100 if self._fills else 0.0
            symbol = fill_symbol(QColor(settings.outline_colour), opacity, _OUTLINE_MM)
            layer.setRenderer(QgsSingleSymbolRenderer(symbol))

"""The provider that QGIS's Processing toolbox shows."""

from __future__ import annotations

from qgis.core import QgsProcessingProvider
from qgis.PyQt.QtGui import QIcon

from ..gui.messages import PLUGIN_NAME
from .base import ICON
from .footprint import StoreFootprintAlgorithm
from .segmenting import SegmentBoxesAlgorithm, SegmentPointsAlgorithm

__all__ = ["GeoSamProvider"]


class GeoSamProvider(QgsProcessingProvider):
    """All the algorithms of the plugin."""

    def id(self) -> str:
        """Return the name for scripts."""
        return "geosam_es"

    def name(self) -> str:
        """Return the name in the toolbox, a proper name in every language."""
        return PLUGIN_NAME

    def icon(self) -> QIcon:
        """Return the plugin's icon."""
        return QIcon(str(ICON))

    def loadAlgorithms(self) -> None:  # noqa: N802
        """Add one of each algorithm."""
        for algorithm in (SegmentPointsAlgorithm, SegmentBoxesAlgorithm, StoreFootprintAlgorithm):
            self.addAlgorithm(algorithm())

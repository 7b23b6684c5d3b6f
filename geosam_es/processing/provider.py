"""The provider that QGIS's Processing toolbox shows; it loads where nothing is installed beside QGIS."""

from __future__ import annotations

from qgis.core import QgsProcessingProvider
from qgis.PyQt.QtGui import QIcon

from ..qgis_support.dependencies import missing_packages, missing_text
from ..qgis_support.icons import own_icon
from ..qgis_support.messages import PLUGIN_NAME

__all__ = ["GeoSamProvider"]


class GeoSamProvider(QgsProcessingProvider):
    """All the algorithms of the plugin.

    Where packages are missing there are none; `refreshAlgorithms` brings them once these are installed.
    """

    def id(self) -> str:
        """Return the name for scripts."""
        return "geosam_es"

    def name(self) -> str:
        """Return the name in the toolbox, a proper name in every language."""
        return PLUGIN_NAME

    def icon(self) -> QIcon:
        """Return the plugin's icon."""
        return own_icon("geosam_es")

    def warningMessage(self) -> str:  # noqa: N802
        """Return what is missing, shown in the toolbox."""
        missing = missing_packages()
        return missing_text(missing) if missing else ""

    def loadAlgorithms(self) -> None:  # noqa: N802
        """Add one of each algorithm."""
        if missing_packages():
            return
        # Imported here, because they need what may be missing.
        from .evaluating import EvaluateDecodersAlgorithm
        from .finetuning import FinetuneDecoderAlgorithm
        from .footprint import StoreFootprintAlgorithm
        from .segmenting import SegmentBoxesAlgorithm, SegmentPointsAlgorithm

        for algorithm in (
            SegmentPointsAlgorithm,
            SegmentBoxesAlgorithm,
            StoreFootprintAlgorithm,
            EvaluateDecodersAlgorithm,
            FinetuneDecoderAlgorithm,
        ):
            self.addAlgorithm(algorithm())

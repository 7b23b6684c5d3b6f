"""The provider in the Processing toolbox. It loads even if the packages that the plugin needs are missing."""

from __future__ import annotations

from qgis.core import QgsProcessingProvider
from qgis.PyQt.QtGui import QIcon

from ..qgis_support.dependencies import dependency_problem
from ..qgis_support.icons import own_icon
from ..qgis_support.messages import PLUGIN_NAME

__all__ = ["GeoSamProvider"]


class GeoSamProvider(QgsProcessingProvider):
    """Provides the algorithms of the plugin.

    If packages are missing it has none; `refreshAlgorithms` adds them once the packages are installed.
    """

    def id(self) -> str:
        """Return the id used in scripts."""
        return "geosam_es"

    def name(self) -> str:
        """Return the name in the toolbox, the same in every language."""
        return PLUGIN_NAME

    def icon(self) -> QIcon:
        """Return the plugin's icon."""
        return own_icon("geosam_es")

    def warningMessage(self) -> str:  # noqa: N802
        """Return what the toolbox shows if packages are missing or do not load."""
        problem = dependency_problem()
        return problem.text if problem is not None else ""

    def loadAlgorithms(self) -> None:  # noqa: N802
        """Add one of each algorithm."""
        if dependency_problem() is not None:
            return
        # Imported here, because they need packages that may be missing.
        from .automatic import AutomaticMasksAlgorithm
        from .checking import CheckCoverageAlgorithm
        from .classifying import ClassifyPolygonsAlgorithm
        from .evaluating import EvaluateDecodersAlgorithm
        from .finetuning import FinetuneDecoderAlgorithm
        from .footprint import StoreFootprintAlgorithm
        from .preparing import PrepareRasterAlgorithm
        from .segmenting import SegmentBoxesAlgorithm, SegmentPointsAlgorithm, UpdatePolygonsAlgorithm
        from .similar import FindSimilarAlgorithm

        for algorithm in (
            SegmentPointsAlgorithm,
            SegmentBoxesAlgorithm,
            UpdatePolygonsAlgorithm,
            AutomaticMasksAlgorithm,
            FindSimilarAlgorithm,
            PrepareRasterAlgorithm,
            StoreFootprintAlgorithm,
            CheckCoverageAlgorithm,
            ClassifyPolygonsAlgorithm,
            EvaluateDecodersAlgorithm,
            FinetuneDecoderAlgorithm,
        ):
            self.addAlgorithm(algorithm())

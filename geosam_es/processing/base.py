"""The base class of the algorithms: the store parameter, and errors in one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qgis.core import (  # type: ignore[attr-defined]
    QgsGeometry,
    QgsMultiPolygon,
    QgsProcessingAlgorithm,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterFile,
)
from qgis.PyQt.QtGui import QIcon
from shapely.geometry.base import BaseGeometry

from ..errors import GeoSamError
from ..qgis_support.crs import to_qgs
from ..qgis_support.icons import own_icon
from ..qgis_support.messages import tr, translated

__all__ = ["StoreAlgorithm", "to_multi_polygon"]


class StoreAlgorithm(QgsProcessingAlgorithm):
    """An algorithm that reads an embedding store; subclasses implement `run_on_store`."""

    STORE = "STORE"

    def createInstance(self) -> StoreAlgorithm:  # noqa: N802
        """Return a new algorithm of the same kind; QGIS creates one for each run."""
        return type(self)()

    def icon(self) -> QIcon:
        """Return the plugin's icon."""
        return own_icon("geosam_es")

    def add_store_parameter(self) -> None:
        """Add the parameter for the folder of the store."""
        self.addParameter(
            QgsProcessingParameterFile(
                self.STORE,
                tr("Prepared image (folder NAME.embeddings.zarr)"),
                behavior=QgsProcessingParameterFile.Behavior.Folder,
            )
        )

    def add_advanced(self, parameter: QgsProcessingParameterDefinition) -> None:
        """Add a parameter under the advanced ones."""
        parameter.setFlags(parameter.flags() | QgsProcessingParameterDefinition.Flag.FlagAdvanced)  # type: ignore[attr-defined]
        self.addParameter(parameter)

    def processAlgorithm(  # noqa: N802
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback | None
    ) -> dict[str, Any]:
        """Run the algorithm, and raise errors as QGIS expects them."""
        store = Path(self.parameterAsFile(parameters, self.STORE, context))
        try:
            return self.run_on_store(store, parameters, context, feedback or QgsProcessingFeedback())
        except GeoSamError as error:
            raise QgsProcessingException(translated(error)) from error

    def run_on_store(
        self, store: Path, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> dict[str, Any]:
        """Run the algorithm and return the outputs.

        Raises
        ------
        GeoSamError
            For any error that the user can resolve.
        """
        raise NotImplementedError


def to_multi_polygon(geometry: BaseGeometry) -> QgsGeometry:
    """Return a polygon or multipolygon as a multipolygon, the geometry type of the sinks."""
    converted = to_qgs(geometry)
    if not converted.isMultipart():
        multi = QgsMultiPolygon()
        multi.addGeometry(converted.constGet().clone())
        return QgsGeometry(multi)
    return converted

"""Gives polygons classes learned from others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from qgis.core import (
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingOutputHtml,
    QgsProcessingParameterField,
    QgsProcessingParameterFolderDestination,
    QgsProcessingParameterVectorDestination,
)

from ..errors import marked
from ..qgis_support.classes import ClassList, classes_of_layer
from ..qgis_support.messages import tr
from .base import POLYGON
from .styling import PolygonStyle
from .tools import REPORT, ToolAlgorithm

__all__ = ["ClassifyPolygonsAlgorithm"]


class ClassifyPolygonsAlgorithm(ToolAlgorithm):
    """``geosam-es classify``."""

    ID = "classifypolygons"
    TITLE = marked("Classify polygons")
    HELP = marked(
        "Gives polygons the classes of training polygons on the same image. A polygon is described by what the "
        "model has stored for the image under it and around it, by its shape, and by its pixels. At least two "
        "classes with three polygons each are needed.\n\n"
        "The result has the fields class, probability and second_class. The report shows how well the "
        "classes are found in parts of the image that were left out of the training, and lists the polygons with "
        "the least probable classes first.\n\n"
        "The algorithm runs geosam-es, a separate program with a Python of its own. The log and the help of "
        "GeoSAM-ES say how to install it, also without network. Enter its path in Settings > Options > GeoSAM-ES. "
        "It needs scikit-learn there."
    )
    GROUP = "polygons"
    CLASS = "CLASS_FIELD"
    POLYGONS = "POLYGONS"
    REPORT = "REPORT"
    HTML = "HTML"

    def __init__(self) -> None:
        super().__init__()
        self._classes: ClassList | None = None

    def initAlgorithm(self, configuration: dict[str, Any] | None = None) -> None:  # noqa: N802
        """Declare the parameters and outputs."""
        self.add_image_parameters()
        self.add_input(tr("Training polygons"))
        self.addParameter(QgsProcessingParameterField(self.CLASS, tr("Class field"), "", self.INPUT))
        self.add_input(tr("Polygons to classify"), name=self.POLYGONS)
        self.add_flag(self.OVERWRITE, tr("Replace an earlier result of the same name (--overwrite)"))
        output = QgsProcessingParameterVectorDestination(self.OUTPUT, tr("Classified polygons"), POLYGON)
        # geosam-es cannot write into a database, nor a layer of a GeoPackage.
        output.setSupportsNonFileBasedOutput(False)
        self.addParameter(output)
        self.addParameter(QgsProcessingParameterFolderDestination(self.REPORT, tr("Report")))
        self.addOutput(QgsProcessingOutputHtml(self.HTML, tr("Report")))

    def prepareAlgorithm(  # noqa: N802
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback | None
    ) -> bool:
        """Read the names and colours of the training classes too; see `ImageAlgorithm`."""
        layer = self.parameterAsVectorLayer(parameters, self.INPUT, context)
        field = self.parameterAsString(parameters, self.CLASS, context)
        self._classes = classes_of_layer(layer, field) if layer is not None else None
        return super().prepareAlgorithm(parameters, context, feedback)

    def execute(
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> dict[str, Any]:
        """Run the classification; see `OneSentenceAlgorithm.execute`."""
        store = self.prepared_store(parameters, context, feedback, (self.INPUT, self.POLYGONS))
        known, wanted = (self.polygons(name, parameters, context, feedback) for name in (self.INPUT, self.POLYGONS))
        output = self.parameterAsOutputLayer(parameters, self.OUTPUT, context)
        path = Path(output).absolute()
        report = Path(self.parameterAsString(parameters, self.REPORT, context)).absolute()
        field = self.parameterAsString(parameters, self.CLASS, context)
        arguments = ["classify", str(store), str(known), str(wanted), "--class", field, "--report", str(report)]
        if not self.run_tool([*arguments, *self.report_arguments(path, parameters, context)], feedback):
            return {}
        classes = replace(self._classes, field="class") if self._classes is not None else None
        PolygonStyle(classes, fills=False).use_for(output, context)
        return {self.OUTPUT: output, self.REPORT: str(report), self.HTML: str(report / REPORT)}

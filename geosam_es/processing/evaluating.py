"""How well a store's decoders draw polygons that are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qgis.core import (
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingOutputHtml,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterField,
    QgsProcessingParameterFile,
    QgsProcessingParameterFolderDestination,
    QgsProcessingParameterString,
)

from ..qgis_support.messages import tr
from ..store.decoders import list_decoders
from ..store.layout import read_metadata
from .tools import REPORT, ToolAlgorithm

__all__ = ["EvaluateDecodersAlgorithm"]

_PROMPTS = "point,box,clicks:5"


class EvaluateDecodersAlgorithm(ToolAlgorithm):
    """``geosam-es evaluate``."""

    CLASS = "CLASS_FIELD"
    ALL = "ALL_DECODERS"
    DECODER = "DECODER"
    PROMPTS = "PROMPTS"
    HTML = "HTML"

    def name(self) -> str:
        """Return the name for scripts."""
        return "evaluatedecoders"

    def displayName(self) -> str:  # noqa: N802
        """Return the name in the toolbox."""
        return tr("Evaluate decoders against polygons")

    def shortHelpString(self) -> str:  # noqa: N802
        """Return the help beside the dialog."""
        return tr(
            "Measures how well the decoders of a store draw polygons that are known to be right. A simulated user "
            "prompts each polygon, always in the same way; the report has IoU, Dice, precision, recall and "
            "boundary F-score with their intervals, by class and by size, the clicks needed, and the worst cases.\n\n"
            "Polygons that a decoder was tuned on say nothing about others: measure on polygons it has not seen.\n\n"
            "It runs geosam-es, the command line, in an environment of its own, chosen in the options of GeoSAM-ES. "
            "Where it is not installed, the log says how to install it."
        )

    def initAlgorithm(self, configuration: dict[str, Any] | None = None) -> None:  # noqa: N802
        """Declare the parameters and outputs."""
        self.add_store_parameter()
        self.add_polygons(tr("Polygons known to be right"))
        self.addParameter(
            QgsProcessingParameterField(
                self.CLASS, tr("Field with the class"), parentLayerParameterName=self.INPUT, optional=True
            )
        )
        self.addParameter(
            QgsProcessingParameterBoolean(self.ALL, tr("Compare all decoders of the store"), defaultValue=True)
        )
        folder = QgsProcessingParameterFile.Behavior.Folder
        self.addParameter(
            QgsProcessingParameterFile(
                self.DECODER, tr("Another decoder to compare (a folder)"), behavior=folder, optional=True
            )
        )
        self.add_advanced(QgsProcessingParameterString(self.PROMPTS, tr("Kinds of prompts"), _PROMPTS))
        self.addParameter(QgsProcessingParameterFolderDestination(self.OUTPUT, tr("Report")))
        self.addOutput(QgsProcessingOutputHtml(self.HTML, tr("Report")))

    def run_on_store(
        self, store: Path, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> dict[str, Any]:
        """Measure; see `StoreAlgorithm.run_on_store`."""
        store = store.absolute()
        read_metadata(store)
        report = self.folder(parameters, context)
        truth = self.polygons(self.INPUT, parameters, context, feedback)
        arguments = ["evaluate", str(store), str(truth), "-o", str(report), "--overwrite"]
        decoders = []
        if self.parameterAsBool(parameters, self.ALL, context):
            decoders = [decoder.name for decoder in list_decoders(store)]
        another = self.parameterAsFile(parameters, self.DECODER, context)
        for decoder in [*decoders, *([another] if another else [])]:
            arguments += ["--decoder", decoder]
        arguments += ["--prompts", self.parameterAsString(parameters, self.PROMPTS, context)]
        class_field = self.parameterAsString(parameters, self.CLASS, context)
        if class_field:
            arguments += ["--class", class_field]
        if not self.run_tool(arguments, feedback):
            return {}
        return {self.OUTPUT: str(report), self.HTML: str(report / REPORT)}

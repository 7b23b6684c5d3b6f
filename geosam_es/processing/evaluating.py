"""Measures model variants against reference polygons."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qgis.core import (
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingOutputHtml,
    QgsProcessingParameterString,
)

from ..errors import marked
from ..qgis_support.messages import tr
from ..store.decoders import list_decoders
from .tools import REPORT, ToolAlgorithm

__all__ = ["EvaluateDecodersAlgorithm"]

_PROMPTS = "point,box,clicks:5"


class EvaluateDecodersAlgorithm(ToolAlgorithm):
    """``geosam-es evaluate``."""

    ID = "evaluatedecoders"
    TITLE = marked("Evaluate model variants against polygons")
    HELP = marked(
        "Measures how well the model variants of an image reproduce reference polygons. A simulated user "
        "prompts each polygon in the same way for every variant. The report shows IoU, Dice, precision, recall and "
        "boundary F-score with confidence intervals, by class and by size, the number of clicks needed, and the "
        "worst cases.\n\n"
        "Use polygons that none of the variants was tuned on. Results on training polygons are too good.\n\n"
        "The algorithm runs geosam-es, a separate program with a Python of its own. The log and the help of "
        "GeoSAM-ES say how to install it, also without network. Enter its path in Settings > Options > GeoSAM-ES."
    )
    CLASS = "CLASS_FIELD"
    ALL = "ALL_DECODERS"
    DECODER = "DECODER"
    PROMPTS = "PROMPTS"
    HTML = "HTML"

    def initAlgorithm(self, configuration: dict[str, Any] | None = None) -> None:  # noqa: N802
        """Declare the parameters and outputs."""
        self.add_image_parameters()
        self.add_input(tr("Reference polygons"))
        self.add_field(self.CLASS, tr("Class field"))
        self.add_flag(self.ALL, tr("Compare all model variants of the prepared image"), True)
        self.add_optional_folder(self.DECODER, tr("Another model variant to compare (a folder)"))
        self.add_advanced(QgsProcessingParameterString(self.PROMPTS, tr("Prompt types"), _PROMPTS))
        self.add_folder(tr("Report"))
        self.addOutput(QgsProcessingOutputHtml(self.HTML, tr("Report")))

    def execute(
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> dict[str, Any]:
        """Run the evaluation; see `OneSentenceAlgorithm.execute`."""
        store = self.prepared_store(parameters, context, feedback)
        report = self.folder(parameters, context)
        truth = self.polygons(self.INPUT, parameters, context, feedback)
        arguments = ["evaluate", str(store), str(truth), *self.report_arguments(report, parameters, context)]
        decoders = []
        if self.parameterAsBool(parameters, self.ALL, context):
            decoders = [decoder.name for decoder in list_decoders(store)]
        another = self.parameterAsFile(parameters, self.DECODER, context)
        for decoder in [*decoders, *([str(Path(another).absolute())] if another else [])]:
            arguments += ["--decoder", decoder]
        arguments += ["--prompts", self.parameterAsString(parameters, self.PROMPTS, context)]
        class_field = self.parameterAsString(parameters, self.CLASS, context)
        if class_field:
            arguments += ["--class", class_field]
        if not self.run_tool(arguments, feedback):
            return {}
        return {self.OUTPUT: str(report), self.HTML: str(report / REPORT)}

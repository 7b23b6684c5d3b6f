"""A store's decoder, tuned on the user's own polygons."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from qgis.core import (
    QgsProcessing,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProcessingOutputHtml,
    QgsProcessingOutputString,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterFeatureSource,
    QgsProcessingParameterField,
    QgsProcessingParameterFolderDestination,
    QgsProcessingParameterNumber,
    QgsProcessingParameterString,
)

from ..errors import GeoSamError
from ..qgis_support.messages import tr, translated
from ..qgis_support.store_news import store_news
from ..store.decoders import add_decoder, use_decoder
from ..store.layout import read_metadata
from .tools import REPORT, ToolAlgorithm

__all__ = ["FinetuneDecoderAlgorithm"]

_HOLDOUT = 0.2
_MOST_HOLDOUT = 0.8
_REPORT_FOLDER = "report"
_MOST_CHARACTERS = 40


class FinetuneDecoderAlgorithm(ToolAlgorithm):
    """``geosam-es finetune``, and ``geosam-es decoder set`` where it is wanted."""

    CLASS = "CLASS_FIELD"
    VALUE = "CLASS_VALUE"
    HOLDOUT = "HOLDOUT"
    HOLDOUT_LAYER = "HOLDOUT_LAYER"
    EPOCHS = "EPOCHS"
    MINUTES = "MINUTES"
    USE = "USE"
    STORE_NAME = "NAME"
    HTML = "HTML"
    NAME = "DECODER_NAME"

    def name(self) -> str:
        """Return the name for scripts."""
        return "finetunedecoder"

    def displayName(self) -> str:  # noqa: N802
        """Return the name in the toolbox."""
        return tr("Fine-tune the decoder on polygons")

    def shortHelpString(self) -> str:  # noqa: N802
        """Return the help beside the dialog."""
        return tr(
            "Teaches a store's decoder from polygons that are known to be right, such as those accepted with GeoSAM-ES "
            "and saved. The image is not encoded again. A part of the polygons, in places of its own, is kept apart, "
            "and the report says how the decoder did on them before and after.\n\n"
            "The result is a folder that any store of the same model takes: here at once, or later with the menu "
            "beside the decoder in the panel. The decoders that the store has stay.\n\n"
            "It runs geosam-es, the command line, in an environment of its own, chosen in the options of GeoSAM-ES. "
            "Where it is not installed, the log says how to install it."
        )

    def initAlgorithm(self, configuration: dict[str, Any] | None = None) -> None:  # noqa: N802
        """Declare the parameters and outputs."""
        number, polygon = QgsProcessingParameterNumber.Type, QgsProcessing.SourceType.TypeVectorPolygon
        self.add_store_parameter()
        self.add_polygons(tr("Polygons to learn from"))
        self.addParameter(
            QgsProcessingParameterField(
                self.CLASS, tr("Only those whose field …"), parentLayerParameterName=self.INPUT, optional=True
            )
        )
        self.addParameter(QgsProcessingParameterString(self.VALUE, tr("… has the value"), optional=True))
        self.addParameter(
            QgsProcessingParameterBoolean(self.USE, tr("Use this decoder in the store"), defaultValue=False)
        )
        self.addParameter(
            QgsProcessingParameterString(
                self.STORE_NAME, tr("Its name there (if not set, that of the folder)"), optional=True
            )
        )
        self.add_advanced(
            QgsProcessingParameterNumber(
                self.HOLDOUT,
                tr("Part of the polygons kept apart for measuring"),
                number.Double,
                _HOLDOUT,
                minValue=0.01,
                maxValue=_MOST_HOLDOUT,
            )
        )
        self.add_advanced(
            QgsProcessingParameterFeatureSource(
                self.HOLDOUT_LAYER, tr("Or a layer of others for measuring"), [polygon], optional=True
            )
        )
        self.add_advanced(
            QgsProcessingParameterNumber(self.EPOCHS, tr("Epochs at most"), number.Integer, optional=True, minValue=1)
        )
        self.add_advanced(
            QgsProcessingParameterNumber(
                self.MINUTES, tr("Minutes at most"), number.Double, optional=True, minValue=0.1
            )
        )
        self.addParameter(QgsProcessingParameterFolderDestination(self.OUTPUT, tr("Tuned decoder")))
        self.addOutput(QgsProcessingOutputHtml(self.HTML, tr("Report")))
        self.addOutput(QgsProcessingOutputString(self.NAME, tr("Name of the decoder in the store")))

    def run_on_store(
        self, store: Path, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> dict[str, Any]:
        """Tune; see `StoreAlgorithm.run_on_store`."""
        store = store.absolute()
        read_metadata(store)
        folder = self.folder(parameters, context)
        truth = self.polygons(self.INPUT, parameters, context, feedback)
        arguments = ["finetune", str(store), str(truth), "-o", str(folder), "--overwrite"]
        arguments += self._options(parameters, context, feedback)
        if not self.run_tool(arguments, feedback):
            return {}
        outputs = {self.OUTPUT: str(folder), self.HTML: str(folder / _REPORT_FOLDER / REPORT)}
        if self.parameterAsBool(parameters, self.USE, context):
            try:
                outputs[self.NAME] = _use(store, folder, self._name(parameters, context, folder))
            except GeoSamError as error:
                # What was learnt is there all the same.
                feedback.reportError(translated(error))
            else:
                feedback.pushInfo(tr("The store answers with the decoder {name} now").format(name=outputs[self.NAME]))
        return outputs

    def _name(self, parameters: dict[str, Any], context: QgsProcessingContext, folder: Path) -> str | None:
        """Return what the user wants it to be called in the store; None for what it calls itself."""
        name = self.parameterAsString(parameters, self.STORE_NAME, context)
        if not name and folder.name == self.OUTPUT:
            # A temporary folder has no name that tells anything.
            source = self.parameterAsSource(parameters, self.INPUT, context)
            name = re.sub(r"[^\w .+()-]", "_", source.sourceName()).strip(" .")[:_MOST_CHARACTERS]
        return str(name) or None

    def _options(
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> list[str]:
        options = []
        field = self.parameterAsString(parameters, self.CLASS, context)
        value = self.parameterAsString(parameters, self.VALUE, context)
        if bool(field) != bool(value):
            raise QgsProcessingException(tr("A class needs both, the field and its value"))
        if field:
            options += ["--class", f"{field}={value}"]
        if parameters.get(self.HOLDOUT_LAYER):
            options += ["--holdout", str(self.polygons(self.HOLDOUT_LAYER, parameters, context, feedback))]
        else:
            options += ["--holdout", f"{self.parameterAsDouble(parameters, self.HOLDOUT, context):g}"]
        if parameters.get(self.EPOCHS) is not None:
            options += ["--epochs", str(self.parameterAsInt(parameters, self.EPOCHS, context))]
        if parameters.get(self.MINUTES) is not None:
            options += ["--minutes", f"{self.parameterAsDouble(parameters, self.MINUTES, context):g}"]
        return options


def _use(store: Path, folder: Path, name: str | None) -> str:
    """Put the decoder that was made into the store, as ``geosam-es decoder set`` does, and tell the panel."""
    used = use_decoder(store, add_decoder(store, folder, name).name)
    store_news.decoders_changed.emit(str(store), used.name)
    return used.name

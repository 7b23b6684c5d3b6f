"""Fine-tunes the model of a prepared image on the user's polygons."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from qgis.core import (  # type: ignore[attr-defined]
    QgsProcessing,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProcessingOutputHtml,
    QgsProcessingOutputString,
    QgsProcessingParameterFeatureSource,
    QgsProcessingParameterNumber,
    QgsProcessingParameterString,
)

from ..errors import GeoSamError, marked
from ..inference.decoder import load_decoder
from ..inference.encoder import MODEL_FILE
from ..qgis_support.messages import tr, translated
from ..qgis_support.store_news import store_news
from ..store.decoders import install_decoder
from ..store.files import is_portable_name
from .base import ChoiceParameter
from .tools import REPORT, ToolAlgorithm

__all__ = ["FinetuneDecoderAlgorithm"]

_HOLDOUT = 0.2
_MAX_HOLDOUT = 0.8
_REPORT_FOLDER = "report"
_MAX_NAME_CHARACTERS = 40


class FinetuneDecoderAlgorithm(ToolAlgorithm):
    """``geosam-es finetune`` and, if wanted, ``geosam-es decoder set``."""

    ID = "finetunedecoder"
    TITLE = marked("Fine-tune the model on polygons")
    HELP = marked(
        "Fine-tunes the model of a prepared image on correct polygons, such as those drawn with GeoSAM-ES and "
        "saved. Some of the polygons, in separate areas, are held out for "
        "testing; the report compares the model before and after on them.\n\n"
        "The result is a folder with a model variant. It works with every image that was prepared with the same "
        "model: add it here, or later with the menu next to the model variant in the panel. Existing variants are "
        "kept.\n\n"
        "The algorithm runs geosam-es, a separate program with a Python of its own. The log and the help of "
        "GeoSAM-ES say how to install it, also without network. Enter its path in Settings > Options > GeoSAM-ES."
    )
    CLASS = "CLASS_FIELD"
    VALUE = "CLASS_VALUE"
    DEPTH = "DEPTH"
    HOLDOUT = "HOLDOUT"
    HOLDOUT_LAYER = "HOLDOUT_LAYER"
    EPOCHS = "EPOCHS"
    MINUTES = "MINUTES"
    USE = "USE"
    STORE_NAME = "NAME"
    HTML = "HTML"
    NAME = "DECODER_NAME"

    def initAlgorithm(self, configuration: dict[str, Any] | None = None) -> None:  # noqa: N802
        """Declare the parameters and outputs."""
        number, polygon = QgsProcessingParameterNumber.Type, QgsProcessing.SourceType.TypeVectorPolygon  # type: ignore[attr-defined]
        self.add_image_parameters()
        self.add_input(tr("Training polygons"))
        self.add_field(self.CLASS, tr("Class field, to train on one class only"))
        self.addParameter(QgsProcessingParameterString(self.VALUE, tr("Class to train on"), optional=True))
        self.add_flag(self.USE, tr("Use the model variant in the prepared image"))
        name = tr("Name of the model variant (by default the name of the folder)")
        self.addParameter(QgsProcessingParameterString(self.STORE_NAME, name, optional=True))
        depths = {
            "adapter": tr("The decoder and an adapter: the image stays prepared"),
            "all": tr("The whole built-in model: images must be prepared again with it"),
        }
        self.addParameter(ChoiceParameter(self.DEPTH, tr("What is trained"), depths, "adapter"))
        holdout = tr("Share of the polygons held out for testing")
        self.add_number(self.HOLDOUT, holdout, number.Double, _HOLDOUT, 0.01, _MAX_HOLDOUT, advanced=True)
        self.add_advanced(
            QgsProcessingParameterFeatureSource(
                self.HOLDOUT_LAYER, tr("Test polygons from another layer instead"), [polygon], optional=True
            )
        )
        epochs, minutes = tr("Maximum number of epochs"), tr("Maximum training time (minutes)")
        self.add_number(self.EPOCHS, epochs, number.Integer, minimum=1, advanced=True)
        self.add_number(self.MINUTES, minutes, number.Double, minimum=0.1, advanced=True)
        self.add_folder(tr("Tuned model variant"))
        self.addOutput(QgsProcessingOutputHtml(self.HTML, tr("Report")))
        self.addOutput(QgsProcessingOutputString(self.NAME, tr("Name of the model variant in the prepared image")))

    def execute(
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> dict[str, Any]:
        """Run the fine-tuning; see `OneSentenceAlgorithm.execute`."""
        store = self.prepared_store(parameters, context, feedback, (self.INPUT, self.HOLDOUT_LAYER))
        folder = self.folder(parameters, context)
        truth = self.polygons(self.INPUT, parameters, context, feedback)
        arguments = ["finetune", str(store), str(truth), *self.report_arguments(folder, parameters, context)]
        arguments += self._options(parameters, context, feedback)
        # The layer may be gone when the command ends.
        name = self._name(parameters, context, folder)
        if not self.run_tool(arguments, feedback):
            return {}
        outputs = {self.OUTPUT: str(folder), self.HTML: str(folder / _REPORT_FOLDER / REPORT)}
        if (folder / MODEL_FILE).is_file():
            feedback.pushInfo(tr("To use the model, choose this folder as model folder in the options of GeoSAM-ES"))
        elif self.parameterAsBool(parameters, self.USE, context):
            try:
                outputs[self.NAME] = _use(store, folder, name)
            except GeoSamError as error:
                # The tuned model variant exists; only adding it failed.
                feedback.reportError(translated(error))
            else:
                feedback.pushInfo(
                    tr("The prepared image now uses the model variant {name}").format(name=outputs[self.NAME])
                )
        return outputs

    def _name(self, parameters: dict[str, Any], context: QgsProcessingContext, folder: Path) -> str | None:
        """Return the name wanted in the store, None for the name that the folder gives."""
        name = self.parameterAsString(parameters, self.STORE_NAME, context)
        if not name and folder.name == self.OUTPUT:
            # The name of a temporary folder means nothing to the user.
            source = self.parameterAsSource(parameters, self.INPUT, context)
            name = re.sub(r"[^\w .+()-]", "_", source.sourceName())[:_MAX_NAME_CHARACTERS].strip(" .")
            name = name if is_portable_name(name) else f"_{name}"
        return str(name) or None

    def _options(
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> list[str]:
        options = ["--depth", self.choice(parameters, self.DEPTH, context), "--keep-stores"]
        field = self.parameterAsString(parameters, self.CLASS, context)
        value = self.parameterAsString(parameters, self.VALUE, context)
        if bool(field) != bool(value):
            raise QgsProcessingException(tr("Set both the class field and the class, or neither"))
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
    """Add the new decoder to the store and use it, as ``geosam-es decoder set`` does, and tell the panel."""
    used = install_decoder(store, folder, load_decoder, name)
    store_news.decoders_changed.emit(str(store), used.name)
    return used.name

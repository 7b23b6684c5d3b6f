"""The base class of the algorithms: the image, choices, and errors in one sentence."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from qgis.core import (  # type: ignore[attr-defined]
    QgsCoordinateReferenceSystem,
    QgsFeature,
    QgsFeatureSink,
    QgsFields,
    QgsProcessing,
    QgsProcessingAlgorithm,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeatureSource,
    QgsProcessingFeedback,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterEnum,
    QgsProcessingParameterFeatureSink,
    QgsProcessingParameterFeatureSource,
    QgsProcessingParameterField,
    QgsProcessingParameterFile,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterLayer,
    QgsProject,
    QgsRasterLayer,
    QgsWkbTypes,
)
from qgis.PyQt.QtCore import QCoreApplication, QThread
from qgis.PyQt.QtGui import QIcon

from ..errors import GeoSamError, RasterError, VectorError
from ..qgis_support.gdal_raster import GdalRaster
from ..qgis_support.icons import own_icon
from ..qgis_support.layer_source import LayerSource, source_of
from ..qgis_support.live_store import LiveOptions, live_options
from ..qgis_support.messages import tr, translated
from ..qgis_support.settings import Settings
from ..store.raster_name import raster_path
from .image import CancelledError

__all__ = [
    "POLYGON",
    "ChoiceParameter",
    "ImageAlgorithm",
    "OneSentenceAlgorithm",
    "RasterAlgorithm",
    "Write",
]

POLYGON = QgsProcessing.SourceType.TypeVectorPolygon  # type: ignore[attr-defined]
Write = Callable[[Sequence[QgsFeature]], None]


class ChoiceParameter(QgsProcessingParameterEnum):
    """A parameter with a list of choices.

    Parameters
    ----------
    name, text : str
    choices : mapping of str to str
        The text of each choice by its name in scripts and models, which is not translated. They may use its number too.
    default : str
        Name of a choice.
    """

    def __init__(self, name: str, text: str, choices: Mapping[str, str], default: str) -> None:
        self.names = list(choices)
        super().__init__(name, text, list(choices.values()), defaultValue=self.names.index(default))

    def checkValueIsAcceptable(  # noqa: N802
        self, input: Any, context: QgsProcessingContext | None = None
    ) -> bool:
        """Accept names, of which QGIS does not know; called by QGIS before a run."""
        return input in self.names or super().checkValueIsAcceptable(input, context)


class OneSentenceAlgorithm(QgsProcessingAlgorithm):
    """An algorithm that reports what the user can mend in one sentence; subclasses implement `execute`.

    QGIS calls `prepareAlgorithm` on the GUI thread and `processAlgorithm` in another one, which must not use layers of
    the project.
    """

    ID: ClassVar[str]
    GROUP: ClassVar[str]
    TITLE: ClassVar[str]
    HELP: ClassVar[str]
    INPUT = "INPUT"

    def __init__(self) -> None:
        super().__init__()
        # Those that a run has when the user cancels it.
        self.outputs: dict[str, Any] = {}

    def createInstance(self) -> OneSentenceAlgorithm:  # noqa: N802
        """Return a new algorithm of the same kind; QGIS creates one for each run."""
        return type(self)()

    def name(self) -> str:
        """Return the id used in scripts."""
        return self.ID

    def displayName(self) -> str:  # noqa: N802
        """Return the name in the toolbox."""
        return translated(self.TITLE)

    def shortHelpString(self) -> str:  # noqa: N802
        """Return the help text of the dialog."""
        return translated(self.HELP)

    def groupId(self) -> str:  # noqa: N802
        """Return the id of the group."""
        return self.GROUP

    def group(self) -> str:
        """Return the name of the group in the toolbox."""
        names = {
            "segmentation": tr("Segmentation"),
            "polygons": tr("Polygons"),
            "stores": tr("Prepared images"),
            "decoders": tr("Model variants"),
        }
        return names[self.GROUP]

    def icon(self) -> QIcon:
        """Return the plugin's icon."""
        return own_icon("geosam_es")

    def add_advanced(self, parameter: QgsProcessingParameterDefinition) -> None:
        """Add a parameter under the advanced ones."""
        parameter.setFlags(parameter.flags() | QgsProcessingParameterDefinition.Flag.FlagAdvanced)  # type: ignore[attr-defined]
        self.addParameter(parameter)

    def add_number(
        self,
        name: str,
        text: str,
        kind: int,
        default: float | None = None,
        minimum: float = 0,
        maximum: float = sys.float_info.max,
        advanced: bool = False,
        optional: bool = False,
    ) -> None:
        """Add a parameter for a number; it is optional if there is no default."""
        may_lack = optional or default is None
        parameter = QgsProcessingParameterNumber(name, text, kind, default, may_lack, minimum, maximum)  # type: ignore[call-overload]
        (self.add_advanced if advanced else self.addParameter)(parameter)

    def add_flag(self, name: str, text: str, default: bool = False) -> None:
        """Add a parameter for yes or no."""
        self.addParameter(QgsProcessingParameterBoolean(name, text, default))

    def add_optional_folder(self, name: str, text: str, advanced: bool = False) -> None:
        """Add a parameter for a folder that may be left out."""
        folder = QgsProcessingParameterFile.Behavior.Folder
        parameter = QgsProcessingParameterFile(name, text, behavior=folder, optional=True)
        (self.add_advanced if advanced else self.addParameter)(parameter)

    def add_input(self, text: str, kind: int = POLYGON, name: str = INPUT, optional: bool = False) -> None:
        """Add the parameter for the layer of prompts or polygons, or for another layer."""
        self.addParameter(QgsProcessingParameterFeatureSource(name, text, [kind], optional=optional))

    def add_sink(self, name: str, text: str, **options: Any) -> None:
        """Add an output of polygons."""
        self.addParameter(QgsProcessingParameterFeatureSink(name, text, POLYGON, **options))

    def add_field(self, name: str, text: str) -> None:
        """Add a parameter for a field of that layer, which may be left out."""
        self.addParameter(QgsProcessingParameterField(name, text, parentLayerParameterName=self.INPUT, optional=True))

    def input_source(
        self, parameters: dict[str, Any], context: QgsProcessingContext, name: str = INPUT
    ) -> QgsProcessingFeatureSource:
        """Return the features of that layer, or of another one."""
        source = self.parameterAsSource(parameters, name, context)
        if source is None:
            raise QgsProcessingException(self.invalidSourceError(parameters, name))
        return source

    def open_sink(
        self,
        parameters: dict[str, Any],
        name: str,
        context: QgsProcessingContext,
        fields: QgsFields,
        crs: QgsCoordinateReferenceSystem,
        kind: int = QgsWkbTypes.Type.MultiPolygon,
    ) -> Write:
        """Put the layer of an output into `outputs`, and return what writes its features, or fails.

        Nothing is written if it is optional and the user does not want it; then the id of its layer is empty.
        """
        sink, self.outputs[name] = self.parameterAsSink(parameters, name, context, fields, kind, crs)  # type: ignore[arg-type]
        is_optional = self.parameterDefinition(name).flags() & QgsProcessingParameterDefinition.Flag.FlagOptional  # type: ignore[attr-defined]
        if sink is None and not is_optional:
            raise QgsProcessingException(self.invalidSinkError(parameters, name))

        def write(features: Sequence[QgsFeature]) -> None:
            if sink is not None and not sink.addFeatures(features, QgsFeatureSink.Flag.FastInsert):
                raise QgsProcessingException(self.writeFeatureError(sink, parameters, name))

        return write

    def field_index(
        self,
        parameters: dict[str, Any],
        name: str,
        source: QgsProcessingFeatureSource,
        context: QgsProcessingContext,
        default: str = "",
    ) -> int:
        """Return the index of the chosen field, or of the field with the default name, or -1."""
        if self.parameterDefinition(name) is None:
            return -1
        chosen = self.parameterAsString(parameters, name, context)
        index = int(source.fields().lookupField(chosen or default))
        if chosen and index < 0:
            raise VectorError(
                "{source} has no field {field}",
                "choose one of its fields, or none",
                source=source.sourceName(),
                field=chosen,
            )
        return index

    def choice(self, parameters: dict[str, Any], name: str, context: QgsProcessingContext) -> str:
        """Return the name of the choice made with a `ChoiceParameter`."""
        names: list[str] = self.parameterDefinition(name).names
        value = parameters.get(name)
        is_name = isinstance(value, str) and value in names
        return str(value) if is_name else names[self.parameterAsEnum(parameters, name, context)]

    def processAlgorithm(  # noqa: N802
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback | None
    ) -> dict[str, Any]:
        """Run the algorithm, and raise errors as QGIS expects them."""
        feedback = feedback or QgsProcessingFeedback()
        try:
            return self.execute(parameters, context, feedback)
        except CancelledError:
            feedback.pushInfo(tr("Stopped. The tiles prepared so far are kept."))
            return self.outputs
        except GeoSamError as error:
            # QGIS never lets go of this exception: it would keep the raster open, and its arrays.
            traceback.clear_frames(error.__traceback__)
            raise QgsProcessingException(translated(error)) from error

    def execute(
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> dict[str, Any]:
        """Run the algorithm and return the outputs.

        Raises
        ------
        CancelledError
            If the user cancels while tiles are prepared; the outputs are those in `outputs`.
        GeoSamError
            For any error that the user can resolve.
        """
        raise NotImplementedError


class RasterAlgorithm(OneSentenceAlgorithm):
    """An algorithm that reads a raster.

    Attributes
    ----------
    source : LayerSource, optional
        The raster, once `prepareAlgorithm` was called; None if the user chose none.
    options : LiveOptions
        Those of the user.
    """

    RASTER = "RASTER"

    def __init__(self) -> None:
        super().__init__()
        self.source: LayerSource | None = None
        self.options = LiveOptions()
        self._problem: GeoSamError | None = None

    def add_raster(self, optional: bool = False) -> None:
        """Add the parameter for the raster."""
        parameter = QgsProcessingParameterRasterLayer(self.RASTER, tr("Raster"), optional=optional)
        # Dialogs would leave it empty.
        parameter.setGuiDefaultValueOverride(_top_raster())
        self.addParameter(parameter)

    def checkParameterValues(  # noqa: N802
        self, parameters: dict[str, Any], context: QgsProcessingContext
    ) -> tuple[bool, str | None]:
        """Refuse a raster that cannot be used; called by QGIS before a run."""
        try:
            self.describe(parameters, context)
        except GeoSamError as error:
            return False, translated(error)
        return super().checkParameterValues(parameters, context)

    def prepareAlgorithm(  # noqa: N802
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback | None
    ) -> bool:
        """Describe the raster and read the options; called by QGIS on the GUI thread."""
        self.options = live_options(Settings())
        try:
            self.source = self.describe(parameters, context)
        except GeoSamError as error:
            # QGIS shows why a run has failed, but not why it could not begin.
            self._problem = error
        return True

    def processAlgorithm(  # noqa: N802
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback | None
    ) -> dict[str, Any]:
        """Run the algorithm; see `OneSentenceAlgorithm`."""
        if self._problem is not None:
            raise QgsProcessingException(translated(self._problem))
        return super().processAlgorithm(parameters, context, feedback)

    def describe(self, parameters: dict[str, Any], context: QgsProcessingContext) -> LayerSource | None:
        """Describe the raster for other threads; None if the user chose none.

        Raises
        ------
        RasterError
            If it is not a raster on this computer, or cannot be opened.
        """
        if parameters.get(self.RASTER) in (None, ""):
            return None
        layer = self.parameterAsRasterLayer(parameters, self.RASTER, context) or self.parameterAsLayer(
            parameters, self.RASTER, context
        )
        if isinstance(layer, QgsRasterLayer) and layer.providerType() != "gdal":
            problem = tr("{name} comes from a service, from which Processing must not download many tiles")
            raise RasterError(
                problem.format(name=layer.name()),
                tr("save the part you need as a GeoTIFF with Export > Save As and use that file"),
            )
        if layer is not None:
            return source_of(layer)
        text = self.parameterAsString(parameters, self.RASTER, context)
        path = raster_path(text)
        # QGIS does not say why it cannot open a raster.
        GdalRaster(path).close()
        return LayerSource(path, "", Path(text).name)


class ImageAlgorithm(RasterAlgorithm):
    """An algorithm that reads a raster or a prepared image."""

    STORE = "STORE"

    def add_image_parameters(self) -> None:
        """Add the parameters for the raster and for the folder of the prepared image."""
        self.add_raster(optional=True)
        text = tr("Folder of the prepared image, if not beside the raster")
        self.add_optional_folder(self.STORE, text, advanced=True)

    def describe(self, parameters: dict[str, Any], context: QgsProcessingContext) -> LayerSource | None:
        """Describe the raster, which may be missing if there is a prepared image; see `RasterAlgorithm.describe`."""
        source = super().describe(parameters, context)
        if source is None and self.store(parameters, context) is None:
            raise RasterError(tr("There is no image"), tr("choose a raster, or the folder of a prepared image"))
        return source

    def store(self, parameters: dict[str, Any], context: QgsProcessingContext) -> Path | None:
        """Return the folder of the prepared image, if the user chose one."""
        text = self.parameterAsFile(parameters, self.STORE, context)
        return Path(text).absolute() if text else None


def _top_raster() -> str | None:
    """Return the id of the topmost visible raster file of the project; None if there is none, or in another thread."""
    if QThread.currentThread() != QCoreApplication.instance().thread():
        return None
    layers = QgsProject.instance().layerTreeRoot().checkedLayers()
    files = (layer for layer in layers if isinstance(layer, QgsRasterLayer) and layer.providerType() == "gdal")
    return next((layer.id() for layer in files), None)

"""What the algorithms share that run ``geosam-es``: polygons as a file, and the command as a process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qgis.core import (
    QgsProcessing,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterFeatureSource,
    QgsProcessingUtils,
)

from ..qgis_support.command_line import CommandLine, CommandLineError, find_command_line, install_lines
from ..qgis_support.messages import tr
from ..qgis_support.settings import Settings
from .base import StoreAlgorithm
from .polygon_file import polygon_file
from .process import as_typed, run_command_line

__all__ = ["ToolAlgorithm"]

REPORT = "report.html"


class ToolAlgorithm(StoreAlgorithm):
    """An algorithm that another program does, in an environment that QGIS's Python cannot have."""

    INPUT = "INPUT"
    OUTPUT = "OUTPUT"

    def group(self) -> str:
        """Return the heading in the toolbox."""
        return tr("Decoders")

    def groupId(self) -> str:  # noqa: N802
        """Return the heading's name for scripts."""
        return "decoders"

    def add_polygons(self, description: str) -> None:
        """Add the layer of polygons that are known to be right."""
        polygon = QgsProcessing.SourceType.TypeVectorPolygon
        self.addParameter(QgsProcessingParameterFeatureSource(self.INPUT, description, [polygon]))

    def add_advanced(self, parameter: QgsProcessingParameterDefinition) -> None:
        """Add a parameter that few need."""
        parameter.setFlags(parameter.flags() | QgsProcessingParameterDefinition.Flag.FlagAdvanced)
        self.addParameter(parameter)

    def polygons(
        self,
        name: str,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> Path:
        """Return the polygons of a parameter as a file; see `polygon_file`."""
        source = self.parameterAsSource(parameters, name, context)
        if source is None:
            raise QgsProcessingException(self.invalidSourceError(parameters, name))
        layer = self.parameterAsVectorLayer(parameters, name, context)
        temporary = Path(QgsProcessingUtils.generateTempFilename(f"{name.lower()}.gpkg"))
        return polygon_file(parameters[name], layer, source, temporary, context, feedback)

    def folder(self, parameters: dict[str, Any], context: QgsProcessingContext) -> Path:
        """Return the folder of the outcome."""
        return Path(self.parameterAsString(parameters, self.OUTPUT, context)).absolute()

    def run_tool(self, arguments: Sequence[str], feedback: QgsProcessingFeedback) -> bool:
        """Run ``geosam-es``, and say in the log how to run it by hand.

        Returns
        -------
        bool
            False where it was cancelled.

        Raises
        ------
        CommandLineError
            If it is not installed, which the log says how to do, or fails.
        """
        command: CommandLine | None = None
        try:
            command = find_command_line(Settings().command_line)
        except CommandLineError:
            feedback.pushInfo(tr("To install the command line of GeoSAM-ES, type in a terminal:"))
            for line in install_lines():
                feedback.pushCommandInfo(line)
            raise
        finally:
            feedback.pushInfo(tr("The same by hand:"))
            feedback.pushCommandInfo(as_typed(command, arguments))
        return run_command_line(command, arguments, feedback)

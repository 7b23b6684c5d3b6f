"""What the algorithms that run ``geosam-es`` share: polygons as a file, an output folder, and the command."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from qgis.core import (
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingParameterFolderDestination,
    QgsProcessingUtils,
)

from ..qgis_support.command_line import CommandLine, CommandLineError, find_command_line, install_steps
from ..qgis_support.crs import raster_crs
from ..qgis_support.messages import tr
from ..qgis_support.settings import Settings
from ..qgis_support.store_crs import correct_crs
from ..store.metadata import read_metadata
from .area import read_area
from .base import ImageAlgorithm
from .image import encode_and_tell, open_image
from .polygon_file import polygon_file
from .process import run_command_line, terminal_command

__all__ = ["ToolAlgorithm"]

REPORT = "report.html"


class ToolAlgorithm(ImageAlgorithm):
    """An algorithm that runs in ``geosam-es``, because it needs packages that must not be installed in QGIS."""

    GROUP = "decoders"
    OUTPUT = "OUTPUT"
    OVERWRITE = "OVERWRITE"

    def add_folder(self, description: str) -> None:
        """Add the output folder, and whether an earlier result in it may be replaced."""
        self.add_flag(self.OVERWRITE, tr("Replace an earlier result in the output folder (--overwrite)"))
        self.addParameter(QgsProcessingParameterFolderDestination(self.OUTPUT, description))

    def folder(self, parameters: dict[str, Any], context: QgsProcessingContext) -> Path:
        """Return the output folder. Call this once: a temporary folder is another one for each call."""
        return Path(self.parameterAsString(parameters, self.OUTPUT, context)).absolute()

    def report_arguments(self, folder: Path, parameters: dict[str, Any], context: QgsProcessingContext) -> list[str]:
        """Return the options of the command for the output folder, and for the raster that the report shows.

        QGIS does not ask before an algorithm writes into an existing folder, so only the user's tick allows the command
        to replace results in it.
        """
        overwrite = self.parameterAsBool(parameters, self.OVERWRITE, context)
        raster = self.source.path if self.source is not None else None
        shown = ["--raster", str(raster.absolute())] if isinstance(raster, Path) else []
        return ["-o", str(folder), *(["--overwrite"] if overwrite else []), *shown]

    def polygons(
        self,
        name: str,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> Path:
        """Return the polygons of a parameter as a file; see `polygon_file`."""
        source = self.input_source(parameters, context, name)
        layer = self.parameterAsVectorLayer(parameters, name, context)
        temporary = Path(QgsProcessingUtils.generateTempFilename(f"{name.lower()}.gpkg"))
        return polygon_file(parameters[name], layer, source, temporary, context, feedback)

    def prepared_store(
        self,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
        names: Sequence[str] = (ImageAlgorithm.INPUT,),
    ) -> Path:
        """Return the store of the image; of a raster, the missing tiles under the polygons are encoded first.

        ``names`` are those of the parameters with the polygons.

        Raises
        ------
        CancelledError
            If the user cancels meanwhile.
        GeoSamError
            If the raster cannot be read, or there is no store.
        """
        with closing(open_image(self.source, self.store(parameters, context), self.options)) as image:
            metadata = read_metadata(image.store)
            if self.source is not None:
                # geosam-es compares the polygons with the CRS of the store.
                notice = correct_crs(image.store, metadata.raster, raster_crs(metadata), self.source)
                if notice:
                    feedback.pushInfo(notice)
            for name in names:
                source = self.parameterAsSource(parameters, name, context)
                if image.live is None or source is None:
                    continue
                missing = image.live.tiles_in(read_area(source, image.crs, metadata.raster, context))
                if missing:
                    encode_and_tell(image.live, missing, feedback)
            return image.store.absolute()

    def run_tool(self, arguments: Sequence[str], feedback: QgsProcessingFeedback) -> bool:
        """Run ``geosam-es`` as `run_command_line` does, and write to the log how to run it in a terminal.

        If it is not installed, the log says how to install it.
        """
        command: CommandLine | None = None
        try:
            command = find_command_line(Settings().command_line)
        except CommandLineError:
            for step in install_steps():
                feedback.pushInfo(step.text)
                for line in step.commands:
                    feedback.pushCommandInfo(line)
            raise
        finally:
            feedback.pushInfo(tr("The same command in a terminal:"))
            feedback.pushCommandInfo(terminal_command(command, arguments))
        return run_command_line(command, arguments, feedback)

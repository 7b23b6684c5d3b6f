"""Prepares a raster ahead: ``geosam-es encode`` with the models that run in QGIS."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from qgis.core import (  # type: ignore[attr-defined]
    QgsProcessing,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProcessingOutputFolder,
    QgsProcessingOutputNumber,
)
from shapely.geometry.base import BaseGeometry

from ..core.grid import Tile
from ..errors import OutputError, RasterError, StoreError, marked
from ..qgis_support.crs import crs_from_wkt
from ..qgis_support.gdal_raster import GdalRaster
from ..qgis_support.layer_source import LayerSource
from ..qgis_support.live_store import EMBEDDED_MODEL, LiveOptions, LiveStore
from ..qgis_support.messages import tr
from ..store.files import folder_bytes
from ..store.layout import SUFFIX, store_path_for
from ..store.raster_name import GdalName
from .area import read_area
from .base import ChoiceParameter, RasterAlgorithm
from .image import CancelledError, encode_missing, prepared_text

__all__ = ["PrepareRasterAlgorithm"]

_CONTINUE, _REPLACE = "continue", "replace"
_EMBEDDED = "mini"
_MEGABYTE = 1e6


class PrepareRasterAlgorithm(RasterAlgorithm):
    """Makes a store of a raster, or continues it."""

    ID = "encoderaster"
    TITLE = marked("Prepare raster")
    HELP = marked(
        "Prepares a raster, so that clicks on it are answered at once. The result is a folder NAME.embeddings.zarr "
        "beside the raster, where the panel and the other algorithms find it, or in another folder.\n\n"
        "If you cancel, the tiles prepared so far are kept; run it again to continue. With an area of interest, "
        "only tiles that touch it are prepared; others may follow later.\n\n"
        "Enlarged detail is for objects of less than 100 pixels. 200 % takes 4 times more tiles, 400 % 20 times "
        "more, so choose an area of interest.\n\n"
        "The model is that of the options of GeoSAM-ES. Enter mini for the built-in one, or a folder made by "
        "geosam-es export --encoder."
    )
    GROUP = "stores"
    AREA = "AREA"
    FINEST = "FINEST"
    DTYPE = "DTYPE"
    EXISTING = "EXISTING"
    MODEL = "MODEL"
    FOLDER = "FOLDER"
    OUTPUT = "OUTPUT"
    ENCODED = "ENCODED"
    SKIPPED = "SKIPPED"

    def initAlgorithm(self, configuration: dict[str, Any] | None = None) -> None:  # noqa: N802
        """Declare the parameters and outputs."""
        anything = QgsProcessing.SourceType.TypeVectorAnyGeometry  # type: ignore[attr-defined]
        self.add_raster()
        self.add_input(tr("Area of interest (by default all)"), anything, self.AREA, optional=True)
        details = {"0": tr("As the image (100 %)"), "-1": tr("Enlarged too (200 %)"), "-2": tr("Enlarged too (400 %)")}
        self.addParameter(ChoiceParameter(self.FINEST, tr("Finest detail"), details, "0"))
        existing = {_CONTINUE: tr("Prepare what is missing"), _REPLACE: tr("Prepare all of it anew")}
        self.addParameter(
            ChoiceParameter(self.EXISTING, tr("If the raster has been prepared before"), existing, _CONTINUE)
        )
        types = {"float16": tr("16 bits"), "int8": tr("8 bits: half the disk space, outlines move slightly")}
        self.add_advanced(ChoiceParameter(self.DTYPE, tr("Precision"), types, "float16"))
        self.add_optional_folder(self.MODEL, tr("Model folder (by default that of the options)"), advanced=True)
        self.add_optional_folder(self.FOLDER, tr("Folder (by default that of the raster)"))
        self.addOutput(QgsProcessingOutputFolder(self.OUTPUT, tr("Prepared image")))
        self.addOutput(QgsProcessingOutputNumber(self.ENCODED, tr("Prepared tiles")))
        self.addOutput(QgsProcessingOutputNumber(self.SKIPPED, tr("Skipped tiles")))

    def execute(
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> dict[str, Any]:
        """Prepare the raster; see `OneSentenceAlgorithm.execute`."""
        if self.source is None:
            raise QgsProcessingException(self.invalidRasterError(parameters, self.RASTER))
        root = _root(self.source, self.parameterAsFile(parameters, self.FOLDER, context))
        is_new = self.choice(parameters, self.EXISTING, context) == _REPLACE or not root.exists()
        options = self._model_options(parameters, context)
        # Before an earlier store is replaced.
        area = self._area(self.source, parameters, context)
        with closing(_open(root, self.source, options, self.choice(parameters, self.DTYPE, context), is_new)) as live:
            try:
                tiles = live.tiles_in(area, int(self.choice(parameters, self.FINEST, context)))
                feedback.pushInfo(_announcement(live, tiles))
                return self._fill(live, tiles, is_new, feedback)
            finally:
                if is_new:
                    live.settle()

    def _model_options(self, parameters: dict[str, Any], context: QgsProcessingContext) -> LiveOptions:
        """Return the options with the chosen model. Enlarged levels are encoded if the user asks for them here."""
        chosen = self.parameterAsFile(parameters, self.MODEL, context)
        folder = EMBEDDED_MODEL if chosen == _EMBEDDED else Path(chosen) if chosen else self.options.model_folder
        return replace(self.options, model_folder=folder, enlarges=True)

    def _area(
        self, source: LayerSource, parameters: dict[str, Any], context: QgsProcessingContext
    ) -> BaseGeometry | None:
        layer = self.parameterAsSource(parameters, self.AREA, context)
        if layer is None:
            return None
        with closing(GdalRaster(source.path, crs=source.crs_wkt or None)) as file:
            raster = file.info()
        return read_area(layer, crs_from_wkt(raster.crs_wkt), raster, context)

    def _fill(
        self, live: LiveStore, tiles: Sequence[Tile], is_new: bool, feedback: QgsProcessingFeedback
    ) -> dict[str, Any]:
        try:
            report = encode_missing(live, tiles, feedback)
        except CancelledError:
            if is_new and not live.has_tiles:
                feedback.pushInfo(tr("Stopped before the first tile was prepared. Nothing was changed."))
                return {}
            feedback.pushInfo(tr("Stopped. The tiles prepared so far are kept."))
            return {self.OUTPUT: str(live.root)}
        if is_new and not report.encoded:
            raise RasterError(
                tr("{name} has no data there").format(name=live.reader.metadata.raster.file_name),
                tr("check the image, its nodata value and the area of interest"),
            )
        feedback.pushInfo(prepared_text(report))
        if live.former_decoders is not None:
            text = tr("The model variants of the older prepared image belong to another model and are now in {folder}")
            feedback.pushInfo(text.format(folder=live.former_decoders))
        size = tr("The prepared image takes {size} MB: {path}")
        feedback.pushInfo(size.format(size=_megabytes(folder_bytes(live.root)), path=live.root))
        return {self.OUTPUT: str(live.root), self.ENCODED: report.encoded, self.SKIPPED: report.skipped}


def _root(source: LayerSource, folder: str) -> Path:
    """Return the path of the store: the folder itself if it is named like one."""
    if folder.endswith(SUFFIX):
        return Path(folder).absolute()
    if not folder and isinstance(source.path, GdalName) and source.path.file is None:
        raise OutputError(tr("{name} lies in no folder").format(name=source.name), tr("choose a folder for the result"))
    return store_path_for(source.path, Path(folder).absolute() if folder else None)


def _open(root: Path, source: LayerSource, options: LiveOptions, dtype: str, is_new: bool) -> LiveStore:
    remedy = tr("choose another folder, or prepare all of it anew")
    try:
        if is_new:
            return LiveStore.create_at(root, source, options, dtype, overwrite=root.exists())
        return LiveStore.open_at(root, source, options)
    except StoreError as error:
        raise StoreError(error.template, remedy, **error.values) from error
    except OutputError as error:
        raise OutputError(error.template, tr("choose another folder for the result"), **error.values) from error


def _announcement(live: LiveStore, tiles: Sequence[Tile]) -> str:
    if not tiles:
        return tr("Nothing is missing in {path}").format(path=live.root)
    text = tr("{count} tiles of {name} are prepared, at most {size} MB, in {path}")
    size = len(tiles) * live.reader.metadata.tile_bytes
    name = live.reader.metadata.raster.file_name
    return text.format(count=len(tiles), name=name, size=_megabytes(size), path=live.root)


def _megabytes(size: int) -> str:
    return f"{size / _MEGABYTE:.1f}"

"""Opening a store off the GUI thread, and seeing that it fits the raster in the project."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import shapely
from qgis.core import QgsCoordinateReferenceSystem, QgsMapLayer, QgsProject, QgsTask
from qgis.PyQt.QtCore import pyqtSignal

from ...errors import EditError, GeoSamError, RasterError, StoreError
from ...inference.encoder import read_model_info
from ...inference.segmenter import Segmenter
from ...inference.session import open_segmenter
from ...qgis_support.crs import EllipsoidArea
from ...qgis_support.gdal_raster import GdalRaster
from ...qgis_support.layer_source import LayerSource, source_of
from ...qgis_support.messages import tr
from ...qgis_support.settings import Settings
from ...store.decoders import ORIGINAL
from ...store.layout import StoreMetadata, store_path_for
from ...store.signature import check_signature, raster_signature
from .live_store import EMBEDDED_MODEL, LiveOptions, LiveStore

__all__ = [
    "OpenStore",
    "OpenStoreTask",
    "RasterFile",
    "check_fits",
    "live_options",
    "pixel_area_m2",
    "raster_file",
    "raster_files",
    "store_beside",
]


@dataclass(frozen=True)
class RasterFile:
    """A raster layer of a local file, as a task sees it: no layer may be touched off the GUI thread.

    Attributes
    ----------
    layer_id : str
    source : LayerSource
    active : bool
        Whether the user has chosen it in the layer tree.
    """

    layer_id: str
    source: LayerSource
    active: bool


def raster_file(layer: QgsMapLayer | None, active: bool = True) -> RasterFile | None:
    """Describe a layer, or return None where it is no local raster file."""
    if layer is None or not layer.isValid():
        return None
    try:
        return RasterFile(layer.id(), source_of(layer), active)
    except RasterError:
        return None


def raster_files(project: QgsProject, active: QgsMapLayer | None) -> list[RasterFile]:
    """Return the rasters of the project that are local files, the active one first."""
    files = [raster_file(layer, layer is active) for layer in project.mapLayers().values()]
    return sorted((file for file in files if file is not None), key=lambda file: not file.active)


def store_beside(raster: RasterFile) -> Path | None:
    """Return the store that lies beside a raster, or None."""
    path = store_path_for(raster.source.path)
    return path if path.is_dir() else None


@dataclass(frozen=True, eq=False)
class OpenStore:
    """A store that answers prompts.

    Attributes
    ----------
    path : Path
    segmenter : Segmenter
    crs : QgsCoordinateReferenceSystem
        Of its raster; invalid where that has none.
    raster : RasterFile, optional
        The layer it was found to fit.
    live : LiveStore, optional
        What encodes the tiles that are missing; None where that cannot be done.
    decoder : str
        Name of the decoder that answers.
    """

    path: Path
    segmenter: Segmenter
    crs: QgsCoordinateReferenceSystem
    raster: RasterFile | None
    live: LiveStore | None = None
    decoder: str = ORIGINAL

    @property
    def metadata(self) -> StoreMetadata:
        """What the store says of itself."""
        return self.segmenter.reader.metadata

    def close(self) -> None:
        """Let go of the raster's file."""
        if self.live is not None:
            self.live.close()


def check_fits(path: Path, metadata: StoreMetadata, rasters: Sequence[RasterFile]) -> RasterFile | None:
    """Compare a store with the raster it should fit: the one of the same file name, else the active one.

    Returns
    -------
    RasterFile or None
        None where there is nothing to compare with; prompts need no raster.

    Raises
    ------
    SignatureMismatchError
        With the key and both values.
    RasterError
        If the raster cannot be read.
    """
    same_name = [raster for raster in rasters if raster.source.path.name == metadata.raster.file_name]
    chosen = next(iter(same_name), None) or next((raster for raster in rasters if raster.active), None)
    if chosen is None:
        return None
    remedy = tr("open the store of {name}, or encode it again").format(name=chosen.source.path.name)
    raster = GdalRaster(chosen.source.path, crs=chosen.source.crs_wkt or None)
    try:
        wanted = raster_signature(raster.info())
    finally:
        raster.close()
    check_signature(path, raster_signature(metadata.raster), wanted, remedy)
    return chosen


class OpenStoreTask(QgsTask):
    """Opens a store with its decoder, and checks it against the project's rasters.

    Parameters
    ----------
    path : Path, optional
        None to begin a store of the first raster, or go on with one begun before.
    rasters : sequence of RasterFile
    options : LiveOptions
    threads : int, optional
        For the decoder.

    Signals
    -------
    opened : OpenStore
    refused : GeoSamError
    """

    opened = pyqtSignal(object)
    refused = pyqtSignal(object)

    def __init__(
        self, path: Path | None, rasters: Sequence[RasterFile], options: LiveOptions, threads: int | None = None
    ) -> None:
        name = path.name if path is not None else rasters[0].source.name
        super().__init__(tr("Opening {name}").format(name=name), QgsTask.Flag.CanCancel)
        self.path = path
        self._rasters = rasters
        self._options = options
        self._threads = threads
        self._store: OpenStore | None = None
        self._error: GeoSamError | None = None

    def run(self) -> bool:
        """Open it; called by QGIS in another thread."""
        try:
            self._store = self._begin(self._rasters[0]) if self.path is None else self._open(self.path)
        except GeoSamError as error:
            self._error = error
            return False
        # QGIS would end with an exception that leaves run().
        except Exception as error:
            problem = f"{self.description()}: {error!r}"
            self._error = StoreError(problem, tr("copy it again, or encode again"))
            return False
        return not self.isCanceled()

    def finished(self, result: bool) -> None:
        """Tell the outcome; called by QGIS in the GUI thread."""
        if result and self._store is not None:
            self.opened.emit(self._store)
        elif self._error is not None and not self.isCanceled():
            self.refused.emit(self._error)

    def _open(self, path: Path) -> OpenStore:
        segmenter = open_segmenter(path, self._threads)
        metadata = segmenter.reader.metadata
        raster = check_fits(path, metadata, self._rasters)
        if raster is not None and path == store_path_for(raster.source.path) and self._is_own(metadata):
            store = self._begin(raster)
            if store.path == path:
                return store
            store.close()
        return OpenStore(path, segmenter, _crs(metadata), raster, None, segmenter.reader.decoder.name)

    def _begin(self, raster: RasterFile) -> OpenStore:
        live = LiveStore.open(raster.source, self._options)
        segmenter = live.segmenter()
        reader = segmenter.reader
        return OpenStore(live.root, segmenter, _crs(reader.metadata), raster, live, reader.decoder.name)

    def _is_own(self, metadata: StoreMetadata) -> bool:
        """Tell whether the model that encodes here made the store, so that what is missing in it can be added."""
        own = read_model_info(self._options.model_folder)
        return bool(metadata.model["encoder_sha256"] == own.encoder_sha256)


def _crs(metadata: StoreMetadata) -> QgsCoordinateReferenceSystem:
    return QgsCoordinateReferenceSystem.fromWkt(metadata.raster.crs_wkt)


def live_options(settings: Settings) -> LiveOptions:
    """Return what the user chose for rasters that were never encoded."""
    return LiveOptions(
        model_folder=Path(settings.encoder_folder) if settings.encoder_folder else EMBEDDED_MODEL,
        cache_bytes=round(settings.cache_gigabytes * 2**30),
    )


def pixel_area_m2(store: OpenStore) -> float:
    """Return the area of the pixel in the middle of a store's raster, 0 if it cannot be measured."""
    raster = store.metadata.raster
    col, row = raster.width // 2, raster.height // 2
    pixel: shapely.Polygon = raster.transform.apply_geometry(shapely.box(col, row, col + 1, row + 1))
    try:
        return EllipsoidArea(store.crs).area_m2(pixel)
    except EditError:
        # Accepting a polygon reports it.
        return 0.0

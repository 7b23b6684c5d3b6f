"""Opening a store off the GUI thread, and seeing that it fits the raster in the project."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from osgeo import gdal
from qgis.core import QgsCoordinateReferenceSystem, QgsMapLayer, QgsProject, QgsRasterLayer, QgsTask
from qgis.PyQt.QtCore import pyqtSignal

from ..core.geotransform import GeoTransform
from ..core.window import Window
from ..errors import GeoSamError, RasterError, StoreError
from ..inference.segmenter import Segmenter
from ..inference.session import open_segmenter
from ..store.layout import RasterInfo, StoreMetadata, store_path_for
from ..store.signature import check_signature, pixel_fingerprint, raster_signature
from .messages import tr

__all__ = ["OpenStore", "OpenStoreTask", "RasterLayerFile", "check_fits", "raster_files", "store_beside"]


@dataclass(frozen=True)
class RasterLayerFile:
    """A raster layer that GDAL reads, as the task sees it: no layer may be touched off the GUI thread.

    Attributes
    ----------
    layer_id, name : str
    source : str
        What GDAL opens.
    active : bool
        Whether the user has chosen it in the layer tree.
    """

    layer_id: str
    name: str
    source: str
    active: bool

    @classmethod
    def of(cls, layer: QgsMapLayer | None, active: bool = True) -> RasterLayerFile | None:
        """Describe a layer, or return None where GDAL does not read it."""
        if not isinstance(layer, QgsRasterLayer) or layer.providerType() != "gdal" or not layer.isValid():
            return None
        return cls(layer.id(), layer.name(), layer.source(), active)

    @property
    def file_name(self) -> str:
        """Without folders."""
        return Path(self.source).name

    def info(self) -> RasterInfo:
        """Read what a store remembers of its raster.

        Raises
        ------
        RasterError
            If GDAL cannot read it.
        """
        dataset = gdal.Open(self.source)
        if dataset is None:
            raise RasterError(f"{self.source} cannot be read", "see that the file is still there")
        a, b, c, d, e, f = _coefficients(dataset.GetGeoTransform())
        width, height = dataset.RasterXSize, dataset.RasterYSize

        def read(window: Window) -> Any:
            pixels = dataset.ReadAsArray(*window)
            if pixels is None:
                raise RasterError(f"{self.source} cannot be read", "see that the file is whole")
            return pixels if pixels.ndim == 3 else pixels[None]

        fingerprint = pixel_fingerprint(width, height, dataset.RasterCount, read)
        return RasterInfo(self.file_name, 0, width, height, fingerprint, "", GeoTransform(a, b, c, d, e, f))


def _coefficients(gdal_order: Sequence[float]) -> tuple[float, float, float, float, float, float]:
    c, a, b, f, d, e = gdal_order
    return a, b, c, d, e, f


def raster_files(project: QgsProject, active: QgsMapLayer | None) -> list[RasterLayerFile]:
    """Return the rasters of the project that GDAL reads, the active one first."""
    files = [RasterLayerFile.of(layer, layer is active) for layer in project.mapLayers().values()]
    return sorted((file for file in files if file is not None), key=lambda file: not file.active)


def store_beside(raster: RasterLayerFile) -> Path | None:
    """Return the store that lies beside a raster, or None."""
    path = store_path_for(Path(raster.source))
    return path if path.is_dir() else None


@dataclass(frozen=True)
class OpenStore:
    """A store that answers prompts.

    Attributes
    ----------
    path : Path
    segmenter : Segmenter
    crs : QgsCoordinateReferenceSystem
        Of its raster; invalid where that has none.
    raster : RasterLayerFile, optional
        The layer it was found to fit.
    """

    path: Path
    segmenter: Segmenter
    crs: QgsCoordinateReferenceSystem
    raster: RasterLayerFile | None

    @property
    def metadata(self) -> StoreMetadata:
        """What the store says of itself."""
        return self.segmenter.reader.metadata


def check_fits(path: Path, metadata: StoreMetadata, rasters: Sequence[RasterLayerFile]) -> RasterLayerFile | None:
    """Compare a store with the raster it should fit: the one of the same file name, else the active one.

    Returns
    -------
    RasterLayerFile or None
        None where there is nothing to compare with; prompts need no raster.

    Raises
    ------
    SignatureMismatchError
        With the key and both values.
    RasterError
        If GDAL cannot read the raster.
    """
    same_name = [raster for raster in rasters if raster.file_name == metadata.raster.file_name]
    chosen = next(iter(same_name), None) or next((raster for raster in rasters if raster.active), None)
    if chosen is None:
        return None
    remedy = tr("open the store of {name}, or encode it again").format(name=chosen.file_name)
    wanted = raster_signature(chosen.info())
    check_signature(path, raster_signature(metadata.raster), wanted, remedy)
    return chosen


class OpenStoreTask(QgsTask):
    """Opens a store with its decoder, checks it against the project's rasters, and warms the decoder up.

    Parameters
    ----------
    path : Path
    rasters : sequence of RasterLayerFile
    threads : int, optional
        For the decoder.

    Signals
    -------
    opened : OpenStore
    refused : GeoSamError
    """

    opened = pyqtSignal(object)
    refused = pyqtSignal(object)

    def __init__(self, path: Path, rasters: Sequence[RasterLayerFile], threads: int | None = None) -> None:
        super().__init__(tr("Opening {name}").format(name=path.name), QgsTask.Flag.CanCancel)
        self.path = path
        self._rasters = rasters
        self._threads = threads
        self._store: OpenStore | None = None
        self._error: GeoSamError | None = None

    def run(self) -> bool:
        """Open it; called by QGIS in another thread."""
        try:
            segmenter = open_segmenter(self.path, self._threads)
            metadata = segmenter.reader.metadata
            raster = check_fits(self.path, metadata, self._rasters)
        except GeoSamError as error:
            self._error = error
            return False
        # QGIS would end with an exception that leaves run().
        except Exception as error:
            self._error = StoreError(f"{self.path} cannot be opened ({error!r})", "copy it again, or encode again")
            return False
        crs = QgsCoordinateReferenceSystem.fromWkt(metadata.raster.crs_wkt)
        self._store = OpenStore(self.path, segmenter, crs, raster)
        return not self.isCanceled()

    def finished(self, result: bool) -> None:
        """Tell the outcome; called by QGIS in the GUI thread."""
        if result and self._store is not None:
            self.opened.emit(self._store)
        elif self._error is not None and not self.isCanceled():
            self.refused.emit(self._error)

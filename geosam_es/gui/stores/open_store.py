"""Opens a store outside the GUI thread, and fits it to the project's raster layer."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Union

import shapely
from qgis.core import QgsCoordinateReferenceSystem, QgsMapLayer, QgsProject
from qgis.PyQt.QtCore import pyqtSignal

from ...errors import EditError, GeoSamError, OutputError, RasterError, StoreError
from ...inference.encoder import read_model_info
from ...inference.segmenter import Segmenter
from ...inference.session import open_segmenter
from ...qgis_support.crs import EllipsoidArea, made_anew, raster_crs
from ...qgis_support.layer_source import LayerSource, open_raster, source_of
from ...qgis_support.live_store import LiveOptions, LiveStore
from ...qgis_support.messages import tr
from ...qgis_support.remote import open_remote
from ...qgis_support.service_request import interrupt, interruptible
from ...qgis_support.store_crs import are_same_crs, correct_crs, differing_crs
from ...store.decoders import ORIGINAL
from ...store.metadata import StoreMetadata
from ...store.remote import without_query
from ...store.signature import check_signature, raster_signature
from .background_task import BackgroundTask

__all__ = [
    "OpenStore",
    "OpenStoreTask",
    "Place",
    "check_fits",
    "follow_layer_crs",
    "pixel_area_m2",
    "project_raster",
    "project_rasters",
    "store_beside",
]


Place = Union[Path, str]
"""The folder of a store, or its address on a web server."""


def project_raster(layer: QgsMapLayer | None) -> LayerSource | None:
    """Describe a layer; return None if prompts on it cannot be answered."""
    if layer is None or not layer.isValid():
        return None
    try:
        return source_of(layer)
    except RasterError:
        return None


def project_rasters() -> list[LayerSource]:
    """Describe the rasters of the project on which prompts can be answered."""
    found = map(project_raster, QgsProject.instance().mapLayers().values())
    return [raster for raster in found if raster is not None]


def store_beside(raster: LayerSource) -> Path | None:
    """Return the store beside a raster, or None."""
    path = raster.store_beside
    return path if path is not None and path.is_dir() else None


@dataclass(frozen=True, eq=False)
class OpenStore:
    """A store that answers prompts.

    Attributes
    ----------
    path : Path
        Its folder; for a store on a server that of its copy. See `folder`.
    segmenter : Segmenter
    crs : QgsCoordinateReferenceSystem
        CRS of its raster; invalid if the raster has none.
    raster : LayerSource, optional
        The layer that the store fits.
    live : LiveStore, optional
        Encodes missing tiles; None if the model of the store is not available here.
    decoder : str
        Name of the decoder that answers.
    """

    path: Path
    segmenter: Segmenter
    crs: QgsCoordinateReferenceSystem
    raster: LayerSource | None
    live: LiveStore | None = None
    decoder: str = ORIGINAL

    @property
    def metadata(self) -> StoreMetadata:
        """The store's metadata; the CRS in it is the one from when the store was opened."""
        return self.segmenter.reader.metadata

    @property
    def folder(self) -> Path:
        """Its folder now: it may have moved from the cache to its image since this object was made."""
        return self.live.root if self.live is not None else self.path

    @property
    def place(self) -> str:
        """The folder, or the address on a server."""
        return str(self.segmenter.reader.remote or self.path)

    def close(self) -> None:
        """Close the raster's file."""
        if self.live is not None:
            self.live.close()
        if self.segmenter.reader.remote is not None:
            self.segmenter.reader.remote.close()


def check_fits(
    path: Path, metadata: StoreMetadata, rasters: Sequence[LayerSource], must_fit: bool = False
) -> LayerSource | None:
    """Return the raster of the project that a store fits.

    A raster with the file name of the store's must fit. If there is none, the local files are tried.

    Parameters
    ----------
    path : Path
    metadata : StoreMetadata
    rasters : sequence of LayerSource
    must_fit : bool
        Whether a raster with another name must fit too.

    Returns
    -------
    LayerSource or None
        None if the project has no such raster; a store works without one.

    Raises
    ------
    SignatureMismatchError
        If the store does not fit; names the key and both values.
    RasterError
        If the raster cannot be read.
    """
    same_name = [raster for raster in rasters if raster.path.name == metadata.raster.file_name]
    misfits = []
    for raster in same_name or (rasters if must_fit else []):
        misfit = _misfit(path, metadata, raster)
        if misfit is None:
            return raster
        misfits.append(misfit)
    if misfits:
        raise misfits[0]
    local = (raster for raster in rasters if raster.store_beside is not None)
    return next((raster for raster in local if _misfit(path, metadata, raster) is None), None)


def _misfit(path: Path, metadata: StoreMetadata, raster: LayerSource) -> GeoSamError | None:
    """Return why a store does not fit a raster, or None if it does."""
    name = raster.path.name
    remedy = tr("open the prepared image of {name}, or encode the raster again").format(name=name)
    try:
        file = open_raster(raster)
        try:
            check_signature(path, raster_signature(metadata.raster), raster_signature(file.info()), remedy)
        finally:
            file.close()
    except GeoSamError as error:
        return error
    return None


def follow_layer_crs(store: OpenStore) -> tuple[OpenStore, str]:
    """Give a store the CRS of its layer, and return it with what was changed; see `correct_crs`.

    If its folder cannot be written, the CRS of the layer counts all the same.
    """
    source = store.raster
    crs = differing_crs(source, store.crs) if source is not None else None
    if source is None or crs is None:
        return store, ""
    try:
        notice = correct_crs(store.path, store.metadata.raster, store.crs, source)
    except OutputError as error:
        text = tr(
            "The prepared image of {name} has the CRS {stored}, but its layer has {crs}. Polygons are placed by the "
            "CRS of the layer; that of the prepared image could not be corrected: {reason}."
        )
        notice = text.format(
            name=source.name,
            stored=store.crs.userFriendlyIdentifier(),
            crs=crs.userFriendlyIdentifier(),
            reason=error.problem,
        )
    return replace(store, crs=crs), notice


class OpenStoreTask(BackgroundTask):
    """Opens a store with its decoder, and fits it to one of the project's rasters.

    Parameters
    ----------
    path : Path or str, optional
        None for the store of the first raster that is filled on demand; it is made if there is none.
    rasters : sequence of LayerSource
    options : LiveOptions
        For stores that are filled on demand.
    threads : int, optional
        Threads of the decoder.
    is_chosen : bool
        Whether the user opens the store; otherwise it must fit the first raster.
    neighbours : sequence of Path
        Stores of the sheets beside it.

    Signals
    -------
    opened : OpenStore, str
        The store, and what was changed in it to fit the layer.
    refused : GeoSamError
    """

    opened = pyqtSignal(object, str)
    refused = pyqtSignal(object)

    def __init__(
        self,
        path: Place | None,
        rasters: Sequence[LayerSource],
        options: LiveOptions,
        threads: int | None = None,
        is_chosen: bool = False,
        neighbours: Sequence[Path] = (),
    ) -> None:
        name = rasters[0].name if path is None else without_query(path) if isinstance(path, str) else path.name
        super().__init__(tr("Opening {name}").format(name=name))
        self.path = path
        self.rasters = rasters
        self.is_chosen = is_chosen
        self._neighbours = neighbours
        self._options = options
        self._threads = threads
        self._store: OpenStore | None = None
        self._notice = ""
        self._thread: int | None = None

    def cancel(self) -> None:
        """Stop at once if a server is being asked."""
        super().cancel()
        if self._thread is not None:
            interrupt(self._thread)

    def work(self) -> None:
        """Open the store."""
        self._thread = threading.get_ident()
        with interruptible():
            self._store = self._begin(self.rasters[0]) if self.path is None else self._open(self.path)
        if not self.isCanceled():
            self._store, self._notice = follow_layer_crs(self._store)

    def finished(self, result: bool) -> None:
        """Pass on the store, or close it if the task was cancelled; called by QGIS in the GUI thread."""
        super().finished(result)
        if result and self._store is not None and not self.isCanceled():
            self._store = replace(self._store, crs=made_anew(self._store.crs))
            self.opened.emit(self._store, self._notice)
            return
        if self._store is not None:
            self._store.close()
        # By the user, in QGIS's list of tasks; who cancels it in the code does not listen any more.
        stopped = StoreError(tr("{task} was stopped").format(task=self.description()), tr("click again"))
        self.refused.emit(stopped if self.error is None or self.isCanceled() else self.error)

    def _open(self, place: Place) -> OpenStore:
        where = open_remote(place, self._options) if isinstance(place, str) else place
        segmenter = open_segmenter(where, self._threads, self._neighbours, are_same_crs)
        path, metadata = segmenter.reader.root, segmenter.reader.metadata
        raster = check_fits(path, metadata, self.rasters, must_fit=not self.is_chosen)
        is_own = segmenter.reader.remote is None
        if is_own and raster is not None and raster.store_beside in (None, path) and self._is_own(metadata):
            store = self._begin(raster)
            if store.path == path:
                return store
            store.close()
        return OpenStore(path, segmenter, raster_crs(metadata), raster, None, segmenter.reader.decoder.name)

    def _begin(self, raster: LayerSource) -> OpenStore:
        live = LiveStore.open(raster, self._options)
        reader = live.reader
        return OpenStore(live.root, live.segmenter, raster_crs(reader.metadata), raster, live, reader.decoder.name)

    def _is_own(self, metadata: StoreMetadata) -> bool:
        """Tell whether the model that encodes here made the store, so that its missing tiles can be added."""
        own = read_model_info(self._options.model_folder)
        return not metadata.is_frozen and bool(metadata.model["encoder_sha256"] == own.encoder_sha256)


def pixel_area_m2(store: OpenStore) -> float:
    """Return the area of the pixel in the middle of a store's raster in square metres; 0 if it cannot be measured."""
    raster = store.metadata.raster
    col, row = raster.width // 2, raster.height // 2
    pixel = raster.transform.apply_geometry(shapely.box(col, row, col + 1, row + 1))
    try:
        return EllipsoidArea(store.crs).area_m2(pixel)
    except EditError:
        # Accepting a polygon reports it.
        return 0.0

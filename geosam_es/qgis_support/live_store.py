"""Stores that are filled on demand, so that the user can click on a raster that was never encoded.

Opening such a store and encoding belong in another thread. The GUI thread only describes the layer, with
`layer_source.source_of`.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from .. import models
from ..core.grid import FINEST_LEVEL, Tile
from ..core.prompts import Bounds
from ..core.window import Window
from ..encoding.encode import EncodeReport, encode_tiles
from ..encoding.plan import EncodeOptions, EncodePlan, make_plan
from ..encoding.raster_source import RasterSource
from ..errors import ModelError, OutputError, PromptError, SignatureMismatchError, StoreError
from ..inference.decoder import load_decoder
from ..inference.encoder import MODEL_FILE, Encoder, OnnxEncoder, read_model_info
from ..inference.runtime import available_cores
from ..inference.segmenter import Segmenter
from ..store import StoreMetadata, StoreReader, StoreWriter
from ..store.cache import StoreCache
from ..store.decoders import added_decoders, copy_decoders
from ..store.files import copy_missing, put_in_place, remove_tree, temporary_name
from ..store.layout import DECODER_FILE, INT8, PREPARE_FILE
from ..store.metadata import RasterInfo, check_not_frozen, read_metadata
from ..store.reader import TileState
from ..store.signature import check_signature, raster_signature
from .gdal_raster import GdalRaster
from .layer_source import LayerSource, open_raster
from .messages import tr
from .settings import Settings, cache_folder

__all__ = ["EMBEDDED_MODEL", "LiveOptions", "LiveStore", "find_store", "live_options", "store_cache"]

EMBEDDED_MODEL = Path(models.__file__).parent / "mini"

_MOST_PIXELS = 64_000_000
"""The most native pixels to read for one tile while a user waits. Coarse levels of a large raster without overviews
need more; they are encoded by `EncodeTask` only."""

_TRIM_EVERY = 64
"""Number of tiles after which the size of the cache is checked."""


@dataclass(frozen=True)
class LiveOptions:
    """The user's options for stores that are filled on demand.

    Attributes
    ----------
    model_folder : Path
        A folder with ``encoder.onnx``, ``model.json`` and the decoder.
    cache_folder : Path, optional
        By default `cache_folder`.
    cache_bytes : int
        Size limit of the cache.
    threads : int, optional
        Threads of the encoder; by default one less than there are cores, to leave one for QGIS.
    enlarges : bool
        Whether a slow model encodes enlarged tiles too when the user zooms in or draws a small box. The embedded model
        always does.
    beside : bool
        Whether new stores go beside their rasters where possible, and not into the cache.
    """

    model_folder: Path = EMBEDDED_MODEL
    cache_folder: Path | None = None
    cache_bytes: int = 5 * 2**30
    threads: int | None = None
    enlarges: bool = False
    beside: bool = False


def live_options(settings: Settings) -> LiveOptions:
    """Return the user's options for stores that are filled on demand."""
    return LiveOptions(
        model_folder=Path(settings.encoder_folder) if settings.encoder_folder else EMBEDDED_MODEL,
        beside=settings.store_place == "beside",
        cache_bytes=round(settings.cache_gigabytes * 2**30),
        enlarges=settings.enlarges,
    )


class _Model(NamedTuple):
    """A model ready to encode."""

    encoder: Encoder
    decoder_files: Mapping[str, Path]
    threads: int
    enlarges: bool


class LiveStore:
    """A store that is filled on demand; made with `open`.

    Attributes
    ----------
    root : Path
        An ordinary store: beside the raster, or in the cache.
    reader : StoreReader
    finest_level : int
        The finest level that is encoded on demand; below 0 the image is enlarged.
    beside : Path, optional
        Where `keep_beside` would put a store that was made in the cache; None if it was not, or cannot go there.
    segmenter : Segmenter
        Encodes the tiles it needs in the calling thread, 0.1 to 0.3 s each.
    former_decoders : Path, optional
        Where the decoders are that were added to the store that this one replaces, if they are for another model.
    is_online : bool
        Whether the raster is a layer of an online service, which must not be read as a whole.

    Notes
    -----
    Methods may be called from several threads. If two threads want the same tile at once, both encode it, which is
    harmless.
    """

    def __init__(
        self,
        root: Path,
        plan: EncodePlan,
        raster: RasterSource,
        model: _Model,
        cache: StoreCache | None,
        writer: StoreWriter | None = None,
    ) -> None:
        self.root = root
        self.reader = StoreReader(root)
        self._plan = plan
        self._raster = raster
        self._encoder = model.encoder
        self.is_online = raster.is_online
        self.finest_level = FINEST_LEVEL if model.enlarges and raster.enlarges else 0
        self.beside: Path | None = None
        self._cache = cache
        self._left: tuple[StoreCache, Path] | None = None
        self._writer = writer or StoreWriter(root, plan.metadata)
        self.former_decoders: Path | None = None
        # The decoder comes from the store, since it may have been tuned.
        files = self.reader.decoder
        decoder = load_decoder(files.prepare_path, files.decoder_path, model.threads)
        self.segmenter = Segmenter(self.reader, decoder, self)
        self._since_trim = 0
        self._uses = 1
        self._uses_lock = threading.Lock()
        self._quiet = threading.local()
        if cache is not None:
            cache.acquire(root)

    @classmethod
    def open(cls, source: LayerSource, options: LiveOptions | None = None) -> LiveStore:
        """Open the store of a raster, or create an empty one; in a worker's thread.

        The store beside the raster is used if it was made from the same pixels with the same model, whatever its
        other options, and otherwise that in the cache. A new one goes beside the raster only if the options say so,
        there is none of another model, and the folder can be written.

        Raises
        ------
        RasterError
            If the raster cannot be read, or has no CRS, no georeference or no data.
        ModelError
            If the model cannot be loaded.
        OutputError
            If the cache cannot be written, or is full.
        """
        options = options or LiveOptions()
        model = _load_model(options)
        raster = open_raster(source)
        info = raster.info()
        cache = store_cache(options)
        beside = source.store_beside
        cached = cache.path_for(
            source.cache_name, {**raster_signature(info), "model": model.encoder.info.encoder_sha256}
        )
        for root, kept_in in ((beside, None), (cached, cache)):
            # A store of another model or of other pixels, a damaged one and a read-only one are left alone.
            with suppress(StoreError, OutputError):
                if root is not None:
                    return cls._adopt(root, info, raster, model, kept_in)
        plan = make_plan(raster, model.encoder, EncodeOptions(levels=raster.levels))
        if options.beside and beside is not None:
            with suppress(StoreError, OutputError):
                StoreWriter.create(beside, plan.metadata, model.decoder_files)
                return cls(beside, plan, raster, model, None)
        plan = replace(plan, metadata=replace(plan.metadata, dtype=INT8))
        files, _ = _with_added(cached, model)
        StoreWriter.create(cached, plan.metadata, files, overwrite=True)
        live = cls(cached, plan, raster, model, cache)
        live.beside = _free(beside)
        try:
            cache.trim()
        except OutputError:
            live.close()
            raise
        return live

    @classmethod
    def _adopt(
        cls, root: Path, info: RasterInfo, raster: RasterSource, model: _Model, cache: StoreCache | None
    ) -> LiveStore:
        """Continue a store, with its own bands, stretch and tiling.

        Raises
        ------
        StoreError
            If there is no store, or it is frozen or does not fit.
        OutputError
            If the store cannot be written.
        """
        metadata = read_metadata(root)
        check_not_frozen(root, metadata)
        check_signature(root, raster_signature(metadata.raster), raster_signature(info), "")
        key = "encoder_sha256"
        if metadata.model[key] != getattr(model.encoder.info, key):
            raise SignatureMismatchError(str(root), "model", metadata.model["name"], model.encoder.info.name)
        _check_writable(root)
        own = _raster_as(metadata, raster)
        return cls(root, EncodePlan(own, metadata, None, model.encoder.default_batch_size), own, model, cache)

    @classmethod
    def open_at(cls, root: Path, source: LayerSource, options: LiveOptions) -> LiveStore:
        """Open the store of a raster in a given folder.

        Raises
        ------
        StoreError
            If there is no store, or it was made from other pixels or (a `SignatureMismatchError` with the key
            ``model``) by another model.
        OutputError
            If it cannot be written.
        RasterError, ModelError
            As `open`.
        """
        model = _load_model(options)
        with _closed_on_error(open_raster(source)) as raster:
            return cls._adopt(root, raster.info(), raster, model, None)

    @classmethod
    def create_at(
        cls, root: Path, source: LayerSource, options: LiveOptions, dtype: str, overwrite: bool = False
    ) -> LiveStore:
        """Create an empty store of a raster in a given folder; see `StoreWriter.create`. Call `settle` afterwards."""
        model = _load_model(options)
        with _closed_on_error(open_raster(source)) as raster:
            plan = make_plan(raster, model.encoder, EncodeOptions(dtype=dtype, levels=raster.levels))
            files, former = _with_added(root, model) if overwrite else (model.decoder_files, None)
            writer = StoreWriter.create(root, plan.metadata, files, overwrite=overwrite, keeps_older=True)
            live = cls(root, plan, raster, model, None, writer)
            live.former_decoders = former
            return live

    @property
    def has_tiles(self) -> bool:
        """Whether a tile has been encoded."""
        return self._writer.has_tiles()

    def settle(self) -> None:
        """Remove the store that this new one replaces. If this one has no tiles, remove it and put that one back."""
        if self.has_tiles:
            self._writer.drop_older()
            return
        self._writer.discard()
        if self.former_decoders is not None:
            remove_tree(self.former_decoders)

    def keep_beside(self) -> None:
        """Move the store from the cache to `beside`, if there is such a place, and go on there.

        Call it in the thread that reads from the store; others may encode meanwhile.

        Raises
        ------
        OutputError
            If it cannot be written there. It stays in the cache then.
        """
        if self.beside is None or self._cache is None:
            return
        former, root = self.root, self.beside
        fresh = temporary_name(root.parent)
        try:
            copy_missing(former, fresh)
            put_in_place(fresh, root)
        except OSError as error:
            raise OutputError("{root} cannot be written ({reason})", root=root, reason=error.strerror) from error
        finally:
            remove_tree(fresh)
        self.reader.follow(root)
        self.root = self._writer.root = root
        self.beside, self._left, self._cache = None, (self._cache, former), None
        # What was encoded meanwhile. If it is lost, it is encoded again.
        with suppress(OSError):
            copy_missing(former, root)
        # Somebody else may still be writing there.
        if self._uses == 1:
            self._remove_former()

    def _remove_former(self) -> None:
        if self._left is not None:
            (cache, store), self._left = self._left, None
            cache.release(store)
            cache.remove(store)

    def most_bytes(self, finest_level: int = 0) -> int:
        """Return the size of the store with all tiles down to a level; `finest_level` is the limit."""
        metadata, files = self.reader.metadata, self.reader.decoder
        tiles = sum(map(len, self.reader.pyramid.grids_from(max(finest_level, self.finest_level))))
        paths = {path for path in (files.prepare_path, files.decoder_path) if path is not None}
        return metadata.tile_bytes * tiles + sum(path.stat().st_size for path in paths)

    def ensure_tile(self, tile: Tile) -> TileState:
        """Encode a tile unless the store has it; on a worker thread.

        Returns
        -------
        TileState
            Encoded, or skipped if the tile has no data.

        Raises
        ------
        GeoSamError
            If the raster cannot be read or the store cannot be written.
        """
        state = self.reader.state(tile)
        if state is not TileState.MISSING:
            return state
        self._check_there()
        if getattr(self._quiet, "is_on", False):
            raise PromptError(tr("The image of this place has not been fetched yet"), tr("click on it"))
        read = self._plan.read(tile)
        if not read.has_data:
            self._writer.skip(tile)
            return TileState.SKIPPED
        features = self._encoder.encode(read.image[None])
        self._writer.write(tile, {name: values[0] for name, values in features.items()})
        self._trim_now_and_then()
        return TileState.ENCODED

    def tiles_in(self, area: BaseGeometry | None = None, finest_level: int = 0) -> list[Tile]:
        """Return the missing tiles, the coarsest first.

        Parameters
        ----------
        area : shapely geometry, optional
            In the raster's CRS; the whole raster by default.
        finest_level : int
            That of the store is used if it is coarser. A service is asked for this level only.
        """
        pyramid, transform = self.reader.pyramid, self._plan.metadata.raster.transform
        bounds = pyramid.bounds
        if area is not None:
            area = shapely.transform(area, transform.inverse().apply_array)
            shapely.prepare(area)
            bounds = Bounds(*area.bounds)
        elif self.is_online:
            raise StoreError(self.no_download, tr("prepare the view instead"))
        finest_level = max(finest_level, self.finest_level)
        grids = [pyramid.grid(finest_level)] if self.is_online else reversed(pyramid.grids_from(finest_level))
        return [
            tile
            for grid in grids
            for tile in grid.touching(bounds)
            if (area is None or shapely.intersects(area, shapely.box(*pyramid.tile_bounds(tile))))
            and self.reader.state(tile) is TileState.MISSING
        ]

    def encode(self, tiles: Iterable[Tile], progress: Callable[[int, int], None] | None = None) -> EncodeReport:
        """Encode tiles with `encode_tiles`, in a worker's thread; those of a service one after the other."""
        self._check_there()
        if self.is_online:
            return self._encode_online(list(tiles), progress)

        def on_progress(done: int, total: int) -> None:
            self._trim_now_and_then()
            if progress is not None:
                progress(done, total)

        report = encode_tiles(self._plan, self._encoder, self._writer, tiles, on_progress)
        # If the store moved meanwhile, a tile may have come into its former place after the last look there.
        if (left := self._left) is not None:
            with suppress(OSError):
                copy_missing(left[1], self.root)
        return report

    def _encode_online(self, tiles: list[Tile], progress: Callable[[int, int], None] | None) -> EncodeReport:
        started, states = time.perf_counter(), []
        for done in range(len(tiles) + 1):
            if progress is not None:
                progress(done, len(tiles))
            if done < len(tiles):
                states.append(self.ensure_tile(tiles[done]))
        encoded = states.count(TileState.ENCODED)
        return EncodeReport(encoded, len(states) - encoded, 0, time.perf_counter() - started)

    @property
    def no_download(self) -> str:
        """Why the whole raster must not be encoded; empty if it may be."""
        reason = tr("{name} comes from an online service, whose images must not be downloaded as a whole")
        return reason.format(name=self._plan.metadata.raster.file_name) if self.is_online else ""

    @contextmanager
    def without_requests(self) -> Iterator[None]:
        """Ask no online service in this thread until the block ends: `ensure_tile` raises a PromptError instead."""
        self._quiet.is_on = self.is_online
        try:
            yield
        finally:
            self._quiet.is_on = False

    @property
    def is_there(self) -> bool:
        """Whether the store was neither deleted nor replaced meanwhile; tiles alone would be no store."""
        return self._writer.is_there()

    def share(self) -> LiveStore:
        """Return this store for another user, who must close it too."""
        with self._uses_lock:
            self._uses += 1
        return self

    def close(self) -> None:
        """End one use of the store. The last call closes the raster's file and lets the cache remove the store."""
        with self._uses_lock:
            self._uses -= 1
            is_last = self._uses == 0
        if is_last:
            self._raster.close()
            if self._cache is not None:
                self._cache.release(self.root)
            self._remove_former()

    def read_valid(self, window: Window) -> NDArray[np.bool_]:
        """Return which native pixels of the raster have data (H, W)."""
        return self._raster.read_valid(window)

    def can_encode(self, tile: Tile) -> bool:
        """Tell whether a tile can be read fast enough for a user who waits; see `TileEncoder`."""
        if tile.level < self.finest_level:
            return False
        scale = 1 << max(tile.level, 0)
        overview = max((factor for factor in self._raster.overviews if factor <= scale), default=1)
        side = self.reader.pyramid.tiling.tile_size * scale / overview
        size = self._raster.width / overview, self._raster.height / overview
        return min(side, size[0]) * min(side, size[1]) <= _MOST_PIXELS

    def _check_there(self) -> None:
        if not self.is_there:
            raise StoreError(tr("{path} is no longer there").format(path=self.root), tr("click again"))

    def _trim_now_and_then(self) -> None:
        self._since_trim += 1
        if self._cache is not None and self._since_trim >= _TRIM_EVERY:
            self._since_trim = 0
            self._cache.trim()


@contextmanager
def _closed_on_error(raster: RasterSource) -> Iterator[RasterSource]:
    try:
        yield raster
    except BaseException:
        raster.close()
        raise


def find_store(source: LayerSource, options: LiveOptions) -> Path | None:
    """Return the store of a raster, beside it or in the cache; None if there is none. Nothing is made.

    Raises
    ------
    RasterError
        If the raster cannot be read.
    """
    with closing(open_raster(source)) as raster:
        info = raster.info()
    model = read_model_info(options.model_folder).encoder_sha256
    cached = store_cache(options).path_for(source.cache_name, {**raster_signature(info), "model": model})
    for root in filter(None, (source.store_beside, cached)):
        with suppress(StoreError):
            check_signature(root, raster_signature(read_metadata(root).raster), raster_signature(info), "")
            return root
    return None


def _load_model(options: LiveOptions) -> _Model:
    folder = options.model_folder
    files = {name: folder / name for name in (PREPARE_FILE, DECODER_FILE) if (folder / name).is_file()}
    if DECODER_FILE not in files:
        raise ModelError(
            tr("{folder} is not a model folder: it has no {name}").format(folder=folder, name=DECODER_FILE),
            tr("choose a folder made by geosam-es export --encoder"),
        )
    threads = options.threads or max(1, available_cores() - 1)
    is_embedded = folder == EMBEDDED_MODEL
    return _Model(_load_encoder(folder, threads, _modified(folder)), files, threads, is_embedded or options.enlarges)


@lru_cache(maxsize=1)
def _load_encoder(folder: Path, threads: int, modified: int) -> Encoder:
    """Load an encoder once for all layers; it may be large."""
    return OnnxEncoder(folder, threads)


def _with_added(root: Path, model: _Model) -> tuple[Mapping[str, Path], Path | None]:
    """Return the decoder files for a store that replaces another one, with the decoders that were added to that one.

    If these belong to another model, they are copied to a folder beside the store instead.

    Returns
    -------
    files : mapping of str to Path
    copies : Path or None
        Folder of the copies, if any were made.

    Raises
    ------
    OutputError
        If they cannot be copied.
    """
    added = added_decoders(root, model.encoder.info.encoder_sha256)
    try:
        return {**model.decoder_files, **added}, None if added else copy_decoders(root)
    except OSError as error:
        raise OutputError("{root} cannot be written ({reason})", root=root.parent, reason=error.strerror) from error


def _modified(folder: Path) -> int:
    path = folder / MODEL_FILE
    return path.stat().st_mtime_ns if path.is_file() else 0


def store_cache(options: LiveOptions) -> StoreCache:
    """Return the cache of stores."""
    return StoreCache(options.cache_folder or cache_folder(), options.cache_bytes)


def _free(path: Path | None) -> Path | None:
    """Return a path if a store can be made there."""
    if path is not None and not path.exists():
        with suppress(OutputError):
            _check_writable(path.parent)
            return path
    return None


def _check_writable(root: Path) -> None:
    try:
        with tempfile.TemporaryFile(dir=root):
            return
    except OSError as error:
        raise OutputError("{root} cannot be written ({reason})", root=root, reason=error.strerror) from error


def _raster_as(metadata: StoreMetadata, raster: RasterSource) -> RasterSource:
    """Return a raster read with the bands and the nodata value of a store."""
    # NaN is not equal to itself.
    has_same_nodata = str(metadata.nodata) == str(raster.nodata)
    if not isinstance(raster, GdalRaster) or (metadata.bands == raster.bands and has_same_nodata):
        return raster
    bands = None if metadata.bands == raster.bands else metadata.bands
    return GdalRaster(raster.path, bands, None if has_same_nodata else metadata.nodata, raster.crs_wkt)

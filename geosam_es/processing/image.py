"""The image of an algorithm: a prepared image, or a raster whose missing tiles are prepared when they are needed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from qgis.core import QgsCoordinateReferenceSystem, QgsProcessingFeedback

from ..core.grid import Tile
from ..encoding.encode import EncodeReport
from ..errors import OutputError, SignatureMismatchError, StoreError
from ..inference.segmenter import Segmenter
from ..qgis_support.crs import crs_from_wkt, raster_crs
from ..qgis_support.layer_source import LayerSource
from ..qgis_support.live_store import LiveOptions, LiveStore
from ..qgis_support.messages import duration, tr
from ..store.metadata import read_metadata
from ..store.reader import TileState

__all__ = [
    "CancelledError",
    "Image",
    "encode_and_tell",
    "encode_missing",
    "open_image",
    "patient_segmenter",
    "prepare_tiles",
    "prepared_text",
]


_TEXTS = 20
"""Most texts about the progress of one encoding."""


class CancelledError(Exception):
    """Raised in `encode_missing` and in a `patient_segmenter` when the user has cancelled the algorithm."""


class Image(NamedTuple):
    """A store, and what fills it.

    Attributes
    ----------
    store : Path
    live : LiveStore, optional
        Encodes missing tiles; None without a raster, or if the store cannot be continued here.
    source : LayerSource, optional
        The raster.
    """

    store: Path
    live: LiveStore | None = None
    source: LayerSource | None = None

    @property
    def crs(self) -> QgsCoordinateReferenceSystem:
        """CRS of the layer, which the user may have corrected since it was prepared; without one, that of the store."""
        crs = crs_from_wkt(self.source.crs_wkt if self.source is not None else "")
        return crs if crs.isValid() else raster_crs(read_metadata(self.store))

    def close(self) -> None:
        """Close the file of the raster."""
        if self.live is not None:
            self.live.close()


def open_image(source: LayerSource | None, store: Path | None, options: LiveOptions) -> Image:
    """Open the image of an algorithm; one of source and store must be given.

    Parameters
    ----------
    source : LayerSource, optional
        A raster. As on the panel, its store is beside it or in the cache, and is made if there is none. One beside it
        of another model, or that cannot be written, is used as it is.
    store : Path, optional
        The store to use.
    options : LiveOptions

    Raises
    ------
    GeoSamError
        If the raster cannot be read, or the store does not fit it.
    """
    if source is None:
        return Image(store or Path())
    found = store or source.store_beside
    try:
        if found is not None:
            return Image(found, LiveStore.open_at(found, source, options), source)
    except SignatureMismatchError as error:
        if found is not None and error.key == "model":
            return Image(found, None, source)
        if store is not None:
            raise
    except OutputError:
        if found is not None:
            return Image(found, None, source)
    except StoreError:
        if store is not None:
            raise
    live = LiveStore.open(source, options)
    return Image(live.root, live, source)


class _PatientEncoder:
    """Encodes whatever tile is wanted; see `TileEncoder`. Unlike a click, an algorithm may wait for a coarse one."""

    def __init__(self, live: LiveStore, feedback: QgsProcessingFeedback) -> None:
        self._live = live
        self._feedback = feedback

    @property
    def finest_level(self) -> int:
        return self._live.finest_level

    def can_encode(self, tile: Tile) -> bool:
        return tile.level >= self.finest_level

    def ensure_tile(self, tile: Tile) -> TileState:
        if self._feedback.isCanceled():
            raise CancelledError
        return self._live.ensure_tile(tile)


def patient_segmenter(live: LiveStore, feedback: QgsProcessingFeedback) -> Segmenter:
    """Return a segmenter that encodes every tile it needs, and raises `CancelledError` if the user cancels."""
    return Segmenter(live.reader, live.segmenter.decoder, _PatientEncoder(live, feedback))


def encode_missing(
    live: LiveStore, tiles: Sequence[Tile], feedback: QgsProcessingFeedback, share: float = 1.0
) -> EncodeReport:
    """Encode tiles that a store lacks.

    Parameters
    ----------
    live : LiveStore
    tiles : sequence of Tile
    feedback : QgsProcessingFeedback
    share : float
        Part of the algorithm's progress, from 0 to 1, when all are done.

    Raises
    ------
    CancelledError
        If the user cancels. The tiles encoded so far are kept.
    """
    started = time.monotonic()
    said = 0

    def on_progress(done: int, total: int) -> None:
        nonlocal said
        if feedback.isCanceled():
            raise CancelledError
        # Dialogs add each text to their log.
        if _TEXTS * done // max(total, 1) > said:
            said = _TEXTS * done // total
            left = (time.monotonic() - started) / done * (total - done)
            text = tr("{done} of {total} tiles, {time} left")
            feedback.setProgressText(text.format(done=done, total=total, time=duration(left)))
        feedback.setProgress(100.0 * share * done / max(total, 1))

    return live.encode(tiles, on_progress)


def prepare_tiles(
    image: Image, segmenter: Segmenter, tiles: Sequence[Tile], feedback: QgsProcessingFeedback, share: float = 1.0
) -> float:
    """Encode the tiles that a store lacks, and return the part of the progress that this took: ``share`` or 0.

    Without a raster, the user is told how many there are. Errors are those of `encode_missing`.
    """
    missing = [tile for tile in tiles if segmenter.reader.state(tile) is TileState.MISSING]
    if missing and image.live is None:
        feedback.pushWarning(tr("{count} tiles are not prepared and are left out").format(count=len(missing)))
    if not missing or image.live is None:
        return 0.0
    encode_and_tell(image.live, missing, feedback, share)
    return share


def encode_and_tell(
    live: LiveStore, tiles: Sequence[Tile], feedback: QgsProcessingFeedback, share: float = 1.0
) -> None:
    """Encode tiles as `encode_missing` does, and tell the user before and after it."""
    feedback.pushInfo(tr("Preparing {count} tiles").format(count=len(tiles)))
    feedback.pushInfo(prepared_text(encode_missing(live, tiles, feedback, share)))


def prepared_text(report: EncodeReport) -> str:
    """Say what was encoded, for the user."""
    text = tr("{count} tiles prepared, {empty} without data, in {time}")
    return text.format(count=report.encoded, empty=report.skipped, time=duration(report.seconds))

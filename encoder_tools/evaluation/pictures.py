"""Selecting the results to show in a report, and reading the image under them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geosam_es.core.window import Window
from geosam_es.errors import GeoSamError, RasterError
from geosam_es.inference.encoder import FILL_RGB
from geosam_es.store import StoreReader
from geosam_es.store.raster_name import RasterPath
from geosam_es.store.signature import same_pixels

from ..raster import Raster
from .evaluate import Outcome
from .figures import COLOURS, Panel, panels_figure

__all__ = [
    "RasterWindows",
    "before_after_sheet",
    "find_raster",
    "is_raster_of",
    "open_raster",
    "raster_to_show",
    "shows_its_pixels",
    "worst_sheet",
]

_CASES = 4
_WORST = 5
_MOST_PIXELS = 320
"""Largest side of a picture in pixels."""


def find_raster(reader: StoreReader, given: Path | None = None) -> Path | None:
    """Return the raster of a store, if it is found.

    It is the one given, or that of its name in the folder given, or else the one next to the store or where it lay when
    it was encoded.

    Raises
    ------
    RasterError
        If the given one does not exist.
    """
    raster = reader.metadata.raster
    if given is not None:
        path = given / raster.file_name if given.is_dir() else given
        if not path.is_file():
            raise RasterError(f"{path} does not exist", "check --raster, or omit it")
        return path
    if reader.remote is not None:
        # Where it lay on the server says nothing about this computer.
        return None
    folder = reader.root.resolve().parent
    return next((path for path in (folder / raster.file_name, folder / raster.path) if path.is_file()), None)


def raster_to_show(reader: StoreReader, given: Path | None, notes: list[str]) -> Path | None:
    """Return the raster of a store, see `find_raster`; add a note if another image has its name.

    Raises
    ------
    RasterError
        If the given one does not exist or is another image.
    """
    path = find_raster(reader, given)
    if path is None or is_raster_of(reader, path):
        return path
    problem = f"{path} is not the image that {reader.remote or reader.root} was made from"
    if given is not None:
        raise RasterError(problem, "give that image with --raster, or omit it")
    notes.append(f"{problem}, so it is not used.")
    return None


def is_raster_of(reader: StoreReader, path: Path) -> bool:
    """Tell whether a file, which may have any name, is the raster of a store."""
    raster = open_raster(reader, path)
    return raster is not None and shows_its_pixels(reader, raster)


def shows_its_pixels(reader: StoreReader, raster: Raster) -> bool:
    """Tell whether a raster has the pixels that a store was made from. Imported stores do not know them."""
    return reader.metadata.is_frozen or same_pixels(raster.info().fingerprint, reader.metadata.raster.fingerprint)


class RasterWindows:
    """Windows of the rasters of several stores, with the stretch of the encoding.

    Parameters
    ----------
    readers : sequence of StoreReader
    paths : sequence of Path or None
        The raster of each store; None if it is not available.
    """

    def __init__(self, readers: Sequence[StoreReader], paths: Sequence[Path | None]) -> None:
        self._readers = readers
        self._rasters = [None if path is None else open_raster(reader, path) for reader, path in zip(readers, paths)]

    @property
    def any_found(self) -> bool:
        """Whether any raster is available."""
        return any(raster is not None for raster in self._rasters)

    def panel(self, outcome: Outcome, colour: str, others: Sequence[Outcome] = ()) -> Panel:
        """Return a picture of a result, with the extent of its truth and of all given results."""
        shown = [outcome.truth.geometry, *(o.answer for o in (outcome, *others) if not o.answer.is_empty)]
        bounds = np.array([geometry.bounds for geometry in shown])
        # Limited, because the object would be too small next to a mask that is far too large.
        left, top, right, bottom = outcome.truth.geometry.bounds
        reach = max(right - left, bottom - top, 16.0)
        low = np.maximum(bounds[:, :2].min(0) - 0.15 * reach, np.array([left, top]) - reach)
        high = np.minimum(bounds[:, 2:].max(0) + 0.15 * reach, np.array([right, bottom]) + reach)
        image, extent = self.square(outcome.store, low, high)
        return Panel(image, extent, outcome, colour)

    def square(
        self, store: int, low: NDArray[np.float64], high: NDArray[np.float64]
    ) -> tuple[NDArray[np.uint8] | None, tuple[float, float, float, float]]:
        """Read the square around a rectangle in native pixels, at a level with few pixels.

        Parameters
        ----------
        store : int
            Index of the store.
        low, high : float (2,)
            Least and greatest x and y.

        Returns
        -------
        image : uint8 (H, W, 3) or None
            None without a raster.
        extent : tuple of float
            Left, right, bottom and top in native pixels.
        """
        middle, half = (low + high) / 2, float((high - low).max()) / 2
        scale = 1
        while 2 * half / scale > _MOST_PIXELS:
            scale *= 2
        col, row = (int(value) for value in np.floor((middle - half) / scale))
        cells = int(np.ceil(2 * half / scale)) + 1
        image = self._read(store, Window(col, row, cells, cells), scale)
        left, top, right, bottom = Window(col, row, cells, cells).scaled(scale).bounds
        return image, (left, right, bottom, top)

    def _read(self, store: int, wanted: Window, scale: int) -> NDArray[np.uint8] | None:
        """Read pixels of a level, padded outside the raster; None without a raster."""
        raster, reader = self._rasters[store], self._readers[store]
        if raster is None:
            return None
        image = np.full((wanted.height, wanted.width, 3), FILL_RGB, dtype=np.uint8)
        window = wanted.intersection(Window(0, 0, max(1, raster.width // scale), max(1, raster.height // scale)))
        try:
            bands, valid = raster.read_bands(window, scale)
        except RasterError:
            return None
        x, y = window.col_off - wanted.col_off, window.row_off - wanted.row_off
        image[y : y + window.height, x : x + window.width] = reader.metadata.stretch.apply(bands, valid, FILL_RGB)
        return image


def open_raster(reader: StoreReader, path: RasterPath) -> Raster | None:
    """Open a raster as it was encoded, None if it cannot be opened or has another size."""
    stored = reader.metadata
    try:
        raster = Raster(path, None, stored.nodata, stored.raster.crs_wkt)
        if raster.palette is None:
            raster = Raster(path, stored.bands, stored.nodata, stored.raster.crs_wkt)
    except GeoSamError:
        return None
    fits = (raster.width, raster.height) == (stored.raster.width, stored.raster.height)
    return raster if fits else None


def worst_sheet(outcomes: Sequence[Outcome], decoder: str, colour: str, windows: RasterWindows) -> bytes:
    """Draw the worst results of a decoder, one row for each kind of prompts."""
    kinds = list(dict.fromkeys(outcome.prompts for outcome in outcomes))
    rows = []
    for kind in kinds:
        found = [o for o in outcomes if o.prompts == kind and o.decoder == decoder]
        worst = sorted(found, key=lambda o: o.scores.iou)[:_WORST]
        rows.append([windows.panel(outcome, colour) for outcome in worst])
    return panels_figure(rows)


def before_after_sheet(
    outcomes: Sequence[Outcome], kind: str, before: str, after: str, windows: RasterWindows
) -> bytes:
    """Draw the results of two decoders side by side: greatest gains, median changes, greatest losses.

    There are four objects of each, two per row.
    """
    found = {name: [o for o in outcomes if o.prompts == kind and o.decoder == name] for name in (before, after)}
    pairs = sorted(zip(found[before], found[after]), key=lambda pair: pair[0].scores.iou - pair[1].scores.iou)
    middle = max(0, (len(pairs) - _CASES) // 2)
    places = [*range(_CASES), *range(middle, middle + _CASES), *range(len(pairs) - _CASES, len(pairs))]
    chosen = [pairs[place] for place in dict.fromkeys(places) if 0 <= place < len(pairs)]
    panels = [
        panel
        for first, second in chosen
        for panel in (windows.panel(first, COLOURS[0], [second]), windows.panel(second, COLOURS[1], [first]))
    ]
    return panels_figure([panels[start : start + 4] for start in range(0, len(panels), 4)])

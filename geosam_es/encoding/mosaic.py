"""The files that a virtual raster or a tile index refers to. GDAL reads some lost ones as if they were empty."""

from __future__ import annotations

import html
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import RasterError
from ..store.raster_name import GdalName, RasterPath, gdal_text, raster_path, shown

__all__ = ["Source", "TileIndex", "check_exists", "find_unreadable", "vrt_sources"]

_VRT = b"<VRTDataset"
_VRT_SUFFIX = ".vrt"
_HEAD_BYTES = 1024
_COMMENT = re.compile(rb"<!--.*?-->", re.DOTALL)
_SOURCE = re.compile(
    rb"<Source(?:Filename|Dataset)\b([^>]*)>([^<]+)</Source(?:Filename|Dataset)>"
    rb"(?:\s*<SourceBand>[^<]*</SourceBand>)?"
    rb"(?:\s*<SourceProperties\s+RasterXSize=\"(\d+)\"\s+RasterYSize=\"(\d+)\")?"
)
_IS_RELATIVE = re.compile(rb"relativeToVRT\s*=\s*[\"']1")
_IS_PLACED = re.compile(r"/vsi|<|[A-Za-z][A-Za-z0-9_+]+:")
_HAS_LOCAL_FILE = re.compile(r'/vsi(?:zip|gzip|tar|7z|rar|subfile)/|[A-Za-z0-9_+]+:"')


class Source(NamedTuple):
    """A raster that a mosaic refers to.

    Attributes
    ----------
    name : str
        What GDAL opens.
    size : (int, int), optional
        Width and height that the mosaic expects.
    """

    name: str
    size: tuple[int, int] | None = None


class TileIndex:
    """The tiles of a GDAL tile index (GTI).

    Parameters
    ----------
    folder : Path
        Relative names are relative to it.
    locations : sequence of str
        Names of the tiles.
    bounds : float64 (N, 4)
        Left, bottom, right, top of each tile, in the CRS of the index.
    """

    def __init__(self, folder: Path, locations: Sequence[str], bounds: NDArray[np.float64]) -> None:
        self.tiles = [Source(_place(name, folder)) for name in locations]
        self._bounds = bounds

    def touching(self, bounds: Sequence[float]) -> Iterator[Source]:
        """Yield the tiles that touch an extent (left, bottom, right, top)."""
        left, bottom, right, top = bounds
        lefts, bottoms, rights, tops = self._bounds.T
        touches = (lefts <= right) & (rights >= left) & (bottoms <= top) & (tops >= bottom)
        return (self.tiles[index] for index in np.flatnonzero(touches))


def vrt_sources(path: RasterPath, seen: set[Path] | None = None) -> Iterator[Source]:
    """Yield the sources of a virtual raster, and those of virtual rasters among them; nothing for other rasters."""
    seen = set() if seen is None else seen
    if isinstance(path, GdalName) or path in seen:
        return
    seen.add(path)
    try:
        with path.open("rb") as file:
            text = file.read(_HEAD_BYTES)
            if _VRT not in text:
                return
            text += file.read()
    except OSError:
        return
    for attributes, name, width, height in dict.fromkeys(_SOURCE.findall(_COMMENT.sub(b"", text))):
        source = html.unescape(os.fsdecode(name)).strip()
        if _IS_RELATIVE.search(attributes):
            source = _place(source, path.parent)
        yield Source(source, (int(width), int(height)) if width else None)
        if source.lower().endswith(_VRT_SUFFIX):
            yield from vrt_sources(raster_path(source), seen)


def check_exists(path: RasterPath, source: Source) -> None:
    """Check that a source is there.

    Raises
    ------
    RasterError
        If it is lost.
    """
    # Path.exists raises if the name is too long.
    if os.path.exists(source.name):  # noqa: PTH110
        return
    name = raster_path(source.name)
    if isinstance(name, Path) or (name.file is None and _HAS_LOCAL_FILE.match(source.name)):
        raise RasterError(
            "{path} refers to {source}, which does not exist",
            "restore that file, or make the mosaic again without it",
            path=shown(path),
            source=source.name,
        )


def find_unreadable(
    path: RasterPath, sources: Iterable[Source], read_size: Callable[[str], tuple[int, int]]
) -> RasterError | None:
    """Return what is wrong with the first source that is lost, cannot be opened, or was changed; None if all fit.

    Parameters
    ----------
    path : Path or GdalName
        The mosaic.
    sources : iterable of Source
    read_size : callable
        Returns the width and height of a raster, or raises OSError.
    """
    for source in sources:
        try:
            check_exists(path, source)
        except RasterError as error:
            return error
        size = _try_size(source, read_size)
        if size is None:
            return RasterError(
                "{path} refers to {source}, which GDAL cannot read",
                "copy or download that file again, or make the mosaic again without it",
                path=shown(path),
                source=source.name,
            )
        if source.size not in (None, size):
            return RasterError(
                "{path} refers to {source}, which now has another size",
                "make the mosaic again",
                path=shown(path),
                source=source.name,
            )
    return None


def _try_size(source: Source, read_size: Callable[[str], tuple[int, int]]) -> tuple[int, int] | None:
    try:
        return read_size(gdal_text(raster_path(source.name)))
    except OSError:
        return None


def _place(name: str, folder: Path) -> str:
    """Return a name relative to the current folder instead of to ``folder``."""
    return name if _IS_PLACED.match(name) else str(folder / name)

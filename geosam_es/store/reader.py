"""Reading a store."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.grid import LevelGrid, Pyramid, Tile
from ..errors import ServerError, StoreError
from . import layout
from .decoders import StoreDecoder, active_decoder
from .int8 import from_int8
from .metadata import StoreMetadata, read_metadata
from .remote import RemoteStore, StorePlace
from .schema import SchemaError, parse_json, read_json

__all__ = ["LevelCount", "StoreReader", "TileState"]

_CHECKED_TOGETHER = 256

_OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
# So that a pipe in the place of a file is an error, and does not block.
_OPEN_FLAGS |= getattr(os, "O_NONBLOCK", 0)


class TileState(Enum):
    """Whether a tile can be read."""

    ENCODED = "encoded"
    SKIPPED = "skipped"
    MISSING = "missing"


@dataclass(frozen=True)
class LevelCount:
    """The number of tiles of a level in each state."""

    level: int
    encoded: int
    skipped: int
    missing: int


class StoreReader:
    """An open store.

    Parameters
    ----------
    root : Path or RemoteStore
        The store's directory, or the store on a server.

    Attributes
    ----------
    root : Path
        The directory; of a store on a server that of its copy.
    remote : RemoteStore, optional
    decoder : StoreDecoder
        The decoder in use.

    Raises
    ------
    StoreError
        If it is not a store, of another format version, damaged or incomplete.
    """

    def __init__(self, root: StorePlace) -> None:
        self.remote = root if isinstance(root, RemoteStore) else None
        self.root = root.folder if isinstance(root, RemoteStore) else Path(root)
        self._folder = os.fspath(self.root)
        self.metadata: StoreMetadata = read_metadata(self.root)
        self.pyramid: Pyramid = self.metadata.pyramid
        self._dtype = np.dtype(self.metadata.dtype).newbyteorder("<")
        self._check_arrays()
        self.decoder: StoreDecoder = active_decoder(self.root)

    @property
    def readers(self) -> Sequence[StoreReader]:
        """The store itself, and those of neighbouring sheets that are read with it."""
        return [self]

    def follow(self, root: Path) -> None:
        """Read from another place of the store, to which it was copied."""
        self.decoder = active_decoder(root)
        self.root, self._folder = root, os.fspath(root)

    def _check_arrays(self) -> None:
        """Check that each level of the store has its arrays, and that they match the metadata."""
        for grid in self.grids:
            documents = layout.array_documents(grid, self.metadata.features, self.metadata.dtype)
            for name, document in documents.items():
                path = self.root / layout.level_name(grid.level) / name / layout.GROUP_FILE
                try:
                    found = read_json(path).mapping()
                except PermissionError as error:
                    raise layout.unreadable(path, error) from error
                except (OSError, SchemaError) as error:
                    raise StoreError(
                        "{path} is missing or damaged", "copy the store again, or encode again", path=path
                    ) from error
                if not layout.is_same_array(found, parse_json(document).mapping()):
                    raise StoreError("{path} does not match the metadata of the store", "encode again", path=path)

    @property
    def grids(self) -> tuple[LevelGrid, ...]:
        """The levels that the store has: those of the pyramid, and the enlarged ones with at least one tile."""
        enlarged = (
            grid
            for grid in self.pyramid.enlarged
            if (self.root / layout.level_name(grid.level) / layout.GROUP_FILE).is_file()
        )
        return (*enlarged, *self.pyramid.grids)

    def state(self, tile: Tile) -> TileState:
        """Return whether a tile is encoded, skipped or missing.

        Raises
        ------
        StoreError
            If the folders of the store may not be read.
        """
        if self.remote is not None:
            return self._remote_state(self.remote, tile)
        try:
            if all((self.root / key).is_file() for key in self._keys(tile)):
                return TileState.ENCODED
            return TileState.SKIPPED if (self.root / layout.skipped_key(tile)).is_file() else TileState.MISSING
        except OSError as error:
            raise layout.unreadable(error.filename, error) from error

    def _remote_state(self, remote: RemoteStore, tile: Tile) -> TileState:
        name = next(iter(self.metadata.features))
        # The checksum first, which is small; stores of older versions have none.
        if remote.provide(layout.checksum_key(name, tile), layout.CHECKSUM_DTYPE.itemsize) or (
            remote.provide(*self._files(tile, name)[-1])
        ):
            return TileState.ENCODED
        return TileState.SKIPPED if remote.provide(layout.skipped_key(tile), 1) else TileState.MISSING

    def _files(self, tile: Tile, name: str) -> list[tuple[str, int]]:
        """Return the files of a feature map and their sizes: that of its scales in an int8 store, and its values."""
        shape = self.metadata.features[name]
        files = [(layout.feature_key(name, tile), self._dtype.itemsize * math.prod(shape))]
        if self.metadata.dtype == layout.INT8:
            files.insert(0, (layout.scale_key(name, tile), layout.SCALE_DTYPE.itemsize * shape[0]))
        return files

    def _fetch(self, remote: RemoteStore, tile: Tile, name: str) -> bool:
        """Fetch a feature map with its checksum, and tell whether any of it was not there before."""
        files = self._files(tile, name)
        if all(remote.has(*file) for file in files):
            return False
        remote.provide(layout.checksum_key(name, tile), layout.CHECKSUM_DTYPE.itemsize)
        for key, size in files:
            if not remote.provide(key, size):
                raise StoreError(
                    "{file} is missing",
                    "repair the store where it lies with: geosam-es repair STORE",
                    file=f"{remote}/{key}",
                )
        return True

    def _every_key(self, tile: Tile) -> list[str]:
        return layout.every_key(self.metadata.features, self.metadata.dtype, tile)

    def _keys(self, tile: Tile) -> list[str]:
        return layout.tile_keys(self.metadata.features, self.metadata.dtype, tile)

    def is_encoded(self, tile: Tile) -> bool:
        """Tell whether a tile has features."""
        return self.state(tile) is TileState.ENCODED

    def tiles(self, level: int) -> Iterator[Tile]:
        """Yield the tiles of a level; of a layer of a service only those that are there, as it may have billions."""
        if not self.metadata.raster.attribution:
            return iter(self.pyramid.grid(level))
        names = (next(iter(self.metadata.features)), layout.SKIPPED)
        files = {
            (int(file.parent.name), int(file.name))
            for name in names
            for file in (self.root / layout.level_name(level) / name / "c").glob("*/*")
            if file.name.isdecimal() and file.parent.name.isdecimal()
        }
        return (Tile(level, row, col) for row, col in sorted(files))

    def counts(self) -> list[LevelCount]:
        """Count the tiles of each level by their state."""
        counts = []
        for grid in self.grids:
            states = [self.state(tile) for tile in self.tiles(grid.level)]
            counts.append(
                LevelCount(
                    grid.level,
                    states.count(TileState.ENCODED),
                    states.count(TileState.SKIPPED),
                    len(grid) - len(states) + states.count(TileState.MISSING),
                )
            )
        return counts

    def read(self, tile: Tile) -> dict[str, NDArray[np.float32]]:
        """Read the features of a tile.

        Returns
        -------
        dict of str to float32 (1, C, h, w)

        Raises
        ------
        StoreError
            If the tile is missing, or its file is truncated.
        """
        return {name: values.astype(np.float32, copy=False) for name, values in self.read_stored(tile).items()}

    def read_stored(self, tile: Tile) -> dict[str, NDArray[Any]]:
        """Read the features of a tile for `MaskDecoder.prepare`; float16 is not converted.

        Returns
        -------
        dict of str to float16 or float32 (1, C, h, w)
            float32 from an int8 store.

        Raises
        ------
        StoreError
            If the tile is missing, or its file is truncated.
        """
        return {name: self._to_features(self._read_chunks(tile, name)) for name in self.metadata.features}

    def _read_chunks(self, tile: Tile, name: str) -> list[NDArray[Any]]:
        """Read the chunks of a feature map: its values, preceded by its scales in an int8 store."""
        is_new = self.remote is not None and self._fetch(self.remote, tile, name)
        shape = self.metadata.features[name]
        chunks = [self._read_chunk(tile, layout.feature_key(name, tile), self._dtype, (1, *shape))]
        if self.metadata.dtype == layout.INT8:
            key = layout.scale_key(name, tile)
            chunks.insert(0, self._read_chunk(tile, key, layout.SCALE_DTYPE, shape[:1]))
        wanted = layout.read_checksum(self.root, name, tile) if is_new else 0
        if self.remote is not None and wanted and wanted != layout.checksum(chunks):
            self.remote.forget(self._every_key(tile))
            file = f"{self.remote}/{layout.feature_key(name, tile)}"
            raise StoreError(
                "{file} was changed after it was written: its checksum differs",
                "repair the store where it lies with: geosam-es repair STORE",
                file=file,
            )
        return chunks

    def _to_features(self, chunks: list[NDArray[Any]]) -> NDArray[Any]:
        return from_int8(chunks[1][0], chunks[0])[None] if self.metadata.dtype == layout.INT8 else chunks[0]

    def _read_chunk(self, tile: Tile, key: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
        values = np.empty(shape, dtype)
        path = f"{self._folder}/{key}"
        try:
            # A file object, or asking for the size first, would make reading a tile a tenth slower.
            descriptor = os.open(path, _OPEN_FLAGS)
            try:
                found = _fill(descriptor, values)
                if found > values.nbytes:
                    found = os.fstat(descriptor).st_size
            finally:
                os.close(descriptor)
        except OSError as error:
            raise StoreError(
                "Tile {tile} of {root} cannot be read ({reason})",
                "encode missing and damaged tiles with: geosam-es repair STORE",
                tile=tuple(tile),
                root=self.root,
                reason=error.strerror,
            ) from error
        if found != values.nbytes:
            raise StoreError(
                "{path} has {count} values instead of {wanted}",
                "encode it again with: geosam-es repair STORE",
                path=Path(path),
                count=found // dtype.itemsize,
                wanted=values.size,
            )
        return values

    def problems(self, threads: int = 1) -> Iterator[tuple[Tile, str]]:
        """Check that every tile is present, finite, of the right size, model and image, and has its checksum.

        Enlarged levels need not be complete, so none of their tiles is missing.

        Parameters
        ----------
        threads : int
            Tiles that are checked at the same time.

        Yields
        ------
        (Tile, str)
            Each tile, and what is wrong with it; an empty text if nothing is.
        """
        tiles = (tile for grid in self.grids for tile in self.tiles(grid.level))
        with ThreadPoolExecutor(threads, "verify") as pool:
            # In parts, since `map` would note all the tiles of a country at once.
            while part := list(islice(tiles, _CHECKED_TOGETHER)):
                yield from zip(part, pool.map(self.problem, part))

    def problem(self, tile: Tile) -> str:
        """Return what is wrong with a tile, see `problems`; an empty text if nothing is."""
        if self.remote is not None:
            # What the server has counts, and not what was fetched earlier.
            self.remote.forget(self._every_key(tile))
        bad, checksums = [], []
        try:
            state = self.state(tile)
            if state is not TileState.ENCODED:
                return "missing" if state is TileState.MISSING and tile.level >= 0 else ""
            for name in self.metadata.features:
                chunks = self._read_chunks(tile, name)
                wanted = layout.read_checksum(self.root, name, tile)
                checksums.append(layout.checksum(chunks))
                if not np.isfinite(self._to_features(chunks)).all():
                    bad.append(f"{name} not finite")
                elif wanted and wanted != checksums[-1]:
                    bad.append(f"{name} was changed after it was written: its checksum differs")
            if self.remote is not None:
                self.remote.provide(layout.origin_key(tile), layout.CHECKSUM_DTYPE.itemsize)
        except ServerError:
            raise
        except StoreError as error:
            return error.problem
        origin = layout.read_number(self.root / layout.origin_key(tile))
        if origin and not bad and self.has_checksums(tile) and origin != self.metadata.origin(tile, checksums):
            bad.append("it comes from another store: its model, image, bands or place differ")
        return ", ".join(bad)

    def has_checksums(self, tile: Tile) -> bool:
        """Tell whether an encoded tile has all the checksums that `problems` compares."""
        return all(layout.read_checksum(self.root, name, tile) for name in self.metadata.features)

    def keeps_checksums(self) -> bool:
        """Tell whether the store has room for checksums, so that `StoreWriter.is_done` asks for them."""
        return all(
            layout.keeps_checksums(self.root, name, grid.level)
            for grid in self.pyramid.grids
            for name in self.metadata.features
        )


def _fill(descriptor: int, values: NDArray[Any]) -> int:
    """Fill an array from a file and return the bytes found: one more than wanted if the file is longer."""
    spare = bytearray(1)
    found = more = _read_into(descriptor, [values.data, spare])
    if found == values.nbytes:
        return found
    # Slow networks return the file in parts, then nothing at its end.
    while more and found <= values.nbytes:
        more = _read_into(descriptor, [values.data.cast("B")[found:], spare])
        found += more
    return found


if sys.platform == "win32":

    def _read_into(descriptor: int, buffers: list[Any]) -> int:
        found = 0
        for buffer in buffers:
            part = memoryview(buffer).cast("B")
            block = os.read(descriptor, len(part))
            part[: len(block)] = block
            found += len(block)
            if len(block) < len(part):
                break
        return found

else:
    _read_into = os.readv

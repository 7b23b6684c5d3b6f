"""Reading a store."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.grid import Pyramid, Tile
from ..errors import StoreError
from . import layout
from .decoders import StoreDecoder, active_decoder
from .int8 import from_int8
from .layout import StoreMetadata

__all__ = ["LevelCount", "StoreReader", "TileState"]

_OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


class TileState(Enum):
    """Whether a tile can be read."""

    ENCODED = "encoded"
    SKIPPED = "skipped"
    MISSING = "missing"


@dataclass(frozen=True)
class LevelCount:
    """How many tiles of a level are in which state."""

    level: int
    encoded: int
    skipped: int
    missing: int


class StoreReader:
    """An open store.

    Parameters
    ----------
    root : Path
        The store's directory.

    Attributes
    ----------
    decoder : StoreDecoder
        The one that answers prompts.

    Raises
    ------
    StoreError
        If it is not a store, of another format version, or half copied.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self._folder = os.fspath(self.root)
        self.metadata: StoreMetadata = layout.read_metadata(self.root)
        self.pyramid: Pyramid = self.metadata.pyramid
        self._dtype = self._check_dtype()
        self._check_arrays()
        self.decoder: StoreDecoder = active_decoder(self.root)

    def _check_dtype(self) -> np.dtype[Any]:
        if self.metadata.dtype not in layout.DTYPES:
            raise StoreError(
                "{root} holds features of type {dtype}, which is not known here",
                "update GeoSAM-ES",
                root=self.root,
                dtype=self.metadata.dtype,
            )
        return np.dtype(self.metadata.dtype).newbyteorder("<")

    def _check_arrays(self) -> None:
        """See that each level's arrays are there and have the shape that the metadata promise."""
        for grid in self.pyramid.grids:
            documents = layout.array_documents(grid, self.metadata.features, self.metadata.dtype)
            for name, document in documents.items():
                path = self.root / layout.level_name(grid.level) / name / layout.GROUP_FILE
                wanted = json.loads(document)
                try:
                    found = json.loads(path.read_text(encoding="utf-8"))
                    agrees = (
                        found["shape"] == wanted["shape"]
                        and found["data_type"] == wanted["data_type"]
                        and found["chunk_grid"] == wanted["chunk_grid"]
                        and [codec["name"] for codec in found["codecs"]] == ["bytes"]
                    )
                except (OSError, ValueError, KeyError, TypeError) as error:
                    raise StoreError(
                        "{path} is missing or damaged", "copy the store again, or encode again", path=path
                    ) from error
                if not agrees:
                    raise StoreError("{path} does not fit the store's metadata", "encode again", path=path)

    @property
    def decoder_path(self) -> Path:
        """The ONNX file of the decoder that answers."""
        return self.decoder.decoder_path

    @property
    def prepare_path(self) -> Path | None:
        """The ONNX file that prepares a tile, or None where the decoder is a single graph."""
        return self.decoder.prepare_path

    def state(self, tile: Tile) -> TileState:
        """Tell whether a tile is there."""
        if all(layout.feature_chunk(self.root, name, tile).is_file() for name in self.metadata.features):
            return TileState.ENCODED
        if layout.skipped_chunk(self.root, tile).is_file():
            return TileState.SKIPPED
        return TileState.MISSING

    def is_encoded(self, tile: Tile) -> bool:
        """Tell whether a tile has features."""
        return self.state(tile) is TileState.ENCODED

    def counts(self) -> list[LevelCount]:
        """Count the tiles of each level by their state."""
        counts = []
        for grid in self.pyramid.grids:
            states = [self.state(tile) for tile in grid]
            counts.append(
                LevelCount(
                    grid.level,
                    states.count(TileState.ENCODED),
                    states.count(TileState.SKIPPED),
                    states.count(TileState.MISSING),
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
            If the tile is not there, or its file is not whole.
        """
        return {name: values.astype(np.float32, copy=False) for name, values in self.read_stored(tile).items()}

    def read_stored(self, tile: Tile) -> dict[str, NDArray[Any]]:
        """Read the features of a tile as `MaskDecoder.prepare` takes them: float16 is left as it is.

        Returns
        -------
        dict of str to float16 or float32 (1, C, h, w)
            float32 from a store of int8.

        Raises
        ------
        StoreError
            If the tile is not there, or its file is not whole.
        """
        features = {}
        for name, shape in self.metadata.features.items():
            values = self._read_chunk(tile, layout.feature_key(name, tile), self._dtype, (1, *shape))
            if self.metadata.dtype == layout.INT8:
                key = layout.scale_key(name, tile)
                values = from_int8(values[0], self._read_chunk(tile, key, layout.SCALE_DTYPE, shape[:1]))[None]
            features[name] = values
        return features

    def _read_chunk(self, tile: Tile, key: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
        values = np.empty(shape, dtype)
        path = f"{self._folder}/{key}"
        try:
            # Neither a file object nor a question for the size: they cost a tenth of the time that a tile takes.
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
                "see what is missing with: geosam-es verify STORE",
                tile=tuple(tile),
                root=self.root,
                reason=error.strerror,
            ) from error
        if found != values.nbytes:
            raise StoreError(
                "{path} has {count} values in place of {wanted}",
                "delete it and encode with --resume",
                path=Path(path),
                count=found // dtype.itemsize,
                wanted=values.size,
            )
        return values

    def problems(self) -> Iterator[tuple[Tile, str]]:
        """Check every tile: there, of the right size, finite.

        Yields
        ------
        (Tile, str)
            Each tile, and what is wrong with it, empty where nothing is.
        """
        for tile in self.pyramid:
            state = self.state(tile)
            if state is TileState.MISSING:
                yield tile, "missing"
            elif state is TileState.SKIPPED:
                yield tile, ""
            else:
                yield tile, self._tile_problem(tile)

    def _tile_problem(self, tile: Tile) -> str:
        try:
            features = self.read_stored(tile)
        except StoreError as error:
            return error.problem
        bad = [name for name, values in features.items() if not np.isfinite(values).all()]
        return f"{', '.join(bad)} not finite" if bad else ""

    def size_bytes(self) -> int:
        """Add up the sizes of the store's files."""
        return sum((Path(folder) / name).stat().st_size for folder, _, names in os.walk(self.root) for name in names)


def _fill(descriptor: int, values: NDArray[Any]) -> int:
    """Fill an array from a file, and return the bytes found: one more than wanted where there are more."""
    spare = bytearray(1)
    found = more = _read_into(descriptor, [values.data, spare])
    if found == values.nbytes:
        return found
    # In pieces, as from slow networks, until nothing comes.
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

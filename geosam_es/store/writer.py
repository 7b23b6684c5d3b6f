"""Writing a store."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Mapping
from dataclasses import replace
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.grid import Tile
from ..errors import OutputError, StoreError
from . import layout
from .files import write_text
from .int8 import to_int8
from .layout import StoreMetadata
from .signature import check_signature, signature

__all__ = ["StoreWriter", "remove_store", "set_crs"]


_WRITE_BYTES = 1 << 17
"""At a time: for more, Linux looks for larger pages, which may take several times as long as writing them."""

_HALF_EXPONENT = np.uint16(0x7C00)


class StoreWriter:
    """A store being filled.

    Make one with `create` or `resume`. Its methods may be called from several threads, and several writers, on
    several machines too, may fill one store: a tile is written under another name and renamed.
    """

    def __init__(self, root: Path, metadata: StoreMetadata) -> None:
        self.root = root
        self.metadata = metadata
        is_int8 = metadata.dtype == layout.INT8
        self._dtype = np.dtype(np.float32 if is_int8 else metadata.dtype).newbyteorder("<")

    @classmethod
    def create(
        cls, root: Path, metadata: StoreMetadata, decoder_files: Mapping[str, Path], overwrite: bool = False
    ) -> StoreWriter:
        """Make an empty store.

        Parameters
        ----------
        root : Path
            The store's directory; its parents are made where missing.
        metadata : StoreMetadata
        decoder_files : mapping of str to Path
            File name in the store, and the file to copy: ``decoder.onnx``, and ``prepare.onnx`` where there is one.
        overwrite : bool
            Whether a store that is there is replaced. Anything else that is there is never touched.

        Raises
        ------
        StoreError
            If something is there already.
        OutputError
            If the directory cannot be written.
        """
        if root.exists() and not overwrite:
            raise _exists_error(root)
        writer = cls(root, metadata)
        fresh = root.with_name(f".{root.name}.{uuid.uuid4().hex}.new")
        try:
            root.parent.mkdir(parents=True, exist_ok=True)
            writer._write_skeleton(fresh, decoder_files)
            if overwrite and root.exists():
                remove_store(root)
            fresh.rename(root)
        except OSError as error:
            shutil.rmtree(fresh, ignore_errors=True)
            if root.exists() and not overwrite:
                # Another writer made it meanwhile, and a directory with files in it is never renamed over.
                raise _exists_error(root) from error
            raise _output_error(root, error) from error
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
        return writer

    @classmethod
    def resume(cls, root: Path, metadata: StoreMetadata) -> StoreWriter:
        """Open a store to fill what is missing.

        Raises
        ------
        StoreError
            If it is not a store.
        SignatureMismatchError
            If it was made from another raster, by another model or with other options.
        """
        stored = layout.read_metadata(root)
        check_signature(
            root,
            signature(stored),
            signature(metadata),
            "use the same options, another output, or start again with --overwrite",
        )
        return cls(root, stored)

    def _write_skeleton(self, folder: Path, decoder_files: Mapping[str, Path]) -> None:
        folder.mkdir()
        for name, source in decoder_files.items():
            shutil.copyfile(source, folder / name)
        for grid in self.metadata.pyramid.grids:
            group = folder / layout.level_name(grid.level)
            documents = layout.array_documents(grid, self.metadata.features, self.metadata.dtype)
            documents[layout.SKIPPED] = layout.skipped_array_json(grid)
            for name, document in documents.items():
                (group / name).mkdir(parents=True)
                (group / name / layout.GROUP_FILE).write_text(document, encoding="utf-8")
            (group / layout.GROUP_FILE).write_text(
                layout.group_json({"level": grid.level, "width": grid.width, "height": grid.height}),
                encoding="utf-8",
            )
        root_document = layout.group_json({layout.ATTRIBUTE: self.metadata.to_json()})
        (folder / layout.GROUP_FILE).write_text(root_document, encoding="utf-8")

    def write(self, tile: Tile, features: Mapping[str, NDArray[Any]]) -> None:
        """Write the features of a tile.

        Parameters
        ----------
        tile : Tile
        features : mapping of str to (C, h, w)
            Every feature map of the model.

        Raises
        ------
        StoreError
            If a feature map has another shape, or values that the store's type cannot hold.
        OutputError
            If the disk is full or not writable; no part of the tile's file is left.
        """
        for name, shape in self.metadata.features.items():
            if features[name].shape != shape:
                raise StoreError(
                    "{name} has shape {shape} in place of {wanted}",
                    name=name,
                    shape=features[name].shape,
                    wanted=shape,
                )
            # A value too large for float16 turns into infinity, which the check below reports.
            with np.errstate(over="ignore"):
                values = np.ascontiguousarray(features[name], dtype=self._dtype)
            if not _is_finite(values):
                raise StoreError("{name} of tile {tile} has values that are not finite", name=name, tile=tuple(tile))
            if self.metadata.dtype == layout.INT8:
                values, scales = to_int8(values)
                # First, because the features' own chunk is what says that the tile is there.
                self._write_file(layout.scale_chunk(self.root, name, tile), scales)
            self._write_file(layout.feature_chunk(self.root, name, tile), values)

    def skip(self, tile: Tile) -> None:
        """Record that a tile has no data."""
        self._write_file(layout.skipped_chunk(self.root, tile), np.array([True]))

    def is_done(self, tile: Tile) -> bool:
        """Tell whether a tile was written or skipped."""
        return layout.skipped_chunk(self.root, tile).is_file() or all(
            layout.feature_chunk(self.root, name, tile).is_file() for name in self.metadata.features
        )

    def discard(self) -> None:
        """Remove the store."""
        remove_store(self.root)

    def _write_file(self, path: Path, values: NDArray[Any]) -> None:
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            content = values.reshape(-1).view(np.uint8).data
            with temporary.open("wb", buffering=0) as file:
                for start in range(0, len(content), _WRITE_BYTES):
                    _write_all(file, content[start : start + _WRITE_BYTES])
            temporary.replace(path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise _output_error(self.root, error) from error


def _is_finite(values: NDArray[Any]) -> bool:
    if values.dtype.itemsize == np.dtype(np.float16).itemsize:
        # Many times as fast as numpy's own way with float16: infinity and NaN have all bits of the exponent set.
        return bool((values.view("<u2") & _HALF_EXPONENT).max(initial=0) < _HALF_EXPONENT)
    return bool(np.isfinite(values).all())


def _write_all(file: FileIO, content: memoryview) -> None:
    # A full disk may take a part of it, and refuses the rest.
    while content:
        content = content[file.write(content) :]


def _exists_error(root: Path) -> StoreError:
    return StoreError("{root} is there already", "go on with --resume or start again with --overwrite", root=root)


def _output_error(root: Path, error: OSError) -> OutputError:
    reason = error.strerror or str(error)
    return OutputError(
        "{root} cannot be written ({reason})",
        "check the space left and the permissions, or choose another folder with -o",
        root=root,
        reason=reason,
    )


def set_crs(root: Path, crs_wkt: str) -> StoreMetadata:
    """Replace the CRS of a store without encoding it again.

    The features do not depend on the CRS. A reader that is open keeps the old one.

    Parameters
    ----------
    root : Path
        The store.
    crs_wkt : str
        The CRS of its raster as WKT.

    Returns
    -------
    StoreMetadata
        As they are in the store now.

    Raises
    ------
    StoreError
        If ``root`` is not a store.
    OutputError
        If the store cannot be written; it is then unchanged.
    """
    metadata = layout.read_metadata(root)
    metadata = replace(metadata, raster=replace(metadata.raster, crs_wkt=crs_wkt))
    try:
        write_text(root / layout.GROUP_FILE, layout.group_json({layout.ATTRIBUTE: metadata.to_json()}))
    except OSError as error:
        raise _output_error(root, error) from error
    return metadata


def remove_store(root: Path) -> None:
    """Remove a directory that is a store, or would be one but for its damage; nothing else.

    It is renamed first, so that a removal cut short never leaves half a store under the name.
    """
    if not root.is_dir() or not (root.name.endswith(layout.SUFFIX) or layout.is_store(root)):
        raise StoreError("{root} is there and is not an embedding store", "choose another name with -o", root=root)
    doomed = root.with_name(f".{root.name}.{uuid.uuid4().hex}.old")
    root.replace(doomed)
    shutil.rmtree(doomed, ignore_errors=True)

"""Writing a store."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from io import FileIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..core.grid import LevelGrid, Tile
from ..errors import OutputError, StoreError
from . import layout
from .decoder_files import prefixed_sha256
from .files import flush, flush_tree, put_in_place, remove_stale, remove_tree, temporary_name, write_text
from .int8 import to_int8
from .metadata import StoreMetadata, check_not_frozen, metadata_of, read_document, read_metadata
from .signature import SameCrs, check_signature, has_same_tiles, signature

__all__ = [
    "Chunk",
    "StoreWriter",
    "check_same",
    "exists_error",
    "remove_store",
    "remove_tiles",
    "set_aside",
    "set_crs",
]

_WRITE_BYTES = 1 << 17
"""Bytes written at a time. Larger writes make Linux look for larger pages, which may take several times as long."""

_log = logging.getLogger(__name__)

_FLOAT16_EXPONENT = np.uint16(0x7C00)

# A tile and its checksum are renamed together. QGIS may have several writers of one store.
_renaming = threading.Lock()


class Chunk(NamedTuple):
    """A file of a store.

    Attributes
    ----------
    key : str
        Path in the store.
    values : array
    is_flushed : bool
        Whether it must be on the disk before it gets its name. Otherwise a power cut may leave an empty file.
    """

    key: str
    values: NDArray[Any]
    is_flushed: bool = True


class StoreWriter:
    """A store being filled, made with `create` or `resume`.

    Methods may be called from several threads. Several writers, even on several machines, may fill one store: a tile is
    written under a temporary name and renamed, and its checksum is a file of its own. If two writers write the same
    tile, the later one wins.

    Attributes
    ----------
    older : Path, optional
        The store that this one replaces, under another name, until `drop_older` removes it.
    """

    def __init__(self, root: Path, metadata: StoreMetadata) -> None:
        self.older: Path | None = None
        # May be set to another place of the store while it is being filled.
        self.root = root
        self.metadata = metadata
        # Time and size of the group's file when it was last compared with the metadata.
        self._seen: tuple[int, int] | None = None
        is_int8 = metadata.dtype == layout.INT8
        self._dtype = np.dtype(np.float32 if is_int8 else metadata.dtype).newbyteorder("<")

    @classmethod
    def create(
        cls,
        root: Path,
        metadata: StoreMetadata,
        decoder_files: Mapping[str, Path],
        overwrite: bool = False,
        keeps_older: bool = False,
    ) -> StoreWriter:
        """Create an empty store.

        Parameters
        ----------
        root : Path
            The store's directory; missing parents are created.
        metadata : StoreMetadata
        decoder_files : mapping of str to Path
            File name in the store, and the file to copy: ``decoder.onnx``, ``prepare.onnx`` if there is one, and those
            of further decoders.
        overwrite : bool
            Whether an existing store is replaced. Anything else of this name is never touched.
        keeps_older : bool
            Whether the replaced store is kept until `drop_older`; `discard` puts it back.

        Raises
        ------
        StoreError
            If the directory exists already.
        OutputError
            If the directory cannot be written.
        """
        if root.exists() and not overwrite:
            raise exists_error(root)
        fresh = temporary_name(root.parent)
        try:
            own = {layout.PREPARE_FILE, layout.DECODER_FILE} & decoder_files.keys()
            hashes = {name: prefixed_sha256(decoder_files[name]) for name in sorted(own)}
            writer = cls(root, replace(metadata, decoder_sha256=hashes))
            root.parent.mkdir(parents=True, exist_ok=True)
            writer._write_skeleton(fresh, decoder_files)
            flush_tree(fresh)
            if overwrite and root.exists():
                writer.older = _exchange(root, fresh)
                if not keeps_older:
                    writer.drop_older()
            else:
                put_in_place(fresh, root)
            flush(root.parent)
        except OSError as error:
            shutil.rmtree(fresh, ignore_errors=True)
            if root.exists() and not overwrite:
                # Another writer has made it meanwhile. Renaming never replaces a directory that holds files.
                raise exists_error(root) from error
            raise _output_error(root, error) from error
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
        return writer

    @classmethod
    def resume(cls, root: Path, metadata: StoreMetadata, same_crs: SameCrs) -> StoreWriter:
        """Open a store to write its missing tiles, and remove what killed programs left in it.

        Parameters
        ----------
        root : Path
        metadata : StoreMetadata
            As `create` would write them.
        same_crs : callable
            Tells whether two WKT texts describe one CRS.

        Raises
        ------
        StoreError
            If it is not a store, or a frozen one.
        SignatureMismatchError
            If it was made from another raster, with another CRS, by another model or with other options.
        """
        layout.check_own(root)
        stored = read_metadata(root)
        check_same(root, stored, metadata, same_crs)
        remove_stale(root)
        remove_stale(root / layout.DECODERS)
        return cls(root, stored)

    def _write_skeleton(self, folder: Path, decoder_files: Mapping[str, Path]) -> None:
        folder.mkdir()
        for name, source in decoder_files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, folder / name)
        for grid in self.metadata.pyramid.grids:
            self._write_level(folder / layout.level_name(grid.level), grid)
        root_document = layout.group_json({layout.ATTRIBUTE: self.metadata.to_json()})
        (folder / layout.GROUP_FILE).write_text(root_document, encoding="utf-8")

    def _write_level(self, group: Path, grid: LevelGrid) -> None:
        features = self.metadata.features
        documents = layout.array_documents(grid, features, self.metadata.dtype)
        documents.update(layout.state_documents(grid, features))
        for name, document in documents.items():
            (group / name).mkdir(parents=True)
            (group / name / layout.GROUP_FILE).write_text(document, encoding="utf-8")
        (group / layout.GROUP_FILE).write_text(
            layout.group_json({"level": grid.level, "width": grid.width, "height": grid.height}), encoding="utf-8"
        )

    def add_level(self, level: int) -> None:
        """Add an enlarged level to the store unless it has it."""
        group = self.root / layout.level_name(level)
        if level >= 0 or group.is_dir():
            return
        self._check_there()
        fresh = temporary_name(self.root)
        try:
            self._write_level(fresh, self.metadata.pyramid.grid(level))
            flush_tree(fresh)
            put_in_place(fresh, group)
        except OSError as error:
            # Another writer may have made it meanwhile.
            if not group.is_dir():
                raise _output_error(self.root, error) from error
        finally:
            shutil.rmtree(fresh, ignore_errors=True)

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
            If a feature map has another shape or values that the store's type cannot hold, or the store was removed.
        OutputError
            If the disk is full or cannot be written. Nothing of the tile remains then.
        """
        self.add_level(tile.level)
        chunks = [chunk for name in self.metadata.features for chunk in self._chunks(tile, name, features[name])]
        if self._has_array(tile.level, layout.ORIGIN):
            checksums = (int(chunk.values[0]) for chunk in chunks if not chunk.is_flushed)
            origin = np.array([self.metadata.origin(tile, checksums)], layout.CHECKSUM_DTYPE)
            chunks.insert(0, Chunk(layout.origin_key(tile), origin, is_flushed=False))
        self._write_chunks(chunks)

    def _chunks(self, tile: Tile, name: str, features: NDArray[Any]) -> list[Chunk]:
        shape = self.metadata.features[name]
        if features.shape != shape:
            raise StoreError(
                "{name} has shape {shape} instead of {wanted}", name=name, shape=features.shape, wanted=shape
            )
        # A value too large for float16 becomes infinity, which the check below reports.
        with np.errstate(over="ignore"):
            values = np.ascontiguousarray(features, dtype=self._dtype)
        if not _is_finite(values):
            raise StoreError("{name} of tile {tile} has values that are not finite", name=name, tile=tuple(tile))
        chunks = [Chunk(layout.feature_key(name, tile), values)]
        if self.metadata.dtype == layout.INT8:
            integers, scales = to_int8(values)
            chunks = [Chunk(layout.scale_key(name, tile), scales), Chunk(layout.feature_key(name, tile), integers)]
        if self._has_array(tile.level, layout.checksum_name(name)):
            checksum = np.array([layout.checksum(chunk.values for chunk in chunks)], layout.CHECKSUM_DTYPE)
            # First, so that a run killed in between leaves no tile with the checksum of an older one.
            chunks.insert(0, Chunk(layout.checksum_key(name, tile), checksum, is_flushed=False))
        return chunks

    def skip(self, tile: Tile) -> None:
        """Record that a tile has no data."""
        self.add_level(tile.level)
        self._write_chunks([Chunk(layout.skipped_key(tile), np.array([True]), is_flushed=False)])

    def is_done(self, tile: Tile) -> bool:
        """Tell whether a tile was skipped, or written with its checksums if the store keeps them.

        Raises
        ------
        OutputError
            If the folders of the store may not be read.
        """
        keys = layout.tile_keys(self.metadata.features, self.metadata.dtype, tile)
        try:
            if (self.root / layout.skipped_key(tile)).is_file():
                return True
            return all((self.root / key).is_file() for key in keys) and all(
                layout.read_checksum(self.root, name, tile)
                or not self._has_array(tile.level, layout.checksum_name(name))
                for name in self.metadata.features
            )
        except OSError as error:
            raise _output_error(self.root, error) from error

    def forget(self, tile: Tile) -> None:
        """Remove the files of a tile, so that it is not done; whatever is in their places.

        Raises
        ------
        OutputError
            If one of them cannot be removed.
        """
        for key in layout.every_key(self.metadata.features, self.metadata.dtype, tile):
            path = self.root / key
            try:
                if not (path.is_dir() and not path.is_symlink() and remove_tree(path)):
                    path.unlink(missing_ok=True)
            except OSError as error:
                raise _output_error(self.root, error) from error

    def has_tiles(self) -> bool:
        """Tell whether the store has features of any tile, whoever wrote them."""
        name = next(iter(self.metadata.features))
        return any(path.is_file() for path in self.root.glob(f"level*/{name}/c/**/*"))

    def drop_older(self) -> None:
        """Remove the store that this one replaces, if it is still there."""
        older, self.older = self.older, None
        if older is not None:
            _remove_aside(self.root, older)

    def discard(self) -> None:
        """Remove the store, unless somebody else already has, and put the one back that it replaces."""
        aside = set_aside(self.root) if self.root.is_dir() else None
        if self.older is not None:
            put_in_place(self.older, self.root)
            self.older = None
        if aside is not None:
            _remove_aside(self.root, aside)

    def _has_array(self, level: int, name: str) -> bool:
        """Tell whether the store has an array; those of older versions lack some."""
        return (self.root / layout.level_name(level) / name).is_dir()

    def _write_chunks(self, chunks: Sequence[Chunk]) -> None:
        """Write chunks under temporary names and rename them in this order."""
        self._check_there()
        # `root` may change meanwhile, and the new one may be on another disk.
        root = self.root
        made: list[Path] = []
        try:
            for chunk in chunks:
                # At the root, where the path is shorter than that of the chunk.
                made.append(temporary_name(root))
                _write_file(made[-1], chunk)
            with _renaming:
                for temporary, chunk in zip(made, chunks):
                    _place_chunk(temporary, root, chunk.key)
        except OSError as error:
            self._check_there()
            raise _output_error(root, error) from error
        finally:
            for temporary in made:
                temporary.unlink(missing_ok=True)

    def is_there(self) -> bool:
        """Tell whether the store was neither removed nor replaced by one whose tiles are others."""
        try:
            status = (self.root / layout.GROUP_FILE).stat()
            seen = status.st_mtime_ns, status.st_size
            if seen != self._seen:
                if not has_same_tiles(read_metadata(self.root), self.metadata):
                    return False
                self._seen = seen
        except (OSError, StoreError):
            return False
        return True

    def _check_there(self) -> None:
        if not self.is_there():
            raise StoreError(
                "{root} was removed or replaced while it was being written", "encode again", root=self.root
            )


def _write_file(path: Path, chunk: Chunk) -> None:
    content = chunk.values.reshape(-1).view(np.uint8).data
    with path.open("xb", buffering=0) as file:
        for start in range(0, len(content), _WRITE_BYTES):
            _write_all(file, content[start : start + _WRITE_BYTES])
        if chunk.is_flushed:
            os.fsync(file.fileno())


def _place_chunk(made: Path, root: Path, key: str) -> None:
    """Rename a chunk, creating missing folders, except those of the store and its arrays: it may have been removed."""
    folder, wanted = (root / key).parent, os.path.join(os.path.realpath(root), os.path.dirname(key))  # noqa: PTH118, PTH120
    if os.path.realpath(folder) != os.path.normpath(wanted):
        raise OSError(errno.ELOOP, "one of its folders is a link to another place", os.fspath(folder))
    try:
        put_in_place(made, root / key)
    except FileNotFoundError:
        level, array, *folders, _ = key.split("/")
        folder = root / level / array
        for name in folders:
            folder = folder / name
            folder.mkdir(exist_ok=True)
        put_in_place(made, root / key)


def _is_finite(values: NDArray[Any]) -> bool:
    if values.dtype.itemsize == np.dtype(np.float16).itemsize:
        # Infinity and NaN have all bits of the exponent set. This is many times faster than numpy's test of float16.
        return bool((values.view("<u2") & _FLOAT16_EXPONENT).max(initial=0) < _FLOAT16_EXPONENT)
    return bool(np.isfinite(values).all())


def _write_all(file: FileIO, content: memoryview) -> None:
    # A disk that is nearly full accepts a part and refuses the rest.
    while content:
        content = content[file.write(content) :]


def check_same(root: Path | str, stored: StoreMetadata, wanted: StoreMetadata, same_crs: SameCrs) -> None:
    """Make sure that a store may be resumed; see `StoreWriter.resume`."""
    check_not_frozen(root, stored)
    remedy = "use the same options, another output, or start again with --overwrite"
    check_signature(root, signature(stored), signature(wanted), remedy, same_crs)


def exists_error(root: Path | str) -> StoreError:
    """Return the error for a store that must not be replaced."""
    return StoreError("{root} already exists", "continue with --resume, or start again with --overwrite", root=root)


def _output_error(root: Path, error: OSError) -> OutputError:
    reason = error.strerror or str(error)
    return OutputError(
        "{root} cannot be written ({reason})",
        "check the free disk space and the permissions, or choose another folder with -o",
        root=root,
        reason=reason,
    )


def set_crs(root: Path, crs_wkt: str, check: Callable[[StoreMetadata], None] | None = None) -> StoreMetadata:
    """Replace the CRS of a store without encoding it again.

    The features do not depend on the CRS. Readers that are open keep the old one.

    Parameters
    ----------
    root : Path
        The store.
    crs_wkt : str
        The CRS of its raster as WKT.
    check : callable, optional
        Called with the new metadata before they are written; may raise an error.

    Returns
    -------
    StoreMetadata
        The new metadata.

    Raises
    ------
    StoreError
        If ``root`` is not a store.
    OutputError
        If the store cannot be written. It is unchanged then.
    """
    layout.check_own(root)
    document = read_document(root)
    # Changed in the document before it is checked, so that a damaged CRS can be replaced.
    document["attributes"][layout.ATTRIBUTE]["raster"].mapping()["crs_wkt"] = crs_wkt
    metadata = metadata_of(root, document)
    if check is not None:
        check(metadata)
    try:
        write_text(root / layout.GROUP_FILE, json.dumps(document.value, indent=2, allow_nan=False))
    except OSError as error:
        raise _output_error(root, error) from error
    return metadata


def replace_store(root: Path, fresh: Path) -> None:
    """Put a new store in the place of another one, which stays if that fails."""
    _remove_aside(root, _exchange(root, fresh))


def _exchange(root: Path, fresh: Path) -> Path:
    """Put a new store in the place of another one, and return where that is now."""
    aside = set_aside(root)
    try:
        put_in_place(fresh, root)
    except OSError:
        put_in_place(aside, root)
        raise
    return aside


def remove_store(root: Path) -> None:
    """Remove a store, even a damaged one, but no other directory.

    It is renamed first, so that a removal that is interrupted never leaves half a store under its name.
    """
    _remove_aside(root, set_aside(root))


def remove_tiles(root: Path) -> None:
    """Remove all tiles of a store, but not its decoders."""
    for chunks in root.glob("level*/*/c"):
        remove_tree(chunks)


def _remove_aside(root: Path, aside: Path) -> None:
    if not remove_tree(aside):
        # Not an error: the store under its own name is as it should be.
        _log.warning("The old store %s could not be removed: delete %s", root, aside)


def set_aside(root: Path) -> Path:
    """Rename a store for removal, and return its new path.

    Raises
    ------
    StoreError
        If the directory is not a store.
    OSError
        If it cannot be renamed.
    """
    if not root.is_dir() or not (root.name.endswith(layout.SUFFIX) or layout.is_store(root)):
        raise StoreError("{root} exists and is not an embedding store", "choose another name with -o", root=root)
    aside = temporary_name(root.parent)
    put_in_place(root, aside)
    return aside

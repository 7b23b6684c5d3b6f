"""Stores in S3 object storage, read and written through fsspec by their addresses ``s3://BUCKET/NAME``.

Each file of a store is one object. An object is there when it is complete and replaces an older one at once, so nothing
needs a temporary name. Workers that write the same tile write the same bytes, and the later one wins.
"""

from __future__ import annotations

import errno
import os
import time
from asyncio import TimeoutError as AsyncTimeoutError
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geosam_es.core.grid import Tile
from geosam_es.errors import GeoSamError, OutputError, RefusedError, ServerError, StoreError
from geosam_es.store import StoreMetadata, StoreWriter, layout
from geosam_es.store.files import is_portable_name
from geosam_es.store.metadata import FORMAT_VERSION
from geosam_es.store.remote import MOST_DECODER
from geosam_es.store.schema import SchemaError, parse_json
from geosam_es.store.signature import SameCrs
from geosam_es.store.writer import Chunk, check_same, exists_error

__all__ = ["ObjectWriter", "fetch", "get_decoders", "put", "read_metadata", "stores_in"]

_MOST_JSON = 1 << 24
_WAIT_S = 20.0
"""Longest wait for the server to connect, or to send anything."""

_TIMEOUT_S = 120.0
"""Longest time for one object of up to 16 MiB or a listing, with all attempts; decoders may be larger."""

_MOST_REMOVED = 1000
"""Objects that S3 removes at a time."""

_LISTED_S = 10.0
"""Seconds for which a row of tiles is not listed again."""

_KEYS = (
    "check the keys (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE) and their rights, or set "
    "AWS_NO_SIGN_REQUEST=YES for a public bucket"
)

_NO_KEYS = ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound")


@lru_cache(maxsize=1)
def _connect(variables: tuple[tuple[str, str], ...]) -> Any:
    """Return the file system for the variables of AWS in the environment."""
    import fsspec

    is_public = dict(variables).get("AWS_NO_SIGN_REQUEST", "").upper() in ("YES", "TRUE", "ON", "1")
    waits = {"connect_timeout": _WAIT_S, "read_timeout": _WAIT_S}
    options = {"anon": True} if is_public else {}
    return fsspec.filesystem("s3", skip_instance_cache=True, use_listings_cache=False, config_kwargs=waits, **options)


def _call(url: str, is_written: bool, work: str, *arguments: Any, **options: Any) -> Any:
    """Call a method of the file system for what is at an address; FileNotFoundError if that is missing."""
    try:
        from aiohttp import ClientError
        from botocore.exceptions import BotoCoreError
        from fsspec.asyn import sync

        files = _connect(tuple(sorted(item for item in os.environ.items() if item[0].startswith("AWS_"))))
    except ImportError as error:
        raise StoreError(
            f"{url} needs a package that cannot be imported ({error})", 'install it with `pip install "geosam-es[s3]"`'
        ) from error
    except (BotoCoreError, OSError, ValueError) as error:
        raise _failure(url, is_written, error) from error
    try:
        return sync(files.loop, getattr(files, work), *arguments, **{"timeout": _TIMEOUT_S, **options})
    except (OSError, ValueError, AsyncTimeoutError, BotoCoreError, ClientError) as error:
        if isinstance(error, FileNotFoundError) and not work.startswith("_pipe") and _code(error) != "NoSuchBucket":
            raise
        raise _failure(url, is_written, error) from error


def _code(error: BaseException) -> str:
    """Return the code of S3 for an error, such as NoSuchKey; empty if there was no answer."""
    answer = getattr(error.__cause__, "response", None) or {}
    return str(answer.get("Error", {}).get("Code", ""))


def _failure(url: str, is_written: bool, error: Exception) -> GeoSamError:
    code, kind = _code(error), type(error).__name__
    reason = " ".join(str(getattr(error, "strerror", None) or error).split()) or kind
    reason = f"{code}, {reason}" if code and code not in reason else reason
    remedy = "check the address, the connection and AWS_ENDPOINT_URL, or try again in a moment"
    if code == "NoSuchBucket":
        remedy = "check the name of the bucket, and AWS_ENDPOINT_URL if it is not at Amazon"
    elif isinstance(error, PermissionError) or kind in _NO_KEYS:
        remedy = _KEYS
    if is_written:
        return OutputError(f"{url} cannot be written ({reason})", f"{remedy}, and continue with --resume")
    return (RefusedError if code == "AccessDenied" else ServerError)(f"{url} cannot be read ({reason})", remedy)


def fetch(url: str, most: int = _MOST_JSON, is_written: bool = False) -> bytes | None:
    """Get an object; see `geosam_es.store.remote.Fetch`. ``is_written`` makes an error say that writing failed."""
    try:
        patience = _TIMEOUT_S * max(1, most // _MOST_JSON)
        content: bytes = _call(url, is_written, "_cat_file", url, start=0, end=most + 1, timeout=patience)
    except FileNotFoundError:
        return None
    except (OutputError, ServerError) as error:
        if error.__cause__ is not None and _code(error.__cause__) in ("InvalidRange", "416"):
            # An empty object has no range.
            return b""
        raise
    if len(content) > most:
        raise ServerError(f"{url} has more than {most} bytes", "check the address")
    return content


def stores_in(url: str) -> Iterator[str]:
    """Return the stores below an address, or the address itself if it is one.

    Raises
    ------
    ServerError
        If the bucket cannot be listed.
    """
    if url.endswith(layout.SUFFIX) or fetch(f"{url}/{layout.GROUP_FILE}") is not None:
        yield url
        return
    for item in _call(url, False, "_lsdir", url):
        if item["type"] == "directory":
            yield from stores_in(f"s3://{item['name']}")


def put(url: str, name: str, content: bytes, **options: Any) -> None:
    """Write a file of a store.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    _call(url, True, "_pipe_file", f"{url}/{name}", content, **options)


def get_decoders(url: str, folder: Path) -> None:
    """Copy the decoders that were added to a store, and its metadata, into a folder.

    Raises
    ------
    OutputError
        If they cannot be read.
    """
    place, names = f"{url.partition('://')[2]}/", [layout.GROUP_FILE]
    with suppress(FileNotFoundError):
        names += [name.partition(place)[2] for name in _call(url, True, "_find", f"{url}/{layout.DECODERS}")]
    for name in names:
        content = fetch(f"{url}/{name}", MOST_DECODER, is_written=True)
        # Another program may have written names such as "..".
        if content is not None and all(map(is_portable_name, name.split("/"))):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)


def _put_store(url: str, folder: Path) -> None:
    """Write the files of a folder, those of groups after what is in them; the first group is not replaced."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    for path in sorted(paths, key=lambda path: (-len(path.parts), path.name == layout.GROUP_FILE)):
        name, content = path.relative_to(folder).as_posix(), path.read_bytes()
        mode = "create" if name == layout.GROUP_FILE else "overwrite"
        try:
            put(url, name, content, mode=mode)
        except OutputError as error:
            if error.__cause__ is not None and _code(error.__cause__) == "PreconditionFailed":
                # Another program has made it meanwhile.
                raise exists_error(url) from error
            if getattr(error.__cause__, "errno", None) != errno.ENOSYS:
                raise
            # Some servers know no condition for writing.
            put(url, name, content)


def _left(url: str, kept: Collection[str] = ()) -> list[str]:
    """Return the objects of a store without metadata, apart from those with names to keep.

    Raises
    ------
    StoreError
        If another program has just made a store there.
    """
    place = f"{url.partition('://')[2]}/"
    # `_rm` would take characters such as * and [ for patterns.
    names = _call(url, True, "_find", url, timeout=None)
    left = [name for name in names if name.partition(place)[2] not in ("", *kept)]
    # Asked for after the list: without metadata, no tile in the list is new.
    if left and fetch(f"{url}/{layout.GROUP_FILE}", is_written=True) is not None:
        raise exists_error(url)
    return left


def _clear(url: str, kept: Collection[str] = ()) -> None:
    """Remove the objects of a store without metadata; see `_left`."""
    names = _left(url, kept)
    for start in range(0, len(names), _MOST_REMOVED):
        _call(url, True, "_bulk_delete", names[start : start + _MOST_REMOVED])
    if names and _left(url, kept):
        # The server does not say so.
        raise OutputError(f"{url} cannot be removed", "check the rights of the keys, or choose another name with -o")


def read_metadata(url: str) -> StoreMetadata:
    """Read the metadata of a store.

    Raises
    ------
    StoreError
        If there is no store, or it is damaged.
    """
    content = fetch(f"{url}/{layout.GROUP_FILE}")
    if content is None:
        raise StoreError(f"{url} is not an embedding store: it has no {layout.GROUP_FILE}", "check the address")
    try:
        attributes = parse_json(content)["attributes"][layout.ATTRIBUTE]
        attributes["format_version"].integer(FORMAT_VERSION, FORMAT_VERSION)
        return StoreMetadata.from_json(attributes.mapping())
    except SchemaError as error:
        raise StoreError(
            f"{url}/{layout.GROUP_FILE} is damaged or of another version ({error})",
            "update GeoSAM-ES, or encode again with --overwrite",
        ) from error


class ObjectWriter(StoreWriter):
    """A store in object storage being filled; see `StoreWriter`. Several writers may fill one store.

    Parameters
    ----------
    url : str
        Its address.

    Attributes
    ----------
    root : Path
        A folder for temporary files.
    """

    def __init__(self, url: str, metadata: StoreMetadata) -> None:
        super().__init__(Path(gettempdir()), metadata)
        self.url = url
        self._arrays: dict[str, bool] = {}
        # The tiles that are done in each row, and until when that counts: a byte for each tile.
        self._rows: dict[tuple[int, int], tuple[float, NDArray[np.bool_]]] = {}

    @classmethod
    def create_at(
        cls, url: str, metadata: StoreMetadata, decoder_files: Mapping[str, Path], overwrite: bool = False
    ) -> ObjectWriter:
        """Create an empty store; see `StoreWriter.create`. Another one there is removed before, not replaced at once.

        What is left of one is removed too, or refused if the name is not ``NAME.embeddings.zarr``.

        Raises
        ------
        StoreError
            If there is one already.
        OutputError
            If it cannot be written, or other objects are there.
        """
        is_there = fetch(f"{url}/{layout.GROUP_FILE}") is not None
        if is_there and not overwrite:
            raise exists_error(url)
        with TemporaryDirectory(prefix="geosam-es-") as work:
            made = StoreWriter.create(Path(work) / "store", metadata, decoder_files)
            fresh = {path.relative_to(made.root).as_posix() for path in made.root.rglob("*") if path.is_file()}
            is_named = url.endswith(layout.SUFFIX)
            if is_there:
                if not is_named:
                    # Another program may have written it.
                    read_metadata(url)
                _call(url, True, "_rm_file", f"{url}/{layout.GROUP_FILE}")
            elif not is_named and _left(url, fresh):
                raise OutputError(
                    f"{url} has objects but no {layout.GROUP_FILE}: an unfinished store, or of another program",
                    "remove them, or choose another name with -o",
                )
            # A run that ended while it removed a store, or a worker that went on, has left tiles of another image.
            _clear(url, fresh)
            _put_store(url, made.root)
        return cls(url, made.metadata)

    @classmethod
    def resume_at(cls, url: str, metadata: StoreMetadata, same_crs: SameCrs) -> ObjectWriter:
        """Open a store to write its missing tiles; see `StoreWriter.resume` for the errors."""
        stored = read_metadata(url)
        check_same(url, stored, metadata, same_crs)
        return cls(url, stored)

    def add_level(self, level: int) -> None:
        """Add an enlarged level to the store unless it has it."""
        if level >= 0 or self._has_array(level, layout.SKIPPED):
            return
        name = layout.level_name(level)
        with TemporaryDirectory(prefix="geosam-es-") as work:
            self._write_level(Path(work) / name, self.metadata.pyramid.grid(level))
            _put_store(self.url, Path(work))
        self._arrays.clear()

    def is_done(self, tile: Tile) -> bool:
        """Tell whether a tile was skipped, or written with its checksums, at most ten seconds ago.

        Raises
        ------
        OutputError
            If the bucket cannot be listed.
        StoreError
            If the store was removed.
        """
        row = tile.level, tile.row
        until, done = self._rows.get(row, (0.0, np.empty(0, np.bool_)))
        if time.monotonic() > until:
            done = self._done_in_row(tile)
            self._rows[row] = time.monotonic() + _LISTED_S, done
        return bool(done[tile.col])

    def forget(self, tile: Tile) -> None:
        """Remove the files of a tile, so that it is not done."""
        for key in layout.every_key(self.metadata.features, self.metadata.dtype, tile):
            _call(self.url, True, "_rm_file", f"{self.url}/{key}")
        self._rows.pop((tile.level, tile.row), None)

    def has_tiles(self) -> bool:
        """Tell whether the store has features of any tile, whoever wrote them."""
        name = next(iter(self.metadata.features))
        places = [f"{self.url}/{layout.level_name(grid.level)}/{name}/c" for grid in self.metadata.pyramid.grids]
        return any(_call(self.url, True, "_find", place, timeout=None) for place in places)

    def discard(self) -> None:
        """Remove the store if that is possible, its metadata first, so that no half of it is taken for a store."""
        with suppress(OutputError, StoreError):
            _call(self.url, True, "_rm_file", f"{self.url}/{layout.GROUP_FILE}")
            _clear(self.url)

    def _done_in_row(self, tile: Tile) -> NDArray[np.bool_]:
        """Tell which tiles of the row of a tile are done."""
        if fetch(f"{self.url}/{layout.GROUP_FILE}", is_written=True) is None:
            raise StoreError(f"{self.url} was removed while it was being written", "encode again")
        features = self.metadata.features
        keys = layout.tile_keys(features, self.metadata.dtype, tile)
        keys += [
            layout.checksum_key(name, tile)
            for name in features
            if self._has_array(tile.level, layout.checksum_name(name))
        ]
        places = [f"{self.url}/{key.partition('/c/')[0]}/c" for key in [*keys, layout.skipped_key(tile)]]
        with ThreadPoolExecutor(len(places)) as pool:
            found = list(pool.map(lambda place: self._columns(place, tile), places))
        return np.array(np.logical_and.reduce(found[:-1]) | found[-1], np.bool_)

    def _columns(self, place: str, tile: Tile) -> NDArray[np.bool_]:
        """Tell for which columns of a row there are chunks of an array."""
        there = np.zeros(self.metadata.pyramid.grid(tile.level).cols, np.bool_)
        with suppress(FileNotFoundError):
            for name in _call(self.url, True, "_find", place, prefix=f"{tile.row}/"):
                column = name.partition(f"{place.partition('://')[2]}/{tile.row}/")[2].partition("/")[0]
                if column.isdecimal() and int(column) < len(there):
                    there[int(column)] = True
        return there

    def _has_array(self, level: int, name: str) -> bool:
        key = f"{layout.level_name(level)}/{name}/{layout.GROUP_FILE}"
        if key not in self._arrays:
            self._arrays[key] = fetch(f"{self.url}/{key}", is_written=True) is not None
        return self._arrays[key]

    def _write_chunks(self, chunks: Sequence[Chunk]) -> None:
        """Write chunks, those of the features first: a tile with a checksum is complete."""
        for is_feature in (True, False):
            parts = [chunk for chunk in chunks if chunk.is_flushed is is_feature]
            if parts:
                _call(self.url, True, "_pipe", {f"{self.url}/{chunk.key}": chunk.values.tobytes() for chunk in parts})

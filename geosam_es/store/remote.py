"""A store on a web server or in object storage, read through a copy on the disk that grows with what is needed.

Any server of plain files will do: files are fetched whole and by their names, and folders are never listed. The copy is
an ordinary store with the decoder in use, in a `StoreCache`. Another one is made when the metadata or the decoder on
the server have changed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Optional, Union
from urllib.parse import SplitResult, quote, urlsplit, urlunsplit

from ..errors import GeoSamError, OutputError, RefusedError, ServerError, StoreError
from . import layout
from .cache import StoreCache
from .decoder_files import check_file
from .decoders import ORIGINAL, install_decoder
from .files import folder_bytes, put_in_place, remove_stale, remove_tree, temporary_name, write_text
from .metadata import read_metadata
from .schema import JsonValue, SchemaError, parse_json
from .writer import StoreWriter

__all__ = ["MOST_DECODER", "Fetch", "RemoteStore", "StorePlace", "is_address", "is_object", "without_query"]

Fetch = Callable[[str, int], Optional[bytes]]
"""Returns what is at an address, of at most so many bytes; None if nothing is there. Raises a `ServerError`."""

_ADDRESS = re.compile(r"https?://[^/\s]+/\S+", re.IGNORECASE)
_OBJECT = re.compile(r"s3://([\w.:-]+)((?:/[^/\n]+)+)/?", re.ASCII)
_MOST_JSON = 1 << 24
MOST_DECODER = 1 << 28
"""Longest file of a decoder in bytes."""
_MOST_STEM = 40
_LEAST_TILE = 4096
_ABSENT_S = 60.0
"""Seconds for which a file that was not there is not asked for again."""

_KEPT_SHARE = 0.8
"""Share of its limit that a full copy is reduced to."""


def is_address(text: str) -> bool:
    """Tell whether a text is the address of a store on a web server or in object storage."""
    try:
        return is_object(text) or bool(_ADDRESS.fullmatch(text) and urlsplit(text).hostname)
    except ValueError:
        return False


def is_object(text: str) -> bool:
    """Tell whether a text is the address of something in object storage: ``s3://BUCKET/NAME``, which is not quoted."""
    return bool(_OBJECT.fullmatch(text))


def without_query(url: str) -> str:
    """Return an address without its query and its user, which may be secrets."""
    parts = _split(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _split(url: str) -> SplitResult:
    """Return the parts of an address; the name of an object may have any characters."""
    found = _OBJECT.fullmatch(url)
    return urlsplit(url) if found is None else SplitResult("s3", found[1], found[2], "", "")


class RemoteStore:
    """A store on a web server or in object storage; reads block, so call them outside the GUI thread.

    Parameters
    ----------
    url : str
        Address of the folder ``NAME.embeddings.zarr``; a query is sent with every request.
    fetch : callable
        See `Fetch`. It is called from several threads.
    cache : StoreCache
        Where the copy is made. Its limit is also that of the tiles of the copy.

    Attributes
    ----------
    folder : Path
        The copy.

    Raises
    ------
    StoreError
        If there is no store, or it is damaged or cannot be read.
    OutputError
        If the copy cannot be written.
    """

    def __init__(self, url: str, fetch: Fetch, cache: StoreCache) -> None:
        parts = _split(url)
        self._address = parts._replace(path=parts.path.rstrip("/"), fragment="")
        self._fetch = fetch
        self._cache = cache
        self._absent: dict[str, float] = {}
        self._lock = threading.Lock()
        document = self.get(layout.GROUP_FILE, _MOST_JSON)
        if document is None:
            raise StoreError(
                "{root} is not an embedding store: it has no {name}",
                "give the address of a folder NAME.embeddings.zarr",
                root=self,
                name=layout.GROUP_FILE,
            )
        self._parsed(layout.GROUP_FILE, document)
        self._active = self._active_decoder()
        info = b"" if self._active == ORIGINAL else self.get(self._decoder_key + layout.DECODER_INFO_FILE, _MOST_JSON)
        digest = hashlib.sha256(
            b"\0".join((str(self).encode(), self._active.encode("utf-8", "replace"), document, info or b""))
        ).hexdigest()[:16]
        stem = re.sub(r"[^\w-]+", "_", self.name.split(layout.SUFFIX)[0])[:_MOST_STEM]
        self.folder = cache.folder / f"{stem}-remote-{digest}{layout.SUFFIX}"
        self._documents = document, info or b""
        self._make()
        cache.acquire(self.folder)
        self.trim()

    @property
    def name(self) -> str:
        """The last part of the address."""
        return self._address.path.rpartition("/")[2]

    def __str__(self) -> str:
        """Return the address, without its query and its user, which may be secrets."""
        return without_query(urlunsplit(self._address))

    def open(self) -> None:
        """Keep the copy, which is made again if the cache has removed it, until `close` has been called as often."""
        if not layout.is_store(self.folder):
            self._make()
        self._cache.acquire(self.folder)

    def close(self) -> None:
        """Let the cache remove the copy."""
        self._cache.release(self.folder)

    def trim(self) -> None:
        """Remove copies that are not in use until the cache is within its limit, if that is possible."""
        with suppress(OutputError):
            self._cache.trim()

    def has(self, key: str, nbytes: int) -> bool:
        """Tell whether the copy has a file of a size, which then counts as used."""
        path = self.folder / key
        try:
            is_there = path.stat().st_size == nbytes
            if is_there and nbytes >= _LEAST_TILE:
                os.utime(path)
                # For other processes that look for copies to remove.
                os.utime(self.folder / layout.GROUP_FILE)
        except OSError:
            return False
        return is_there

    def provide(self, key: str, nbytes: int) -> bool:
        """Fetch a file of a known size unless the copy has it, and tell whether it is there.

        Raises
        ------
        StoreError
            If the file on the server has another size, or cannot be read.
        OutputError
            If the copy cannot be written.
        """
        path = self.folder / key
        if self.has(key, nbytes):
            return True
        if self._absent.get(key, 0.0) > time.monotonic():
            return False
        content = self.get(key, nbytes)
        if content is None:
            self._absent[key] = time.monotonic() + _ABSENT_S
            return False
        if len(content) != nbytes:
            raise StoreError(
                "{file} has {count} bytes instead of {wanted}",
                "try again; if it stays so, repair the store where it lies with: geosam-es repair STORE",
                file=f"{self}/{key}",
                count=len(content),
                wanted=nbytes,
            )
        with self._lock:
            # Another process may have removed the copy.
            if not (self.folder / layout.GROUP_FILE).is_file():
                self._make()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = temporary_name(self.folder)
            temporary.write_bytes(content)
            put_in_place(temporary, path)
        except OSError as error:
            raise self._full(error) from error
        with self._lock:
            self._bytes += nbytes
            if self._bytes > self._cache.max_bytes:
                self._trim()
        return True

    def forget(self, keys: Iterable[str]) -> None:
        """Remove files from the copy, so that they are fetched again."""
        for key in keys:
            self._absent.pop(key, None)
            path = self.folder / key
            with suppress(OSError):
                nbytes = path.stat().st_size
                path.unlink()
                with self._lock:
                    self._bytes -= nbytes

    def get(self, key: str, most: int) -> bytes | None:
        """Return a file as it is on the server, of at most so many bytes; None if it is not there."""
        path = f"{self._address.path}/{key if self._address.scheme == 's3' else quote(key)}"
        try:
            return self._fetch(urlunsplit(self._address._replace(path=path)), most)
        except RefusedError:
            # S3 refuses a file that is not there, unless its user may list the bucket.
            if key == layout.GROUP_FILE:
                raise
            return None

    @property
    def _decoder_key(self) -> str:
        return "" if self._active == ORIGINAL else f"{layout.DECODERS}/{self._active}/"

    def _active_decoder(self) -> str:
        """Return the name of the decoder in use."""
        key = f"{layout.DECODERS}/{layout.ACTIVE_FILE}"
        active = self.get(key, _MOST_JSON)
        try:
            return ORIGINAL if active is None else self._parsed(key, active)["name"].text()
        except SchemaError as error:
            raise StoreError("{path} is damaged", "copy the store again", path=f"{self}/{key}") from error

    def _parsed(self, key: str, content: bytes) -> JsonValue:
        try:
            return parse_json(content)
        except SchemaError as error:
            raise StoreError(
                "{path} is not JSON, but perhaps a page of the server",
                "check the address, and whether the server wants a login",
                path=f"{self}/{key}",
            ) from error

    def _make(self) -> None:
        """Make the copy unless it is there, with the enlarged levels that the server has."""
        if not layout.is_store(self.folder):
            self._copy(*self._documents)
        writer = StoreWriter(self.folder, read_metadata(self.folder))
        for grid in writer.metadata.pyramid.enlarged:
            if self.get(f"{layout.level_name(grid.level)}/{layout.GROUP_FILE}", _MOST_JSON) is not None:
                writer.add_level(grid.level)
        self._bytes = folder_bytes(self.folder)

    def _copy(self, document: bytes, info: bytes) -> None:
        """Make the copy, without tiles: under another name, then renamed."""
        work = temporary_name(self._cache.folder)
        try:
            work.mkdir(parents=True)
            remove_stale(self._cache.folder)
            (work / layout.GROUP_FILE).write_bytes(document)
            metadata = read_metadata(work)
            if metadata.raster.attribution:
                raise StoreError(
                    "{root} is the store of an online service, which is not read from a server",
                    "copy it to this computer",
                    root=self,
                )
            files = self._decoder_files(work, "")
            for name, sha256 in metadata.decoder_sha256.items():
                check_file(work / name, sha256, layout.GROUP_FILE)
            fresh = work / "store"
            StoreWriter.create(fresh, metadata, files)
            if self._active != ORIGINAL:
                tuned = work / "tuned"
                tuned.mkdir()
                (tuned / layout.DECODER_INFO_FILE).write_bytes(info)
                self._decoder_files(tuned, self._decoder_key)
                install_decoder(fresh, tuned, lambda *_: None, self._active)
            write_text(fresh / layout.REMOTE_FILE, json.dumps({"url": str(self)}))
            remove_tree(self.folder)
            put_in_place(fresh, self.folder)
        except ServerError:
            raise
        except GeoSamError as error:
            # The user knows the address, and not the copy.
            values = {
                key: f"{self}/{value.relative_to(work).as_posix()}".rstrip("/.")
                if isinstance(value, Path) and value.is_relative_to(work)
                else value
                for key, value in error.values.items()
            }
            raise StoreError(error.template, error.remedy_template, **values) from error
        except OSError as error:
            if not layout.is_store(self.folder):
                raise self._full(error) from error
        finally:
            remove_tree(work)

    def _decoder_files(self, folder: Path, key: str) -> dict[str, Path]:
        """Fetch the files of a decoder into a folder."""
        found = {}
        for name in (layout.DECODER_FILE, layout.PREPARE_FILE):
            content = self.get(key + name, MOST_DECODER)
            if content is not None:
                found[name] = folder / name
                found[name].write_bytes(content)
        if layout.DECODER_FILE not in found:
            raise StoreError("{path} does not exist", "copy the store again", path=f"{self}/{key}{layout.DECODER_FILE}")
        return found

    def _full(self, error: OSError) -> OutputError:
        return OutputError(
            "The cache {folder} cannot be written ({reason})",
            "check the free disk space and the permissions",
            folder=self._cache.folder,
            reason=error.strerror or str(error),
        )

    def _trim(self) -> None:
        """Remove the tiles that were used least recently."""
        chunks = []
        for path in self.folder.glob("level*/*/c/*/*/0/0/0"):
            with suppress(OSError):
                status = path.stat()
                chunks.append((status.st_mtime, status.st_size, path))
        # The last one is being read.
        for _, size, path in sorted(chunks)[:-1]:
            if self._bytes <= _KEPT_SHARE * self._cache.max_bytes:
                break
            with suppress(OSError):
                path.unlink()
                self._bytes -= size


StorePlace = Union[Path, RemoteStore]
"""A store in a folder or on a server."""

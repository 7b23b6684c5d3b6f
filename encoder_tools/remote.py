"""Stores on web servers and in object storage for the command line."""

from __future__ import annotations

import hashlib
import http.client
import shutil
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Union
from urllib.parse import quote, unquote_to_bytes, urlsplit

import geosam_es
from geosam_es.errors import RefusedError, ServerError
from geosam_es.store import StoreMetadata, StoreWriter
from geosam_es.store.cache import StoreCache
from geosam_es.store.decoder_files import plain_sha256
from geosam_es.store.files import put_in_place, temporary_name
from geosam_es.store.layout import GROUP_FILE
from geosam_es.store.metadata import read_metadata
from geosam_es.store.remote import MOST_DECODER, RemoteStore, StorePlace, without_query

from . import object_store
from .crs import same_crs

__all__ = [
    "Target",
    "create_writer",
    "fetch",
    "has_decoder",
    "is_there",
    "metadata_of",
    "open_remote",
    "open_target",
    "opened",
    "put_decoder",
    "resume_writer",
]

Target = Union[Path, str]
"""Where a store is written: a folder, or an address in object storage."""

_CACHE_BYTES = 5 * 2**30
_TIMEOUT_S = 20.0
"""Longest wait for a server to connect, or to send anything."""

_LEAST_BYTES_PER_S = 10_000
"""A server that sends less does not answer."""

_ATTEMPTS = 3
_BLOCK_BYTES = 1 << 18
_NOT_THERE = (404, 410)
_REFUSED = 403
_SAFE = "%/:?&=#@!$'()*+,;[]~"
"""Characters of a path or a query that are not percent-encoded."""

_SERVER_FAULT = 500
_TRY_AGAIN = (408, 425, 429)
_LONGEST_PAUSE_S = 10


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to web servers alone, and none from HTTPS to HTTP."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """Return the next request."""
        if urlsplit(newurl).scheme not in ("https", urlsplit(req.full_url).scheme):
            raise urllib.error.URLError(f"it redirects to {newurl}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


_opener = urllib.request.build_opener(_Redirects)
_opener.addheaders = [("User-Agent", f"geosam-es/{geosam_es.__version__}")]


def open_remote(url: str) -> RemoteStore:
    """Open a store on a web server or in object storage, with a copy in the user's cache.

    Raises
    ------
    GeoSamError
        See `RemoteStore`.
    """
    from platformdirs import user_cache_path

    get = object_store.fetch if url.startswith("s3://") else fetch
    return RemoteStore(url, get, StoreCache(user_cache_path("geosam-es", appauthor=False) / "stores", _CACHE_BYTES))


def open_target(place: Target) -> StorePlace:
    """Return what `StoreReader` takes for a folder or an address; see `open_remote`."""
    return open_remote(place) if isinstance(place, str) else place


@contextmanager
def opened(place: Target | StorePlace) -> Iterator[StorePlace]:
    """Yield what `StoreReader` takes; the cache may then remove the copy of a store on a server."""
    if isinstance(place, RemoteStore):
        place.open()
    else:
        place = open_target(place)
    try:
        yield place
    finally:
        if isinstance(place, RemoteStore):
            place.close()


def is_there(place: Target) -> bool:
    """Tell whether there is anything in a folder's place, or a store at an address."""
    return object_store.fetch(f"{place}/{GROUP_FILE}") is not None if isinstance(place, str) else place.exists()


def metadata_of(place: Target) -> StoreMetadata:
    """Read the metadata of a store, which may lack its decoder."""
    return object_store.read_metadata(place) if isinstance(place, str) else read_metadata(place)


def has_decoder(place: Target | StorePlace, name: str, sha256: str = "") -> bool:
    """Tell whether a file of a decoder, with a hash, is where the store lies, and not only in a copy of it."""
    content = None
    if isinstance(place, Path):
        with suppress(OSError):
            content = (place / name).read_bytes()
    elif isinstance(place, str):
        content = object_store.fetch(f"{place}/{name}", MOST_DECODER)
    else:
        content = place.get(name, MOST_DECODER)
    return content is not None and (not sha256 or hashlib.sha256(content).hexdigest() == plain_sha256(sha256))


def put_decoder(place: Target, name: str, path: Path) -> None:
    """Put a file of a decoder into a store."""
    if isinstance(place, str):
        object_store.put(place, name, path.read_bytes())
    else:
        put_in_place(Path(shutil.copyfile(path, temporary_name(place))), place / name)


def create_writer(
    place: Target, metadata: StoreMetadata, decoder_files: Mapping[str, Path], overwrite: bool = False
) -> StoreWriter:
    """Create an empty store; see `StoreWriter.create`. An older one in a folder is kept until it is dropped."""
    if isinstance(place, str):
        return object_store.ObjectWriter.create_at(place, metadata, decoder_files, overwrite)
    return StoreWriter.create(place, metadata, decoder_files, overwrite, keeps_older=True)


def resume_writer(place: Target, metadata: StoreMetadata) -> StoreWriter:
    """Open a store to write its missing tiles; see `StoreWriter.resume`."""
    if isinstance(place, str):
        return object_store.ObjectWriter.resume_at(place, metadata, same_crs)
    return StoreWriter.resume(place, metadata, same_crs)


def fetch(url: str, most: int) -> bytes | None:
    """Get what is at an address; see `geosam_es.store.remote.Fetch`. What may pass is tried three times."""
    pause = 0.0
    for attempt in range(_ATTEMPTS):
        time.sleep(pause)
        pause = 0.2 * (attempt + 1)
        try:
            return _get(url, most)
        except urllib.error.HTTPError as error:
            if error.code in _NOT_THERE:
                return None
            failure: Exception = error
            if error.code < _SERVER_FAULT and error.code not in _TRY_AGAIN:
                break
            wanted = error.headers.get("Retry-After", "")
            if wanted.isdecimal():
                pause = min(int(wanted), _LONGEST_PAUSE_S)
        except (OSError, http.client.HTTPException, ValueError) as error:
            failure = error
            if isinstance(error, ValueError):
                break
    reason = " ".join(str(getattr(failure, "reason", None) or failure).split()) or type(failure).__name__
    status = f"HTTP {failure.code}, " if isinstance(failure, urllib.error.HTTPError) else ""
    raise (RefusedError if status.startswith(f"HTTP {_REFUSED}") else ServerError)(
        f"{without_query(url)} cannot be read ({status}{reason})",
        "check the address and the connection, or try again in a moment",
    ) from failure


def _request(url: str) -> urllib.request.Request:
    """Return the request for an address, which may have letters of any language, and a user and a password."""
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    path, query = quote(parts.path, safe=_SAFE), quote(parts.query, safe=_SAFE)
    request = urllib.request.Request(parts._replace(netloc=host, path=path, query=query).geturl())
    if user:
        # Another server, to which a redirect leads, does not get them.
        request.add_unredirected_header("Authorization", f"Basic {b64encode(unquote_to_bytes(user)).decode()}")
    return request


def _get(url: str, most: int) -> bytes:
    started = time.monotonic()
    content = bytearray()
    with _opener.open(_request(url), timeout=_TIMEOUT_S) as response:
        wanted = response.headers.get("Content-Length")
        while block := response.read1(_BLOCK_BYTES):
            content += block
            if len(content) > most:
                raise ValueError(f"it has more than {most} bytes")
            if time.monotonic() - started > _TIMEOUT_S + len(content) / _LEAST_BYTES_PER_S:
                raise TimeoutError("it sends too slowly")
    if wanted is not None and wanted.isdecimal() and len(content) != int(wanted):
        raise http.client.IncompleteRead(bytes(content), int(wanted) - len(content))
    return bytes(content)

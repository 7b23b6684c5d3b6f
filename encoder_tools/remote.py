"""Stores on web servers for the command line."""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request
from typing import IO
from urllib.parse import urlsplit

import geosam_es
from geosam_es.errors import ServerError
from geosam_es.store.cache import StoreCache
from geosam_es.store.remote import RemoteStore, without_query

__all__ = ["fetch", "open_remote"]

_CACHE_BYTES = 5 * 2**30
_TIMEOUT_S = 20.0
"""Longest wait for a server to connect, or to send anything."""

_LEAST_BYTES_PER_S = 10_000
"""A server that sends less does not answer."""

_ATTEMPTS = 3
_BLOCK_BYTES = 1 << 18
_NOT_THERE = (404, 410)
_SERVER_FAULT = 500


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
    """Open a store on a web server, with a copy in the user's cache.

    Raises
    ------
    GeoSamError
        See `RemoteStore`.
    """
    from platformdirs import user_cache_path

    return RemoteStore(url, fetch, StoreCache(user_cache_path("geosam-es", appauthor=False) / "stores", _CACHE_BYTES))


def fetch(url: str, most: int) -> bytes | None:
    """Get what is at an address; see `geosam_es.store.remote.Fetch`. What may pass is tried three times."""
    for attempt in range(_ATTEMPTS):
        try:
            return _get(url, most)
        except urllib.error.HTTPError as error:
            if error.code in _NOT_THERE:
                return None
            failure: Exception = error
            if error.code < _SERVER_FAULT:
                break
        except (OSError, http.client.HTTPException, ValueError) as error:
            failure = error
            if isinstance(error, ValueError):
                break
        time.sleep(0.2 * attempt)
    reason = " ".join(str(getattr(failure, "reason", None) or failure).split()) or type(failure).__name__
    status = f"HTTP {failure.code}, " if isinstance(failure, urllib.error.HTTPError) else ""
    raise ServerError(
        f"{without_query(url)} cannot be read ({status}{reason})",
        "check the address and the connection, or try again in a moment",
    ) from failure


def _get(url: str, most: int) -> bytes:
    started = time.monotonic()
    content = bytearray()
    with _opener.open(url, timeout=_TIMEOUT_S) as response:
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

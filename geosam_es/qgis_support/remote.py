"""Stores on web servers, read by QGIS's network with its proxies and certificates."""

from __future__ import annotations

from urllib.parse import urlsplit

from ..core.prompts import Bounds
from ..errors import RasterError, ServerError
from ..store.remote import RemoteStore
from .live_store import LiveOptions, store_cache
from .service import FILES, Service
from .service_request import fetch, interruptible

__all__ = ["open_remote"]


def open_remote(url: str, options: LiveOptions) -> RemoteStore:
    """Open a store on a web server, with a copy in the cache. Call it in another thread than that of the GUI.

    Raises
    ------
    GeoSamError
        See `RemoteStore`.
    """
    return RemoteStore(url, _fetch, store_cache(options))


def _fetch(url: str, most: int) -> bytes | None:
    """Get what is at an address; see `store.remote.Fetch`."""
    title = urlsplit(url).path
    service = Service(FILES, title, url, {}, "", False, Bounds(0.0, 0.0, 0.0, 0.0), 1.0, "", "")
    try:
        with interruptible():
            content = fetch(service, url)
    except RasterError as error:
        raise ServerError(error.template, error.remedy_template, **error.values) from error
    if content is not None and len(content) > most:
        raise ServerError(
            "{name} has more than {count} bytes", "check the address of the prepared image", name=title, count=most
        )
    return content

"""Stores on web servers and in object storage, read by QGIS's network with its proxies and certificates."""

from __future__ import annotations

from contextlib import suppress
from urllib.parse import urlsplit

from osgeo import gdal

from ..core.prompts import Bounds
from ..errors import RasterError, RefusedError, ServerError, marked
from ..store.remote import RemoteStore, is_object
from .gdal_raster import call_gdal
from .live_store import LiveOptions, store_cache
from .service import FILES, Service
from .service_request import fetch, interruptible

__all__ = ["open_remote"]

_BAD_REQUEST = 400
_NOT_ALLOWED = (401, 403)
_KEYS = marked(
    "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in QGIS's options (System, Environment) or the profile of AWS, "
    "or set AWS_NO_SIGN_REQUEST to YES there for a public bucket"
)
_HIDDEN = marked("check the address, and that the server shows it to everybody")
_YES = ("YES", "TRUE", "ON", "1")


def open_remote(url: str, options: LiveOptions) -> RemoteStore:
    """Open a store on a server, with a copy in the cache. Call it in another thread than that of the GUI.

    Raises
    ------
    GeoSamError
        See `RemoteStore`.
    """
    return RemoteStore(url, _fetch, store_cache(options))


def _fetch(url: str, most: int) -> bytes | None:
    """Get what is at an address; see `store.remote.Fetch`."""
    title = url if is_object(url) else urlsplit(url).path
    try:
        content = _fetch_object(title) if is_object(url) else _get(title, url)
    except RasterError as error:
        kind: type[ServerError] = ServerError
        remedy = error.remedy_template
        if error.values.get("status") in _NOT_ALLOWED:
            kind = RefusedError
            remedy = _KEYS if is_object(url) else _HIDDEN
        raise kind(error.template, remedy, **error.values) from error
    if content is not None and len(content) > most:
        raise ServerError(
            "{name} has more than {count} bytes", "check the address of the prepared image", name=title, count=most
        )
    return content


def _get(title: str, url: str) -> bytes | None:
    service = Service(FILES, title, url, {}, "", False, Bounds(0.0, 0.0, 0.0, 0.0), 1.0, "", "")
    with interruptible():
        return fetch(service, url)


def _fetch_object(url: str) -> bytes | None:
    try:
        return _get(url, _signed(url))
    except RasterError as error:
        if error.values.get("status") != _BAD_REQUEST:
            raise
    # The bucket may be in another region, which GDAL finds out and remembers.
    with suppress(OSError):
        call_gdal(gdal.VSIStatL, _gdal_name(url))
    return _get(url, _signed(url))


def _signed(url: str) -> str:
    """Return the address on the web at which the keys of GDAL open an object."""
    try:
        signed: str = call_gdal(gdal.GetSignedURL, _gdal_name(url))
    except OSError as error:
        raise ServerError("{name} cannot be read ({reason})", _KEYS, name=url, reason=str(error)) from error
    is_public = (gdal.GetConfigOption("AWS_NO_SIGN_REQUEST") or "").upper() in _YES
    return signed.partition("?")[0] if is_public else signed


def _gdal_name(url: str) -> str:
    return f"/vsis3/{url.partition('://')[2]}"

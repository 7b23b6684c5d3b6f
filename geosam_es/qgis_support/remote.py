"""Stores on web servers and in object storage, read by QGIS's network with its proxies and certificates."""

from __future__ import annotations

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
_FORBIDDEN = 403
_NOT_ALLOWED = (401, _FORBIDDEN)
_KEYS = marked(
    "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in QGIS's options (System, Environment) or your profile of AWS, "
    "and their rights"
)
_REGION = marked("set AWS_REGION to the region of the bucket in QGIS's options (System, Environment)")
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
        service = Service(FILES, title, url, {}, "", False, Bounds(0.0, 0.0, 0.0, 0.0), 1.0, "", "")
        with interruptible():
            content = fetch(service, _signed(url) if is_object(url) else url)
    except RasterError as error:
        status, remedy = error.values.get("status"), error.remedy_template
        if status in _NOT_ALLOWED:
            remedy = _KEYS if is_object(url) else _HIDDEN
        elif status == _BAD_REQUEST and is_object(url):
            remedy = _REGION
        kind = RefusedError if status == _FORBIDDEN else ServerError
        raise kind(error.template, remedy, **error.values) from error
    if content is not None and len(content) > most:
        raise ServerError(
            "{name} has more than {count} bytes", "check the address of the prepared image", name=title, count=most
        )
    return content


def _signed(url: str) -> str:
    """Return the address on the web at which the keys of GDAL open an object."""
    try:
        signed: str = call_gdal(gdal.GetSignedURL, f"/vsis3/{url.partition('://')[2]}")
    except OSError as error:
        raise ServerError(
            "{name} cannot be read: GDAL has no keys of AWS ({reason})",
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in QGIS's options (System, Environment), or "
            "AWS_NO_SIGN_REQUEST to YES for a public bucket",
            name=url,
            reason=str(error),
        ) from error
    is_public = (gdal.GetConfigOption("AWS_NO_SIGN_REQUEST") or "").upper() in _YES
    return signed.partition("?")[0] if is_public else signed

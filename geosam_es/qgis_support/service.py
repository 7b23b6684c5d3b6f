"""Layers of online services (XYZ, WMTS, WMS) as other threads see them; noted on the GUI thread by `service_of`."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from qgis.core import Qgis, QgsCoordinateReferenceSystem, QgsRasterLayer

from ..core.prompts import Bounds
from ..errors import RasterError
from ..store.raster_name import GdalName
from .crs import unit_m
from .messages import tr

__all__ = ["FILES", "WMS", "WMTS", "XYZ", "Service", "ServiceName", "service_of", "without_secrets"]

XYZ, WMTS, WMS = "XYZ", "WMTS", "WMS"
FILES = "FILES"
"""The files of a prepared image on a web server, which is no layer."""

_SECRET = re.compile(
    r"(?i).*(key|keyid|token|auth|authcfg|authorization|pass|password|passwd|pwd|user|username|login|sig|signature|"
    r"secret|credential|session|sessionid|connectid|client_?id|app_?id|app_?code|ticket|referer)"
)
"""Names of parameters whose values are not kept."""

_TOKEN = re.compile(r"(?=.*\d)(?=.*[A-Za-z])[A-Za-z0-9_.~-]{24,}")
"""A part of a path like this may be a key of the user. It is not shown, but a long name with a year looks the same."""

_NOTHING = re.compile(r"(?!)")
_NOT_OF_THE_IMAGE = {"contextualWMSLegend", "dpiMode", "featureCount", "url", "type"}
_NOT_IN_NAMES = re.compile(r"[/\\\x00-\x1f\x7f-\x9f]+")
_PLACEHOLDERS = "{}:/,"


@dataclass(frozen=True)
class ServiceName(GdalName):
    """The name of a layer that has no file. It is shown by its title: the text may hold keys of the user.

    Attributes
    ----------
    title : str
        Name of the layer, to be read.
    """

    title: str = field(default="", compare=False)

    @property
    def is_remote(self) -> bool:
        """Whether the raster comes from a server."""
        return True

    @property
    def name(self) -> str:
        """The title, without characters that a file name cannot have."""
        name = _NOT_IN_NAMES.sub("_", self.title).strip()
        return name if name.strip(".") else "layer"

    @property
    def stem(self) -> str:
        """The title, for names of files."""
        return re.sub(r"[^\w-]+", "_", self.title).strip("_") or "layer"

    def __str__(self) -> str:
        """Return the title."""
        return self.title


@dataclass(frozen=True)
class Service:
    """A layer of a service.

    Attributes
    ----------
    kind : str
        `XYZ`, `WMTS` or `WMS`, or `FILES`.
    title : str
        Name of the layer.
    url : str
        Address as the layer has it; may hold keys of the user, so it is never written.
    parameters : mapping
        The other parameters of QGIS's URI.
    crs_wkt : str
    inverts_axes : bool
        Whether the CRS has northings before eastings.
    extent : Bounds
        Of the layer, in its CRS.
    unit_m : float
        Length of the unit of the CRS in metres; at the equator for degrees.
    time : str
        The fixed time of the layer, as WMS writes it; empty if it has none.
    attribution : str
    """

    kind: str
    title: str
    url: str = field(repr=False)
    parameters: dict[str, list[str]] = field(repr=False)
    crs_wkt: str
    inverts_axes: bool
    extent: Bounds
    unit_m: float
    time: str
    attribution: str

    def parameter(self, name: str, default: str = "") -> str:
        """Return a parameter of QGIS's URI."""
        return next(iter(self.parameters.get(name, [])), default)

    @property
    def address(self) -> str:
        """The address without keys and passwords."""
        return without_secrets(self.url)

    @property
    def key(self) -> str:
        """A hash of all that decides what the images show, without keys and passwords: 64 hexadecimal digits."""
        shown = {
            name: values
            for name, values in self.parameters.items()
            if name not in _NOT_OF_THE_IMAGE and not _SECRET.fullmatch(name) and not name.startswith("http-header")
        }
        decisive = [self.kind, without_secrets(self.url, is_shown=False), shown, self.crs_wkt, self.time]
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()

    @property
    def name(self) -> ServiceName:
        """A name for stores and messages."""
        return ServiceName(self.key, None, self.title)

    @property
    def own_name(self) -> GdalName:
        """What the service itself calls the layer, which stays when the user renames it; its host if it has no name."""
        return GdalName(self.parameter("layers") or urlsplit(self.address).netloc or "layer", None)


def without_secrets(url: str, *, is_shown: bool = True) -> str:
    """Return an address without user, password and parameters with keys and tokens.

    Parameters
    ----------
    url : str
    is_shown : bool
        Whether somebody may read it, so that all that looks like a token is left out too.

    Examples
    --------
    >>> without_secrets("https://maps.example.org/wms?map=a.map&token=123")
    'https://maps.example.org/wms?map=a.map'
    """
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    hidden = _TOKEN if is_shown else _NOTHING
    path = "/".join("…" if hidden.fullmatch(part) else part for part in parts.path.split("/"))
    kept = [
        (name, value)
        for name, value in parse_qsl(parts.query, keep_blank_values=True)
        if not _SECRET.fullmatch(name) and not hidden.fullmatch(value)
    ]
    return urlunsplit((parts.scheme, host, path, urlencode(kept, safe=_PLACEHOLDERS, quote_via=quote), ""))


def service_of(layer: QgsRasterLayer) -> Service:
    """Describe a layer of QGIS's provider ``wms``. Call it on the GUI thread.

    Raises
    ------
    RasterError
        If it does not show images, or its tiles are laid out in a way that only QGIS knows.
    """
    name, provider = layer.name(), layer.dataProvider()
    parameters: dict[str, list[str]] = {}
    # QGIS writes spaces as %20, and leaves a plus as it is.
    for key, value in parse_qsl(layer.source().replace("+", "%2B"), keep_blank_values=True):
        parameters.setdefault(key, []).append(value)
    kind = parameters.get("type", [""])[0]
    matrix_set = parameters.get("tileMatrixSet")
    if parameters.get("interpretation", [""])[0] or (matrix_set is not None and not matrix_set[0]) or kind == "mbtiles":
        raise RasterError(
            tr("{name} does not show images that can be segmented").format(name=name),
            tr("choose an orthophoto: a file, or a layer of a WMS, WMTS or XYZ service"),
        )
    kind = XYZ if kind == "xyz" else WMTS if matrix_set else WMS
    crs, extent = layer.crs(), provider.extent()
    return Service(
        kind=kind,
        title=name,
        url=parameters.get("url", [""])[0],
        parameters=parameters,
        crs_wkt=crs.toWkt(),
        inverts_axes=_own_crs(parameters, crs).hasAxisInverted(),
        extent=Bounds(extent.xMinimum(), extent.yMinimum(), extent.xMaximum(), extent.yMaximum()),
        unit_m=unit_m(crs),
        time=_fixed_time(layer),
        attribution=_attribution(layer),
    )


def _own_crs(parameters: dict[str, list[str]], crs: QgsCoordinateReferenceSystem) -> QgsCoordinateReferenceSystem:
    """Return the CRS that the service is asked for; the user may have given the layer another one."""
    own = QgsCoordinateReferenceSystem(parameters.get("crs", [""])[0])
    return own if own.isValid() else crs


def _fixed_time(layer: QgsRasterLayer) -> str:
    properties: Any = layer.temporalProperties()
    if properties is None or not properties.isActive():
        return ""
    if properties.mode() != Qgis.RasterTemporalMode.FixedTemporalRange:
        return ""
    span = properties.fixedTemporalRange()
    begin, end = (moment.toUTC().toString("yyyy-MM-ddThh:mm:ssZ") for moment in (span.begin(), span.end()))
    return begin if begin == end or not end else f"{begin}/{end}"


def _attribution(layer: QgsRasterLayer) -> str:
    rights = [text for text in layer.metadata().rights() if text]
    # QGIS 3.44 deprecates the method of the layer.
    attribution = getattr(layer.serverProperties(), "attribution", layer.attribution)
    return attribution() or "; ".join(rights)

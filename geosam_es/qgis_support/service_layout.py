"""How a service lays out its images: the matrices of tiles of XYZ and WMTS, and what a WMS can be asked for."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, urlsplit

from qgis.PyQt.QtCore import QByteArray, QXmlStreamReader

from ..core.prompts import Bounds
from ..core.window import Window
from ..errors import RasterError
from .service import WMS, XYZ, Service
from .service_request import fetch

__all__ = ["Matrix", "TileLayout", "WmsLayout", "layout_of"]

_HALF_MERCATOR = 20037508.342789244
_XYZ_TILE = 256
_WMTS_PIXEL_M = 0.00028
"""Side of a pixel in the definition of WMTS's scales."""

_MOST_PIXELS = 2**30
"""Most pixels along a side: a store holds fewer than 2^31."""

_FINEST_WMS_M = 1 / 16
"""Pixel size of level 0 of a WMS, which does not say how fine its images are. It is a power of two of the CRS's unit
that is not larger than this."""

_WMS_STEP = 2**16
"""Pixels of level 0 to which the extent of a WMS is extended, so that its levels stay where they are if it grows."""

_MOST_WMS_SIDE = 1024
_MOST_KNOWN = 16
_SWITCH = re.compile(r"\{switch:([^}]*)\}")
_NO_RIGHTS = ("", "none", "no", "unknown", "ninguna", "ninguno")


class Matrix(NamedTuple):
    """The tiles of a service at one resolution.

    Attributes
    ----------
    name : str
        By which the service knows it.
    pixel : float
        Size of a pixel in map units.
    left, top : float
        Where tile (0, 0) begins.
    tile_width, tile_height : int
        In pixels.
    cols, rows : int
    """

    name: str
    pixel: float
    left: float
    top: float
    tile_width: int
    tile_height: int
    cols: int
    rows: int


@dataclass(frozen=True)
class TileLayout:
    """The matrices of a tiled service.

    Attributes
    ----------
    matrices : tuple of Matrix
        The finest first.
    url : callable
        Returns the address of a tile from its matrix, column and row.
    attribution : str
    """

    matrices: tuple[Matrix, ...]
    url: Callable[[Matrix, int, int], str] = field(repr=False)
    attribution: str = ""


@dataclass(frozen=True)
class WmsLayout:
    """What a WMS can be asked for.

    Attributes
    ----------
    pixel : float
        Size of a pixel of level 0 in map units.
    extent : Bounds
    most_width, most_height : int
        Of an image in pixels.
    url : callable
        Returns the address of an image from its rectangle on the map, its width and its height.
    attribution : str
    """

    pixel: float
    extent: Bounds
    most_width: int
    most_height: int
    url: Callable[[Bounds, int, int], str] = field(repr=False)
    attribution: str = ""


def layout_of(service: Service) -> TileLayout | WmsLayout:
    """Return how a service lays out its images. WMTS and WMS are asked once, within `interruptible`.

    Raises
    ------
    RasterError
        If the service does not answer, or does not have the layer any more.
    """
    if service.kind == XYZ:
        return _xyz(service)
    capabilities = _capabilities(service)
    try:
        return _wms(service, capabilities) if service.kind == WMS else _wmts(service, capabilities)
    except ValueError as error:
        raise _not_described(service) from error


@dataclass
class _Node:
    """An element of XML, with names without their prefix."""

    name: str
    attributes: dict[str, str]
    text: str = ""
    children: list[_Node] = field(default_factory=list)

    def all(self, *path: str) -> Iterator[_Node]:
        """Yield the elements at a path of names."""
        for child in self.children:
            if child.name == path[0]:
                yield from child.all(*path[1:]) if len(path) > 1 else (child,)

    def value(self, *path: str) -> str:
        """Return the text of the first element at a path; empty if there is none."""
        return next((node.text.strip() for node in self.all(*path)), "")


_known: dict[str, _Node] = {}
"""The capabilities that were read, by address: layers share them, and a store opens while its service is away."""


def _capabilities(service: Service) -> _Node:
    """Read the capabilities of a service, or return those that are known."""
    url = _capabilities_url(service)
    root = _known.get(url) or _tree(fetch(service, url) or b"")
    if root is None or not root.children or "exception" in root.name.lower():
        raise _not_described(service)
    if len(_known) >= _MOST_KNOWN:
        _known.clear()
    _known[url] = root
    return root


def _capabilities_url(service: Service) -> str:
    url, kind = service.url, service.kind
    asked = {name.lower() for name, _ in parse_qsl(urlsplit(url).query, keep_blank_values=True)}
    if kind != WMS and ("request" in asked or url.lower().endswith(".xml")):
        return url
    return _with_query(url, [("SERVICE", kind), ("REQUEST", "GetCapabilities")])


def _not_described(service: Service) -> RasterError:
    return RasterError(
        "{name} cannot be read: its service does not describe itself", "try again in a moment", name=service.title
    )


def _whole(text: str, usual: int) -> int:
    """Read a whole number; the usual one stands for anything else."""
    return int(text) if text.isdecimal() else usual


def _tree(content: bytes) -> _Node | None:
    reader = QXmlStreamReader(QByteArray(content))
    root = _Node("", {})
    open_nodes = [root]
    while not reader.atEnd():
        reader.readNext()
        if reader.isStartElement():
            found = reader.attributes()
            names = [found.at(index) for index in range(found.size())]
            attributes = {str(each.name()): str(each.value()) for each in names}
            node = _Node(str(reader.name()), attributes)
            open_nodes[-1].children.append(node)
            open_nodes.append(node)
        elif reader.isEndElement():
            open_nodes.pop()
        elif reader.isCharacters():
            open_nodes[-1].text += str(reader.text())
    return root.children[0] if root.children and not reader.hasError() else None


def _with_query(url: str, items: list[tuple[str, str]]) -> str:
    """Add parameters to an address, in place of those it has of the same name."""
    before, _, query = url.partition("?")
    new = {name.lower() for name, _ in items}
    kept = [part for part in query.split("&") if part and part.partition("=")[0].lower() not in new]
    return f"{before}?{'&'.join([*kept, *(f'{name}={quote(value, safe=_IN_VALUES)}' for name, value in items)])}"


_IN_VALUES = "/:,;"


def _xyz(service: Service) -> TileLayout:
    ratio = 2 if service.parameter("tilePixelRatio") == "2" else 1
    finest, coarsest = _whole(service.parameter("zmax"), 18), _whole(service.parameter("zmin"), 0)
    side = _XYZ_TILE * ratio
    corner = -_HALF_MERCATOR, _HALF_MERCATOR
    matrices = tuple(
        Matrix(str(zoom), 2 * _HALF_MERCATOR / side / 2**zoom, *corner, side, side, 2**zoom, 2**zoom)
        for zoom in range(finest, coarsest - 1, -1)
        if side * 2**zoom <= _MOST_PIXELS
    )

    def url(matrix: Matrix, col: int, row: int) -> str:
        zoom = int(matrix.name)
        values = {
            "{x}": col,
            "{y}": row,
            "{-y}": matrix.rows - 1 - row,
            "{z}": zoom,
            "{q}": _quadkey(zoom, col, row),
            "{usage}": "",
        }
        text = _SWITCH.sub(lambda match: (hosts := match[1].split(","))[(col + row) % len(hosts)], service.url)
        for name, value in values.items():
            text = text.replace(name, str(value))
        return text

    return TileLayout(matrices, url)


def _quadkey(zoom: int, col: int, row: int) -> str:
    return "".join(str((col >> bit & 1) + 2 * (row >> bit & 1)) for bit in range(zoom - 1, -1, -1))


def _wmts(service: Service, capabilities: _Node) -> TileLayout:
    title, set_name, form = service.parameter("layers"), service.parameter("tileMatrixSet"), service.parameter("format")
    layer = next((node for node in capabilities.all("Contents", "Layer") if node.value("Identifier") == title), None)
    tile_set = next(
        (node for node in capabilities.all("Contents", "TileMatrixSet") if node.value("Identifier") == set_name), None
    )
    if layer is None or tile_set is None:
        raise RasterError(
            "{name} is no longer among the layers of its service",
            "add it again in QGIS's Data Source Manager",
            name=service.title,
        )
    swaps = service.inverts_axes and not service.parameter("IgnoreAxisOrientation")
    found = [_matrix(service, node, swaps) for node in tile_set.all("TileMatrix")]
    matrices = tuple(
        sorted(
            (each for each in found if max(each.cols * each.tile_width, each.rows * each.tile_height) <= _MOST_PIXELS),
            key=lambda matrix: matrix.pixel,
        )
    )
    values = {"Layer": title, "Style": service.parameter("styles"), "TileMatrixSet": set_name}
    for part in service.parameter("tileDimensions").split(";"):
        name, _, value = part.partition("=")
        if name:
            values[name] = value
    templates = [node.attributes for node in layer.all("ResourceURL") if node.attributes.get("resourceType") == "tile"]
    template = next((each["template"] for each in templates if each.get("format") == form), "")
    get = _operation(capabilities) or service.url

    def url(matrix: Matrix, col: int, row: int) -> str:
        place = {**values, "TileMatrix": matrix.name, "TileRow": str(row), "TileCol": str(col)}
        if not template:
            request = [("SERVICE", "WMTS"), ("REQUEST", "GetTile"), ("VERSION", "1.0.0"), ("FORMAT", form)]
            return _with_query(get, [*request, *((name.upper(), value) for name, value in place.items())])
        text = template
        for name, value in place.items():
            # Not by re.sub, which would take backslashes in a value for references.
            parts = re.split(re.escape(f"{{{name}}}"), text, flags=re.IGNORECASE)
            text = quote(value, safe=_IN_VALUES).join(parts)
        return text

    return TileLayout(matrices, url, _rights(capabilities.value("ServiceIdentification", "AccessConstraints")))


def _matrix(service: Service, node: _Node, swaps: bool) -> Matrix:
    pixel = float(node.value("ScaleDenominator")) * _WMTS_PIXEL_M / service.unit_m
    first, second = (float(value) for value in node.value("TopLeftCorner").split()[:2])
    width, height, cols, rows = (
        int(node.value(name)) for name in ("TileWidth", "TileHeight", "MatrixWidth", "MatrixHeight")
    )
    extent = service.extent
    middle = (extent.min_x + extent.max_x) / 2, (extent.min_y + extent.max_y) / 2

    def covers(left: float, top: float) -> bool:
        return left <= middle[0] <= left + pixel * width * cols and top - pixel * height * rows <= middle[1] <= top

    corners = [(first, second), (second, first)]
    if swaps:
        corners.reverse()
    # Some services write the corner in the other order than their CRS has it.
    left, top = next((corner for corner in corners if covers(*corner)), corners[0])
    return Matrix(node.value("Identifier"), pixel, left, top, width, height, cols, rows)


def _operation(capabilities: _Node) -> str:
    """Return where a WMTS is asked for tiles by parameters; empty if it does not say so."""
    for operation in capabilities.all("OperationsMetadata", "Operation"):
        if operation.attributes.get("name") == "GetTile":
            for get in operation.all("DCP", "HTTP", "Get"):
                return get.attributes.get("href", "")
    return ""


def _wms(service: Service, capabilities: _Node) -> WmsLayout:
    version = capabilities.attributes.get("version", "1.3.0")
    is_newest = version.startswith("1.3")
    places = capabilities.all("Capability", "Request", "GetMap", "DCPType", "HTTP", "Get", "OnlineResource")
    advertised = next((node.attributes.get("href", "") for node in places), "")
    base = service.url if service.parameter("IgnoreGetMapUrl") or not advertised else advertised
    ignores_axes = service.parameter("IgnoreAxisOrientation")
    is_inverted = is_newest and service.inverts_axes and not ignores_axes
    is_inverted = is_inverted != bool(service.parameter("InvertAxisOrientation"))
    form = service.parameter("format", "image/png")
    # QGIS lists the uppermost layer first, and WMS the lowest.
    layers, styles = (",".join(reversed(service.parameters.get(name, []))) for name in ("layers", "styles"))
    fixed = [
        ("SERVICE", "WMS"),
        ("VERSION", version),
        ("REQUEST", "GetMap"),
        ("LAYERS", layers),
        ("STYLES", styles),
        ("CRS" if is_newest else "SRS", service.parameter("crs")),
        ("FORMAT", form),
        *([("TRANSPARENT", "TRUE")] if "jp" not in form else []),
        *([("TIME", service.time)] if service.time else []),
    ]

    def url(box: Bounds, width: int, height: int) -> str:
        left, bottom, right, top = map(repr, box)
        corners = (bottom, left, top, right) if is_inverted else (left, bottom, right, top)
        size = [("WIDTH", str(width)), ("HEIGHT", str(height)), ("BBOX", ",".join(corners))]
        return _with_query(base, [*fixed, *size])

    pixel = 2.0 ** math.floor(math.log2(_FINEST_WMS_M / service.unit_m))
    most_width, most_height = (
        min(_MOST_WMS_SIDE, _whole(capabilities.value("Service", name), 0) or _MOST_WMS_SIDE)
        for name in ("MaxWidth", "MaxHeight")
    )
    rights = _rights(capabilities.value("Service", "AccessConstraints"))
    return WmsLayout(pixel, service.extent, most_width, most_height, url, rights)


def _rights(text: str) -> str:
    return "" if text.strip().lower() in _NO_RIGHTS else " ".join(text.split())


def snapped(extent: Bounds, pixel: float) -> tuple[float, float, int, int]:
    """Return the left and top edges of an extent on a fixed lattice, and its width and height in pixels."""
    step = pixel * _WMS_STEP
    first_col, last_col = math.floor(extent.min_x / step), math.ceil(extent.max_x / step)
    first_row, last_row = math.floor(-extent.max_y / step), math.ceil(-extent.min_y / step)
    size = Window(first_col, first_row, max(1, last_col - first_col), max(1, last_row - first_row))
    return size.col_off * step, -size.row_off * step, size.width * _WMS_STEP, size.height * _WMS_STEP

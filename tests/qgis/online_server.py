"""A map server on loopback that serves one raster as XYZ, WMS and WMTS; `serve` starts it.

It also runs by itself: ``python -m tests.qgis.online_server RASTER`` prints its address and serves until it is killed.
"""

from __future__ import annotations

import re
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import numpy as np
import rasterio
from rasterio.enums import Resampling
from rasterio.io import MemoryFile
from rasterio.transform import Affine
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform_bounds

HALF = 20037508.342789244
"""Half the side of the square of Web Mercator."""

TILE = 256
MAX_ZOOM = 19
COARSEST_25830 = 4096.0
"""Pixel size of the first of the matrices in EPSG:25830, which begin at (0, 8388608) and halve 13 times."""

REDIRECT = 302
"""With this status, the content of an answer is the address to go to."""

_XYZ = re.compile(r"/xyz/(\d+)/(\d+)/(\d+)\.png")
_WMTS = re.compile(r"/wmts/tile/(\w+)/(\d+)/(\d+)/(\d+)\.png")
_EXCEPTION = (
    b"<?xml version='1.0'?><ServiceExceptionReport version='1.3.0'>"
    b"<ServiceException code='Oops'>The database is away</ServiceException></ServiceExceptionReport>"
)


@dataclass
class MapServer:
    """The server, and what it was asked.

    Attributes
    ----------
    url : str
    images : list of str
        Paths of all requests for images, in the order in which they arrived.
    at_once : int
        The most requests for images that were under way at the same time.
    delay : float
        Seconds before an image is sent.
    answer : callable, optional
        Returns the status, type and content to send instead of an image, or None to send it.
    headers : list of mapping
        The headers of the requests for images.
    """

    url: str = ""
    images: list[str] = field(default_factory=list)
    at_once: int = 0
    delay: float = 0.0
    answer: Callable[[str], tuple[int, str, bytes] | None] | None = None
    headers: list[dict[str, str]] = field(default_factory=list)
    stop: Callable[[], None] = lambda: None

    def xyz(self, zmax: int = MAX_ZOOM, more: str = "") -> str:
        """Return QGIS's URI of the XYZ layer."""
        url = quote(f"{self.url}/xyz/{{z}}/{{x}}/{{y}}.png", safe="")
        return f"type=xyz&url={url}&zmax={zmax}&zmin=0{more}"

    def wms(self, crs: str = "EPSG:25830", more: str = "") -> str:
        """Return QGIS's URI of the WMS layer."""
        url = quote(f"{self.url}/wms", safe="")
        return f"contextualWMSLegend=0&crs={crs}&dpiMode=7&format=image/png&layers=ortho&styles&url={url}{more}"

    def wmts(self, matrix_set: str = "utm", more: str = "") -> str:
        """Return QGIS's URI of the WMTS layer."""
        url = quote(f"{self.url}/wmts?SERVICE=WMTS&REQUEST=GetCapabilities", safe="")
        crs = "EPSG:25830" if matrix_set == "utm" else "EPSG:3857"
        return (
            f"contextualWMSLegend=0&crs={crs}&dpiMode=7&format=image/png&layers=ortho&styles=default"
            f"&tileMatrixSet={matrix_set}&url={url}{more}"
        )

    def reset(self) -> None:
        """Forget what was asked."""
        self.images.clear()
        self.headers.clear()
        self.at_once = 0


def serve(raster: Path) -> MapServer:
    """Serve a raster in threads of this process."""
    server = MapServer()
    lock, under_way = threading.Lock(), [0]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            """Print nothing."""

        def do_HEAD(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(raster.stat().st_size))
            self.send_header("Accept-Ranges", "bytes")
            self.end_headers()

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            query = {key.upper(): value for key, value in parse_qsl(parts.query, keep_blank_values=True)}
            if query.get("REQUEST", "").lower() == "getcapabilities":
                make = wmts_capabilities if parts.path == "/wmts" else wms_capabilities
                self.send(200, "text/xml", make(server.url, raster).encode())
                return
            with lock:
                under_way[0] += 1
                server.at_once = max(server.at_once, under_way[0])
                server.images.append(self.path)
                server.headers.append({key.lower(): value for key, value in self.headers.items()})
            try:
                time.sleep(server.delay)
                answer = server.answer(self.path) if server.answer else None
            finally:
                with lock:
                    under_way[0] -= 1
            self.send(*(answer or self.picture(parts.path, query)))

        def picture(self, path: str, query: dict[str, str]) -> tuple[int, str, bytes]:
            if path == "/file.tif":
                span = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
                first, last = (int(span[1]), int(span[2]) + 1) if span else (0, None)
                return 206 if span else 200, "image/tiff", raster.read_bytes()[first:last]
            tile, matrix = _XYZ.fullmatch(path), _WMTS.fullmatch(path)
            if tile or (matrix and matrix[1] == "mercator"):
                zoom, col, row = map(int, tile.groups()) if tile else (int(matrix[i]) for i in (2, 4, 3))
                side = 2 * HALF / 2**zoom
                left, top = -HALF + col * side, HALF - row * side
                box = (left, top - side, left + side, top)
                return image(raster, "EPSG:3857", box, TILE, TILE, is_tile=True)
            if matrix:
                level, row, col = (int(matrix[index]) for index in (2, 3, 4))
                side = COARSEST_25830 / 2**level * TILE
                left, top = col * side, 8388608.0 - row * side
                return image(raster, "EPSG:25830", (left, top - side, left + side, top), TILE, TILE, is_tile=True)
            if query.get("REQUEST") == "GetMap":
                crs = query.get("CRS") or query["SRS"]
                a, b, c, d = map(float, query["BBOX"].split(","))
                box = (b, a, d, c) if crs == "EPSG:4326" and query["VERSION"] == "1.3.0" else (a, b, c, d)
                return image(raster, crs, box, int(query["WIDTH"]), int(query["HEIGHT"]), is_tile=False)
            return 404, "text/plain", b"no such thing"

        def send(self, status: int, kind: str, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            # QGIS must not answer from its own cache what the tests count.
            self.send_header("Cache-Control", "no-store")
            if status == REDIRECT:
                self.send_header("Location", content.decode())
            self.end_headers()
            try:
                self.wfile.write(content)
            except OSError:
                self.close_connection = True

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """Say nothing of a client that went away."""

    http = Server(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{http.server_port}"
    threading.Thread(target=http.serve_forever, daemon=True).start()

    def stop() -> None:
        http.shutdown()
        http.server_close()

    server.stop = stop
    return server


@contextmanager
def serving(raster: Path) -> Iterator[MapServer]:
    """Serve a raster until the block ends."""
    server = serve(raster)
    try:
        yield server
    finally:
        server.stop()


def exception(_: str) -> tuple[int, str, bytes]:
    """Answer with an exception of OGC instead of an image."""
    return 200, "text/xml", _EXCEPTION


def status(code: int) -> Callable[[str], tuple[int, str, bytes]]:
    """Answer with an HTTP status."""
    return lambda _: (code, "text/plain", b"no")


@lru_cache(maxsize=512)
def image(
    raster: Path, crs: str, box: tuple[float, float, float, float], width: int, height: int, *, is_tile: bool
) -> tuple[int, str, bytes]:
    """Return a part of the raster as a PNG that is transparent outside; 404 for a tile beyond it."""
    with rasterio.open(raster) as source:
        left, bottom, right, top = transform_bounds(source.crs, crs, *source.bounds)
        if is_tile and (box[0] >= right or box[2] <= left or box[1] >= top or box[3] <= bottom):
            return 404, "text/plain", b"beyond the coverage"
        pixel = (box[2] - box[0]) / width, (box[3] - box[1]) / height
        transform = Affine(pixel[0], 0.0, box[0], 0.0, -pixel[1], box[3])
        warp = {"crs": crs, "transform": transform, "width": width, "height": height}
        has_alpha = source.count == 4
        with WarpedVRT(source, resampling=Resampling.average, add_alpha=not has_alpha, **warp) as shown:
            bands = shown.read()
    alpha, colours = bands[-1:], bands[:-1]
    pixels = np.concatenate([np.repeat(colours, 3, 0) if len(colours) == 1 else colours[:3], alpha])
    with warnings.catch_warnings(), MemoryFile() as memory:
        # A PNG has no position.
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with memory.open(driver="PNG", width=width, height=height, count=4, dtype="uint8") as png:
            png.write(pixels.astype(np.uint8))
        return 200, "image/png", memory.read()


def _bounds(raster: Path, crs: str) -> tuple[float, float, float, float]:
    with rasterio.open(raster) as source:
        return transform_bounds(source.crs, crs, *source.bounds)


def wms_capabilities(url: str, raster: Path) -> str:
    """Describe the WMS."""
    west, south, east, north = _bounds(raster, "EPSG:4326")
    boxes = ""
    for crs in ("EPSG:25830", "EPSG:3857"):
        left, bottom, right, top = _bounds(raster, crs)
        boxes += f'<BoundingBox CRS="{crs}" minx="{left}" miny="{bottom}" maxx="{right}" maxy="{top}"/>'
    boxes += f'<BoundingBox CRS="EPSG:4326" minx="{south}" miny="{west}" maxx="{north}" maxy="{east}"/>'
    where = (
        f'<DCPType><HTTP><Get><OnlineResource xmlns:xlink="http://www.w3.org/1999/xlink" xlink:type="simple" '
        f'xlink:href="{url}/wms?"/></Get></HTTP></DCPType>'
    )
    return f"""<?xml version="1.0"?>
<WMS_Capabilities version="1.3.0" xmlns="http://www.opengis.net/wms">
<Service><Name>WMS</Name><Title>Loopback</Title><AccessConstraints>CC BY 4.0 loopback.es</AccessConstraints>
<MaxWidth>800</MaxWidth><MaxHeight>800</MaxHeight></Service>
<Capability><Request>
<GetCapabilities><Format>text/xml</Format>{where}</GetCapabilities>
<GetMap><Format>image/png</Format>{where}</GetMap>
</Request><Exception><Format>XML</Format></Exception>
<Layer queryable="0"><Name>ortho</Name><Title>Orthophoto</Title>
<CRS>EPSG:25830</CRS><CRS>EPSG:3857</CRS><CRS>EPSG:4326</CRS>
<EX_GeographicBoundingBox><westBoundLongitude>{west}</westBoundLongitude><eastBoundLongitude>{east}</eastBoundLongitude>
<southBoundLatitude>{south}</southBoundLatitude><northBoundLatitude>{north}</northBoundLatitude>
</EX_GeographicBoundingBox>{boxes}
<Attribution><Title>Loopback Survey</Title></Attribution></Layer>
</Capability></WMS_Capabilities>"""


def wmts_capabilities(url: str, raster: Path) -> str:
    """Describe the WMTS, with one set of matrices in EPSG:25830 and one in Web Mercator."""
    west, south, east, north = _bounds(raster, "EPSG:4326")

    def matrix(name: int, scale: float, corner: str, cols: int) -> str:
        return (
            f"<TileMatrix><ows:Identifier>{name}</ows:Identifier><ScaleDenominator>{scale!r}</ScaleDenominator>"
            f"<TopLeftCorner>{corner}</TopLeftCorner><TileWidth>{TILE}</TileWidth><TileHeight>{TILE}</TileHeight>"
            f"<MatrixWidth>{cols}</MatrixWidth><MatrixHeight>{cols}</MatrixHeight></TileMatrix>"
        )

    utm = "".join(
        matrix(level, COARSEST_25830 / 2**level / 0.00028, "0.0 8388608.0", 8 * 2**level) for level in range(14)
    )
    mercator = "".join(
        matrix(level, 2 * HALF / TILE / 2**level / 0.00028, f"{-HALF!r} {HALF!r}", 2**level)
        for level in range(MAX_ZOOM + 1)
    )
    return f"""<?xml version="1.0"?>
<Capabilities xmlns="http://www.opengis.net/wmts/1.0" xmlns:ows="http://www.opengis.net/ows/1.1"
 xmlns:xlink="http://www.w3.org/1999/xlink" version="1.0.0">
<ows:ServiceIdentification><ows:Title>Loopback</ows:Title><ows:ServiceType>OGC WMTS</ows:ServiceType>
<ows:ServiceTypeVersion>1.0.0</ows:ServiceTypeVersion>
<ows:AccessConstraints>CC BY 4.0 loopback.es</ows:AccessConstraints>
</ows:ServiceIdentification>
<Contents><Layer><ows:Title>Orthophoto</ows:Title>
<ows:WGS84BoundingBox><ows:LowerCorner>{west} {south}</ows:LowerCorner><ows:UpperCorner>{east} {north}</ows:UpperCorner>
</ows:WGS84BoundingBox><ows:Identifier>ortho</ows:Identifier>
<Style isDefault="true"><ows:Identifier>default</ows:Identifier></Style><Format>image/png</Format>
<TileMatrixSetLink><TileMatrixSet>utm</TileMatrixSet></TileMatrixSetLink>
<TileMatrixSetLink><TileMatrixSet>mercator</TileMatrixSet></TileMatrixSetLink>
<ResourceURL format="image/png" resourceType="tile"
 template="{url}/wmts/tile/{{TileMatrixSet}}/{{TileMatrix}}/{{TileRow}}/{{TileCol}}.png"/></Layer>
<TileMatrixSet><ows:Identifier>utm</ows:Identifier><ows:SupportedCRS>urn:ogc:def:crs:EPSG::25830</ows:SupportedCRS>{utm}
</TileMatrixSet>
<TileMatrixSet><ows:Identifier>mercator</ows:Identifier>
<ows:SupportedCRS>urn:ogc:def:crs:EPSG::3857</ows:SupportedCRS>{mercator}</TileMatrixSet>
</Contents></Capabilities>"""


if __name__ == "__main__":
    started = serve(Path(sys.argv[1]))
    print(started.url, flush=True)
    threading.Event().wait()

"""Layers of online services as rasters: what a tile needs is asked of the service, in the thread that reads it.

The levels are those of the service: level 0 is its finest resolution, and tiles begin at its origin, so that the same
place has the same pixels whatever the map shows. A WMS, which has no resolutions of its own, gets a fixed ladder of
powers of two. A tile of which a part cannot be got is an error, and nothing of it is kept. What the service says it
does not have (HTTP status 404), and what is transparent, has no data.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qgis.PyQt.QtCore import QByteArray, Qt
from qgis.PyQt.QtGui import QImage

from ..core.geotransform import GeoTransform
from ..core.prompts import Bounds
from ..core.radiometry import Stretch
from ..core.window import Window
from ..encoding.raster_source import RasterSource, RasterTile
from ..errors import RasterError
from ..store.metadata import RasterInfo
from .service import Service
from .service_layout import Matrix, TileLayout, WmsLayout, layout_of, snapped
from .service_request import fetch, interruptible

__all__ = ["OnlineRaster"]

_KEPT_BYTES = 2**25
"""Size of the service's tiles that are kept: neighbouring tiles of the encoder share some of them."""

_SAME = 1e-4
"""Relative difference of two resolutions that count as equal; services round theirs."""

_LARGEST_RATIO = 3.0
"""How much finer the service's images may be than a level that is made of them: one tile then needs up to 9 times as
many images."""

_JPEG, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_TAIL = 64
"""Bytes within which a JPEG ends: some servers send a few more than the image."""

_COARSEST = 64
_ALPHA = 3


class OnlineRaster(RasterSource):
    """A layer of an online service.

    Parameters
    ----------
    service : Service

    Raises
    ------
    RasterError
        If the service does not describe itself, or has no images of the layer.
    """

    is_online = True

    def __init__(self, service: Service) -> None:
        self._service = service
        with interruptible():
            self._layout = layout_of(service)
        self.path = service.name
        self.crs_wkt = service.crs_wkt
        self.bands = (1, 2, 3)
        self.nodata = None
        self.dtype = np.dtype(np.uint8)
        self._kept: OrderedDict[tuple[str, int, int], bytes | None] = OrderedDict()
        self._lock = Lock()
        layout = self._layout
        if isinstance(layout, TileLayout):
            if not layout.matrices:
                raise RasterError(
                    "{name} has no tiles", "add it again in QGIS's Data Source Manager", name=service.title
                )
            finest = layout.matrices[0]
            pixel, left, top = finest.pixel, finest.left, finest.top
            self.width, self.height = finest.cols * finest.tile_width, finest.rows * finest.tile_height
            self.levels = sum(1 for _ in self._served_levels(layout.matrices))
        else:
            pixel, self.levels = layout.pixel, _COARSEST
            left, top, self.width, self.height = snapped(layout.extent, pixel)
        self.enlarges = isinstance(layout, TileLayout)
        self.transform = GeoTransform(pixel, 0.0, left, 0.0, -pixel, top)
        # Every level is read as fast as the finest.
        self.overviews = tuple(2**level for level in range(1, min(self.levels, 31)))

    def info(self) -> RasterInfo:
        """Describe the layer for a store. The fingerprint is of the service and its parameters, not of pixels."""
        service = self._service
        parts = (service.attribution or self._layout.attribution, service.address)
        return RasterInfo(
            file_name=self.path.name,
            file_bytes=0,
            width=self.width,
            height=self.height,
            fingerprint=service.key,
            crs_wkt=self.crs_wkt,
            transform=self.transform,
            attribution=", ".join(part for part in parts if part),
        )

    def read_tile(self, window: Window, scale: float, stretch: Stretch) -> RasterTile:
        """Read a tile; see `RasterSource.read_tile`."""
        with interruptible():
            return super().read_tile(window, scale, stretch)

    def read_bands(self, window: Window, scale: int) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Read a window of a level; see `RasterSource.read_bands`. Nothing outside the layer is asked for."""
        pixel = self.transform.a * scale
        left, top = self.transform.apply(window.col_off * scale, window.row_off * scale)
        layout = self._layout
        if isinstance(layout, WmsLayout):
            image = self._read_map(layout, left, top, window, pixel)
        else:
            image = self._read_tiles(layout, left, top, window, pixel)
        return np.moveaxis(image[..., :_ALPHA], -1, 0), image[..., _ALPHA] > 0

    def read_valid(self, window: Window) -> NDArray[np.bool_]:
        """Take all pixels for valid: only a tile that somebody wants is worth a request."""
        return np.ones((window.height, window.width), np.bool_)

    def read_values(self, window: Window) -> NDArray[Any]:
        """Read the native pixels with data; see `RasterSource.read_values`."""
        with interruptible():
            bands, valid = self.read_bands(window, 1)
        return bands[:, valid]

    def close(self) -> None:
        """Forget the images that were kept."""
        with self._lock:
            self._kept.clear()

    def _served_levels(self, matrices: tuple[Matrix, ...]) -> Iterator[int]:
        level, finest = 0, matrices[0].pixel
        while level < _COARSEST and finest * 2**level / _matrix_for(matrices, finest * 2**level).pixel < _LARGEST_RATIO:
            yield level
            level += 1

    def _read_map(self, layout: WmsLayout, left: float, top: float, window: Window, pixel: float) -> NDArray[np.uint8]:
        """Ask a WMS for a window, in parts that it can send, one after the other."""
        image = np.zeros((window.height, window.width, 4), np.uint8)
        extent = layout.extent
        for row in range(0, window.height, layout.most_height):
            for col in range(0, window.width, layout.most_width):
                height, width = min(layout.most_height, window.height - row), min(layout.most_width, window.width - col)
                x, y = left + col * pixel, top - row * pixel
                box = Bounds(x, y - height * pixel, x + width * pixel, y)
                if box.intersection(extent) is None:
                    continue
                content = fetch(self._service, layout.url(box, width, height), width * height)
                if content is None:
                    raise RasterError(
                        "{name} cannot be read: its service is not there any more (HTTP 404)",
                        "check the layer in QGIS's Data Source Manager",
                        name=self._service.title,
                    )
                image[row : row + height, col : col + width] = self._decode(content, width, height)
        return image

    def _read_tiles(
        self, layout: TileLayout, left: float, top: float, window: Window, pixel: float
    ) -> NDArray[np.uint8]:
        """Put a window together from the tiles of the coarsest matrix that is fine enough."""
        matrix = _matrix_for(layout.matrices, pixel)
        ratio = pixel / matrix.pixel
        if abs(ratio - 1.0) < _SAME:
            ratio = 1.0
        first_col, first_row = (left - matrix.left) / matrix.pixel, (matrix.top - top) / matrix.pixel
        part = Window(
            round(first_col), round(first_row), math.ceil(window.width * ratio), math.ceil(window.height * ratio)
        )
        found = self._mosaic(layout, matrix, part)
        return found if ratio == 1.0 else _resized(found, window.width, window.height)

    def _mosaic(self, layout: TileLayout, matrix: Matrix, part: Window) -> NDArray[np.uint8]:
        image = np.zeros((part.height, part.width, 4), np.uint8)
        wide, high = matrix.tile_width, matrix.tile_height
        for row in range(max(0, part.row_off // high), min(matrix.rows, -(-part.bounds[3] // high))):
            for col in range(max(0, part.col_off // wide), min(matrix.cols, -(-part.bounds[2] // wide))):
                tile = Window(col * wide, row * high, wide, high)
                pixels = self._tile(layout, matrix, col, row)
                if pixels is None:
                    continue
                both = tile.intersection(part)
                image[_slices(both, part)] = pixels[_slices(both, tile)]
        return image

    def _tile(self, layout: TileLayout, matrix: Matrix, col: int, row: int) -> NDArray[np.uint8] | None:
        """Return one of the service's tiles as RGBA; None if it has none there."""
        wide, high = matrix.tile_width * matrix.pixel, matrix.tile_height * matrix.pixel
        x, y = matrix.left + col * wide, matrix.top - row * high
        if Bounds(x, y - high, x + wide, y).intersection(self._service.extent) is None:
            return None
        key = (matrix.name, col, row)
        with self._lock:
            is_kept = key in self._kept
            content = self._kept.pop(key, None)
        if not is_kept:
            content = fetch(self._service, layout.url(matrix, col, row), matrix.tile_width * matrix.tile_height)
        pixels = None if content is None else self._decode(content, matrix.tile_width, matrix.tile_height)
        # Not before it turned out to be an image.
        with self._lock:
            self._kept[key] = content
            while sum(len(each or b"") for each in self._kept.values()) > _KEPT_BYTES:
                self._kept.popitem(last=False)
        return pixels

    def _decode(self, content: bytes, width: int, height: int) -> NDArray[np.uint8]:
        """Return an image as RGBA (height, width, 4)."""
        shown = QImage.fromData(QByteArray(content))
        # Qt fills up a JPEG that was cut off.
        if shown.isNull() or (content.startswith(_JPEG) and _JPEG_END not in content[-_TAIL:]):
            raise RasterError(
                "The service of {name} sent something that is not an image",
                "try again in a moment, or choose another image format for the layer",
                name=self._service.title,
            )
        if (shown.width(), shown.height()) != (width, height):
            shown = _scaled(shown, width, height)
        return _to_array(shown)


def _matrix_for(matrices: tuple[Matrix, ...], pixel: float) -> Matrix:
    """Return the coarsest matrix with pixels no larger than these, or the finest."""
    return next((each for each in reversed(matrices) if each.pixel <= pixel * (1 + _SAME)), matrices[0])


def _slices(part: Window, whole: Window) -> tuple[slice, slice]:
    """Return where a part of a window is in its array."""
    row, col = part.row_off - whole.row_off, part.col_off - whole.col_off
    return slice(row, row + part.height), slice(col, col + part.width)


def _scaled(image: QImage, width: int, height: int) -> QImage:
    modes = Qt.AspectRatioMode.IgnoreAspectRatio, Qt.TransformationMode.SmoothTransformation
    return image.scaled(width, height, *modes)


def _resized(pixels: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    pixels = np.ascontiguousarray(pixels)
    high, wide = pixels.shape[:2]
    image = QImage(pixels.tobytes(), wide, high, 4 * wide, QImage.Format.Format_RGBA8888).copy()
    return _to_array(_scaled(image, width, height))


def _to_array(image: QImage) -> NDArray[np.uint8]:
    image = image.convertToFormat(QImage.Format.Format_RGBA8888)
    size = image.bytesPerLine() * image.height()
    pixels = np.frombuffer(image.constBits().asstring(size), np.uint8)
    return pixels.reshape(image.height(), -1)[:, : 4 * image.width()].reshape(image.height(), image.width(), 4)

"""Reads rasters with the GDAL of QGIS; the tiles are the same as those of the command line, which uses rasterio."""

from __future__ import annotations

import math
import re
import uuid
import weakref
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from osgeo import gdal, osr

from ..core.geotransform import GeoTransform
from ..core.window import Window
from ..encoding.mosaic import TileIndex
from ..encoding.placement import GEOGRAPHIC, LOCAL, NO_MAP, PROJECTED, MapCrs
from ..encoding.raster import RPC_CRS, WARP_TOLERANCE_PX, TiledRaster
from ..encoding.raster_file import BandInfo, RasterFile, RasterHeader, VirtualFile
from ..errors import RasterError

__all__ = ["GdalFile", "GdalRaster", "call_gdal", "describe_crs", "image_date"]

_Result = TypeVar("_Result")

# By name, because older versions of GDAL lack the constants of newer types. Complex integers are read as floats.
_NUMPY_NAMES = {
    "Byte": "uint8",
    "Int8": "int8",
    "UInt16": "uint16",
    "Int16": "int16",
    "UInt32": "uint32",
    "Int32": "int32",
    "UInt64": "uint64",
    "Int64": "int64",
    "Float32": "float32",
    "Float64": "float64",
    "CInt16": "complex64",
    "CInt32": "complex64",
    "CFloat32": "complex64",
    "CFloat64": "complex128",
}

_DATE = re.compile(r"(\d{4})[-:/.]?(\d\d)[-:/.]?(\d\d)(?:[ T](\d\d:\d\d:\d\d))?")
_DATE_WORDS = ("DATE", "TIFFTAG_DATETIME", "SENSING", "ACQUI")
"""In names of metadata, those that tell most about the image last."""

_SERVICES = ("WMS", "WMTS", "WCS")
"""GDAL's drivers for online services, which open local files that describe them."""

_NO_TRANSFORM = (0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep GDAL from printing messages; errors are raised instead."""
    gdal.PushErrorHandler("CPLQuietErrorHandler")
    try:
        yield
    finally:
        gdal.PopErrorHandler()


def call_gdal(function: Callable[..., _Result | None], *arguments: Any, **options: Any) -> _Result:
    """Call GDAL, which returns None or raises RuntimeError, depending on a setting of the whole process."""
    with _quiet():
        gdal.ErrorReset()
        try:
            result = function(*arguments, **options)
        except RuntimeError as error:
            raise OSError(str(error)) from error
    # Older versions only warn of it and fill the rest with gray.
    if result is None or "Premature end of JPEG" in gdal.GetLastErrorMsg():
        raise OSError(gdal.GetLastErrorMsg() or "GDAL gave no reason")
    return result


class GdalRaster(TiledRaster):
    """A raster read with `osgeo.gdal`; see `TiledRaster` for the parameters and errors."""

    def open_file(self, name: str) -> RasterFile:
        """Open a file for one thread; see `TiledRaster.open_file`."""
        dataset = call_gdal(gdal.OpenEx, name, gdal.OF_RASTER)
        self.is_online = dataset.GetDriver().ShortName in _SERVICES
        band = dataset.GetRasterBand(1) if dataset.RasterCount else None
        if band is not None and band.GetMetadataItem("PIXELTYPE", "IMAGE_STRUCTURE") == "SIGNEDBYTE":
            raise RasterError(
                "{path} has signed 8-bit values, which this version of GDAL cannot read",
                "convert it with gdal_translate -ot Int16",
                path=self.path,
            )
        # The header of a virtual raster opens its sources.
        with _quiet():
            try:
                return GdalFile(dataset, name)
            except RuntimeError as error:
                raise OSError(str(error)) from error

    def read_size(self, name: str) -> tuple[int, int]:
        """Return the width and height of another raster; see `TiledRaster.read_size`."""
        dataset = call_gdal(gdal.OpenEx, name, gdal.OF_RASTER)
        return dataset.RasterXSize, dataset.RasterYSize

    def drivers(self) -> Collection[str]:
        """Return the short names of GDAL's drivers; see `TiledRaster.drivers`."""
        return {gdal.GetDriver(index).ShortName for index in range(gdal.GetDriverCount())}

    def parse_crs(self, text: str) -> str:
        """Return the WKT of a CRS that a user wrote; see `TiledRaster.parse_crs`."""
        reference = osr.SpatialReference()
        try:
            failed = bool(reference.SetFromUserInput(text))
        except RuntimeError:
            failed = True
        if failed:
            raise ValueError(text)
        return str(reference.ExportToWkt())

    def map_crs(self) -> MapCrs:
        """Describe the CRS; see `TiledRaster.map_crs`."""
        return describe_crs(self.crs_wkt)


@lru_cache(maxsize=64)
def image_date(name: str) -> str:
    """Return when an image was taken, in ISO 8601, as its metadata say; empty if they do not or it cannot be read.

    A date of acquisition comes before ``TIFFTAG_DATETIME``, which may be that of the file.
    """
    try:
        dataset = call_gdal(gdal.OpenEx, name, gdal.OF_RASTER)
    except OSError:
        return ""
    found = []
    for domain in dataset.GetMetadataDomainList() or ():
        items = dataset.GetMetadata_Dict(domain) if not domain.startswith("xml:") else {}
        found += [(key.upper(), _DATE.match(str(value).strip())) for key, value in items.items()]
    for word in reversed(_DATE_WORDS):
        match = next((match for key, match in found if word in key and match), None)
        if match is not None:
            year, month, day, time = match.groups()
            return f"{year}-{month}-{day}" + (f"T{time}" if time else "")
    return ""


def describe_crs(wkt: str) -> MapCrs:
    """Describe a CRS, to check whether coordinates may be in it."""
    crs = osr.SpatialReference()
    with _quiet():
        crs.ImportFromWkt(wkt)
    crs.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER)
    is_geographic = bool(crs.IsGeographic())
    kind = PROJECTED if crs.IsProjected() else LOCAL if crs.IsLocal() else NO_MAP
    kind = GEOGRAPHIC if is_geographic else kind
    unit = math.degrees(crs.GetAngularUnits()) if is_geographic else crs.GetLinearUnits()
    found = crs.GetAreaOfUse()
    area = (
        None
        if found is None
        else (found.west_lon_degree, found.south_lat_degree, found.east_lon_degree, found.north_lat_degree)
    )

    def to_degrees(xy: NDArray[np.float64]) -> NDArray[np.float64]:
        geodetic = crs.CloneGeogCS()
        geodetic.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER)
        with _quiet():
            transformation = osr.CoordinateTransformation(crs, geodetic)
            places = [_transform_point(transformation, x, y) for x, y in xy.tolist()]
        return np.array(places) * math.degrees(geodetic.GetAngularUnits())

    return MapCrs(str(crs.GetName()), kind, unit, area, to_degrees)


def _transform_point(transformation: Any, x: float, y: float) -> tuple[float, float]:
    try:
        longitude, latitude, _ = transformation.TransformPoint(x, y)
    except RuntimeError:
        return math.inf, math.inf
    return longitude, latitude


class GdalFile:
    """A dataset of GDAL as a `RasterFile`.

    Parameters
    ----------
    dataset : gdal.Dataset
    name : str
        What was opened.
    """

    def __init__(self, dataset: Any, name: str) -> None:
        self._source = dataset
        self._index = _read_index(dataset, name)
        self._dataset = dataset = _warp(dataset) or dataset
        bands = [dataset.GetRasterBand(index + 1) for index in range(dataset.RasterCount)]
        c, a, b, f, d, e = dataset.GetGeoTransform(can_return_null=True) or _NO_TRANSFORM
        has_transform = (c, a, b, f, d, e) != _NO_TRANSFORM
        self._header = RasterHeader(
            width=dataset.RasterXSize,
            height=dataset.RasterYSize,
            transform=GeoTransform(a, b, c, d, e, f) if has_transform else None,
            is_unwarped=bool(dataset.GetMetadata("GEOLOCATION")),
            crs_wkt=str(dataset.GetProjection() or ""),
            bands=tuple(_band_info(band) for band in bands),
            nodata=_nodata(bands[0]) if bands else None,
            palette=_palette(bands[0]) if len(bands) == 1 or _has_alpha_alone(bands[1:]) else None,
            overviews=tuple(_overviews(bands[0])) if bands else (),
            subdatasets=() if bands else tuple(name for name, _ in dataset.GetSubDatasets()),
            is_virtual=dataset.GetDriver().ShortName == "VRT",
        )

    @property
    def header(self) -> RasterHeader:
        """The properties of the file."""
        return self._header

    @property
    def index(self) -> TileIndex | None:
        """Tiles of a tile index; see `RasterFile.index`."""
        return self._index

    def read(self, bands: Sequence[int], window: Window, shape: tuple[int, int], average: bool) -> NDArray[Any]:
        """Read bands; see `RasterFile.read`."""
        resampling = gdal.GRIORA_Average if average else gdal.GRIORA_NearestNeighbour
        types = [np.dtype(self._header.bands[band - 1].dtype) for band in bands]
        # GDAL reads bands of different types in one call only by converting them to one type.
        parts = [list(bands)] if len(set(types)) == 1 else [[band] for band in bands]
        read = []
        for part in parts:
            dtype = np.dtype(self._header.bands[part[0] - 1].dtype)
            buffer = call_gdal(
                self._dataset.ReadRaster,
                *window,
                buf_xsize=shape[1],
                buf_ysize=shape[0],
                buf_type=_gdal_type(dtype),
                band_list=part,
                resample_alg=resampling,
            )
            read.append(np.frombuffer(buffer, dtype).reshape(len(part), *shape))
        return read[0].copy() if len(read) == 1 else np.concatenate(read)

    def read_masks(self, bands: Sequence[int], window: Window, shape: tuple[int, int]) -> NDArray[np.uint8]:
        """Read the masks of bands; see `RasterFile.read_masks`."""
        read = [
            call_gdal(
                self._dataset.GetRasterBand(band).GetMaskBand().ReadRaster,
                *window,
                buf_xsize=shape[1],
                buf_ysize=shape[0],
                buf_type=gdal.GDT_Byte,
                resample_alg=gdal.GRIORA_Average,
            )
            for band in bands
        ]
        return np.stack([np.frombuffer(buffer, np.uint8).reshape(shape) for buffer in read])

    def with_nodata(self, nodata: float) -> VirtualFile:
        """Return a virtual raster around this one; see `RasterFile.with_nodata`."""
        return _VirtualFile(self._dataset, nodata)


class _VirtualFile:
    """A virtual raster in the memory of GDAL, deleted with this object."""

    def __init__(self, dataset: Any, nodata: float) -> None:
        self._name = f"/vsimem/geosam_es_{uuid.uuid4().hex}.vrt"
        virtual = call_gdal(gdal.GetDriverByName("VRT").CreateCopy, self._name, dataset)
        for index in range(virtual.RasterCount):
            virtual.GetRasterBand(index + 1).SetNoDataValue(nodata)
        virtual.FlushCache()
        weakref.finalize(self, gdal.Unlink, self._name)

    @property
    def name(self) -> str:
        """The name to open it with."""
        return self._name


def _warp(dataset: Any) -> Any | None:
    """Warp a raster that has ground control points or RPCs instead of a transform to where QGIS shows it."""
    has_transform = dataset.GetGeoTransform(can_return_null=True) is not None
    points = dataset.GetGCPCount()
    if has_transform or not (points or dataset.GetMetadata("RPC")):
        return None
    # The pixels are those that QGIS makes, which leaves out the mask.
    shown = call_gdal(gdal.AutoCreateWarpedVRT, dataset, None, None, gdal.GRA_NearestNeighbour, WARP_TOLERANCE_PX)
    left, width, _, top, _, height = shown.GetGeoTransform()
    return call_gdal(
        gdal.Warp,
        "",
        dataset,
        format="VRT",
        outputBounds=(left, top + height * shown.RasterYSize, left + width * shown.RasterXSize, top),
        width=shown.RasterXSize,
        height=shown.RasterYSize,
        resampleAlg=gdal.GRA_NearestNeighbour,
        errorThreshold=WARP_TOLERANCE_PX,
        rpc=not points,
        dstSRS=None if points else RPC_CRS,
        dstAlpha=not any(
            dataset.GetRasterBand(index + 1).GetColorInterpretation() == gdal.GCI_AlphaBand
            for index in range(dataset.RasterCount)
        ),
    )


def _read_index(dataset: Any, name: str) -> TileIndex | None:
    """Read the tiles of a GDAL tile index; None for other rasters and unusual indexes."""
    if dataset.GetDriver().ShortName != "GTI":
        return None
    path = Path(name[len("GTI:") :] if name.startswith("GTI:") else name)
    layer = call_gdal(gdal.OpenEx, str(path), gdal.OF_VECTOR).GetLayer(0)
    fields = [
        layer.GetLayerDefn().GetFieldDefn(index).GetName() for index in range(layer.GetLayerDefn().GetFieldCount())
    ]
    column = next((field for field in fields if field.lower() == "location"), None)
    if column is None:
        return None
    tiles = [(tile.GetField(column), tile.geometry().GetEnvelope()) for tile in layer]
    bounds = np.array([envelope for _, envelope in tiles], dtype=np.float64).reshape(-1, 4)
    return TileIndex(path.parent, [location for location, _ in tiles], bounds[:, [0, 2, 1, 3]])


def _band_info(band: Any) -> BandInfo:
    flags = band.GetMaskFlags()
    names = {
        "all_valid": gdal.GMF_ALL_VALID,
        "per_dataset": gdal.GMF_PER_DATASET,
        "alpha": gdal.GMF_ALPHA,
        "nodata": gdal.GMF_NODATA,
    }
    masks = frozenset(name for name, flag in names.items() if flags & flag)
    dtype = _NUMPY_NAMES[gdal.GetDataTypeName(band.DataType)]
    return BandInfo(dtype, gdal.GetColorInterpretationName(band.GetColorInterpretation()).lower(), masks)


def _gdal_type(dtype: np.dtype[Any]) -> int:
    # Several GDAL types map to one NumPy type; the last one wins, which is never a complex integer.
    names = {numpy_name: name for name, numpy_name in _NUMPY_NAMES.items()}
    return int(gdal.GetDataTypeByName(names[dtype.name]))


def _nodata(band: Any) -> float | None:
    """Return the nodata value, None if the type of the band cannot hold it."""
    value = band.GetNoDataValue()
    dtype = np.dtype(_NUMPY_NAMES[gdal.GetDataTypeName(band.DataType)])
    if value is None or dtype.kind not in "fiu":
        return None
    if dtype.kind == "f" and not np.isfinite(value):
        return float(value)
    limits = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
    return float(value) if float(limits.min) <= value <= float(limits.max) else None


def _has_alpha_alone(bands: Sequence[Any]) -> bool:
    return [band.GetColorInterpretation() for band in bands] == [gdal.GCI_AlphaBand]


def _palette(band: Any) -> NDArray[np.uint8] | None:
    """Return the colour table of a palette band as RGBA (N, 4), or None for any other band."""
    if band.GetColorInterpretation() != gdal.GCI_PaletteIndex or band.GetColorTable() is None:
        return None
    dtype = np.dtype(_NUMPY_NAMES[gdal.GetDataTypeName(band.DataType)])
    colours = band.GetColorTable()
    table = np.zeros((1 << 8 * dtype.itemsize, 4), dtype=np.uint8)
    for index in range(min(colours.GetCount(), len(table))):
        table[index] = colours.GetColorEntry(index)
    return table


def _overviews(band: Any) -> Iterator[int]:
    """Yield the downsampling factor of each overview."""
    for index in range(band.GetOverviewCount()):
        overview = band.GetOverview(index)
        if overview is not None:
            yield round(band.XSize / overview.XSize)

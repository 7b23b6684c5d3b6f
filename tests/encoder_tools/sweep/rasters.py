"""The rasters of the sweep: each row makes its input in the working directory and says where the disc lies."""

from __future__ import annotations

import gzip
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import rasterio
import shapely
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.rpc import RPC
from rasterio.transform import Affine

from tests.encoder_tools.sweep.scene import (
    CENTRE,
    HEIGHT,
    PIXEL,
    UTM,
    WIDTH,
    Scene,
    X,
    Y,
    affine,
    converted,
    layer,
    pixels_of,
    tif,
    to_crs,
    vrt,
    write,
)

Make = Callable[[], "Scene | tuple[Scene, list[str]]"]
"""Makes the scene; with it may come options of ``encode``."""


def gray(dtype: str = "uint8", **keywords: Any) -> Scene:
    return tif(pixels=pixels_of(1, dtype), **keywords)


def wide(dtype: str, dark: float = 600, bright: float = 2000, **keywords: Any) -> Scene:
    """The scene with more than 8 bits, which is stretched."""
    return tif(pixels=pixels_of(3, dtype, dark, bright), **keywords)


# --- masks -----------------------------------------------------------------------------------------------------------


def masked(
    kind: str, void: float = 65535, dtype: str = "uint16", bands: int = 3, declared: float | None = None
) -> Scene:
    """The left third of the scene has no data, and values that spoil the stretch if they are counted."""
    pixels = pixels_of(bands, dtype, 600, 2000) if dtype != "uint8" else pixels_of(bands)
    pixels[:, :, :160] = void
    mask = np.full((HEIGHT, WIDTH), 255, np.uint8)
    mask[:, :160] = 0
    return with_mask(kind, pixels, mask, void if declared is None else declared)


def with_mask(kind: str, pixels: NDArray[Any], mask: NDArray[np.uint8], nodata: float) -> Scene:
    count = len(pixels)
    profile: dict[str, Any] = {"crs": UTM, "transform": affine()}
    if kind == "nodata":
        write("a.tif", pixels, nodata=nodata, **profile)
    elif kind == "alpha":
        alpha = np.where(mask[None] > 0, np.iinfo(pixels.dtype).max, 0).astype(pixels.dtype)
        write(
            "a.tif", np.concatenate([pixels, alpha]), photometric="RGB" if count == 3 else None, alpha="yes", **profile
        )
    elif kind in ("internal", "msk"):
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=kind == "internal"):
            write("a.tif", pixels, **profile)
            with rasterio.open("a.tif", "r+") as dataset:
                dataset.write_mask(mask)
        assert Path("a.tif.msk").exists() == (kind == "msk")
    else:
        write("a.tif", pixels, **profile)
    return Scene("a.tif", affine())


def sparse(kind: str) -> Scene:
    """The scene in a corner of a raster that has no data elsewhere: 2 % of the pixels have some."""
    pixels = np.full((3, 2800, 3600), 65535, np.uint16)
    mask = np.zeros(pixels.shape[1:], np.uint8)
    row, col = 60, 80
    pixels[:, row : row + HEIGHT, col : col + WIDTH] = pixels_of(3, "uint16", 600, 2000)
    mask[row : row + HEIGHT, col : col + WIDTH] = 255
    return replace(with_mask(kind, pixels, mask, 65535), centre=(CENTRE[0] + col, CENTRE[1] + row))


def vrt_nodata(values: tuple[float, ...], fill: bool = True, dtype: str = "uint16") -> Scene:
    """A virtual raster that declares nodata, for each band its own."""
    pixels = pixels_of(len(values), dtype, 600, 2000) if dtype != "uint8" else pixels_of(len(values))
    for band, value in zip(pixels, values):
        if fill:
            band[:, :160] = value

    def declare(text: str) -> str:
        for number, value in enumerate(values, 1):
            head, tail = text.split(f'band="{number}"', 1)
            end = tail.index(">") + 1
            text = f'{head}band="{number}"{tail[:end]}<NoDataValue>{value}</NoDataValue>{tail[end:]}'
        return text

    return vrt(scene=tif(pixels=pixels), edit=declare)


# --- containers ------------------------------------------------------------------------------------------------------


def zipped(name: str = "a.zip", inside: str = "a.tif") -> Scene:
    scene = tif()
    with zipfile.ZipFile(name, "w") as archive:
        archive.write("a.tif", inside)
    Path("a.tif").unlink()
    return replace(scene, image=f"/vsizip/{name}/{inside}")


def gzipped() -> Scene:
    scene = tif()
    Path("a.tif.gz").write_bytes(gzip.compress(Path("a.tif").read_bytes(), 1))
    Path("a.tif").unlink()
    return replace(scene, image="/vsigzip/a.tif.gz")


def tarred() -> Scene:
    scene = tif()
    with tarfile.open("a.tar", "w") as archive:
        archive.add("a.tif")
    Path("a.tif").unlink()
    return replace(scene, image="/vsitar/a.tar/a.tif")


def subdatasets() -> Scene:
    """A GeoTIFF of two pages, of which GDAL takes the first unless it is told otherwise."""
    tif(pixels=np.full((3, 50, 60), 60, np.uint8))
    scene = tif(append_subdataset=True)
    return replace(scene, image="GTIFF_DIR:2:a.tif")


def netcdf(inside: bool, bands: int = 1) -> Scene:
    scene = converted("a.nc", "netCDF", gray() if bands == 1 else tif())
    return replace(scene, image='NETCDF:"a.nc":Band1') if inside else scene


def hdf5() -> Scene:
    """GDAL does not write HDF5, but netCDF-4 is HDF5; read as such, it has no place."""
    return replace(converted("a.nc", "netCDF", gray(), FORMAT="NC4"), image='HDF5:"a.nc"://Band1')


def halves() -> Scene:
    """Write the left and the right half of the scene, as left.tif and right.tif."""
    pixels, half = pixels_of(), WIDTH // 2
    for name, start in (("left", 0), ("right", half)):
        tif(f"{name}.tif", x=X + start * PIXEL, pixels=pixels[:, :, start : start + half])
    return Scene("left.tif", affine())


def tile_index(name: str = "a.gti.gpkg") -> Scene:
    """A tile index of the left and the right half of the scene."""
    middle, bottom, right = X + WIDTH // 2 * PIXEL, Y - HEIGHT * PIXEL, X + WIDTH * PIXEL
    boxes = [shapely.box(X, bottom, middle, Y), shapely.box(middle, bottom, right, Y)]
    scene = halves()
    layer(name, boxes, fields={"location": ["left.tif", "right.tif"]})
    return replace(scene, image=name)


def mosaic() -> Scene:
    """A virtual mosaic of two virtual rasters."""
    scene, bands = halves(), ""
    for name in ("left", "right"):
        vrt(f"{name}.vrt", Scene(f"{name}.tif", affine()))
    for band in (1, 2, 3):
        sources = "".join(
            f'<SimpleSource><SourceFilename relativeToVRT="1">{name}.vrt</SourceFilename>'
            f'<SourceBand>{band}</SourceBand><SrcRect xOff="0" yOff="0" xSize="250" ySize="400"/>'
            f'<DstRect xOff="{x}" yOff="0" xSize="250" ySize="400"/></SimpleSource>'
            for name, x in (("left", 0), ("right", 250))
        )
        bands += f'<VRTRasterBand dataType="Byte" band="{band}">{sources}</VRTRasterBand>'
    Path("v.vrt").write_text(
        f'<VRTDataset rasterXSize="500" rasterYSize="400"><SRS>{UTM}</SRS>'
        f"<GeoTransform>{X}, {PIXEL}, 0, {Y}, 0, -{PIXEL}</GeoTransform>{bands}</VRTDataset>",
        encoding="utf-8",
    )
    return replace(scene, image="v.vrt")


def warped_vrt() -> Scene:
    """A virtual raster that GDAL warps when it is read, into another CRS."""
    tif(pixels=pixels_of(dark=60, bright=200))
    from rasterio.shutil import copy
    from rasterio.vrt import WarpedVRT

    with rasterio.open("a.tif") as source, WarpedVRT(source, crs="EPSG:25829") as warped:
        copy(warped, "w.vrt", driver="VRT")
        inverse = ~warped.transform
        disc = Scene("a.tif", affine()).on_map("EPSG:25829")
        xy = disc.centroid.coords[0]
        radius = float(np.sqrt(disc.area / abs(warped.transform.determinant) / np.pi))
        return Scene("w.vrt", warped.transform, "EPSG:25829", inverse @ xy, radius)


def world_file(name: str, driver: str, world: str) -> tuple[Scene, list[str]]:
    """An image whose place is in a world file alone."""
    write("plain.tif", pixels_of())
    converted(name, driver, Scene("plain.tif", affine()))
    Path(name + ".aux.xml").unlink(missing_ok=True)
    Path(world).write_text(f"{PIXEL}\n0\n0\n-{PIXEL}\n{X + PIXEL / 2}\n{Y - PIXEL / 2}\n", encoding="ascii")
    return Scene(name, affine()), ["--crs", UTM]


def mbtiles() -> Scene:
    crs = "EPSG:3857"
    # The resolution of zoom level 17, on its grid of tiles.
    side = 2 * np.pi * 6378137 / 2**17
    pixel = side / 256
    x, y = (65000 - 2**16) * side, (2**16 - 50000) * side
    scene = tif(crs=crs, x=x, y=y, pixel=pixel)
    made = converted("a.mbtiles", "MBTiles", scene, TILE_FORMAT="PNG")
    with rasterio.open(made.image) as dataset:
        inverse = ~dataset.transform
        return replace(made, transform=dataset.transform, centre=inverse @ scene.click)


def tagged(*colours: ColorInterp) -> Scene:
    """Bands in the order of their tags: the disc is seen in all of them but the alpha band."""
    pixels = pixels_of(len(colours))
    for band, colour in zip(pixels, colours):
        if colour == ColorInterp.alpha:
            band[:] = 255
    scene = tif(pixels=pixels)
    with rasterio.open(scene.image, "r+") as dataset:
        dataset.colorinterp = colours
    return scene


def palette() -> Scene:
    """Index 0 is the bright colour, and 1 to 16 are dark ones."""
    values = pixels_of(1)
    indexes = np.where(values > 130, 0, 1 + values % 16).astype(np.uint8)
    write("a.tif", indexes, crs=UTM, transform=affine())
    with rasterio.open("a.tif", "r+") as dataset:
        dataset.write_colormap(1, {0: (200, 210, 190, 255), **{i: (50 + i, 60, 55, 255) for i in range(1, 17)}})
    return Scene("a.tif", affine())


def scaled() -> Scene:
    scene = wide("int16")
    with rasterio.open(scene.image, "r+") as dataset:
        dataset.scales, dataset.offsets = (1e-4,) * 3, (-0.1,) * 3
    return scene


def pixel_is_point() -> Scene:
    scene = tif()
    with rasterio.open(scene.image, "r+") as dataset:
        dataset.update_tags(AREA_OR_POINT="Point")
    return scene


def turned(degrees: float) -> Affine:
    return affine() @ Affine.rotation(degrees)


def with_overviews(name: str = "a.tif", **options: Any) -> Scene:
    scene = tif(name)
    with rasterio.Env(**options), rasterio.open(name, "r+") as dataset:
        dataset.build_overviews([2, 4])
    return scene


def inherited_link() -> Scene:
    scene = tif("real.tif")
    Path("a.tif").symlink_to("real.tif")
    return replace(scene, image="a.tif")


def as_read(scene: Scene) -> Scene:
    """The scene in the CRS that GDAL reads from a format that cannot hold every one."""
    with rasterio.open(scene.image) as dataset:
        wkt = dataset.crs.to_wkt()
    return replace(scene, crs=None if wkt.startswith("LOCAL_CS") else wkt)


def big_tiff_endian() -> Scene:
    return tif(BIGTIFF="YES", ENDIANNESS="BIG")


def sidecar_crs() -> Scene:
    """A TIFF whose CRS is in its .aux.xml."""
    scene = tif(crs=None)
    wkt = pyproj.CRS(UTM).to_wkt("WKT1_GDAL").replace("<", "&lt;")
    Path("a.tif.aux.xml").write_text(f"<PAMDataset><SRS>{wkt}</SRS></PAMDataset>", encoding="utf-8")
    return replace(scene, crs=UTM)


RASTERS: Mapping[str, Make] = {
    "GeoTIFF": tif,
    "GeoTIFF, tiled": lambda: tif(tiled=True, blockxsize=128, blockysize=128),
    "GeoTIFF, strips of one row": lambda: tif(blockysize=1),
    "GeoTIFF, bands apart": lambda: tif(interleave="band"),
    "BigTIFF, big-endian": big_tiff_endian,
    "GeoTIFF, LZW and predictor": lambda: tif(compress="lzw", predictor=2),
    "GeoTIFF, DEFLATE": lambda: tif(compress="deflate", tiled=True),
    "GeoTIFF, ZSTD": lambda: tif(compress="zstd"),
    "GeoTIFF, LERC": lambda: tif(compress="lerc", max_z_error=0.5),
    "GeoTIFF, JPEG in YCbCr": lambda: tif(compress="jpeg", photometric="YCBCR", tiled=True),
    "GeoTIFF, WebP": lambda: tif(compress="webp"),
    "GeoTIFF, PackBits": lambda: tif(compress="packbits"),
    "GeoTIFF, LZMA": lambda: tif(compress="lzma"),
    "GeoTIFF, sparse blocks": lambda: tif(tiled=True, sparse_ok=True),
    "GeoTIFF with overviews": with_overviews,
    "GeoTIFF with external overviews": lambda: with_overviews(TIFF_USE_OVR=True),
    "GeoTIFF, second page": subdatasets,
    "GeoTIFF by a symbolic link": inherited_link,
    "GeoTIFF, CRS in .aux.xml": sidecar_crs,
    "COG": lambda: converted("a.tif", "COG", BLOCKSIZE="256"),
    "PNG": lambda: converted("a.png", "PNG"),
    "PNG and world file": lambda: world_file("a.png", "PNG", "a.pgw"),
    "JPEG": lambda: converted("a.jpg", "JPEG", QUALITY="90"),
    "JPEG and world file": lambda: world_file("a.jpg", "JPEG", "a.jgw"),
    "TIFF and world file": lambda: world_file("a.tif", "GTiff", "a.tfw"),
    "BMP and world file": lambda: world_file("a.bmp", "BMP", "a.bpw"),
    "JPEG2000": lambda: converted("a.jp2", "JP2OpenJPEG"),
    "WebP": lambda: converted("a.webp", "WEBP", QUALITY="95"),
    "GIF": lambda: converted("a.gif", "GIF", gray()),
    "Erdas Imagine": lambda: converted("a.img", "HFA"),
    "ENVI": lambda: converted("a.dat", "ENVI"),
    "ENVI without an extension": lambda: converted("a", "ENVI"),
    "EHdr .bil": lambda: converted("a.bil", "EHdr"),
    "ER Mapper": lambda: converted("a.ers", "ERS"),
    "PCIDSK": lambda: converted("a.pix", "PCIDSK"),
    "SAGA": lambda: converted("a.sdat", "SAGA", gray()),
    "Surfer 6": lambda: converted("a.grd", "GSBG", gray()),
    "Surfer 7": lambda: converted("a.grd", "GS7BG", gray()),
    "Surfer ASCII": lambda: converted("a.grd", "GSAG", gray()),
    "PCRaster": lambda: converted("a.map", "PCRaster", gray("float32")),
    "MRF": lambda: converted("a.mrf", "MRF"),
    "KRO": lambda: converted("a.kro", "KRO"),
    "ISIS 3": lambda: as_read(converted("a.cub", "ISIS3")),
    "R raster": lambda: converted("a.grd", "RRASTER"),
    "GRIB 2": lambda: converted("a.grb2", "GRIB"),
    "SGI": lambda: converted("a.rgb", "SGI"),
    "NITF": lambda: converted("a.ntf", "NITF", tif(crs="EPSG:32630")),
    "BT": lambda: converted("a.bt", "BT", gray("int16")),
    "Idrisi": lambda: as_read(converted("a.rst", "RST")),
    "ILWIS": lambda: as_read(converted("a.mpr", "ILWIS", gray())),
    "XYZ": lambda: (converted("a.xyz", "XYZ", gray()), ["--crs", UTM]),
    "ASCII grid": lambda: converted("a.asc", "AAIGrid", gray()),
    "ASCII grid without .prj": lambda: (ascii_without_crs(), ["--crs", UTM]),
    "GeoPackage": lambda: converted("a.gpkg", "GPKG"),
    "MBTiles": mbtiles,
    "netCDF": lambda: netcdf(False),
    "netCDF, subdataset named": lambda: netcdf(True),
    "netCDF of three bands, one named": lambda: netcdf(True, 3),
    "VRT": vrt,
    "VRT of VRTs": mosaic,
    "VRT that warps": warped_vrt,
    "vrt:// connection": lambda: replace(tif(), image="vrt://a.tif?bands=3,2,1"),
    "tile index": tile_index,
    "/vsizip/": zipped,
    "/vsizip/ with spaces and accents": lambda: zipped("el año.zip", "una carpeta/á b.tif"),
    "/vsigzip/": gzipped,
    "/vsitar/": tarred,
    "uint16": lambda: wide("uint16"),
    "uint16 of 12 bits": lambda: wide("uint16", nbits=12),
    "int16 below zero": lambda: wide("int16", -3000, -500),
    "uint32": lambda: wide("uint32", 600000, 2000000),
    "int32": lambda: wide("int32", -600000, 2000000),
    "int8": lambda: tif(pixels=pixels_of(3, "int8", -60, 60)),
    "uint64": lambda: wide("uint64"),
    "float32": lambda: wide("float32", 0.1, 0.6),
    "float64, large": lambda: wide("float64", 1e12, 3e12),
    "float16 of a float32 file": lambda: wide("float32", 0.1, 0.6, nbits=16),
    "one band": gray,
    "two bands": lambda: (tif(pixels=pixels_of(2)), ["--bands", "2"]),
    "four bands": lambda: tif(pixels=pixels_of(4)),
    "ten bands": lambda: (tif(pixels=pixels_of(10, "uint16", 600, 2000)), ["--bands", "8,4,3"]),
    "RGBA": lambda: tagged(ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha),
    "BGR by its tags": lambda: tagged(ColorInterp.blue, ColorInterp.green, ColorInterp.red),
    "alpha first": lambda: tagged(ColorInterp.alpha, ColorInterp.red, ColorInterp.green, ColorInterp.blue),
    "gray and alpha": lambda: tagged(ColorInterp.gray, ColorInterp.alpha),
    "palette": palette,
    "scale and offset": scaled,
    "AREA_OR_POINT=Point": pixel_is_point,
    "nodata 65535": lambda: masked("nodata"),
    "nodata 0 in uint8": lambda: masked("nodata", 0, "uint8"),
    "nodata 255 in uint8": lambda: masked("nodata", 255, "uint8"),
    "nodata -9999": lambda: masked("nodata", -9999, "float32"),
    "nodata NaN": lambda: masked("nodata", np.nan, "float32"),
    "nodata of the lowest float32": lambda: masked("nodata", -3.4028234663852886e38, "float32"),
    "nodata that no pixel has": lambda: masked("nodata", 700, "uint16", declared=65535),
    "infinities without nodata": lambda: infinite(),
    "nodata -32768": lambda: masked("nodata", -32768, "int16"),
    "nodata per band": lambda: vrt_nodata((65535, 65534, 0)),
    "nodata beyond the type": lambda: vrt_nodata((-9999, -9999, -9999), False, "uint8"),
    "nodata by --nodata": lambda: (masked("none"), ["--nodata", "65535"]),
    "mask .msk": lambda: masked("msk"),
    "mask inside the file": lambda: masked("internal"),
    "alpha of 16 bits": lambda: masked("alpha"),
    "gray and alpha of 16 bits": lambda: masked("alpha", bands=1),
    "VRT of a masked file": lambda: vrt(scene=masked("internal")),
    "VRT with nodata of its own": lambda: vrt_nodata((65535, 65535, 65535)),
    "sparse data, nodata": lambda: sparse("nodata"),
    "sparse data, mask inside": lambda: sparse("internal"),
    "turned by 30 degrees": lambda: tif(transform=turned(30)),
    "turned by 180 degrees": lambda: tif(transform=turned(180)),
    "south up": lambda: tif(transform=Affine(PIXEL, 0, X, 0, PIXEL, Y)),
    "east to the left": lambda: tif(transform=Affine(-PIXEL, 0, X, 0, -PIXEL, Y)),
    "sheared": lambda: tif(transform=Affine(PIXEL, 0.1, X, 0.05, -PIXEL, Y)),
    "rows and columns exchanged": lambda: tif(transform=Affine(0, PIXEL, X, PIXEL, 0, Y)),
    "pixels twice as wide as high": lambda: tif(transform=Affine(1, 0, X, 0, -0.5, Y)),
    "pixels of 1 mm": lambda: tif(pixel=0.001),
    "pixels of 100 m": lambda: tif(pixel=100),
    "coordinates far from the origin": lambda: tif(crs="EPSG:3857", x=-1.9e7, y=6e6, pixel=0.1),
}


def ascii_without_crs() -> Scene:
    scene = converted("a.asc", "AAIGrid", gray())
    Path("a.prj").unlink()
    Path("a.asc.aux.xml").unlink(missing_ok=True)
    return scene


def infinite() -> Scene:
    pixels = pixels_of(3, "float32", 0.1, 0.6)
    pixels[:, :60, :60], pixels[:, -60:, -60:] = np.inf, -np.inf
    return tif(pixels=pixels)


# --- coordinate reference systems ------------------------------------------------------------------------------------


def at(crs: str, lon: float, lat: float, pixel: float, named: str | None = None) -> Scene:
    """The scene with the middle of the disc at a place on Earth."""
    geodetic = pyproj.CRS.from_user_input("EPSG:4326")
    x, y = to_crs(shapely.Point(lon, lat), geodetic, crs).coords[0]
    return tif(crs=named or crs, x=x - CENTRE[0] * pixel, y=y + CENTRE[1] * pixel, pixel=pixel)


ROTATED_POLE = (
    'GEOGCRS["rotated",BASEGEOGCRS["WGS 84",'
    'DATUM["World Geodetic System 1984",ELLIPSOID["WGS 84",6378137,298.257223563]]],'
    'DERIVINGCONVERSION["rotated",METHOD["PROJ ob_tran o_proj=longlat"],PARAMETER["o_lon_p",0,ANGLEUNIT["degree",1]],'
    'PARAMETER["o_lat_p",39.25,ANGLEUNIT["degree",1]],PARAMETER["lon_0",18,ANGLEUNIT["degree",1]]],CS[ellipsoidal,2],'
    'AXIS["longitude",east],AXIS["latitude",north],ANGLEUNIT["degree",0.0174532925199433]]'
)

CRSS: Mapping[str, Callable[[], Scene]] = {
    "UTM north": lambda: at("EPSG:32630", -3, 40, 0.5),
    "UTM south": lambda: at("EPSG:32719", -70, -33, 0.5),
    "UTM far outside its zone": lambda: at("EPSG:25830", 4, 40, 0.5),
    "ETRS89": lambda: at("EPSG:25829", -8, 43, 0.5),
    "WGS 84": lambda: at("EPSG:4326", -3, 40, 5e-6),
    "WGS 84 in 3D": lambda: at("EPSG:4979", -3, 40, 5e-6),
    "WGS 84 on the equator and Greenwich": lambda: at("EPSG:4326", 0, 0, 5e-6),
    "ETRS89, geographic": lambda: at("EPSG:4258", 10, 60, 5e-6),
    "CRS84": lambda: at("OGC:CRS84", 10, 60, 5e-6),
    "NTF (Paris), in grads": lambda: at("EPSG:4807", 3, 47, 5e-6),
    "longitudes to 360": lambda: tif(crs="EPSG:4326", x=287.5, y=-33, pixel=5e-6),
    "longitudes across 180, to 360": lambda: tif(crs="EPSG:4326", x=179.99875, y=-17, pixel=5e-6),
    "longitudes across -180": lambda: tif(crs="EPSG:4326", x=-180.00125, y=-17, pixel=5e-6),
    "east of 180, from -180": lambda: tif(crs="EPSG:4326", x=-180, y=-17, pixel=5e-6),
    "Mercator across 180": lambda: at("EPSG:3832", 180, -17, 0.5),
    "UTM across 180": lambda: at("EPSG:32701", 180, -17, 0.5),
    "Fiji across 180": lambda: at("EPSG:3460", 180, -17, 0.5),
    "Web Mercator": lambda: at("EPSG:3857", -3, 40, 0.5),
    "Web Mercator at 80 degrees": lambda: at("EPSG:3857", 20, 80, 0.5),
    "Web Mercator beyond 180": lambda: tif(crs="EPSG:3857", x=20037508.34 - 125, y=-2e6, pixel=0.5),
    "Antarctica": lambda: at("EPSG:3031", 45, -75, 10),
    "Antarctica, 180 degrees in the disc": lambda: at("EPSG:3031", 180, -75, 10),
    "Arctic": lambda: at("EPSG:3413", -45, 75, 10),
    "Arctic, Bering strait": lambda: at("EPSG:3995", 180, 70, 10),
    "US survey feet": lambda: at("EPSG:2225", -122, 40, 1),
    "international feet": lambda: at("EPSG:2222", -110, 33, 1),
    "equirectangular": lambda: at("EPSG:32662", -3, 40, 0.5),
    "LAEA Europe": lambda: at("EPSG:3035", 10, 52, 1),
    "axes north, east (Poland)": lambda: at("EPSG:2180", 19, 52, 0.5),
    "axes north, east (Gauss-Krüger)": lambda: at("EPSG:31468", 11.5, 48, 0.5),
    "axes north, east (Japan)": lambda: at("EPSG:6677", 139.7, 35.7, 0.5),
    "axes west, south (South Africa)": lambda: south_africa(),
    "British grid": lambda: at("EPSG:27700", -2, 53, 0.5),
    "Swiss grid": lambda: at("EPSG:2056", 8, 47, 0.5),
    "Dutch grid": lambda: at("EPSG:28992", 5, 52, 0.5),
    "oblique Mercator": lambda: at("EPSG:29873", 115, 5, 0.5),
    "with heights (compound)": lambda: at("EPSG:25830", -3, 40, 0.5, "EPSG:25830+5782"),
    "shift to WGS 84 (bound)": lambda: at(
        "+proj=utm +zone=30 +ellps=intl +towgs84=-87,-98,-121,0,0,0,0 +units=m +type=crs", -3, 40, 0.5
    ),
    "custom transverse Mercator": lambda: at(
        "+proj=tmerc +lat_0=40 +lon_0=-3.5 +k=1 +x_0=1000 +y_0=2000 +ellps=GRS80 +units=m +type=crs", -3.5, 40, 0.5
    ),
    "custom, in km": lambda: at("+proj=utm +zone=30 +ellps=GRS80 +units=km +type=crs", -3, 40, 0.0005),
    "custom, on a sphere": lambda: at("+proj=laea +lat_0=40 +lon_0=-3 +R=6371000 +units=m +type=crs", -3, 40, 0.5),
    "sinusoidal (MODIS)": lambda: at("+proj=sinu +lon_0=0 +R=6371007.181 +units=m +type=crs", -3, 40, 0.5),
    "rotated pole": lambda: tif(crs=ROTATED_POLE, x=5, y=6, pixel=5e-6),
}
"""Rasters whose polygons are also right as WGS 84."""


def south_africa() -> Scene:
    """In EPSG:2048, x grows to the west; a raster of it has east to the right, as rasters have."""
    return at("EPSG:2048", 19, -33, 0.5)


def pole(crs: str, lat: float) -> Scene:
    """The pole beside the middle of the disc, inside it."""
    x, y = to_crs(shapely.Point(0, lat), "EPSG:4326", crs).coords[0]
    return tif(crs=crs, x=x - (CENTRE[0] + 20) * 10, y=y + (CENTRE[1] - 10) * 10, pixel=10)


# --- what must be refused, or be warped ------------------------------------------------------------------------------


def control_points(crs: str | None = UTM) -> Scene:
    corners = [(0, 0), (WIDTH, 0), (0, HEIGHT), (WIDTH, HEIGHT)]
    found = [(corner, affine() @ corner) for corner in corners]
    gcps = [GroundControlPoint(row, col, x, y) for (col, row), (x, y) in found]
    write("a.tif", pixels_of(), gcps=gcps, crs=CRS.from_user_input(crs) if crs else CRS())
    return Scene("a.tif", affine())


def rational_polynomials() -> Scene:
    """RPCs that say the same as the transform."""
    pixel, lon, lat = 5e-6, -3.0, 40.0
    half_lon, half_lat = pixel * WIDTH / 2, pixel * HEIGHT / 2
    one, x, y = [0.0] * 20, [0.0] * 20, [0.0] * 20
    one[0], x[1], y[2] = 1.0, 1.0, -1.0
    rpcs = RPC(
        height_off=0, height_scale=1, lat_off=lat - half_lat, lat_scale=half_lat, line_den_coeff=one, line_num_coeff=y,
        line_off=HEIGHT / 2 - 0.5, line_scale=HEIGHT / 2, long_off=lon + half_lon, long_scale=half_lon,
        samp_den_coeff=one, samp_num_coeff=x, samp_off=WIDTH / 2 - 0.5, samp_scale=WIDTH / 2, err_bias=0, err_rand=0,
    )  # fmt: skip
    write("a.tif", pixels_of(), rpcs=rpcs)
    return Scene("a.tif", affine(lon, lat, pixel), "EPSG:4326")


def geolocation() -> Scene:
    """A virtual raster whose place is in two arrays of longitudes and latitudes."""
    transform = affine(-3, 40, 5e-6)
    cols, rows = np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)
    lon, lat = transform @ (cols, rows)
    write("lon.tif", np.asarray(lon)[None]), write("lat.tif", np.asarray(lat)[None])
    write("plain.tif", pixels_of())
    items = {
        "X_DATASET": "lon.tif", "Y_DATASET": "lat.tif", "X_BAND": 1, "Y_BAND": 1, "PIXEL_OFFSET": 0, "LINE_OFFSET": 0,
        "PIXEL_STEP": 1, "LINE_STEP": 1, "SRS": "EPSG:4326",
    }  # fmt: skip
    mdis = "".join(f'<MDI key="{key}">{value}</MDI>' for key, value in items.items())

    def add(text: str) -> str:
        return text.replace("<VRTRasterBand", f'<Metadata domain="GEOLOCATION">{mdis}</Metadata><VRTRasterBand', 1)

    vrt("g.vrt", Scene("plain.tif", transform), add)
    return Scene("g.vrt", transform, "EPSG:4326")


def lost_tile_of_index() -> str:
    scene = tile_index()
    Path("right.tif").unlink()
    return scene.image


def lost_source(nested: bool = False) -> str:
    scene = mosaic() if nested else vrt()
    Path("right.tif" if nested else "a.tif").unlink()
    return scene.image


def cut(fraction: float, **profile: Any) -> str:
    """A file of which the end is missing."""
    scene = tif(**profile)
    data = Path(scene.image).read_bytes()
    Path(scene.image).write_bytes(data[: int(len(data) * fraction)])
    return scene.image


def text_file(name: str = "a.tif", text: str = "not an image") -> str:
    Path(name).write_text(text, encoding="utf-8")
    return name


def empty_folder() -> str:
    Path("folder").mkdir()
    return "folder"


def copied(scene: Scene, name: str) -> Scene:
    shutil.move(scene.image, name)
    return replace(scene, image=name)

"""The GDAL of QGIS and rasterio give the same tiles, so a store made with one can be extended with the other."""

from __future__ import annotations

import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from osgeo import gdal
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, Resampling
from rasterio.rpc import RPC
from rasterio.transform import Affine

from encoder_tools.pipeline import encode
from encoder_tools.raster import Raster
from geosam_es.core.grid import Pyramid, Tiling
from geosam_es.core.window import Window
from geosam_es.encoding.plan import EncodeOptions, make_plan
from geosam_es.encoding.stretch import decide_stretch
from geosam_es.errors import RasterError
from geosam_es.inference.encoder import ModelInfo
from geosam_es.qgis_support.gdal_raster import GdalRaster
from geosam_es.store import StoreReader
from geosam_es.store.raster_name import GdalName
from geosam_es.store.signature import check_signature, signature
from tests.encoder_tools import raster_kinds

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NodataShadowWarning")

NORTH_UP = Affine(0.5, 0.0, 700000.0, 0.0, -0.5, 4400000.0)
ROTATED = NORTH_UP @ Affine.rotation(30)
DATA = [
    "atlanta_pan_uint16_32616",
    "drone_rgba_alpha_32750",
    "naip_virginia_rgbn_26917",
    "rotterdam_4band_float_32631",
    "sentinel2_spain_13band_int16_4326",
]
JPEGS = ["naip_fields_rgb_4326", "netherlands_rgb_28992", "valencia_rgb_nodata_3395"]


def noise(bands: int, height: int, width: int, dtype: str = "uint8", top: int = 256) -> NDArray[Any]:
    """Make distinct pixels, brighter to the right."""
    random = np.random.default_rng(bands * height + width)
    slope = np.linspace(0, top * 0.5, width)
    return (random.random((bands, height, width)) * top * 0.5 + slope).astype(dtype)


def write(path: Path, pixels: NDArray[Any], **profile: Any) -> Path:
    options = {"crs": "EPSG:25830", "transform": NORTH_UP, "driver": "GTiff", **profile}
    count, height, width = pixels.shape
    with rasterio.open(path, "w", count=count, height=height, width=width, dtype=pixels.dtype, **options) as dataset:
        dataset.write(pixels)
    return path


def rgb(path: Path) -> Path:
    return write(path, noise(3, 1300, 1100))


def rgba(path: Path) -> Path:
    pixels = noise(4, 1100, 1100)
    pixels[3] = 255 * (np.arange(1100) > 300)
    return write(path, pixels, photometric="RGB", alpha="YES")


def rgba_with_nodata(path: Path) -> Path:
    pixels = noise(4, 1100, 1100)
    pixels[3] = 255 * (np.arange(1100) > 300)
    pixels[:3, :200] = 0
    return write(path, pixels, photometric="RGB", alpha="YES", nodata=0)


def uint16_with_nodata(path: Path) -> Path:
    pixels = noise(1, 1200, 1500, "uint16", 9000)
    pixels[0, ::3, ::5] = 0
    return write(path, pixels, nodata=0)


def float_with_nan(path: Path) -> Path:
    pixels = noise(4, 1100, 1200, "float32", 1)
    pixels[:, ::7, ::3] = np.nan
    return write(path, pixels)


def float_with_huge_nodata(path: Path) -> Path:
    pixels = noise(3, 500, 400, "float32", 1)
    pixels[:, :100] = np.finfo("float32").min
    return write(path, pixels, nodata=float(np.finfo("float32").min))


def palette(path: Path) -> Path:
    write(path, noise(1, 1300, 700))
    with rasterio.open(path, "r+") as dataset:
        dataset.write_colormap(1, {index: (index, 255 - index, index // 2, 255) for index in range(256)})
    return path


def masked(path: Path) -> Path:
    pixels = noise(3, 1100, 1100)
    write(path, pixels)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as dataset:
        dataset.write_mask(pixels[0] > 60)
    return path


def rotated(path: Path) -> Path:
    return write(path, noise(3, 1100, 900), transform=ROTATED)


def smaller_than_a_tile(path: Path) -> Path:
    return write(path, noise(3, 70, 90))


def with_overviews(path: Path) -> Path:
    write(path, noise(3, 2500, 2200), tiled=True)
    with rasterio.open(path, "r+") as dataset:
        dataset.build_overviews([2, 4], Resampling.average)
    return path


def bgr(path: Path) -> Path:
    write(path, noise(4, 300, 300), photometric="MINISBLACK")
    with rasterio.open(path, "r+") as dataset:
        dataset.colorinterp = [ColorInterp.blue, ColorInterp.green, ColorInterp.red, ColorInterp.undefined]
    return path


def thin(path: Path) -> Path:
    return write(path, noise(1, 3, 2500))


def mixed_types(path: Path) -> Path:
    one, two = write(path.with_name("one.tif"), noise(1, 64, 64)), write(path.with_name("two.tif"), noise(1, 64, 64))
    bands = "".join(
        f'<VRTRasterBand dataType="{kind}" band="{number}"><SimpleSource><SourceFilename>{source}</SourceFilename>'
        "<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand>"
        for number, (source, kind) in enumerate([(one, "UInt16"), (two, "Byte"), (one, "Int16")], start=1)
    )
    virtual = path.with_suffix(".vrt")
    virtual.write_text(
        '<VRTDataset rasterXSize="64" rasterYSize="64"><SRS>EPSG:25830</SRS>'
        f"<GeoTransform>700000, 0.5, 0, 4400000, 0, -0.5</GeoTransform>{bands}</VRTDataset>"
    )
    return virtual


def jpeg_2000(path: Path) -> Path:
    pixels = noise(4, 1300, 1100, "uint16", 9000)
    return write(path.with_suffix(".jp2"), pixels, driver="JP2OpenJPEG", QUALITY=100, REVERSIBLE="YES")


def with_control_points(path: Path) -> Path:
    write(path, noise(3, 500, 400), crs=None, transform=None)
    skewed = Affine(0.5, 0.1, 700000, 0.05, -0.5, 4400000)
    with rasterio.open(path, "r+") as dataset:
        corners = [(0, 0), (400, 0), (0, 500), (400, 500)]
        points = [GroundControlPoint(row, col, *(skewed @ (col, row))) for col, row in corners]
        dataset.gcps = points, CRS.from_epsg(25830)
    return path


def with_rpcs(path: Path) -> Path:
    one = [1.0] + [0.0] * 19
    rpcs = RPC(
        height_off=0, height_scale=500, lat_off=40, lat_scale=1e-3, line_den_coeff=one,
        line_num_coeff=[0, 0.1, -1] + [0] * 17, line_off=250, line_scale=250, long_off=-3, long_scale=1e-3,
        samp_den_coeff=one, samp_num_coeff=[0, 1] + [0] * 18, samp_off=200, samp_scale=200,
        err_bias=None, err_rand=None,
    )  # fmt: skip
    return write(path, noise(3, 500, 400), crs=None, transform=None, rpcs=rpcs)


def subdataset(path: Path) -> GdalName:
    write(path, noise(1, 60, 70))
    write(path, noise(3, 600, 700), append_subdataset="YES")
    return GdalName(f"GTIFF_DIR:2:{path}", path)


def zipped(path: Path) -> GdalName:
    archive = path.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w") as file:
        file.write(write(path, noise(3, 600, 700)), "a.tif")
    return GdalName(f"/vsizip/{archive}/a.tif", archive)


def sparse(path: Path) -> Path:
    pixels = noise(1, 2500, 2500, "uint16", 9000) + 1
    pixels[0, ~np.eye(2500, dtype=bool)] = 0
    return write(path, pixels, nodata=0, tiled=True)


KINDS = [
    with_control_points,
    with_rpcs,
    subdataset,
    zipped,
    sparse,
    rgb,
    rgba,
    rgba_with_nodata,
    uint16_with_nodata,
    float_with_nan,
    float_with_huge_nodata,
    palette,
    masked,
    rotated,
    smaller_than_a_tile,
    with_overviews,
    bgr,
    thin,
    mixed_types,
    jpeg_2000,
]


class PixelEncoder:
    """The features are every eighth pixel, so different tiles give different stores."""

    info = ModelInfo("pixels", "d" * 64, "CC0-1.0", {"image_embeddings": (3, 128, 128)})
    default_batch_size = 1

    def encode(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        return {"image_embeddings": np.moveaxis(images[:, ::8, ::8], -1, 1).astype(np.float32)}


def tiles(raster: Any) -> list[tuple[NDArray[np.uint8], bool]]:
    pyramid, stretch = Pyramid(raster.width, raster.height, Tiling()), decide_stretch(raster)
    return [tuple(raster.read_tile(pyramid.window(tile), 1 << tile.level, stretch)) for tile in pyramid]


def assert_alike(path: Path | GdalName, most: int = 0, mean: float = 0.0, **options: Any) -> None:
    """Check that both read the same within ``most`` grey levels per pixel and ``mean`` on average."""
    theirs, ours = Raster(path, **options), GdalRaster(path, **options)
    assert (ours.bands, ours.dtype) == (theirs.bands, theirs.dtype)
    assert tuple(ours.transform) == pytest.approx(tuple(theirs.transform), rel=1e-10, abs=1e-9)
    assert str(ours.nodata) == str(theirs.nodata)
    assert decide_stretch(ours) == decide_stretch(theirs)
    for (expected, has_data), (found, also) in zip(tiles(theirs), tiles(ours)):
        difference = np.abs(expected.astype(int) - found)
        assert difference.max() <= most and difference.mean() <= mean
        assert has_data == also


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_the_same_tiles(tmp_path: Path, kind: Any) -> None:
    path = kind(tmp_path / "a.tif")
    assert_alike(path)
    assert GdalRaster(path).info().fingerprint == Raster(path).info().fingerprint


@pytest.mark.parametrize("name", [name for name in raster_kinds.KINDS if name != "mask in a JPEG"])
def test_every_kind_of_raster(tmp_path: Path, name: str) -> None:
    kind = raster_kinds.KINDS[name](tmp_path / "a.tif")
    if name.startswith("int8") and int(gdal.VersionInfo()) < 3_070_000:
        with pytest.raises(RasterError, match=r"a\.tif has signed 8-bit values"):
            GdalRaster(kind.path)
        return
    raster_kinds.check(GdalRaster(kind.path, **kind.options), kind)
    assert_alike(kind.path, **kind.options)


@pytest.mark.parametrize("options", [{"bands": (4, 1, 2)}, {"bands": (2,)}, {"nodata": 40}, {"crs": "EPSG:25831"}])
def test_the_same_options(tmp_path: Path, options: dict[str, Any]) -> None:
    assert_alike(write(tmp_path / "a.tif", noise(4, 1100, 300)), **options)


@pytest.mark.parametrize("name", DATA)
def test_real_orthophotos(data_folder: Path, name: str) -> None:
    assert_alike(data_folder / "ortho" / f"{name}.tif")


@pytest.mark.parametrize("name", JPEGS)
def test_jpeg_differs_only_by_rounding(data_folder: Path, name: str) -> None:
    """Builds of GDAL have different JPEG libraries, and JPEG does not define how to round."""
    path = data_folder / "ortho" / f"{name}.tif"
    assert_alike(path, most=30, mean=0.5)
    check_signature(
        path,
        {"raster fingerprint": Raster(path).info().fingerprint},
        {"raster fingerprint": GdalRaster(path).info().fingerprint},
        "",
    )


@pytest.mark.parametrize("kind", [rgb, rgba, uint16_with_nodata, float_with_nan, palette, rotated, smaller_than_a_tile])
def test_both_make_the_same_store(tmp_path: Path, kind: Any) -> None:
    path = kind(tmp_path / "a.tif")
    decoder = tmp_path / "decoder.onnx"
    decoder.write_bytes(b"any")
    stores = []
    for raster in (Raster(path), GdalRaster(path)):
        plan = make_plan(raster, PixelEncoder(), EncodeOptions())
        stores.append(tmp_path / f"{type(raster).__name__}.embeddings.zarr")
        encode(plan, PixelEncoder(), stores[-1], lambda: {"decoder.onnx": decoder})
    first, second = (StoreReader(store) for store in stores)
    assert signature(first.metadata) == signature(second.metadata)
    unlike = {"created": "", "raster": replace(first.metadata.raster, crs_wkt="")}
    assert replace(first.metadata, **unlike) == replace(
        second.metadata, created="", raster=replace(second.metadata.raster, crs_wkt="")
    )
    assert chunks(stores[0]) == chunks(stores[1])
    # A store made with one library is complete for the other.
    plan = make_plan(GdalRaster(path), PixelEncoder(), EncodeOptions())
    report = encode(plan, PixelEncoder(), stores[0], dict, resume=True)
    assert (report.encoded, report.skipped) == (0, 0) and report.resumed == len(plan.pyramid)


def chunks(store: Path) -> dict[str, bytes]:
    files = [path for path in store.rglob("*") if path.is_file() and path.parent != store]
    return {path.relative_to(store).as_posix(): path.read_bytes() for path in files}


def test_a_file_without_crs_gets_that_of_the_layer(tmp_path: Path) -> None:
    bare = write(tmp_path / "a.tif", noise(3, 64, 64), crs=None)
    with pytest.raises(RasterError, match=r"a\.tif has no coordinate reference system"):
        GdalRaster(bare)
    assert "25830" in GdalRaster(bare, crs="EPSG:25830").crs_wkt
    with pytest.raises(RasterError, match="EPSG:0 is not a coordinate reference system"):
        GdalRaster(bare, crs="EPSG:0")
    tagged = write(tmp_path / "b.tif", noise(3, 64, 64))
    assert "25831" in GdalRaster(tagged, crs="EPSG:25831").crs_wkt


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_errors(tmp_path: Path) -> None:
    with pytest.raises(RasterError, match=r"none\.tif does not exist"):
        GdalRaster(tmp_path / "none.tif")
    (tmp_path / "text.tif").write_text("no raster")
    with pytest.raises(RasterError, match=r"text\.tif is not a raster that GDAL can read"):
        GdalRaster(tmp_path / "text.tif")
    with pytest.raises(RasterError, match=r"nowhere\.tif has no geotransform"):
        GdalRaster(write(tmp_path / "nowhere.tif", noise(3, 8, 8), transform=None))
    with pytest.raises(RasterError, match=r"no band 4 in .*few\.tif, which has 3 band\(s\)"):
        GdalRaster(write(tmp_path / "few.tif", noise(3, 8, 8)), bands=(4, 1, 2))
    with pytest.raises(RasterError, match=r"radar\.tif has complex values"):
        GdalRaster(write(tmp_path / "radar.tif", noise(1, 8, 8).astype("complex64")))


def test_sources_of_a_mosaic(tmp_path: Path) -> None:
    virtual = mixed_types(tmp_path / "a.tif")
    assert GdalRaster(virtual).width == 64
    write(tmp_path / "two.tif", noise(1, 8, 8))
    (tmp_path / "one.tif").write_text("damaged")
    with pytest.raises(RasterError, match=r"a\.vrt refers to .*one\.tif, which GDAL cannot read"):
        GdalRaster(virtual)
    (tmp_path / "one.tif").unlink()
    with pytest.raises(RasterError, match=r"a\.vrt refers to .*one\.tif, which does not exist"):
        GdalRaster(virtual)


@pytest.mark.parametrize("exceptions", [True, False])
def test_a_truncated_file(tmp_path: Path, exceptions: bool, capfd: pytest.CaptureFixture[str]) -> None:
    """GDAL's exceptions are a setting of the whole process."""
    path = write(tmp_path / "a.tif", noise(3, 1500, 1500), compress="deflate")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    before = gdal.GetUseExceptions()
    (gdal.UseExceptions if exceptions else gdal.DontUseExceptions)()
    try:
        raster = GdalRaster(path)
        with pytest.raises(RasterError, match=r"a\.tif is truncated or damaged: its pixels at 0,500 cannot be read"):
            raster.read_bands(Window(0, 500, 900, 900), 1)
        assert bool(gdal.GetUseExceptions()) is exceptions
    finally:
        (gdal.UseExceptions if before else gdal.DontUseExceptions)()
    assert "ERROR" not in capfd.readouterr().err


@pytest.mark.parametrize("driver", ["PNG", "JPEG"])
def test_a_truncated_picture(tmp_path: Path, driver: str, capfd: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "a.img", noise(3, 900, 900), driver=driver)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(RasterError, match=r"a\.img is truncated or damaged"):
        GdalRaster(path).read_bands(Window(0, 0, 900, 900), 1)
    assert capfd.readouterr().err == ""


def test_a_file_that_describes_an_online_service_is_online(tmp_path: Path) -> None:
    path = tmp_path / "osm.xml"
    path.write_text("""<GDAL_WMS><Service name="TMS"><ServerUrl>http://127.0.0.1:9/${z}/${x}/${y}.png</ServerUrl></Service>
<DataWindow><UpperLeftX>-20037508.34</UpperLeftX><UpperLeftY>20037508.34</UpperLeftY><LowerRightX>20037508.34</LowerRightX>
<LowerRightY>-20037508.34</LowerRightY><TileLevel>18</TileLevel><TileCountX>1</TileCountX><TileCountY>1</TileCountY>
<YOrigin>top</YOrigin></DataWindow><Projection>EPSG:3857</Projection><BlockSizeX>256</BlockSizeX>
<BlockSizeY>256</BlockSizeY><BandsCount>3</BandsCount></GDAL_WMS>""")
    assert GdalRaster(path).is_online
    assert not GdalRaster(write(tmp_path / "a.tif", noise(3, 64, 64))).is_online


def test_threads_have_handles_of_their_own(tmp_path: Path) -> None:
    pixels = noise(3, 256, 256)
    raster = GdalRaster(write(tmp_path / "a.tif", pixels, tiled=True, blockxsize=64, blockysize=64), nodata=3)
    windows = [Window(col, row, 64, 64) for row in range(0, 192, 8) for col in range(0, 192, 8)]
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda window: raster.read_bands(window, 1)[0], windows))
    for window, found in zip(windows, read):
        left, top, right, bottom = window.bounds
        np.testing.assert_array_equal(found, pixels[:, top:bottom, left:right])


def test_a_closed_raster_reopens_on_reading(tmp_path: Path) -> None:
    pixels = noise(3, 64, 64)
    path = write(tmp_path / "a.tif", pixels)
    raster = GdalRaster(path)
    raster.close()
    path.unlink()
    with pytest.raises(RasterError, match="does not exist"):
        raster.read_bands(Window(0, 0, 64, 64), 1)
    write(path, pixels)
    np.testing.assert_array_equal(raster.read_bands(Window(0, 0, 64, 64), 1)[0], pixels)


def test_virtual_files_are_deleted(tmp_path: Path) -> None:
    path = float_with_nan(tmp_path / "a.tif")
    before = gdal.ReadDir("/vsimem/") or []
    for _ in range(5):
        GdalRaster(path).read_bands(Window(0, 0, 64, 64), 1)
    assert (gdal.ReadDir("/vsimem/") or []) == before


def test_overviews(tmp_path: Path) -> None:
    assert GdalRaster(with_overviews(tmp_path / "a.tif")).overviews == (2, 4)
    assert GdalRaster(rgb(tmp_path / "b.tif")).overviews == ()

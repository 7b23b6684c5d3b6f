"""Reading every kind of raster that orthophotos come in."""

from __future__ import annotations

import os
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pyproj
import pytest
import rasterio
import rasterio.shutil
import shapely
from hypothesis import given
from hypothesis import strategies as st
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, Resampling
from rasterio.rpc import RPC
from rasterio.transform import Affine

from encoder_tools.raster import Raster, RasterioFile
from geosam_es.core.grid import Pyramid, Tiling
from geosam_es.core.radiometry import Stretch
from geosam_es.core.window import Window
from geosam_es.encoding.raster_file import RasterFile
from geosam_es.encoding.stretch import decide_stretch
from geosam_es.errors import RasterError
from geosam_es.inference.encoder import FILL_RGB, TILE_SIZE
from tests.encoder_tools import raster_kinds
from tests.encoder_tools.scenes import ramp, write_raster

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NodataShadowWarning")

PALETTE = ((255, 0, 0, 255), (0, 200, 10, 255), (9, 9, 9, 0))


def read_whole(raster: Raster, scale: int = 1) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    return raster.read_bands(Window(0, 0, raster.width // scale, raster.height // scale), scale)


def write_vrt(path: Path, *bands: tuple[Path, int, str]) -> Path:
    """Write a virtual raster of 64 x 64 pixels from bands of other files."""
    parts = [
        f'<VRTRasterBand dataType="{kind}" band="{number}"><SimpleSource><SourceFilename>{source}</SourceFilename>'
        f"<SourceBand>{band}</SourceBand></SimpleSource></VRTRasterBand>"
        for number, (source, band, kind) in enumerate(bands, start=1)
    ]
    path.write_text(
        '<VRTDataset rasterXSize="64" rasterYSize="64"><SRS>EPSG:25830</SRS>'
        f"<GeoTransform>700000, 0.5, 0, 4400000, 0, -0.5</GeoTransform>{''.join(parts)}</VRTDataset>"
    )
    return path


@pytest.mark.parametrize("name", raster_kinds.KINDS)
def test_every_kind_of_raster(tmp_path: Path, name: str) -> None:
    kind = raster_kinds.KINDS[name](tmp_path / "a.tif")
    raster_kinds.check(Raster(kind.path, **kind.options), kind)


@pytest.mark.parametrize(
    ("bands", "chosen", "expected"),
    [
        (1, None, (1, 1, 1)),
        (2, None, (1, 1, 1)),
        (3, None, (1, 2, 3)),
        (13, None, (1, 2, 3)),
        (13, (4, 1, 2), (4, 1, 2)),
        (13, (8,), (8, 8, 8)),
        (4, (3, 3, 1), (3, 3, 1)),
    ],
)
def test_bands(tmp_path: Path, bands: int, chosen: tuple[int, ...] | None, expected: tuple[int, ...]) -> None:
    pixels = ramp(bands, dtype="uint16")
    raster = Raster(write_raster(tmp_path / "a.tif", pixels), chosen)
    assert raster.bands == expected
    read, valid = read_whole(raster)
    assert valid.all()
    np.testing.assert_array_equal(read, pixels[[band - 1 for band in expected]])


def test_bands_are_taken_by_their_colours(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "bgr.tif", ramp(4), photometric="MINISBLACK")
    with rasterio.open(path, "r+") as dataset:
        dataset.colorinterp = [ColorInterp.blue, ColorInterp.green, ColorInterp.red, ColorInterp.undefined]
    assert Raster(path).bands == (3, 2, 1)


def test_grey_with_alpha_is_grey(tmp_path: Path) -> None:
    pixels = ramp(2)
    pixels[1] = np.where(np.arange(64) < 32, 255, 0)
    raster = Raster(write_raster(tmp_path / "a.tif", pixels, photometric="MINISBLACK", alpha="YES"))
    assert raster.bands == (1, 1, 1)
    _, valid = read_whole(raster)
    assert valid[:, :32].all() and not valid[:, 32:].any()


@pytest.mark.parametrize("scale", [1, 4])
def test_alpha(tmp_path: Path, scale: int) -> None:
    pixels = np.full((4, 64, 64), 200, np.uint8)
    pixels[3, :, :32] = 0
    pixels[:3, :, :32] = 1
    raster = Raster(write_raster(tmp_path / "a.tif", pixels, photometric="RGB", alpha="YES"))
    read, valid = read_whole(raster, scale)
    assert not valid[:, : 32 // scale].any() and valid[:, 32 // scale :].all()
    assert (read[:, valid] == 200).all()


@pytest.mark.parametrize("scale", [1, 2, 8])
@pytest.mark.parametrize("source", ["tag", "option", "mask"])
def test_nodata_does_not_bleed_into_coarse_levels(tmp_path: Path, scale: int, source: str) -> None:
    """Every third column has no data: a plain average would darken every coarse pixel."""
    pixels = np.full((3, 64, 64), 100, np.uint8)
    pixels[:, :, ::3] = 7
    path = write_raster(tmp_path / "a.tif", pixels, nodata=7 if source == "tag" else None)
    if source == "mask":
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as dataset:
            dataset.write_mask(pixels[0] != 7)
    raster = Raster(path, nodata=7 if source == "option" else None)
    read, valid = read_whole(raster, scale)
    assert (read[:, valid] == 100).all()
    assert valid.all() if scale > 1 else (valid == (pixels[0] != 7)).all()


@pytest.mark.parametrize("source", ["nodata", "mask", "alpha", "NaN"])
def test_a_line_of_data_is_seen_in_every_level(tmp_path: Path, source: str) -> None:
    """A line of one pixel is 1/64 of the pixels that it crosses in level 6."""
    pixels = np.zeros((3, 4096, 128), np.float32 if source == "NaN" else np.uint8)
    pixels[:, :, 77] = 50 + np.arange(4096) // 64
    has_data = pixels[0] > 0
    if source == "NaN":
        pixels[:, ~has_data] = np.nan
    if source == "alpha":
        pixels = np.concatenate([pixels, 255 * has_data[None].astype(np.uint8)])
    profile = (
        {"nodata": 0} if source == "nodata" else {"photometric": "RGB", "alpha": "YES"} if source == "alpha" else {}
    )
    path = write_raster(tmp_path / "a.tif", pixels, **profile)
    if source == "mask":
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as dataset:
            dataset.write_mask(has_data)
    raster = Raster(path)
    for scale in (1, 8, 64):
        read, valid = read_whole(raster, scale)
        assert valid[:, 77 // scale].all() and np.count_nonzero(valid) == 4096 // scale
        expected = 50 + np.arange(4096 // scale) * scale // 64
        np.testing.assert_array_equal(read[0][:, 77 // scale], expected)
        assert raster.read_tile(Window(0, 0, 128 // scale, 1024 // scale), scale, Stretch(((0, 255),) * 3)).has_data


@pytest.mark.parametrize("scale", [1, 2, 8])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_scattered_nan_does_not_spread(tmp_path: Path, scale: int, dtype: str) -> None:
    pixels = np.full((1, 64, 64), 0.5, dtype)
    pixels[0, ::5, ::2] = np.nan
    raster = Raster(write_raster(tmp_path / "a.tif", pixels))
    read, valid = read_whole(raster, scale)
    assert (read[:, valid] == 0.5).all()
    assert valid.all() if scale > 1 else (valid == np.isfinite(pixels[0])).all()


def test_no_data_only_where_no_chosen_band_has_any(tmp_path: Path) -> None:
    """Zero in one band of a tagged image is a dark pixel, not a hole."""
    pixels = np.full((4, 8, 8), 50, np.uint8)
    pixels[0, :2] = 0
    pixels[:3, 6:] = 0
    raster = Raster(write_raster(tmp_path / "a.tif", pixels, nodata=0))
    _, valid = read_whole(raster)
    assert valid[:6].all() and not valid[6:].any()


@pytest.mark.parametrize("scale", [1, 4])
def test_nodata_does_not_hide_alpha(tmp_path: Path, scale: int) -> None:
    pixels = np.full((4, 64, 64), 100, np.uint8)
    pixels[3, :32] = 0
    pixels[:3, :, :32] = 0
    path = write_raster(tmp_path / "a.tif", pixels, photometric="RGB", alpha="YES", nodata=0)
    _, valid = read_whole(Raster(path), scale)
    half = 32 // scale
    assert valid[half:, half:].all() and not valid[:half].any() and not valid[:, :half].any()


def test_nodata_of_the_user_replaces_the_files(tmp_path: Path) -> None:
    pixels = ramp(3)
    raster = Raster(write_raster(tmp_path / "a.tif", pixels, nodata=0), nodata=5)
    _, valid = read_whole(raster)
    assert raster.nodata == 5
    np.testing.assert_array_equal(valid, (pixels != 5).any(axis=0))


@pytest.mark.parametrize(("dtype", "nodata"), [("uint8", -9999), ("uint8", 256), ("int16", 0.5), ("uint16", np.nan)])
def test_nodata_that_the_type_cannot_hold(tmp_path: Path, dtype: str, nodata: float) -> None:
    path = write_raster(tmp_path / "a.tif", ramp(1, dtype=dtype))
    with pytest.raises(RasterError, match=r"--nodata .* is not a valid value of .*a\.tif"):
        Raster(path, nodata=nodata)


def test_int16_with_nodata(tmp_path: Path) -> None:
    pixels = ramp(3, dtype="int16") - 100
    pixels[:, :10] = -32768
    raster = Raster(write_raster(tmp_path / "a.tif", pixels, nodata=-32768))
    _, valid = read_whole(raster)
    assert not valid[:10].any() and valid[10:].all()
    stretch = decide_stretch(raster)
    assert stretch.limits is not None and all(-100 <= low < high <= 151 for low, high in stretch.limits)


def test_huge_float_nodata_is_silent(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).random((3, 64, 64), dtype=np.float32)
    pixels[:, :20] = np.finfo(np.float32).min
    raster = Raster(write_raster(tmp_path / "a.tif", pixels, nodata=float(np.finfo(np.float32).min)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tile = raster.read_tile(Window(0, 0, 64, 64), 1, decide_stretch(raster))
    assert (tile.image[:20, :64] == FILL_RGB).all()
    assert tile.image[20:64, :64].std() > 50


def test_palette(tmp_path: Path) -> None:
    """The palette of a TIFF has no transparency; those of other formats may."""
    plain = write_raster(tmp_path / "a.tif", (np.arange(64 * 64).reshape(1, 64, 64) % 3).astype(np.uint8))
    with rasterio.open(plain, "r+") as dataset:
        dataset.write_colormap(1, dict(enumerate(PALETTE)))
    virtual = write_vrt(tmp_path / "a.vrt", (plain, 1, "Byte"))
    entries = "".join(f'<Entry c1="{r}" c2="{g}" c3="{b}" c4="{a}"/>' for r, g, b, a in PALETTE)
    described = f"<ColorInterp>Palette</ColorInterp><ColorTable>{entries}</ColorTable><SimpleSource>"
    virtual.write_text(virtual.read_text().replace("<SimpleSource>", described))
    assert read_whole(Raster(plain))[1].all()
    raster = Raster(virtual)
    read, valid = read_whole(raster)
    assert raster.dtype == np.uint8 and decide_stretch(raster) == Stretch()
    assert read[:, 0, 0].tolist() == [255, 0, 0] and read[:, 0, 1].tolist() == [0, 200, 10]
    assert valid[0, :6].tolist() == [True, True, False] * 2


def test_a_palette_without_colours_is_grey(tmp_path: Path) -> None:
    values = np.arange(64 * 64, dtype=np.uint8).reshape(1, 64, 64)
    virtual = write_vrt(tmp_path / "a.vrt", (write_raster(tmp_path / "a.tif", values), 1, "Byte"))
    described = "<ColorInterp>Palette</ColorInterp><SimpleSource>"
    virtual.write_text(virtual.read_text().replace("<SimpleSource>", described))
    assert (read_whole(Raster(virtual))[0] == values).all()


def test_palette_of_16_bits(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", np.full((1, 8, 8), 300, np.uint16), photometric="PALETTE")
    with rasterio.open(path, "r+") as dataset:
        dataset.write_colormap(1, {300: (1, 2, 3, 255)})
    read, _ = read_whole(Raster(path))
    assert (read == np.array([1, 2, 3])[:, None, None]).all()


def test_bands_of_several_types_in_a_vrt(tmp_path: Path) -> None:
    bytes_ = write_raster(tmp_path / "byte.tif", ramp(1))
    words = write_raster(tmp_path / "word.tif", ramp(2, dtype="uint16") + 1000)
    path = write_vrt(tmp_path / "mixed.vrt", (words, 1, "UInt16"), (words, 2, "UInt16"), (bytes_, 1, "Byte"))
    raster = Raster(path)
    assert raster.dtype == np.uint16
    read, _ = read_whole(raster)
    assert read[0].min() >= 1000 > read[2].max()
    assert len(raster.info().fingerprint.split(" ")[0]) == 64


@pytest.mark.parametrize("dtype", ["complex64", "complex_int16"])
def test_complex_values_are_refused(tmp_path: Path, dtype: str) -> None:
    path = tmp_path / "radar.tif"
    profile = {"driver": "GTiff", "width": 8, "height": 8, "count": 1, "crs": "EPSG:25830"}
    with rasterio.open(path, "w", dtype=dtype, transform=Affine(1, 0, 5, 0, -1, 5), **profile):
        pass
    with pytest.raises(RasterError, match=r"radar\.tif has complex values"):
        Raster(path)


@pytest.mark.parametrize(("width", "height"), [(3000, 1), (1, 3000), (2500, 3), (1025, 1025)])
def test_every_tile_of_thin_rasters(tmp_path: Path, width: int, height: int) -> None:
    pixels = ramp(1, height, width)
    raster = Raster(write_raster(tmp_path / "thin.tif", pixels))
    for tile in Pyramid(width, height, Tiling()):
        read = raster.read_tile(Pyramid(width, height, Tiling()).window(tile), 1 << tile.level, Stretch())
        assert read.image.shape == (TILE_SIZE, TILE_SIZE, 3) and read.has_data
    assert len(raster.info().fingerprint.split(" ")[0]) == 64


@given(data=st.data())
def test_a_coarse_pixel_is_the_mean_of_those_under_it(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    height, width = data.draw(st.integers(8, 40)), data.draw(st.integers(8, 40))
    scale = data.draw(st.sampled_from([2, 4]))
    pixels = np.random.default_rng(height * width).random((1, height, width), dtype=np.float32)
    raster = Raster(write_raster(tmp_path_factory.mktemp("mean") / "a.tif", pixels))
    rows, cols = height // scale, width // scale
    row, col = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, cols - 1))
    window = Window(col, row, data.draw(st.integers(1, cols - col)), data.draw(st.integers(1, rows - row)))
    read, valid = raster.read_bands(window, scale)
    blocks = pixels[0, : rows * scale, : cols * scale].reshape(rows, scale, cols, scale).mean(axis=(1, 3))
    expected = blocks[row : row + window.height, col : col + window.width]
    assert valid.all()
    np.testing.assert_allclose(read[0], expected, rtol=1e-5)


@pytest.mark.parametrize("nodata", [None, 7])
def test_overviews_are_used(tmp_path: Path, nodata: int | None) -> None:
    blocks = {"tiled": True, "blockxsize": 64, "blockysize": 64}
    path = write_raster(tmp_path / "a.tif", np.zeros((3, 512, 512), np.uint8), nodata=nodata, **blocks)
    with rasterio.open(path, "r+") as dataset:
        dataset.build_overviews([4], Resampling.average)
    with rasterio.open(path, "r+", OVERVIEW_LEVEL=0) as overview:
        overview.write(np.full((3, 128, 128), 99, np.uint8))
    read, _ = read_whole(Raster(path), 4)
    assert (read == 99).all()


@pytest.mark.parametrize(
    ("pixels", "has_data"),
    [
        (np.zeros((3, 8, 8), np.uint8), False),
        (np.full((3, 8, 8), 255, np.uint8), False),
        (np.eye(8, dtype=np.uint8)[None] * 255, True),
    ],
)
def test_a_tile_of_one_value_has_no_data(tmp_path: Path, pixels: np.ndarray[Any, Any], has_data: bool) -> None:
    raster = Raster(write_raster(tmp_path / "a.tif", pixels))
    tile = raster.read_tile(Window(0, 0, 8, 8), 1, Stretch())
    assert tile.has_data is has_data
    assert (tile.image[8:] == FILL_RGB).all() and (tile.image[:, 8:] == FILL_RGB).all()


def test_fingerprint_knows_pixels_not_files(tmp_path: Path) -> None:
    pixels = ramp(3, 300, 400)
    plain = Raster(write_raster(tmp_path / "a.tif", pixels)).info().fingerprint
    tiled = write_raster(tmp_path / "b.tif", pixels, tiled=True, blockxsize=128, blockysize=128, compress="deflate")
    with rasterio.open(tiled, "r+") as dataset:
        dataset.build_overviews([2], Resampling.average)
    assert Raster(tiled).info().fingerprint == plain
    assert Raster(tiled, nodata=7).info().fingerprint == plain
    pixels[0, 0, 0] += 1
    assert Raster(write_raster(tmp_path / "c.tif", pixels)).info().fingerprint != plain


def test_the_option_replaces_the_crs_of_the_file(tmp_path: Path) -> None:
    tagged = write_raster(tmp_path / "a.tif", ramp(3))
    bare = write_raster(tmp_path / "b.tif", ramp(3), crs=None)
    assert Raster(tagged).crs.to_epsg() == 25830
    assert Raster(tagged, crs="EPSG:25831").crs.to_epsg() == 25831
    assert Raster(bare, crs="EPSG:25831").crs.to_epsg() == 25831
    with pytest.raises(RasterError, match="--crs EPSG:0 is not a coordinate reference system"):
        Raster(bare, crs="EPSG:0")


@pytest.mark.parametrize(
    ("crs", "problem"),
    [
        ("EPSG:4326", "which is not in degrees, but the CRS WGS 84 is"),
        ('LOCAL_CS["ETRS89 / UTM zone 30N",UNIT["metre",1]]', "has a local CRS with the name of ETRS89 / UTM zone 30N"),
        ("EPSG:4978", "WGS 84, the CRS of .*, is not a CRS for maps"),
    ],
)
def test_a_file_whose_crs_cannot_be_is_refused_until_another_is_given(tmp_path: Path, crs: str, problem: str) -> None:
    path = write_raster(tmp_path / "a.tif", ramp(3), crs=crs)
    with pytest.raises(RasterError, match=problem) as caught:
        Raster(path)
    assert "--crs" in caught.value.remedy
    assert Raster(path, crs="EPSG:25830").crs.to_epsg() == 25830


def test_each_thread_opens_the_file_once(tmp_path: Path) -> None:
    opened: list[int] = []

    class Counted(Raster):
        def open_file(self, name: str) -> RasterFile:
            opened.append(threading.get_ident())
            return super().open_file(name)

    pixels = ramp(3, 256, 256)
    raster = Counted(write_raster(tmp_path / "a.tif", pixels, tiled=True, blockxsize=64, blockysize=64), nodata=3)
    windows = [Window(col, row, 64, 64) for row in range(0, 192, 8) for col in range(0, 192, 8)]
    opened.clear()
    all_there = threading.Barrier(4)

    def read_some(part: list[Window]) -> list[Any]:
        all_there.wait(timeout=20)
        return [raster.read_bands(window, 1)[0] for window in part]

    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(read_some, [windows[start::4] for start in range(4)]))
    assert len(opened) == len(set(opened)) == 4
    for start, part in enumerate(parts):
        for window, found in zip(windows[start::4], part, strict=True):
            left, top, right, bottom = window.bounds
            np.testing.assert_array_equal(found, pixels[:, top:bottom, left:right])


CORNERS = ((0, 0), (200, 0), (0, 160), (200, 160))
SHEARED = Affine(0.4, 0.1, 700000.0, 0.05, -0.5, 4400000.0)


def disc_pixels(bands: int = 3, dtype: str = "uint8") -> np.ndarray[Any, Any]:
    """Draw a bright disc around (120, 70) of a dark image of 200 x 160 pixels without zeros."""
    rows, cols = np.mgrid[:160, :200]
    disc = np.hypot(cols + 0.5 - 120, rows + 0.5 - 70) < 30
    return np.repeat(np.where(disc, 200, 60)[None], bands, axis=0).astype(dtype)


def disc_centre(raster: Raster) -> tuple[float, float]:
    """Return where on the map the bright pixels are."""
    bands, valid = raster.read_bands(Window(0, 0, raster.width, raster.height), 1)
    rows, cols = np.nonzero((bands[0] == 200) & valid)
    return raster.transform.apply(float(cols.mean()) + 0.5, float(rows.mean()) + 0.5)


def write_with_points(path: Path, crs: str | None = "EPSG:25830", **profile: Any) -> Path:
    """Write the disc with ground control points that shear it."""
    pixels = disc_pixels(dtype=profile.pop("dtype", "uint8"))
    write_raster(path, pixels, transform=None, crs=None, **profile)
    with rasterio.open(path, "r+") as dataset:
        points = [GroundControlPoint(row, col, *(SHEARED @ (col, row))) for col, row in CORNERS]
        dataset.gcps = points, CRS.from_string(crs) if crs else CRS()
    return path


def rpcs() -> RPC:
    """Return RPCs that put the middle of pixel (100, 80) on 3 W, 40 N, and a pixel on 5e-6 degrees."""
    one = [1.0] + [0.0] * 19
    line, sample = [0.0, 0.0, -1.0] + [0.0] * 17, [0.0, 1.0] + [0.0] * 18
    return RPC(
        height_off=0, height_scale=500, lat_off=40, lat_scale=4e-4, line_den_coeff=one, line_num_coeff=line,
        line_off=80, line_scale=80, long_off=-3, long_scale=5e-4, samp_den_coeff=one, samp_num_coeff=sample,
        samp_off=100, samp_scale=100, err_bias=None, err_rand=None,
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("options", [{}, {"nodata": 7.0}, {"nodata": 0.0}])
@pytest.mark.parametrize("profile", [{}, {"nodata": 0}, {"dtype": "float32"}])
def test_ground_control_points_warp_the_raster(
    tmp_path: Path, options: dict[str, Any], profile: dict[str, Any]
) -> None:
    path = write_with_points(tmp_path / "a.tif", **profile)
    raster = Raster(path, **options)
    assert raster.crs.to_epsg() == 25830
    assert disc_centre(raster) == pytest.approx(SHEARED @ (120, 70), abs=0.25)
    _, valid = raster.read_bands(Window(0, 0, raster.width, raster.height), 1)
    assert not valid[0, -1] and 0.7 < valid.mean() < 0.95
    assert raster.info().fingerprint == Raster(path).info().fingerprint
    raster.close()
    assert disc_centre(raster) == pytest.approx(SHEARED @ (120, 70), abs=0.25)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_ground_control_points_without_crs(tmp_path: Path) -> None:
    path = write_with_points(tmp_path / "a.tif", crs=None)
    for options in ({}, {"nodata": 0.0}):
        with pytest.raises(RasterError, match=r"a\.tif has no coordinate reference system: set it with --crs"):
            Raster(path, **options)
    raster = Raster(path, crs="EPSG:32630")
    assert raster.crs.to_epsg() == 32630
    assert disc_centre(raster) == pytest.approx(SHEARED @ (120, 70), abs=0.25)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_rpcs_warp_the_raster(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", disc_pixels(), transform=None, crs=None, rpcs=rpcs())
    expected = (-3 + 19.5 * 5e-6, 40 + 10.5 * 5e-6)
    raster = Raster(path)
    assert raster.crs.to_epsg() == 4326
    assert disc_centre(raster) == pytest.approx(expected, abs=3e-6)
    projected = Raster(path, crs="EPSG:32630")
    to_map = pyproj.Transformer.from_crs(4326, 32630, always_xy=True)
    assert disc_centre(projected) == pytest.approx(to_map.transform(*expected), abs=0.3)
    assert 0.3 < projected.transform.pixel_size < 0.7


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_geolocation_arrays_are_left_to_gdalwarp(tmp_path: Path) -> None:
    plain = write_raster(tmp_path / "plain.tif", disc_pixels(1), transform=None, crs=None)
    path = write_vrt(tmp_path / "a.vrt", (plain, 1, "Byte"))
    tags = "".join(f'<MDI key="{key}">{value}</MDI>' for key, value in {"X_DATASET": plain, "X_BAND": 1}.items())
    text = path.read_text()
    text = text[: text.index("<SRS>")] + text[text.index("</GeoTransform>") + len("</GeoTransform>") :]
    path.write_text(text.replace("</VRTDataset>", f'<Metadata domain="GEOLOCATION">{tags}</Metadata></VRTDataset>'))
    with pytest.raises(RasterError, match=rf"warp it first with: gdalwarp -geoloc {path} warped\.tif"):
        Raster(path)


@pytest.mark.parametrize(
    "transform",
    [
        SHEARED,
        Affine(0.5, 0, 700000, 0, 0.5, 4400000),
        Affine(-0.5, 0, 700000, 0, -0.5, 4400000),
        Affine(0, 0.5, 700000, 0.5, 0, 4400000),
        Affine(0.5, 0, 700000, 0, -2, 4400000),
        Affine(1e-7, 0, -3, 0, -1e-7, 40),
        Affine(5000, 0, -2e7, 0, -5000, 2e7),
        Affine(1, 0, 0, 0, -1, 0),
    ],
)
def test_every_transform_is_kept(tmp_path: Path, transform: Affine) -> None:
    crs = {-3: "EPSG:4326", -2e7: "EPSG:3857"}.get(transform.c, "EPSG:25830")
    raster = Raster(write_raster(tmp_path / "a.tif", disc_pixels(), transform=transform, crs=crs))
    assert tuple(raster.transform) == pytest.approx(tuple(transform)[:6])
    assert disc_centre(raster) == pytest.approx(transform @ (120, 70))


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_world_files_and_pixels_that_are_points(tmp_path: Path) -> None:
    for name, driver, suffix in (("a.tif", "GTiff", ".tfw"), ("b.jpg", "JPEG", ".jgw"), ("c.png", "PNG", ".wld")):
        path = write_raster(tmp_path / name, disc_pixels(), driver=driver, transform=None, crs=None)
        path.with_suffix(suffix).write_text("0.5\n0\n0\n-0.5\n700000.25\n4399999.75\n")
        raster = Raster(path, crs="EPSG:25830")
        assert tuple(raster.transform) == (0.5, 0, 700000, 0, -0.5, 4400000)
    path = write_raster(tmp_path / "d.tif", disc_pixels())
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(AREA_OR_POINT="Point")
    assert disc_centre(Raster(path)) == pytest.approx((700060, 4399965))


@pytest.mark.parametrize(
    "values", ["0,0,0,0,0,0", "7e5,0.5,0,4e6,0,0", "nan,0.5,0,4e6,0,-0.5", "7e5,inf,0,4e6,0,-0.5", "1e300,1,0,4e6,0,-1"]
)
def test_transforms_that_are_none(tmp_path: Path, values: str) -> None:
    plain = write_raster(tmp_path / "plain.tif", ramp(1))
    path = write_vrt(tmp_path / "a.vrt", (plain, 1, "Byte"))
    path.write_text(path.read_text().replace("700000, 0.5, 0, 4400000, 0, -0.5", values))
    with pytest.raises(RasterError, match=r"a\.vrt has (no|a) geotransform.*: georeference it"):
        Raster(path)


@pytest.fixture
def tiles(tmp_path: Path) -> list[Path]:
    """Two rasters side by side."""
    places = (700000, 700032)
    return [
        write_raster(tmp_path / f"{x}.tif", ramp(1) + 1, transform=Affine(0.5, 0, x, 0, -0.5, 4400000)) for x in places
    ]


def write_index(path: Path, tiles: list[Path]) -> Path:
    """Write a tile index of GDAL."""
    bounds = [rasterio.open(tile).bounds for tile in tiles]
    boxes = shapely.to_wkb([shapely.box(*box) for box in bounds])
    names = np.array([tile.name for tile in tiles], dtype=object)
    pyogrio.raw.write(path, boxes, [names], ["location"], geometry_type="Polygon", crs="EPSG:25830")
    return path


def test_a_tile_index(tmp_path: Path, tiles: list[Path]) -> None:
    path = write_index(tmp_path / "a.gti.gpkg", tiles)
    raster = Raster(path)
    pixels, valid = read_whole(raster)
    assert (raster.width, raster.height) == (128, 64) and valid.all()
    np.testing.assert_array_equal(pixels[0], np.tile(ramp(1)[0] + 1, 2))
    tiles[1].write_text("damaged")
    with pytest.raises(RasterError, match=rf"a\.gti\.gpkg refers to {tiles[1]}, which GDAL cannot read"):
        Raster(path)
    tiles[1].unlink()
    with pytest.raises(RasterError, match=rf"a\.gti\.gpkg refers to {tiles[1]}, which does not exist: restore"):
        Raster(path)


def test_a_tile_lost_while_reading(tmp_path: Path, tiles: list[Path]) -> None:
    """GDAL leaves it out, so that it would be black."""
    raster = Raster(write_index(tmp_path / "a.gti.gpkg", tiles))
    tiles[1].unlink()
    raster.close()
    assert raster.read_bands(Window(0, 0, 60, 64), 1)[1].all()
    with pytest.raises(RasterError, match=rf"refers to {tiles[1]}, which does not exist"):
        raster.read_bands(Window(60, 0, 60, 64), 1)


def test_sources_of_a_virtual_raster(tmp_path: Path, tiles: list[Path], capfd: pytest.CaptureFixture[str]) -> None:
    inner = write_vrt(tmp_path / "inner.vrt", (tiles[0], 1, "Byte"))
    outer = write_vrt(tmp_path / "outer.vrt", (inner, 1, "Byte"))
    assert read_whole(Raster(outer))[0][0, 0, 0] == 1
    tiles[0].unlink()
    with pytest.raises(RasterError, match=rf"outer\.vrt refers to {tiles[0]}, which does not exist"):
        Raster(outer)
    tiles[0].write_text("damaged")
    with pytest.raises(RasterError, match=rf"outer\.vrt refers to {tiles[0]}, which GDAL cannot read"):
        Raster(outer)
    rasterio.shutil.copy(tiles[1], tmp_path / "copy.vrt", driver="VRT")
    write_raster(tiles[1], ramp(1, 32, 32))
    with pytest.raises(RasterError, match=rf"copy\.vrt refers to .*{tiles[1].name}, which now has another size"):
        Raster(tmp_path / "copy.vrt")


@pytest.mark.parametrize("driver", ["GTiff", "PNG", "JPEG", "JP2OpenJPEG"])
def test_a_truncated_file_gives_one_sentence(tmp_path: Path, driver: str, capfd: pytest.CaptureFixture[str]) -> None:
    pixels = np.random.default_rng(0).integers(1, 250, (3, 900, 900)).astype("uint8")
    path = write_raster(tmp_path / "a.img", pixels, driver=driver)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    raster = Raster(path)
    with pytest.raises(RasterError, match=r"a\.img is truncated or damaged: its pixels at 0,0 cannot be read: copy"):
        read_whole(raster)
    assert capfd.readouterr().err == ""


def test_too_little_memory_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    raster = Raster(write_raster(tmp_path / "a.tif", ramp(3)))
    monkeypatch.setattr(RasterioFile, "read", fail)
    with pytest.raises(RasterError, match=r"not enough memory to read .*a\.tif: close other programs"):
        read_whole(raster)


@pytest.mark.parametrize("spoilt", [np.nan, np.inf])
def test_a_pixel_without_a_number_does_not_spoil_coarse_levels_beside_nodata(tmp_path: Path, spoilt: float) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.normal(100, 20, (1, 2200, 2100)).astype("float32")
    pixels[:, rng.random(pixels.shape[1:]) < 0.02] = spoilt
    pixels[:, :40, :40] = -9999
    raster = Raster(write_raster(tmp_path / "a.tif", pixels, nodata=-9999))
    window = Window(0, 0, 500, 500)
    wanted, valid = raster.read_bands(window, 4)
    assert not valid[:10, :10].any() and valid[10:].all()
    with raster.with_overviews(tmp_path) as copy:
        np.testing.assert_array_equal(copy.read_bands(window, 4)[1], valid)
    with rasterio.open(raster.path, "r+") as dataset:
        dataset.build_overviews([2, 4], Resampling.average)
    found, still_valid = Raster(raster.path).read_bands(window, 4)
    np.testing.assert_array_equal(still_valid, valid)
    np.testing.assert_allclose(found[:, valid], wanted[:, valid], atol=1e-3)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="only Linux lists open files")
def test_temporary_overviews_are_closed_before_they_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows cannot remove an open file."""
    raster = Raster(write_raster(tmp_path / "a.tif", ramp(3, 1100, 1100)))
    removed: list[tuple[str, list[str]]] = []

    def rmtree(path: Path, **options: Any) -> None:
        files = [str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
        removed.append((str(path), [file for file in files if file.startswith(str(path))]))

    monkeypatch.setattr("encoder_tools.raster.shutil.rmtree", rmtree)
    with raster.with_overviews(tmp_path) as copy:
        read_whole(copy, 2)
    ((folder, still_open),) = removed
    assert Path(folder, "a.vrt.ovr").exists() and still_open == []


@pytest.mark.skipif(os.name != "posix", reason="only POSIX limits the size of files")
def test_overviews_that_just_do_not_fit_are_not_used(tmp_path: Path) -> None:
    import resource

    pixels = np.random.default_rng(0).integers(1, 255, (3, 2100, 2100), np.uint8)
    raster = Raster(write_raster(tmp_path / "a.tif", pixels))
    with raster.with_overviews(tmp_path):
        (overviews,) = tmp_path.glob(".*/a.vrt.ovr")
        size = overviews.stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for missing in (1, 100, 1000, 3000, 10_000):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size - missing, limits[1]))
        try:
            with raster.with_overviews(tmp_path) as copy:
                assert copy is raster, missing
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_the_mean_of_a_wide_raster_takes_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raster = Raster(write_raster(tmp_path / "a.tif", np.full((1, 64, 4096), 7, np.int32)))
    areas: list[int] = []
    read = Raster._read_valid

    def read_valid(self: Raster, native: Window, shape: tuple[int, int], *, average: bool) -> Any:
        areas.append(native.width * native.height)
        return read(self, native, shape, average=average)

    monkeypatch.setattr(Raster, "_read_valid", read_valid)
    monkeypatch.setattr("geosam_es.encoding.raster._MEAN_PIXELS", 1 << 13)
    bands, valid = raster.read_bands(Window(0, 0, 64, 1), 64)
    assert valid.all() and (bands == 7).all()
    assert max(areas) <= 1 << 13 and sum(areas) == 64 * 4096

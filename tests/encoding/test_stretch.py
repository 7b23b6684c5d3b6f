"""Stretching any data to 8 bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.transform import Affine

from encoder_tools.raster import Raster
from geosam_es.core.radiometry import Stretch
from geosam_es.core.window import Window
from geosam_es.encoding.stretch import decide_stretch
from geosam_es.errors import RasterError
from tests.encoder_tools.scenes import ramp, write_raster


def test_8_bits_are_not_stretched(tmp_path: Path) -> None:
    raster = Raster(write_raster(tmp_path / "a.tif", ramp(3)))
    assert decide_stretch(raster) == decide_stretch(raster, "none") == Stretch()
    limits = decide_stretch(raster, "0,50").limits
    assert limits is not None and limits[0] == (0.0, np.median(ramp(3)[0]))


def test_stretch_by_values(tmp_path: Path) -> None:
    raster = Raster(write_raster(tmp_path / "a.tif", ramp(3, dtype="uint16")))
    assert decide_stretch(raster, "-3.5:4000") == Stretch(((-3.5, 4000.0),) * 3)


@pytest.mark.parametrize("size", [(600, 500), (3000, 2000)])
def test_stretch_is_that_of_the_whole_raster(tmp_path: Path, size: tuple[int, int]) -> None:
    values = np.random.default_rng(3).normal(1000, 100, (1, *size)).astype(np.uint16)
    raster = Raster(write_raster(tmp_path / "a.tif", values))
    limits = decide_stretch(raster).limits
    assert limits is not None
    np.testing.assert_allclose(limits[0], np.percentile(values, [2, 98]), rtol=0.005)


def test_data_between_the_samples_are_found(tmp_path: Path) -> None:
    values = np.zeros((1, 3000, 3000), np.uint16)
    values[0, 1530:1570, 1530:1570] = np.arange(1600).reshape(40, 40) + 5000
    raster = Raster(write_raster(tmp_path / "island.tif", values, nodata=0))
    limits = decide_stretch(raster).limits
    assert limits is not None and 5000 <= limits[0][0] < limits[0][1] < 6600


@pytest.mark.parametrize(
    "option", ["", "2", "98,2", "0,101", "-1,50", "a,b", "2,50,98", "9:1", "nan:5", "0:inf", "1:2:3"]
)
def test_bad_stretch(tmp_path: Path, option: str) -> None:
    raster = Raster(write_raster(tmp_path / "a.tif", ramp(3)))
    with pytest.raises(RasterError, match=f"--stretch {option} is not valid: use auto"):
        decide_stretch(raster, option)


def test_no_stretch_does_not_suit_16_bits(tmp_path: Path) -> None:
    raster = Raster(write_raster(tmp_path / "a.tif", ramp(3, dtype="uint16")))
    with pytest.raises(RasterError, match=r"a\.tif is uint16, which needs a stretch"):
        decide_stretch(raster, "none")


@pytest.mark.parametrize("option", ["auto", "2,98", "0:4000"])
def test_a_raster_without_data(tmp_path: Path, option: str) -> None:
    raster = Raster(write_raster(tmp_path / "a.tif", np.zeros((3, 64, 64), np.uint8), nodata=0))
    with pytest.raises(RasterError, match=r"a\.tif has no pixels with data"):
        decide_stretch(raster, option)


def _class_values(rows: NDArray[Any], cols: NDArray[Any]) -> NDArray[Any]:
    """Return values that vary across the raster and in classes, without two pixels in a row alike."""
    return (1000 + rows * 3 + cols * 2 + 4000 * ((rows // 300 + cols // 300) % 3 == 0) + rows * cols % 7).astype(
        "uint16"
    )


SIDE = 3500
ROWS, COLS = np.mgrid[:SIDE, :SIDE]
SPARSE = {
    "vertical strip": (COLS >= 1700) & (COLS < 1704),
    "horizontal strip": (ROWS >= 3 * SIDE // 5) & (ROWS < 3 * SIDE // 5 + 4),
    "diagonal strip": abs(ROWS - COLS) < 3,
    "corner": (ROWS > SIDE - 500) & (COLS > SIDE - 700),
    "islands": (ROWS % 431 < 11) & (COLS % 389 < 7),
    "single pixels": (ROWS % 97 == 5) & (COLS % 89 == 7),
    "upper third": ROWS < SIDE // 3,
    "wide diagonal": abs(ROWS - COLS) < 500,
    "one corner seen, islands unseen": ((ROWS < 40) & (COLS < 40)) | ((ROWS % 700 == 399) & (COLS > 60)),
}


@pytest.mark.parametrize("name", SPARSE)
def test_sparse_data_have_the_percentiles_of_all_their_pixels(tmp_path: Path, name: str) -> None:
    values = _class_values(ROWS, COLS)
    values[~SPARSE[name]] = 0
    raster = Raster(write_raster(tmp_path / "a.tif", values[None], nodata=0, tiled=True, compress="lzw"))
    stretch = decide_stretch(raster)
    exact = np.percentile(values[values > 0], [2, 98])
    assert stretch.limits is not None and stretch.sampled_pixels is not None
    np.testing.assert_allclose(stretch.limits[0], exact, atol=0.02 * np.ptp(values[values > 0]))
    assert min(np.count_nonzero(values), 300_000) <= stretch.sampled_pixels <= 1 << 20


def test_a_bright_tile_counts_for_its_share(tmp_path: Path) -> None:
    values = np.where(COLS < 900, 1000 + ROWS % 100, 0)
    values[:800, :900] = 60000
    raster = Raster(write_raster(tmp_path / "a.tif", values[None].astype("uint16"), nodata=0))
    assert decide_stretch(raster, "10,70").limits == ((pytest.approx(1011, abs=3), pytest.approx(1090, abs=3)),) * 3
    assert decide_stretch(raster).limits == ((pytest.approx(1002, abs=1), 60000.0),) * 3


def test_the_sample_of_a_dense_raster_is_that_of_earlier_stores(tmp_path: Path) -> None:
    """Otherwise their encoding could not be resumed."""
    values = _class_values(ROWS, COLS)
    values[:, :1200] = 0
    starts = np.linspace(0, SIDE - 64, 16, dtype=int)
    windows = np.concatenate([values[r : r + 64, c : c + 64].ravel() for r in starts for c in starts])
    limits = decide_stretch(Raster(write_raster(tmp_path / "a.tif", values[None], nodata=0))).limits
    assert limits == (tuple(np.percentile(windows[windows > 0], [2, 98])),) * 3


def test_a_huge_sparse_raster_takes_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "huge.tif"
    profile = {"driver": "GTiff", "count": 1, "dtype": "uint16", "nodata": 0, "crs": "EPSG:25830", "SPARSE_OK": True}
    blocks = {"tiled": True, "blockxsize": 512, "blockysize": 512, "transform": Affine(0.5, 0, 7e5, 0, -0.5, 4.4e6)}
    block = np.arange(512 * 512).reshape(512, 512).astype("uint16")
    with rasterio.open(path, "w", width=20_000, height=10_000, **profile, **blocks) as dataset:
        dataset.write(block, 1, window=((5120, 5632), (11264, 11776)))
    stretch = decide_stretch(Raster(path))
    exact = np.percentile(block[block > 0], [2, 98])
    assert stretch.limits is not None and stretch.sampled_pixels == np.count_nonzero(block)
    np.testing.assert_array_equal(stretch.limits[0], exact)


@pytest.mark.parametrize("value", [0.0, 7.5, -1e30, 3e38])
def test_a_constant_image_is_black(tmp_path: Path, value: float) -> None:
    raster = Raster(write_raster(tmp_path / "a.tif", np.full((1, 64, 64), value, np.float32)))
    stretch = decide_stretch(raster)
    assert stretch.limits is not None and stretch.limits[0][0] < stretch.limits[0][1]
    assert (raster.read_tile(Window(0, 0, 64, 64), 1, stretch).image[:64, :64] == 0).all()


@pytest.mark.parametrize(("dtype", "low", "high"), [("int32", -100, 900), ("uint32", 3_000_000_000, 3_000_001_000)])
def test_outliers_do_not_matter(tmp_path: Path, dtype: str, low: int, high: int) -> None:
    values = np.linspace(low, high, 64 * 64).reshape(1, 64, 64).astype(dtype)
    values[0, 0, :10] = np.iinfo(dtype).max
    values[0, 0, 10:20] = np.iinfo(dtype).min
    raster = Raster(write_raster(tmp_path / "a.tif", values))
    stretch = decide_stretch(raster)
    assert stretch.limits is not None
    np.testing.assert_allclose(stretch.limits[0], [low + 20, high - 20], atol=10)
    tile = raster.read_tile(Window(0, 0, 64, 64), 1, stretch)
    assert int(tile.image[32, 32, 0]) == pytest.approx(129, abs=3)

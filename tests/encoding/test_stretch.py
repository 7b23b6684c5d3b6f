"""Stretching any data to 8 bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from encoder_tools.raster import Raster
from geosam_es.core.radiometry import Stretch
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

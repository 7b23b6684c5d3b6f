"""Coordinate reference systems: one CRS has many texts."""

from __future__ import annotations

import pyproj
import pytest
import rasterio.crs

from encoder_tools.crs import same_crs

CODES = ("EPSG:25830", "EPSG:25831", "EPSG:32630", "EPSG:4326", "EPSG:4258", "EPSG:3857", "EPSG:2100")
VERSIONS = ("WKT1_GDAL", "WKT2_2015", "WKT2_2019")


def texts_of(code: str) -> list[str]:
    crs = pyproj.CRS(code)
    return [crs.to_wkt(version) for version in VERSIONS] + [str(rasterio.crs.CRS.from_user_input(code).to_wkt())]


@pytest.mark.parametrize("code", CODES)
def test_texts_of_one_crs_are_the_same_crs(code: str) -> None:
    texts = texts_of(code)
    assert len(set(texts)) >= 3
    assert all(same_crs(first, second) for first in texts for second in texts)


def test_different_crs_differ_in_every_text() -> None:
    for first in CODES:
        for second in CODES:
            if first != second:
                assert not any(same_crs(one, other) for one in texts_of(first) for other in texts_of(second))


def test_a_crs_without_a_code_is_compared_by_its_definition() -> None:
    first, second = (pyproj.CRS(f"+proj=laea +lat_0={lat} +lon_0=10 +ellps=GRS80") for lat in (50, 51))
    assert same_crs(first.to_wkt("WKT1_GDAL"), first.to_wkt("WKT2_2019"))
    assert not same_crs(first.to_wkt(), second.to_wkt())


def test_invalid_texts_differ_unless_they_are_equal() -> None:
    assert same_crs("", "") and not same_crs("", texts_of("EPSG:4326")[0]) and not same_crs('PROJCS["a"]', "")

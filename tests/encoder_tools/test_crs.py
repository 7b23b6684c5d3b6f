"""Coordinate reference systems: one CRS has many texts."""

from __future__ import annotations

import re

import pyproj
import pytest
import rasterio.crs

from encoder_tools.crs import check_transform, is_horizontal, lost_crs, parse_crs, same_crs
from geosam_es.errors import VectorError

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


def wkt(text: str, version: str = "WKT2_2019") -> str:
    return str(pyproj.CRS(text).to_wkt(version))


def without_codes(text: str) -> str:
    return re.sub(r',AUTHORITY\["EPSG","\d+"\]', "", text)


UTM30 = without_codes(wkt("EPSG:25830", "WKT1_GDAL"))
ED50 = without_codes(wkt("EPSG:23030", "WKT1_GDAL"))
SITE = 'LOCAL_CS["site",UNIT["metre",1]]'
ROTATED = "+proj=ob_tran +o_proj=longlat +o_lon_p=0 +o_lat_p={} +lon_0=18 +type=crs"
TEMPORAL = 'TIMECRS["t",TDATUM["d"],CS[temporal,1],AXIS["time (T)",future]]'
VERTICAL = 'VERTCRS["v",VDATUM["d"],CS[vertical,1],AXIS["h",up],LENGTHUNIT["metre",1]]'

SAME = {
    **{f"ESRI's {code}": (wkt(code, "WKT1_ESRI"), wkt(code)) for code in ("EPSG:25830", "EPSG:2180", "EPSG:31468")},
    **{f"ESRI's {code} too": (wkt(code, "WKT1_ESRI"), wkt(code)) for code in ("EPSG:4807", "EPSG:2225", "EPSG:27700")},
    "PROJJSON": (pyproj.CRS.from_json(pyproj.CRS("EPSG:25830").to_json()).to_wkt(), wkt("EPSG:25830")),
    "codes left out": (UTM30, wkt("EPSG:25830")),
    "an old code": (wkt("EPSG:900913"), wkt("EPSG:3857")),
    "another authority": (wkt("ESRI:102100"), wkt("EPSG:3857")),
    "longitude first": (wkt("OGC:CRS84"), wkt("EPSG:4326")),
    "a PROJ string": (wkt("+proj=utm +zone=30 +ellps=GRS80 +units=m +no_defs"), wkt("EPSG:25830")),
    "heights, as WKT 1": (wkt("EPSG:25830+5782", "WKT1_GDAL"), wkt("EPSG:25830+5782")),
    "heights": (wkt("EPSG:25830+5782"), wkt("EPSG:25830")),
    "a site": (SITE, SITE[:-1] + ',AXIS["Easting",EAST],AXIS["Northing",NORTH]]'),
}
DIFFERENT = {
    "datum": (wkt("EPSG:23030"), wkt("EPSG:25830")),
    "datum under one name": (ED50.replace("ED50 / UTM", "ETRS89 / UTM"), UTM30),
    "zone under one name": (UTM30.replace("-3]", "-9]"), UTM30),
    "false easting under one code": (wkt("EPSG:25830", "WKT1_GDAL").replace("500000", "500010"), wkt("EPSG:25830")),
    "local under one name": (SITE.replace("site", "ETRS89 / UTM zone 30N"), wkt("EPSG:25830")),
    "two sites": (SITE, SITE.replace("site", "other")),
    "feet and metres": (wkt("EPSG:2225"), wkt("EPSG:26941")),
    "feet": (
        wkt("EPSG:2263"),
        wkt("EPSG:2263").replace("US survey foot", "foot").replace("0.304800609601219", "0.3048"),
    ),
    "Paris and Greenwich": (wkt("EPSG:4807"), wkt("EPSG:4275")),
    "two poles": (wkt(ROTATED.format(39)), wkt(ROTATED.format(40))),
    "horizontal parts": (wkt("EPSG:25830+5782"), wkt("EPSG:25829+5782")),
}


@pytest.mark.parametrize("pair", SAME.values(), ids=SAME)
def test_the_same_crs(pair: tuple[str, str]) -> None:
    assert same_crs(*pair) and same_crs(*reversed(pair))


@pytest.mark.parametrize("pair", DIFFERENT.values(), ids=DIFFERENT)
def test_different_crs(pair: tuple[str, str]) -> None:
    assert not same_crs(*pair) and not same_crs(*reversed(pair))


@pytest.mark.parametrize(
    "text", ["EPSG:25830", "EPSG:4979", "EPSG:25830+5782", "EPSG:4807", "EPSG:2225", ROTATED.format(39), SITE]
)
def test_crs_with_a_place_on_a_map(text: str) -> None:
    assert is_horizontal(parse_crs(text))


@pytest.mark.parametrize(
    "text",
    [
        "EPSG:5782",
        "EPSG:4978",
        "+proj=geocent +datum=WGS84 +towgs84=1,2,3",
        TEMPORAL,
        VERTICAL,
        f'COMPOUNDCRS["c",{VERTICAL},{TEMPORAL}]',
    ],
)
def test_crs_without_a_place_on_a_map(text: str) -> None:
    with pytest.raises(VectorError, match="is not a CRS for maps"):
        parse_crs(text)


def test_a_local_crs_is_not_transformed() -> None:
    site, utm = pyproj.CRS(SITE), pyproj.CRS("EPSG:25830")
    check_transform(site, pyproj.CRS(SITE))
    check_transform(utm, pyproj.CRS("EPSG:4326"))
    check_transform(site, pyproj.CRS(SITE.replace("site", "unnamed")))
    for pair in ((site, utm), (utm, site)):
        with pytest.raises(VectorError, match="is a local CRS: coordinates cannot be transformed from"):
            check_transform(*pair)


@pytest.mark.parametrize(
    ("name", "code"),
    [("ETRS89 / UTM zone 30N", 25830), ("WGS 84", 4326), ("site", None), ("unknown", None), ("EPSG:25830", None)],
)
def test_a_local_crs_with_the_name_of_another(name: str, code: int | None) -> None:
    found = lost_crs(pyproj.CRS(SITE.replace("site", name)))
    assert (None if found is None else found.to_epsg()) == code

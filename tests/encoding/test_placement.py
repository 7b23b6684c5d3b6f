"""A raster whose coordinates cannot be coordinates of its CRS is refused; unusual but possible ones are not."""

from __future__ import annotations

from pathlib import Path

import pyproj
import pytest

from encoder_tools.crs import map_crs
from geosam_es.core.geotransform import GeoTransform
from geosam_es.encoding.placement import check_placement
from geosam_es.errors import RasterError

LOCAL = 'LOCAL_CS["site",UNIT["metre",1]]'
VERTICAL_AND_TIME = (
    'COMPOUNDCRS["c",VERTCRS["v",VDATUM["d"],CS[vertical,1],AXIS["h",up],LENGTHUNIT["metre",1]],'
    'TIMECRS["t",TDATUM["d"],CS[temporal,1],AXIS["time (T)",future]]]'
)
ROTATED = "+proj=ob_tran +o_proj=longlat +o_lon_p=0 +o_lat_p=39 +lon_0=18 +type=crs"

PIXELS = 500, 400

POSSIBLE = {
    "metres": ("EPSG:25830", 500_000, 4_200_000, 0.5),
    "the next zone": ("EPSG:25830", -100_000, 4_200_000, 0.5),
    "two zones away": ("EPSG:25830", 1_400_000, 4_200_000, 0.5),
    "degrees": ("EPSG:4326", -0.5, 39.4, 1e-6),
    "latitude first": ("EPSG:4258", -0.5, 39.4, 1e-6),
    "0 to 360 degrees": ("EPSG:4326", 135, 90, 0.45),
    "the last of 360 degrees": ("EPSG:4326", 359.5, 10, 0.001),
    "beyond 180 degrees": ("EPSG:4326", 179.9, 10, 0.001),
    "a little beyond a pole": ("EPSG:4326", -180.5, 90.5, 0.4525),
    "grads": ("EPSG:4807", 0, 99.9, 0.0001),
    "rotated pole": (ROTATED, -10, 10, 0.04),
    "3D": ("EPSG:4979", -0.5, 39.4, 1e-6),
    "with heights": ("EPSG:25830+5782", 500_000, 4_200_000, 0.5),
    "heights and degrees": ("EPSG:9705", -0.5, 39.4, 1e-6),
    "feet": ("EPSG:2225", 6_500_000, 2_000_000, 1),
    "Web Mercator at the edge": ("EPSG:3857", 20_037_000, 20_037_500, 1),
    "the whole Web Mercator": ("EPSG:3857", -20_037_508.34, 20_037_508.34, 100_187.5),
    "the whole sinusoidal world": ("+proj=sinu +type=crs", -20_015_109, 10_007_554, 80_060),
    "the disc of a satellite": ("+proj=geos +h=35785831 +type=crs", -5_570_248, 5_567_248, 27_800),
    "the South Pole": ("EPSG:3031", -100, 100, 0.5),
    "the antimeridian": ("EPSG:2193", 1_000_000, 4_800_000, 10),
    "a site with its own origin": ("+proj=tmerc +lat_0=39.4 +lon_0=-0.5 +ellps=GRS80 +type=crs", -10, 10, 0.05),
    "a UTM raster by the origin": ("EPSG:32630", 100, 89, 0.05),
    "towgs84": ("+proj=utm +zone=30 +ellps=intl +towgs84=-87,-98,-121,0,0,0,0 +type=crs", 5e5, 4.2e6, 0.5),
    "local": (LOCAL, 1000, 2000, 0.5),
    "local and far": (LOCAL, 5e8, 4.2e9, 0.5),
}
IMPOSSIBLE = {
    "metres in degrees": ("EPSG:4326", 500_000, 4_200_000, 0.5, "is not in degrees, but the CRS .* is"),
    "metres in latitude first": ("EPSG:4258", 500_000, 4_200_000, 0.5, "is not in degrees, but the CRS .* is"),
    "metres in 3D degrees": ("EPSG:4979", 500_000, 4_200_000, 0.5, "is not in degrees, but the CRS .* is"),
    "metres in grads": ("EPSG:4807", 600_000, 2_200_000, 0.5, "is not in degrees, but the CRS .* is"),
    "metres in degrees and heights": ("EPSG:9705", 500_000, 4_200_000, 0.5, "is not in degrees, but the CRS .* is"),
    "a site's metres": ("EPSG:4326", 0, 0, 0.5, "is not in degrees, but the CRS .* is"),
    "degrees in metres": ("EPSG:25830", -3.5, 39.4, 1e-6, "is in degrees, but the CRS .* is not"),
    "coarse degrees in metres": ("EPSG:25830", -3.5, 39.4, 1e-3, "is in degrees, but the CRS .* is not"),
    "degrees in Web Mercator": ("EPSG:3857", -0.5, 39.4, 1e-6, "is in degrees, but the CRS .* is not"),
    "degrees in feet": ("EPSG:2225", -122, 40, 1e-3, "is in degrees, but the CRS .* is not"),
    "degrees in metres and heights": ("EPSG:25830+5782", -3.5, 39.4, 1e-6, "is in degrees, but the CRS .* is not"),
    "far outside": ("EPSG:25830", 5e8, 4.2e9, 0.5, "is no place in the CRS"),
    "heights": ("EPSG:5782", 500_000, 4_200_000, 0.5, "is not a CRS for maps"),
    "geocentric": ("EPSG:4978", 500_000, 4_200_000, 0.5, "is not a CRS for maps"),
    "heights and times": (VERTICAL_AND_TIME, 500_000, 4_200_000, 0.5, "is not a CRS for maps"),
}


def check(crs: str, x: float, y: float, pixel: float) -> None:
    check_placement(Path("a.tif"), map_crs(pyproj.CRS(crs)), GeoTransform(pixel, 0, x, 0, -pixel, y), *PIXELS)


@pytest.mark.parametrize("case", POSSIBLE.values(), ids=POSSIBLE)
def test_possible(case: tuple[str, float, float, float]) -> None:
    check(*case)


@pytest.mark.parametrize("case", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_impossible(case: tuple[str, float, float, float, str]) -> None:
    *place, problem = case
    with pytest.raises(RasterError, match=rf"a.tif.* {problem}.*: give the true CRS with --crs"):
        check(*place)

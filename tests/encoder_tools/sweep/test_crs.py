"""The disc in coordinate reference systems of every kind, and under the variables of other installations."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pyogrio
import pyproj
import pytest
import rasterio
import shapely

from tests.encoder_tools.conftest import Spawn
from tests.encoder_tools.sweep import rasters
from tests.encoder_tools.sweep.commands import STORE, encode, refuses, rows, run, spotlight, works
from tests.encoder_tools.sweep.rasters import CRSS
from tests.encoder_tools.sweep.scene import (
    LOCAL,
    UTM,
    Scene,
    judge,
    layer,
    points,
    tif,
    to_crs,
)
from tests.encoder_tools.sweep.vectors import SCENE

pytestmark = pytest.mark.filterwarnings("ignore")


@rows(CRSS)
def test_crs(row: Callable[[], Scene]) -> None:
    """In the raster's CRS, and as WGS 84: the parts of the polygon lie between -180 and 180 degrees."""
    scene = row()
    encode(scene)
    works("segment", STORE, scene.point(), "-o", "o.gpkg")
    judge("o.gpkg", scene)
    works("segment", STORE, scene.box(), "-o", "o.geojson", "--out-crs", "EPSG:4326")
    judge("o.geojson", scene, "EPSG:4326")
    (polygon,) = shapely.from_wkb(pyogrio.raw.read("o.geojson")[2])
    for part in shapely.get_parts(polygon):
        west, _, east, _ = part.bounds
        assert east - west < 1
        # Where the raster itself is in WGS 84, its longitudes are kept, so that the polygon lies on it.
        assert scene.crs == "EPSG:4326" or (west >= -180 and east <= 180)


@pytest.mark.parametrize("crs", ["EPSG:3031", "EPSG:3413"])
def test_pole_in_the_disc(crs: str) -> None:
    scene = rasters.pole(crs, -90 if crs == "EPSG:3031" else 90)
    encode(scene)
    works("segment", STORE, scene.point(), "-o", "o.gpkg")
    judge("o.gpkg", scene)
    if run("segment", STORE, scene.point(), "-o", "o.geojson", "--out-crs", "EPSG:4326").exit_code:
        refuses("segment", STORE, scene.point(), "-o", "o.geojson", "--out-crs", "EPSG:4326", named="EPSG:4326")
    else:
        judge("o.geojson", scene, "EPSG:4326")


def test_area_across_the_antimeridian_passes_no_filter() -> None:
    scene = CRSS["Mercator across 180"]()
    encode(scene)
    result = run("segment", STORE, scene.point(), "-o", "o.gpkg", "--min-area-m2", "1e9", "--json")
    assert result.exit_code == 2 or json.loads(result.stdout)["objects"] == []
    found = json.loads(works("segment", STORE, scene.point(), "-o", "p.gpkg", "--json").stdout)["objects"]
    assert found[0]["area_m2"] == pytest.approx(scene.area_m2(), rel=0.03)


@pytest.mark.parametrize("turns", [-360, 0, 360])
def test_prompts_on_either_side_of_the_antimeridian(turns: int) -> None:
    scene = CRSS["longitudes across 180, to 360"]()
    encode(scene)
    works("segment", STORE, f"--point={scene.click[0] + turns!r},{scene.click[1]!r}", "-o", "o.gpkg")
    judge("o.gpkg", scene)
    west = (scene.click[0] + 0.00001 + 180) % 360 - 180
    prompts = layer("p.geojson", points((west, scene.click[1])), "EPSG:4326")
    works("segment", STORE, prompts, "-o", "q.gpkg")
    judge("q.gpkg", scene)


def test_box_cut_at_the_antimeridian() -> None:
    """A polygon of RFC 7946, in two parts, is the box around the disc and not around the Earth."""
    scene = CRSS["Fiji across 180"]()
    encode(scene)
    around = to_crs(scene.on_map().envelope, scene.crs, "EPSG:4326")
    _, south, _, north = around.bounds
    lon = shapely.get_coordinates(around)[:, 0]
    west, east = float(lon[lon > 0].min()), float(lon[lon < 0].max())
    parts = shapely.MultiPolygon([shapely.box(west, south, 180, north), shapely.box(-180, south, east, north)])
    works("segment", STORE, layer("p.geojson", [parts], "EPSG:4326"), "-o", "o.gpkg")
    judge("o.gpkg", scene)


ENGINEERING = 'ENGCRS["obra",EDATUM["obra"],CS[Cartesian,2],AXIS["(E)",east],AXIS["(N)",north],LENGTHUNIT["metre",1]]'


@pytest.mark.parametrize("crs", [LOCAL, ENGINEERING], ids=["LOCAL_CS", "ENGCRS"])
def test_local_crs(crs: str) -> None:
    """It has areas of the plane, and no place in another CRS."""
    scene = replace(tif(crs=crs, x=1000, y=2000), crs=None)
    encode(scene)
    works("segment", STORE, scene.point(), "-o", "o.gpkg")
    judge("o.gpkg", scene)
    refuses("segment", STORE, scene.point(), "-o", "p.gpkg", "--out-crs", "EPSG:4326", begun=True)
    refuses("segment", STORE, "--point", "-3,40", "--crs", "EPSG:4326", "-o", "p.gpkg", begun=True)
    refuses("segment", STORE, layer("p.geojson", points((-3, 40)), "EPSG:4326"), "-o", "p.gpkg", begun=True)


def test_crs_corrected_after_encoding() -> None:
    """The difference is named, and the store is re-labelled without encoding again."""
    scene = tif(crs="EPSG:25829")
    encode(scene)
    with rasterio.open("a.tif", "r+") as dataset:
        dataset.crs = UTM
    sentences = [
        refuses("verify", STORE, "a.tif"),
        refuses("encode", "--model", spotlight(), "a.tif", "-o", STORE, "--resume"),
    ]
    for sentence in sentences:
        assert "--set-crs" in sentence and "25829" in sentence + sentence.replace("zone 29N", "25829"), sentence
    option = re.search(r"--set-crs '?\"?(EPSG:\d+)", sentences[0])
    works("info", STORE, "--set-crs", option[1] if option else UTM)
    works("verify", STORE, "a.tif")
    works("encode", "--model", spotlight(), "a.tif", "-o", STORE, "--resume")
    works("segment", STORE, SCENE.point(), "-o", "o.gpkg")
    judge("o.gpkg", SCENE)


@pytest.mark.parametrize("crs", ["EPSG:25830", "EPSG:32630", "+proj=utm +zone=30 +ellps=GRS80 +type=crs"])
def test_set_crs(crs: str, store: Path) -> None:
    shutil.copytree(store, STORE)
    works("info", STORE, "--set-crs", crs)
    assert json.loads(works("info", STORE, "--json").stdout)
    scene = replace(SCENE, crs=crs)
    works("segment", STORE, scene.point(), "-o", "o.gpkg")
    judge("o.gpkg", scene)


@pytest.fixture(scope="session")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data of another PROJ: its database has an older layout."""
    folder = tmp_path_factory.mktemp("foreign")
    shutil.copy(Path(pyproj.datadir.get_data_dir()) / "proj.db", folder)
    with closing(sqlite3.connect(folder / "proj.db")) as database:
        database.execute("UPDATE metadata SET value = 0 WHERE key = 'DATABASE.LAYOUT.VERSION.MINOR'")
        database.commit()
    return folder


ENVIRONMENTS: Mapping[str, Mapping[str, str]] = {
    "PROJ_LIB of another PROJ": {"PROJ_LIB": "{foreign}"},
    "PROJ_DATA of another PROJ": {"PROJ_DATA": "{foreign}"},
    "PROJ_LIB and PROJ_DATA of nothing": {"PROJ_LIB": "/nowhere", "PROJ_DATA": "/nowhere"},
    "GDAL_DATA of nothing": {"GDAL_DATA": "/nowhere", "GDAL_DRIVER_PATH": "/nowhere"},
    "GTIFF_SRS_SOURCE": {"GTIFF_SRS_SOURCE": "GEOKEYS", "OSR_DEFAULT_AXIS_MAPPING_STRATEGY": "AUTHORITY_COMPLIANT"},
    "C locale": {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"},
}


@rows(ENVIRONMENTS)
def test_environment(row: Mapping[str, str], spawn: Spawn, foreign: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in row.items():
        monkeypatch.setenv(key, value.format(foreign=foreign))
    scene = tif("año.tif")
    for arguments in (
        ["encode", scene.image, "--model", spotlight()],
        ["segment", "año.embeddings.zarr", scene.point(), "-o", "o.gpkg", "--out-crs", "EPSG:4326"],
    ):
        done = spawn(*arguments)
        assert done.returncode == 0, done.stderr
        assert "proj.db" not in done.stderr and "LOCAL_CS" not in Path("año.embeddings.zarr/zarr.json").read_text()
    judge("o.gpkg", scene, "EPSG:4326")


def test_refusals_of_a_process_are_one_line(spawn: Spawn) -> None:
    """GDAL prints nothing beside the sentence."""
    rasters.cut(0.5, compress="deflate")
    for arguments in (["encode", "a.tif"], ["encode", "missing.tif"], ["encode", "o\udcf1.tif"]):
        done = spawn(*arguments, errors="surrogateescape")
        assert done.returncode == 2 and done.stderr.startswith("Error: ") and done.stderr.count("\n") == 1, done.stderr

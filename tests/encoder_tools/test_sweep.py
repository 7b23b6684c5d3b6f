"""One disc under many conditions: rasters, CRSs, names, prompts and outputs, through the command line.

Every row makes its own input, runs commands, and judges the polygon by its place, area and IoU; or the command must
refuse in one sentence, and the remedy that the sentence gives must work. `sweep_scene` has the scene and the judge,
`sweep_rasters` and `sweep_vectors` have the rows.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyogrio
import pyproj
import pytest
import rasterio
import shapely
from click.testing import CliRunner, Result

from encoder_tools.cli.app import cli
from tests.encoder_tools import sweep_rasters as rasters
from tests.encoder_tools import sweep_vectors as vectors
from tests.encoder_tools.conftest import Spawn
from tests.encoder_tools.sweep_model import write_spotlight
from tests.encoder_tools.sweep_rasters import CRSS, RASTERS, Make
from tests.encoder_tools.sweep_scene import (
    LEAST_IOU,
    UTM,
    Scene,
    X,
    Y,
    files,
    judge,
    layer,
    pixels_of,
    points,
    tif,
    to_crs,
)
from tests.encoder_tools.sweep_vectors import BOX, CLICK, LONLAT, NAMES, PROMPTS, SCENE, Arguments

pytestmark = pytest.mark.filterwarnings("ignore")

STORE = "s.embeddings.zarr"


def run(*arguments: object) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], prog_name="geosam-es")


def works(*arguments: object) -> Result:
    result = run(*arguments)
    assert result.exit_code == 0, f"{shown(arguments)}: rc {result.exit_code}: {result.stderr.splitlines()[-1:]}"
    return result


def refuses(*arguments: object, named: str = "", begun: bool = False) -> str:
    """Run a command that must fail in one sentence, leaving nothing behind, and return the sentence.

    ``begun`` allows for progress lines before it. Wrong options have click's three lines of usage before it.
    """
    before = files()
    result = run(*arguments)
    seen = f"{shown(arguments)}: rc {result.exit_code}: {(result.stdout + result.stderr)[-300:]!r}"
    lines = result.stderr.splitlines()
    if lines and lines[0].startswith("Usage: "):
        lines = lines[3:]
    if begun:
        lines = [line for line in lines if not re.search(r": \d+/\d+ (tiles|objects)", line)]
    assert result.exit_code == 2, seen
    assert lines and lines[-1].startswith("Error: ") and len(lines) == 1, seen
    assert "unexpected" not in lines[-1] and "Traceback" not in lines[-1], seen
    assert named in lines[-1], f"{named!r} is not named: {seen}"
    assert files() == before, f"left behind: {files() - before}"
    return lines[-1]


def shown(arguments: Sequence[object]) -> str:
    return shlex.join(["geosam-es", *map(str, arguments)])


def rows(table: Mapping[str, Any]) -> Any:
    return pytest.mark.parametrize("row", list(table.values()), ids=list(table))


def made(make: Make) -> tuple[Scene, list[str]]:
    found = make()
    return found if isinstance(found, tuple) else (found, [])


def encode(scene: Scene, *options: object) -> None:
    works("encode", scene.image, "-o", STORE, "--model", spotlight(), *options)


@cache
def spotlight() -> Path:
    """The folder of the fast model."""
    return write_spotlight(Path(_temporary.name) / "spotlight")


_temporary = TemporaryDirectory(prefix="geosam-es sweep ")


@pytest.fixture(autouse=True)
def _in_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store that rows on prompts and outputs share; a.tif is beside it."""
    return shared(tmp_path_factory.mktemp("shared"), tif, "mini")[1]


@pytest.fixture(scope="session")
def fast_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with the fast model, for rows on names."""
    return shared(tmp_path_factory.mktemp("fast"), tif, spotlight())[1]


def shared(folder: Path, make: Callable[[], Scene], model: str | Path) -> tuple[Scene, Path]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        scene = make()
        works("encode", scene.image, "--model", model)
    finally:
        os.chdir(before)
    return scene, folder / "a.embeddings.zarr"


# --- the judge ---------------------------------------------------------------------------------------------------------


def written(geometry: Any, crs: str = UTM, area: float | None = None, copies: int = 1) -> str:
    area = SCENE.area_m2() if area is None else area
    return layer("o.gpkg", [geometry] * copies, crs, fields={"area_m2": [area] * copies})


def test_the_judge_accepts_the_disc_in_any_crs() -> None:
    judge(written(SCENE.on_map()), SCENE)
    Path("o.gpkg").unlink()
    judge(written(SCENE.on_map("EPSG:3035"), "EPSG:3035"), SCENE, "EPSG:3035")


@pytest.mark.parametrize(
    "wrong",
    {
        "shifted by 1.5 px": lambda: written(shapely.affinity.translate(SCENE.on_map(), 0.75)),
        "larger by 3 %": lambda: written(shapely.affinity.scale(SCENE.on_map(), 1.03, 1.03)),
        "half of it": lambda: written(shapely.affinity.scale(SCENE.on_map(), 0.5, 1)),
        "zone of another name": lambda: written(SCENE.on_map(), "EPSG:25829"),
        "area of the plane of Mercator": lambda: written(SCENE.on_map(), area=SCENE.area_m2() * 1.6),
        "negative area": lambda: written(SCENE.on_map(), area=-SCENE.area_m2()),
        "area off by 4 %": lambda: written(SCENE.on_map(), area=SCENE.area_m2() * 1.04),
        "two polygons": lambda: written(SCENE.on_map(), copies=2),
        "crossing itself": lambda: written(vectors.crossed()),
        "degrees in a file of metres": lambda: written(SCENE.on_map("EPSG:4326")),
        "an empty file": lambda: written(SCENE.on_map(), copies=0),
        "a line": lambda: written(SCENE.on_map().exterior),
    }.items(),
    ids=lambda item: item[0],
)
def test_the_judge_rejects(wrong: tuple[str, Callable[[], str]]) -> None:
    path = wrong[1]()
    with pytest.raises(AssertionError):
        judge(path, SCENE)


def test_the_judge_rejects_the_zone_of_another_name_when_it_is_asked_for() -> None:
    with pytest.raises(AssertionError):
        judge(written(SCENE.on_map(), "EPSG:25829"), SCENE, "EPSG:25829")


def test_area_of_the_truth_at_the_antimeridian_and_in_feet() -> None:
    for scene in (CRSS["longitudes across 180, to 360"](), CRSS["Fiji across 180"](), CRSS["US survey feet"]()):
        pixel = pyproj.CRS(scene.crs).axis_info[0].unit_conversion_factor if "4326" not in str(scene.crs) else 111320
        plane = np.pi * (60 * scene.transform.a * pixel) ** 2
        assert scene.area_m2() == pytest.approx(plane, rel=0.06)


# --- rasters -----------------------------------------------------------------------------------------------------------


@rows(RASTERS)
def test_raster(row: Make) -> None:
    scene, options = made(row)
    encode(scene, *options)
    works("segment", STORE, scene.point(), "-o", "o.gpkg")
    judge("o.gpkg", scene)


@pytest.mark.parametrize("name", ["GeoTIFF, tiled", "PNG", "netCDF", "VRT", "/vsizip/", "palette", "nodata NaN"])
def test_store_is_verified_against_its_raster(name: str) -> None:
    scene, options = made(RASTERS[name])
    works("encode", "--model", spotlight(), scene.image, "-o", STORE, *options)
    assert "made from" in works("verify", STORE, scene.image).stdout
    assert (
        "0 tiles encoded"
        in works("encode", "--model", spotlight(), scene.image, "-o", STORE, "--resume", *options).stdout
    )


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A web server with ranges, in a process of its own, and the folder that it serves."""
    folder = tmp_path_factory.mktemp("served")
    code = Path(__file__).with_name("sweep_server.py")
    with subprocess.Popen([sys.executable, str(code)], cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield folder, f"http://127.0.0.1:{process.stdout.readline().strip()}"
        process.terminate()


@pytest.mark.parametrize("name", ["GeoTIFF", "COG"])
def test_raster_over_http(server: tuple[Path, str], name: str) -> None:
    folder, address = server
    scene, _ = made(RASTERS[name])
    shutil.move(scene.image, folder / f"{name}.tif")
    works("encode", "--model", spotlight(), f"/vsicurl/{address}/{name}.tif", "-o", STORE)
    works("segment", STORE, scene.point(), "-o", "o.gpkg")
    judge("o.gpkg", scene)


def test_lost_raster_over_http(server: tuple[Path, str]) -> None:
    refuses("encode", f"/vsicurl/{server[1]}/lost.tif", "-o", STORE, named="lost.tif")


REFUSED_RASTERS: Mapping[str, tuple[Callable[[], str], Sequence[str], str]] = {
    "missing": (lambda: "a.tif", [], "a.tif"),
    "text": (rasters.text_file, [], "a.tif"),
    "nothing in it": (lambda: rasters.text_file(text=""), [], "a.tif"),
    "cut in half": (lambda: rasters.cut(0.5), [], "a.tif"),
    "cut at its header": (lambda: rasters.cut(0.001), [], "a.tif"),
    "cut, DEFLATE": (lambda: rasters.cut(0.7, compress="deflate"), [], "a.tif"),
    "cut, JPEG": (lambda: rasters.cut(0.7, compress="jpeg"), [], "a.tif"),
    "folder of nothing": (rasters.empty_folder, [], "folder"),
    "vector file": (lambda: layer("p.gpkg", points(CLICK)), [], "p.gpkg"),
    "no CRS": (lambda: tif(crs=None).image, [], "a.tif"),
    "heights as CRS": (lambda: tif(crs="EPSG:5782").image, [], "a.tif"),
    "geocentric CRS": (lambda: tif(crs="EPSG:4978").image, [], "a.tif"),
    "metres called degrees": (lambda: tif(crs="EPSG:4326").image, [], "a.tif"),
    "metres with --crs of degrees": (lambda: tif(crs=None).image, ["--crs", "EPSG:4326"], "a.tif"),
    "no geotransform": (lambda: no_place(), [], "a.tif"),
    "complex values": (lambda: tif(pixels=pixels_of(1).astype("complex64")).image, [], "a.tif"),
    "VRT whose source is lost": (rasters.lost_source, [], "a.tif"),
    "VRT of a VRT whose source is lost": (lambda: rasters.lost_source(True), [], "right.tif"),
    "tile index with a lost tile": (rasters.lost_tile_of_index, [], "right.tif"),
    "lost member of a zip": (lambda: rasters.zipped().image.replace("a.tif", "b.tif"), [], "b.tif"),
    "zip that is lost": (lambda: "/vsizip/lost.zip/a.tif", [], "lost.zip"),
    "subdataset that is lost": (lambda: rasters.netcdf(False).image and 'NETCDF:"a.nc":other', [], "other"),
    "a band too many": (lambda: tif().image, ["--bands", "1,2,4"], "a.tif"),
    "nodata beyond the type": (lambda: tif().image, ["--nodata", "-9999"], "a.tif"),
    "unknown CRS": (lambda: tif(crs=None).image, ["--crs", "EPSG:99999"], "EPSG:99999"),
    "--crs is heights": (lambda: tif(crs=None).image, ["--crs", "EPSG:5782"], "EPSG:5782"),
    "--aoi elsewhere": (lambda: tif().image, ["--aoi", "far.gpkg"], "far.gpkg"),
    "ECW without its driver": (lambda: ecw(), [], "a.ecw"),
    "MrSID without its driver": (lambda: ecw("a.sid", b"msid\0\1\0"), [], "a.sid"),
    "name beyond the limit": (lambda: "L" * 300 + ".tif", [], "LLL"),
    "path beyond the limit": (lambda: "d/" * 2100 + "a.tif", [], "a.tif"),
    "NUL in the name": (lambda: "a\0b.tif", [], "a"),
    "http address of nothing": (lambda: "/vsicurl/http://127.0.0.1:9/a.tif", [], "a.tif"),
}


@rows(REFUSED_RASTERS)
def test_refused_raster(row: tuple[Callable[[], str], Sequence[str], str]) -> None:
    make, options, named = row
    image = make()
    if "far.gpkg" in options:
        layer("far.gpkg", [shapely.box(0, 0, 1, 1)])
    refuses("encode", image, "-o", STORE, "--model", spotlight(), *options, named=named)


def no_place() -> str:
    rasters.write("a.tif", pixels_of(), crs=UTM)
    return "a.tif"


def ecw(name: str = "a.ecw", head: bytes = b"ecw\0") -> str:
    Path(name).write_bytes(head + b"\0" * 2000)
    return name


@pytest.mark.parametrize("name", ["a.ecw", "a.sid"])
def test_a_missing_driver_is_said_to_be_missing(name: str) -> None:
    sentence = refuses("encode", ecw(name), named=name)
    assert "driver" in sentence and "gdal_translate" in sentence and "copy it again" not in sentence


def test_no_crs_and_its_remedy() -> None:
    scene = tif(crs=None)
    sentence = refuses("encode", scene.image, "-o", STORE, named="a.tif")
    option = re.search(r"--crs (EPSG:\d+)", sentence)
    assert option is not None
    encode(scene, "--crs", option[1])
    works("segment", STORE, scene.point(), "-o", "o.gpkg")
    judge("o.gpkg", replace(scene, crs=option[1]))


def test_crs_that_contradicts_the_file() -> None:
    """It is used, or refused; it is not ignored."""
    scene = tif(crs="EPSG:25829")
    if run("encode", scene.image, "-o", STORE, "--model", spotlight(), "--crs", UTM).exit_code:
        refuses("encode", scene.image, "-o", STORE, "--crs", UTM, named="a.tif")
    else:
        works("segment", STORE, scene.point(), "-o", "o.gpkg")
        judge("o.gpkg", SCENE)


PLACED_BY_OTHER_MEANS: Mapping[str, tuple[Callable[[], Scene], Sequence[str]]] = {
    "control points": (rasters.control_points, []),
    "control points and --crs": (rasters.control_points, ["--crs", UTM]),
    "control points without CRS": (lambda: rasters.control_points(None), ["--crs", UTM]),
    "RPCs": (rasters.rational_polynomials, []),
    "geolocation arrays": (rasters.geolocation, []),
}


@rows(PLACED_BY_OTHER_MEANS)
def test_placed_by_other_means(row: tuple[Callable[[], Scene], Sequence[str]]) -> None:
    """The image is warped when it is read, or the line that warps it is printed and works."""
    scene, options = row[0](), row[1]
    image: str = scene.image
    if run("encode", "--model", spotlight(), image, "-o", STORE, *options).exit_code:
        sentence = refuses("encode", image, "-o", STORE, *options, named=image)
        line = re.search(r"gdalwarp [^;]*?\S+\.tif\"?'? \S+\.tif\"?'?", sentence)
        assert line, sentence
        if not shutil.which("gdalwarp"):
            pytest.skip("gdalwarp is not installed")
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("PROJ_", "GDAL_"))}
        subprocess.run(line[0], shell=True, check=True, env=environment, capture_output=True)
        image = shlex.split(line[0])[-1]
        works("encode", "--model", spotlight(), image, "-o", STORE)
    works("segment", STORE, scene.point(), "-o", "o.gpkg")
    judge("o.gpkg", scene, area=None)


NETCDF_REMEDY = "netCDF of several variables"


def test_subdatasets_and_their_remedy() -> None:
    """A file with several subdatasets names them, as they are to be given."""
    scene = rasters.netcdf(False, 3)
    if run("encode", "--model", spotlight(), scene.image, "-o", STORE).exit_code:
        sentence = refuses("encode", scene.image, "-o", STORE, named="a.nc")
        name = re.search(r"NETCDF:\S*?:Band\d", sentence)
        assert name, sentence
        # A shell takes the quotes away.
        works("encode", "--model", spotlight(), shlex.split(name[0])[0], "-o", STORE)
    works("segment", STORE, scene.point(), "-o", "o.gpkg")
    judge("o.gpkg", scene)


# --- coordinate reference systems --------------------------------------------------------------------------------------


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
    west = (scene.click[0] + 0.0001 + 180) % 360 - 180
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


LOCAL = 'LOCAL_CS["obra",UNIT["metre",1]]'
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


# --- prompts -----------------------------------------------------------------------------------------------------------


@rows(PROMPTS)
def test_prompts(row: Arguments, store: Path) -> None:
    arguments = row()
    works("segment", store, *arguments, "-o", "out.gpkg")
    judge("out.gpkg", SCENE)


REFUSED_PROMPTS: Mapping[str, tuple[Arguments, str]] = {
    "missing": (lambda: ["p.gpkg"], "p.gpkg"),
    "text": (lambda: [vectors.text("p.gpkg", "x")], "p.gpkg"),
    "nothing in it": (lambda: [vectors.text("p.geojson", "")], "p.geojson"),
    "raster": (lambda: [tif("q.tif").image], "q.tif"),
    "no features": (lambda: [layer("p.gpkg", [])], "p.gpkg"),
    "NULL geometries only": (lambda: [layer("p.gpkg", [None])], "p.gpkg"),
    "table": (lambda: [vectors.text("p.csv", "a,b\n1,2\n")], "p.csv"),
    "line": (lambda: vectors.one("p.gpkg", shapely.LineString([CLICK, (CLICK[0] + 9, CLICK[1])])), "p.gpkg"),
    "collection of two": (
        lambda: vectors.one("p.gpkg", shapely.GeometryCollection([shapely.Point(CLICK), BOX])), "p.gpkg",
    ),
    "no CRS": (lambda: vectors.one("p.gpkg", crs=None), "p.gpkg"),
    "local CRS": (lambda: vectors.one("p.gpkg", crs=LOCAL), "p.gpkg"),
    "heights as CRS": (lambda: [SCENE.point(), "--crs", "EPSG:5782"], "EPSG:5782"),
    "metres called degrees": (lambda: vectors.one("p.geojson", shapely.Point(CLICK), "EPSG:4326"), "p.geojson"),
    "metres with --crs of degrees": (lambda: [SCENE.point(), "--crs", "EPSG:4326"], "EPSG:4326"),
    "far outside": (lambda: [vectors.x_y(0, 0)], "outside"),
    "a pixel outside": (lambda: [vectors.x_y(X - 0.6, Y - 10)], "outside"),
    "label 2": (lambda: vectors.one("p.gpkg", fields={"label": [2]}), "p.gpkg"),
    "label of text": (lambda: vectors.one("p.gpkg", fields={"label": np.array(["yes"], dtype=object)}), "p.gpkg"),
    "negative alone": (lambda: [SCENE.point() + ",0"], ""),
    "box without area": (lambda: ["--box={0},{1},{0},{1}".format(*CLICK)], "box"),
    "box turned round": (lambda: ["--box={2},{3},{0},{1}".format(*BOX.bounds)], "box"),
    "point of words": (lambda: ["--point", "a,b"], "--point"),
    "point of NaN": (lambda: ["--point", "nan,1"], "nan"),
    "infinite point in a file": (lambda: vectors.one("p.gpkg", shapely.Point(np.inf, 1)), "p.gpkg"),
    "two layers": (lambda: vectors.two_layers(False), "p.gpkg"),
    "DXF without --crs": (lambda: vectors.one("p.dxf", crs=None), "p.dxf"),
    "cut Shapefile": (lambda: cut_shapefile(), "p.shp"),
    "cut GeoJSON": (lambda: [vectors.text("p.geojson", Path(vectors.geojson()[0]).read_text()[:-9])], "p.geojson"),
    "name beyond the limit": (lambda: ["p" * 300 + ".gpkg"], "ppp"),
}  # fmt: skip


def cut_shapefile() -> list[str]:
    layer("p.shp", [BOX] * 20, kind="Polygon")
    data = Path("p.shp").read_bytes()
    Path("p.shp").write_bytes(data[:90])
    return ["p.shp"]


@rows(REFUSED_PROMPTS)
def test_refused_prompts(row: tuple[Arguments, str], fast_store: Path) -> None:
    make, named = row
    arguments = make()
    refuses("segment", fast_store, *arguments, "-o", "o.gpkg", named=named, begun=True)


@pytest.mark.parametrize("at", ["right edge", "left edge", "corner", "bottom edge"])
@pytest.mark.parametrize("x", [500000.0, 524038.3, 481234.7])
def test_click_on_the_very_edge(at: str, x: float) -> None:
    """The raster's own edge belongs to it, whatever rounding does: there the ground is found, or nothing."""
    scene = tif(x=x)
    encode(scene)
    right, bottom = x + 250, Y - 200
    place = {"right edge": (right, Y - 100), "left edge": (x, Y - 100), "corner": (right, bottom)}
    click = place.get(at, (x + 100, bottom))
    result = run("segment", STORE, vectors.x_y(*click), "-o", "o.gpkg")
    assert "outside" not in result.stderr and result.exit_code == 0, result.stderr


def test_object_keeps_its_type_and_attributes_are_carried(fast_store: Path) -> None:
    big = 2**53 + 1
    columns = {
        "object": np.array([big]), "name": np.array(["Ávila"], dtype=object), "big": np.array([big]),
        "real": np.array([0.1]), "day": np.array(["2026-05-01"], dtype="datetime64[D]"), "yes": np.array([True]),
        "null": np.array([5], np.int32),
    }  # fmt: skip
    layer("p.gpkg", points(CLICK), fields=columns, nulls={"null": np.array([True])})
    for name in ("o.gpkg", "o.geojson", "o.fgb"):
        if name.endswith("fgb") and run("segment", fast_store, "p.gpkg", "-o", name).exit_code:
            continue
        works("segment", fast_store, "p.gpkg", "-o", name, "--overwrite")
        values = judge(name, SCENE)
        assert int(values["object"]) == big and int(values["big"]) == big, name
        assert values["name"] == "Ávila" and values["real"] == 0.1 and bool(values["yes"])
        assert str(values["day"])[:10] == "2026-05-01"
        assert values["null"] is None or np.isnan(values["null"])


OBJECTS: Mapping[str, Any] = {
    "int16": np.array([7], np.int16),
    "int32": np.array([-7], np.int32),
    "int64": np.array([2**62 + 1], np.int64),
    "text": np.array(["casa 7"], dtype=object),
    "text of digits": np.array(["007"], dtype=object),
    "emoji": np.array(["casa 😀"], dtype=object),
    "real": np.array([1.5]),
    "date": np.array(["2026-05-01"], dtype="datetime64[D]"),
    "Boolean": np.array([True]),
}


@rows(OBJECTS)
def test_type_of_object(row: Any, fast_store: Path) -> None:
    layer("p.gpkg", points(CLICK), fields={"object": row})
    works("segment", fast_store, "p.gpkg", "-o", "o.gpkg")
    found = judge("o.gpkg", SCENE)["object"]
    assert str(found) == str(row[0]), found


def test_very_many_points_of_one_object(store: Path) -> None:
    """Three thousand are no worse than a thousand, and answered in the time of a few."""
    found = {}
    for count in (1000, 3000):
        works("segment", store, *vectors.many(count, f"p{count}.gpkg"), "-o", f"o{count}.gpkg")
        (wkb,) = pyogrio.raw.read(f"o{count}.gpkg")[2]
        pixels, disc = SCENE.in_pixels(shapely.from_wkb(wkb), UTM), SCENE.disc()
        found[count] = pixels.intersection(disc).area / pixels.union(disc).area
    assert found[3000] >= found[1000] - 0.02 and found[1000] >= 0.88, found


# --- names -------------------------------------------------------------------------------------------------------------


@rows(NAMES)
def test_name_of_the_image(row: str) -> None:
    """The image and its store beside it."""
    shutil.move(tif().image, f"{row}.tif")
    dashed = ["--"] if row.startswith("-") else []
    works("encode", "--model", spotlight(), *dashed, f"{row}.tif")
    # Characters that other systems do not allow are replaced in the name of the store.
    (name,) = (str(path) for path in Path().iterdir() if path.suffix == ".zarr")
    works("segment", "-o", "o.gpkg", SCENE.point(), *dashed, name)
    judge("o.gpkg", SCENE)
    works("verify", *dashed, name, f"{row}.tif")


@rows(NAMES)
def test_name_of_the_prompts(row: str, fast_store: Path) -> None:
    shutil.move(layer("p.gpkg", points(CLICK), layer="p"), f"{row}.gpkg")
    dashed = ["--"] if row.startswith("-") else []
    works("segment", "-o", "o.geojson", *dashed, fast_store, f"{row}.gpkg")
    judge("o.geojson", SCENE)


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson", ".shp"])
@rows(NAMES)
def test_name_of_the_output(row: str, suffix: str, fast_store: Path) -> None:
    """The file that was named is written, and no other."""
    Path("out").mkdir()
    trap = Path(f"{row.lstrip('!@#-')}{suffix}")
    trap.write_text("precious", encoding="utf-8")
    before, path = files(), Path("out") / (row + suffix)
    works("segment", fast_store, SCENE.point(), f"--output={path}")
    assert path.is_file() and trap.read_text(encoding="utf-8") == "precious"
    assert {found for found in files() - before if found.endswith(suffix)} == {str(path)}
    judge_at(path)


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson", ".shp"])
@pytest.mark.parametrize("name", ["!final", "(copia)", "-o", "@list", "~user", "año", "..a"])
def test_name_of_the_output_in_the_working_directory(name: str, suffix: str, fast_store: Path) -> None:
    before = files()
    works("segment", fast_store, SCENE.point(), f"--output={name}{suffix}")
    assert {found for found in files() - before if found.endswith(suffix)} == {name + suffix}
    judge(Path.cwd() / (name + suffix), SCENE)


def judge_at(path: Path) -> None:
    """Judge a file whose name pyogrio might not take."""
    folder = Path("judged")
    folder.mkdir()
    for part in path.parent.iterdir():
        if part.name.startswith(path.stem):
            shutil.copy(part, folder / part.name.replace(path.stem, "o", 1))
    judge(folder / f"o{path.suffix}", SCENE)


@pytest.mark.parametrize("role", ["image", "store", "prompts", "output", "folder of the output"])
def test_name_that_is_not_utf8(role: str, fast_store: Path) -> None:
    """Such names work, or are refused in a sentence."""
    name = os.fsdecode(b"o\xf1")
    if role == "image":
        shutil.move(tif().image, f"{name}.tif")
        arguments: list[object] = ["encode", f"{name}.tif", "--model", spotlight()]
    elif role == "store":
        shutil.copytree(fast_store, f"{name}.embeddings.zarr")
        arguments = ["segment", f"{name}.embeddings.zarr", SCENE.point(), "-o", "o.gpkg"]
    elif role == "prompts":
        shutil.move(layer("p.gpkg", points(CLICK)), f"{name}.gpkg")
        arguments = ["segment", fast_store, f"{name}.gpkg", "-o", "o.gpkg"]
    elif role == "output":
        arguments = ["segment", fast_store, SCENE.point(), "-o", f"{name}.gpkg"]
    else:
        Path(name).mkdir()
        arguments = ["segment", fast_store, SCENE.point(), "-o", Path(name) / "o.gpkg"]
    if run(*arguments).exit_code:
        refuses(*arguments, begun=True)
    elif Path("o.gpkg").exists():
        judge("o.gpkg", SCENE)
    else:
        assert files()


@pytest.mark.parametrize(
    "arguments",
    [
        ["info", "L" * 300],
        ["verify", "L" * 300],
        ["segment", "L" * 300, "--point", "1,1", "-o", "o.gpkg"],
        ["segment", "{store}", "--point={x},{y}", "-o", "L" * 300 + ".gpkg"],
        ["segment", "{store}", "--point={x},{y}", "-o", "d/" * 2100 + "o.gpkg"],
        ["encode", "{image}", "-o", "L" * 300],
        ["encode", "{image}", "-o", "L" * 300 + ".embeddings.zarr"],
        ["evaluate", "{store}", "L" * 300, "-o", "report"],
        ["evaluate", "L" * 300, "L" * 300, "-o", "report"],
        ["info", "missing"],
        ["info", "{image}"],
        ["info", "{store}", "--set-crs", "EPSG:5782"],
        ["info", "{store}", "--set-crs", "nonsense"],
        ["verify", "{store}", "missing.tif"],
        ["segment", "{image}", "--point", "1,1", "-o", "o.gpkg"],
        ["segment", "{store}", "-o", "o.gpkg"],
        ["segment", "{store}", "--point={x},{y}", "-o", "missing/o.gpkg"],
        ["segment", "{store}", "--point={x},{y}", "-o", "o.xyz"],
        ["segment", "{store}", "--point={x},{y}", "-o", "o"],
        ["segment", "{store}", "--point={x},{y}", "-o", "."],
        ["segment", "{store}", "--point={x},{y}", "-o", ""],
        ["segment", "{store}", "--point={x},{y}", "-o", "o.gpkg", "--out-crs", "EPSG:5782"],
        ["segment", "{store}", "--point={x},{y}", "-o", "o.gpkg", "--out-crs", "EPSG:4978"],
        ["segment", "{store}", "--point={x},{y}", "-o", "o.gpkg", "--out-crs", "EPSG:99999"],
        ["segment", "{store}", "--point={x},{y}", "-o", "o.gpkg", "--out-crs", LOCAL],
        ["segment", "{store}", "--point={x},{y}", "-o", "o.geojson", "--out-crs", "+proj=tmerc +lon_0=1 +ellps=GRS80"],
        ["segment", "{store}", "--point={x},{y}", "-o", "o.gpkg", "--out-crs", "+proj=geos +h=35785831 +lon_0=100"],
        ["segment", "{store}", "a.gpkg", "--point={x},{y}", "-o", "o.gpkg"],
    ],
    ids=lambda a: " ".join(a)[:60],
)  # fmt: skip
def test_refused_command(arguments: list[str], fast_store: Path) -> None:
    image = fast_store.with_name("a.tif")
    filled = [a.format(store=fast_store, image=image, x=CLICK[0], y=CLICK[1]) for a in arguments]
    refuses(*filled, begun=True)


# --- outputs -----------------------------------------------------------------------------------------------------------

OUTPUTS: Mapping[str, tuple[str, str | None]] = {
    "GeoPackage": ("o.gpkg", None),
    "Shapefile": ("o.shp", None),
    "GeoJSON": ("o.geojson", None),
    "GeoJSON as .json": ("o.json", None),
    "capital .GPKG": ("O.GPKG", None),
    "capital .SHP": ("O.SHP", None),
    "capital .GeoJSON": ("o.GeoJSON", None),
    "Shapefile in WGS 84": ("o.shp", "EPSG:4326"),
    "WGS 84": ("o.gpkg", "EPSG:4326"),
    "GeoJSON in WGS 84": ("o.geojson", "EPSG:4326"),
    "CRS84": ("o.geojson", "OGC:CRS84"),
    "Web Mercator": ("o.gpkg", "EPSG:3857"),
    "neighbouring zone": ("o.gpkg", "EPSG:25829"),
    "LAEA Europe": ("o.shp", "EPSG:3035"),
    "axes north, east": ("o.gpkg", "EPSG:2180"),
    "axes north, east in GeoJSON": ("o.geojson", "EPSG:31468"),
    "ED50": ("o.gpkg", "EPSG:23030"),
    "grads": ("o.gpkg", "EPSG:4807"),
    "feet": ("o.gpkg", "EPSG:2225"),
    "with heights": ("o.gpkg", "EPSG:25830+5782"),
    "proj string": ("o.gpkg", "+proj=tmerc +lat_0=40 +lon_0=-3.5 +ellps=GRS80 +units=m +type=crs"),
    "proj string, Shapefile": ("o.shp", "+proj=tmerc +lat_0=40 +lon_0=-3.5 +ellps=GRS80 +units=m +type=crs"),
    "WKT": ("o.gpkg", pyproj.CRS("EPSG:3035").to_wkt()),
    "URN": ("o.gpkg", "urn:ogc:def:crs:EPSG::25829"),
    "polar": ("o.gpkg", "EPSG:3995"),
}


@rows(OUTPUTS)
def test_output(row: tuple[str, str | None], fast_store: Path) -> None:
    name, crs = row
    works("segment", fast_store, SCENE.point(), "-o", name, *(["--out-crs", crs] if crs else []))
    judge(name, SCENE, crs)


OTHER_FORMATS = {
    "FlatGeobuf": "o.fgb", "GML": "o.gml", "KML": "o.kml", "KMZ": "o.kmz", "SQLite": "o.sqlite", "TAB": "o.tab",
    "MIF": "o.mif", "DXF": "o.dxf", "file geodatabase": "o.gdb", "GeoJSON lines": "o.geojsonl", "CSV": "o.csv",
    "GPX": "o.gpx", "TopoJSON": "o.topojson", "Parquet": "o.parquet", "zipped Shapefile": "o.shp.zip",
    "zipped GeoPackage": "o.gpkg.zip", "PMTiles": "o.pmtiles", "GMT": "o.gmt", "JSON-FG": "o.jsonfg", "XLSX": "o.xlsx",
}  # fmt: skip


@rows(OTHER_FORMATS)
def test_other_format(row: str, fast_store: Path) -> None:
    """It is written as it should be, or refused before any work, with the formats that are written."""
    crs = "EPSG:4326" if row.endswith(("kml", "kmz", "geojsonl", "gpx")) else UTM
    arguments = ("segment", fast_store, SCENE.point(), "-o", row, "--out-crs", crs)
    if run(*arguments).exit_code:
        assert ".gpkg" in refuses(*arguments, named=row)
    else:
        judge(row, SCENE, crs)


def test_overwriting_a_layer_keeps_the_others(fast_store: Path) -> None:
    layer("o.gpkg", points((1, 2), (3, 4)), layer="parcelas", fields={"n": [1, 2]})
    layer("o.gpkg", points((5, 6)), layer="o", append=True)
    works("segment", fast_store, SCENE.point(), "-o", "o.gpkg", "--overwrite")
    judge("o.gpkg", SCENE, layer="o")
    meta, _, kept, columns = pyogrio.raw.read("o.gpkg", layer="parcelas")
    assert [g.coords[0] for g in shapely.from_wkb(kept)] == [(1, 2), (3, 4)] and columns[0].tolist() == [1, 2]
    assert {str(name) for name, _ in pyogrio.list_layers("o.gpkg")} == {"o", "parcelas"}


@pytest.mark.parametrize("name", ["o.gpkg", "o.shp", "o.geojson"])
def test_overwrite(name: str, fast_store: Path) -> None:
    layer(name, points((1, 2), (3, 4)), kind="Point")
    before = {path: Path(path).read_bytes() for path in files()}
    sentence = refuses("segment", fast_store, SCENE.point(), "-o", name, named=name)
    assert "--overwrite" in sentence and {path: Path(path).read_bytes() for path in files()} == before
    works("segment", fast_store, SCENE.point(), "-o", name, "--overwrite")
    judge(name, SCENE)


@pytest.mark.parametrize("name", ["o.gpkg", "o.shp", "o.geojson"])
def test_append(name: str, fast_store: Path) -> None:
    """To a file that is not there yet, and then to the one that is."""
    works("segment", fast_store, SCENE.point(), "-o", name, "--append")
    judge(name, SCENE)
    works("segment", fast_store, SCENE.box(), "-o", name, "--append")
    for feature in (0, 1):
        judge(name, SCENE, features=2, feature=feature)


def test_append_keeps_other_layers_and_refuses_another_crs(fast_store: Path) -> None:
    layer("o.gpkg", points((1, 2)), layer="parcelas")
    works("segment", fast_store, SCENE.point(), "-o", "o.gpkg", "--append")
    judge("o.gpkg", SCENE, layer="o")
    assert len(pyogrio.raw.read("o.gpkg", layer="parcelas")[2]) == 1
    refuses("segment", fast_store, SCENE.point(), "-o", "o.gpkg", "--append", "--out-crs", "EPSG:4326", named="o.gpkg")


@pytest.mark.parametrize("option", ["--overwrite", "--append"])
def test_locked_output(option: str, fast_store: Path) -> None:
    works("segment", fast_store, SCENE.point(), "-o", "o.gpkg")
    with closing(sqlite3.connect("o.gpkg", isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        before = Path("o.gpkg").read_bytes()
        result = run("segment", fast_store, SCENE.point(), "-o", "o.gpkg", option)
        assert result.exit_code == 2 and re.search("locked|in use", result.stderr), result.stderr
        assert Path("o.gpkg").read_bytes() == before
        connection.execute("ROLLBACK")
    judge("o.gpkg", SCENE)


def test_output_over_the_prompts_is_refused(fast_store: Path) -> None:
    layer("p.gpkg", points(CLICK))
    before = Path("p.gpkg").read_bytes()
    result = run("segment", fast_store, "p.gpkg", "-o", "p.gpkg", "--overwrite")
    assert result.exit_code == 2 or len(pyogrio.raw.read("p.gpkg")[2]) == 1
    assert result.exit_code == 0 or Path("p.gpkg").read_bytes() == before


def test_text_too_long_for_a_shapefile_is_said(fast_store: Path) -> None:
    layer("p.gpkg", points(CLICK), fields={"object": np.array(["é" * 200], dtype=object)})
    result = run("segment", fast_store, "p.gpkg", "-o", "o.shp")
    assert "254" in result.stderr and "unexpected" not in result.stderr
    works("segment", fast_store, "p.gpkg", "-o", "o.gpkg")
    assert judge("o.gpkg", SCENE)["object"] == "é" * 200


def test_names_too_long_for_a_shapefile_are_said(fast_store: Path) -> None:
    layer("p.gpkg", points(CLICK), fields={"clasificacion_2025": [1], "clasificacion_2026": [2]})
    result = run("segment", fast_store, "p.gpkg", "-o", "o.shp")
    assert "clasificacion_2025" in result.stderr, result.stderr
    if result.exit_code == 0:
        values = judge("o.shp", SCENE)
        assert sorted(values[name] for name in values if name.startswith("clasi")) == [1, 2]


def test_read_only_folder(fast_store: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    Path("out").mkdir(mode=0o500)
    refuses("segment", fast_store, SCENE.point(), "-o", "out/o.gpkg", named="out")


def test_output_is_a_folder(fast_store: Path) -> None:
    Path("o.gpkg").mkdir()
    refuses("segment", fast_store, SCENE.point(), "-o", "o.gpkg", named="o.gpkg")
    refuses("segment", fast_store, SCENE.point(), "-o", "o.gpkg", "--overwrite", named="o.gpkg")


# --- environment, in processes of their own ----------------------------------------------------------------------------


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
        ["encode", scene.image],
        ["segment", "año.embeddings.zarr", scene.point(), "-o", "o.gpkg"],
        ["segment", "año.embeddings.zarr", scene.point(), "-o", "o.geojson", "--out-crs", "EPSG:4326"],
    ):
        done = spawn(*arguments)
        assert done.returncode == 0, done.stderr
        assert "proj.db" not in done.stderr and "LOCAL_CS" not in Path("año.embeddings.zarr/zarr.json").read_text()
    judge("o.gpkg", scene)
    judge("o.geojson", scene, "EPSG:4326")


def test_refusals_of_a_process_are_one_line(spawn: Spawn) -> None:
    """GDAL prints nothing beside the sentence."""
    rasters.cut(0.5, compress="deflate")
    for arguments in (["encode", "a.tif"], ["encode", "missing.tif"], ["encode", "o\udcf1.tif"]):
        done = spawn(*arguments, errors="surrogateescape")
        assert done.returncode == 2 and done.stderr.startswith("Error: ") and done.stderr.count("\n") == 1, done.stderr


# --- options of encode; verify, info, evaluate ----------------------------------------------------------------------

ENCODINGS: Mapping[str, Sequence[str]] = {
    "int8": ["--dtype", "int8"],
    "float32": ["--dtype", "float32"],
    "one level": ["--levels", "1"],
    "bands turned": ["--bands", "3,2,1"],
    "one band": ["--bands", "2"],
    "stretch by percentiles": ["--stretch", "2,98"],
    "stretch by values": ["--stretch", "0:255"],
    "no stretch": ["--stretch", "none"],
    "CRS that is the same": ["--crs", UTM],
    "one thread": ["--threads", "1"],
    "overlap of 512": ["--overlap", "512"],
    "AOI": ["--aoi", "aoi.gpkg"],
    "AOI in WGS 84": ["--aoi", "aoi.geojson"],
    "AOI without CRS": ["--aoi", "bare.gpkg"],
}


@rows(ENCODINGS)
def test_encode_option(row: Sequence[str]) -> None:
    scene = tif()
    layer("aoi.gpkg", [BOX])
    layer("aoi.geojson", [to_crs(BOX, UTM, "EPSG:4326")], "EPSG:4326")
    layer("bare.gpkg", [BOX], None)
    works("encode", scene.image, "--dry-run", "-o", STORE, *row)
    assert not Path(STORE).exists()
    encode(scene, *row)
    works("segment", STORE, scene.point(), "-o", "o.gpkg")
    judge("o.gpkg", scene)
    works("verify", STORE, scene.image)


def test_resume_overwrite_and_refusal() -> None:
    scene = tif()
    encode(scene)
    assert "--overwrite" in refuses("encode", scene.image, "-o", STORE, named=STORE)
    refuses("encode", "--model", spotlight(), scene.image, "-o", STORE, "--resume", "--dtype", "int8", named=STORE)
    tif(pixels=pixels_of(dark=90))
    refuses("verify", STORE, "a.tif", named="a.tif")
    refuses("encode", "--model", spotlight(), "a.tif", "-o", STORE, "--resume")
    encode(scene, "--overwrite")
    works("verify", STORE, "a.tif")
    works("segment", STORE, scene.point(), "-o", "o.gpkg")
    judge("o.gpkg", scene)


def test_folder_of_images() -> None:
    Path("in").mkdir(), Path("out").mkdir()
    for name in ("a.tif", "b.TIF", "c.jp2", "d.vrt"):
        scene = tif() if "tif" in name.lower() else rasters.RASTERS["JPEG2000" if "jp2" in name else "VRT"]()
        assert isinstance(scene, Scene)
        if "vrt" not in name:
            shutil.move(scene.image, f"in/{name}")
    works("encode", "--model", spotlight(), "in", "-o", "out")
    for name in "abc":
        works("segment", f"out/{name}.embeddings.zarr", SCENE.point(), "-o", f"{name}.gpkg")
        judge(f"{name}.gpkg", SCENE)


def test_damaged_tile_is_found() -> None:
    encode(tif())
    chunk = next(path for path in Path(STORE, "level0", "image_embeddings").rglob("*") if path.stat().st_size > 1e5)
    chunk.write_bytes(chunk.read_bytes()[:-2] + b"xx")
    refuses("verify", STORE, named=STORE, begun=True)


@pytest.mark.parametrize("crs", ["EPSG:25830", "EPSG:32630", "+proj=utm +zone=30 +ellps=GRS80 +type=crs"])
def test_set_crs(crs: str, store: Path) -> None:
    shutil.copytree(store, STORE)
    works("info", STORE, "--set-crs", crs)
    assert json.loads(works("info", STORE, "--json").stdout)
    scene = replace(SCENE, crs=crs)
    works("segment", STORE, scene.point(), "-o", "o.gpkg")
    judge("o.gpkg", scene)


def test_moved_store(store: Path) -> None:
    shutil.copytree(store, "otra carpeta/ñ.embeddings.zarr")
    works("segment", "otra carpeta/ñ.embeddings.zarr", SCENE.point(), "-o", "o.gpkg")
    judge("o.gpkg", SCENE)


TRUTHS: Mapping[str, Callable[[], str]] = {
    "GeoPackage": lambda: layer("t.gpkg", [SCENE.on_map()]),
    "Shapefile": lambda: layer("t.shp", [SCENE.on_map()], kind="Polygon"),
    "GeoJSON in WGS 84": lambda: layer("t.geojson", [SCENE.on_map("EPSG:4326")], "EPSG:4326"),
    "another CRS": lambda: layer("t.gpkg", [SCENE.on_map("EPSG:3035")], "EPSG:3035"),
    "MultiPolygon Z": lambda: layer("t.gpkg", [shapely.force_3d(shapely.MultiPolygon([SCENE.on_map()]))]),
    "strange name": lambda: shutil.move(layer("t.gpkg", [SCENE.on_map()], layer="t"), "(verdad) ñ.gpkg"),
}


@rows(TRUTHS)
def test_evaluate(row: Callable[[], str], store: Path) -> None:
    truth = row()
    found = works("evaluate", store, truth, "-o", "report", "--prompts", "point,box", "--json").stdout
    measured = {item["prompts"]: item["values"]["iou"][0] for item in json.loads(found)["all"]}
    assert set(measured) == {"point", "box"} and min(measured.values()) >= LEAST_IOU, measured


# --- tiles and their borders -----------------------------------------------------------------------------------------

PLACES = {
    "tile 1": (512.5, 512.5), "border of two tiles": (896.5, 400.5), "corner of four tiles": (896.5, 896.5),
    "edge of a tile": (1024.5, 640.5), "corner of a tile": (1024.5, 1024.5), "start of a tile": (768.5, 1300.5),
    "raster's corner": (70.5, 70.5), "raster's last corner": (2029.5, 2029.5), "between shifted tiles": (1430.5, 1700.5),
    "right edge": (2035.5, 1100.5),
}  # fmt: skip


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[Scene, Path]:
    """A raster of nine tiles with a disc at each place."""
    pixels = pixels_of(width=2100, height=2100, centres=list(PLACES.values()))
    return shared(tmp_path_factory.mktemp("large"), lambda: tif(pixels=pixels, compress="deflate"), "mini")


@pytest.mark.parametrize("how", ["click", "box"])
@rows(PLACES)
def test_place(row: tuple[float, float], how: str, large: tuple[Scene, Path]) -> None:
    scene = replace(large[0], centre=row)
    works("segment", large[1], scene.point() if how == "click" else scene.box(), "-o", "o.gpkg")
    judge("o.gpkg", scene)


def test_all_places_in_one_go(large: tuple[Scene, Path]) -> None:
    scenes = [replace(large[0], centre=centre) for centre in PLACES.values()]
    layer("p.gpkg", points(*(scene.click for scene in scenes)), fields={"name": list(PLACES)})
    works("segment", large[1], "p.gpkg", "-o", "o.gpkg")
    for number, scene in enumerate(scenes):
        assert judge("o.gpkg", scene, features=len(scenes), feature=number)["name"] == list(PLACES)[number]


def test_rest_of_the_table_is_large() -> None:
    assert sum(map(len, (RASTERS, CRSS, PROMPTS, NAMES, OUTPUTS, REFUSED_RASTERS, REFUSED_PROMPTS))) >= 150

"""The disc in rasters of every kind, and rasters that must be refused; options of encode, and verify."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import shapely

from tests.encoder_tools.sweep import rasters
from tests.encoder_tools.sweep.commands import STORE, encode, made, refuses, rows, run, spotlight, works
from tests.encoder_tools.sweep.rasters import RASTERS, Make
from tests.encoder_tools.sweep.scene import (
    UTM,
    Scene,
    judge,
    layer,
    pixels_of,
    points,
    tif,
    to_crs,
    vrt,
)
from tests.encoder_tools.sweep.vectors import BOX, CLICK, SCENE

pytestmark = pytest.mark.filterwarnings("ignore")


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
    code = Path(__file__).with_name("server.py")
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
    "heights as CRS": (lambda: heights().image, [], "v.vrt"),
    "geocentric CRS": (lambda: tif(crs="EPSG:4978").image, [], "a.tif"),
    "metres called degrees": (lambda: tif(crs="EPSG:4326").image, [], "a.tif"),
    "metres with --crs of degrees": (lambda: tif(crs=None).image, ["--crs", "EPSG:4326"], "a.tif"),
    "no geotransform": (lambda: no_place(), [], "a.tif"),
    "complex values": (lambda: tif(pixels=pixels_of(1).astype("complex64")).image, [], "a.tif"),
    "VRT whose source is lost": (rasters.lost_source, [], "a.tif"),
    "VRT of a VRT whose source is lost": (lambda: rasters.lost_source(True), [], "right.tif"),
    "tile index with a lost tile": (rasters.lost_tile_of_index, [], "right.tif"),
    "HDF5 without a place": (lambda: rasters.hdf5().image, [], "a.nc"),
    "lost member of a zip": (lambda: rasters.zipped().image.replace("a.tif", "b.tif"), [], "b.tif"),
    "zip that is lost": (lambda: "/vsizip/lost.zip/a.tif", [], "lost.zip"),
    "subdataset that is lost": (lambda: rasters.netcdf(False).image and 'NETCDF:"a.nc":other', [], "other"),
    "a band too many": (lambda: tif().image, ["--bands", "1,2,4"], "a.tif"),
    "nodata beyond the type": (lambda: tif().image, ["--nodata", "-9999"], "a.tif"),
    "unknown CRS": (lambda: tif(crs=None).image, ["--crs", "EPSG:99999"], "EPSG:99999"),
    "--crs is heights": (lambda: tif(crs=None).image, ["--crs", "EPSG:5782"], "--crs EPSG:5782"),
    "--aoi elsewhere": (lambda: tif().image, ["--aoi", "far.gpkg"], "far.gpkg"),
    "ECW without its driver": (lambda: ecw(), [], "a.ecw"),
    "MrSID without its driver": (lambda: ecw("a.sid", b"msid\0\1\0"), [], "a.sid"),
    "name beyond the limit": (lambda: "L" * 300 + ".tif", [], "LLL"),
    "path beyond the limit": (lambda: "d/" * 2100 + "a.tif", [], "a.tif"),
    "http address of nothing": (lambda: "/vsicurl/http://127.0.0.1:9/a.tif", [], "a.tif"),
}


@rows(REFUSED_RASTERS)
def test_refused_raster(row: tuple[Callable[[], str], Sequence[str], str]) -> None:
    make, options, named = row
    image = make()
    if "far.gpkg" in options:
        layer("far.gpkg", [shapely.box(0, 0, 1, 1)])
    refuses("encode", image, "-o", STORE, "--model", spotlight(), *options, named=named)


def heights() -> Scene:
    """A GeoTIFF loses such a CRS, a virtual raster does not."""
    return vrt(edit=lambda text: re.sub(r"<SRS.*?</SRS>", "<SRS>EPSG:5782</SRS>", text))


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
        line = re.search(r"gdalwarp .*\S\.(tif|vrt)\"?'?(?=\W|$)", sentence)
        assert line, sentence
        if not shutil.which("gdalwarp"):
            pytest.skip("gdalwarp is not installed")
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("PROJ_", "GDAL_"))}
        subprocess.run(line[0], shell=True, check=True, env=environment, capture_output=True)
        image = shlex.split(line[0])[-1]
        works("encode", "--model", spotlight(), image, "-o", STORE)
    works("segment", STORE, scene.point(), "-o", "o.gpkg")
    judge("o.gpkg", scene, area=None)


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
    "enlarged twice": ["--finest", "-1"],
    "enlarged four times, with AOI": ["--finest", "-2", "--aoi", "aoi.gpkg"],
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
    works("encode", scene.image, "--dry-run", "--model", spotlight(), "-o", STORE, *row)
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

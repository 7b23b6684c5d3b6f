"""The disc under names of every kind and into files of every kind."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import numpy as np
import pyogrio
import pyproj
import pytest
import shapely

from tests.encoder_tools.sweep.commands import refuses, rows, run, spotlight, works
from tests.encoder_tools.sweep.scene import (
    LOCAL,
    UTM,
    files,
    judge,
    layer,
    points,
    tif,
)
from tests.encoder_tools.sweep.vectors import CLICK, NAMES, SCENE

pytestmark = pytest.mark.filterwarnings("ignore")


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
    judge_at(Path(name + suffix))


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
    _, _, kept, columns = pyogrio.raw.read("o.gpkg", layer="parcelas")
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
    """Write to a new file, then to the existing one."""
    works("segment", fast_store, SCENE.point(), "-o", name, "--append")
    judge(name, SCENE)
    works("segment", fast_store, SCENE.box(), "-o", name, "--append")
    for feature in (0, 1):
        judge(name, SCENE, features=2, feature=feature)


def test_append_keeps_other_layers_and_refuses_another_crs(fast_store: Path) -> None:
    """Where several layers are there, the new one has the name of the file."""
    layer("o.gpkg", points((1, 2)), layer="parcelas")
    layer("o.gpkg", points((1, 2)), layer="lindes", append=True)
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

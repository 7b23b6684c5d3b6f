"""The disc by prompts of every kind, at the borders of tiles too."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest
import shapely

from tests.encoder_tools.sweep import vectors
from tests.encoder_tools.sweep.commands import STORE, encode, refuses, rows, run, shared, works
from tests.encoder_tools.sweep.scene import (
    LEAST_IOU,
    LOCAL,
    UTM,
    Scene,
    X,
    Y,
    judge,
    layer,
    pixels_of,
    points,
    tif,
)
from tests.encoder_tools.sweep.vectors import BOX, CLICK, PROMPTS, SCENE, Arguments

pytestmark = pytest.mark.filterwarnings("ignore")


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
    "local CRS": (lambda: vectors.one("p.gpkg", crs=LOCAL), "obra"),
    "heights as CRS": (lambda: [SCENE.point(), "--crs", "EPSG:5782"], "EPSG:5782"),
    "metres called degrees": (lambda: vectors.one("p.geojson", shapely.Point(CLICK), "EPSG:4326"), "p.geojson"),
    "metres with --crs of degrees": (lambda: [SCENE.point(), "--crs", "EPSG:4326"], "WGS 84"),
    "far outside": (lambda: [vectors.x_y(0, 0)], "outside"),
    "a pixel outside": (lambda: [vectors.x_y(X - 0.6, Y - 10)], "outside"),
    "label 2": (lambda: vectors.one("p.gpkg", fields={"label": [2]}), "p.gpkg"),
    "label of text": (lambda: vectors.one("p.gpkg", fields={"label": np.array(["yes"], dtype=object)}), "p.gpkg"),
    "negative alone": (lambda: [SCENE.point() + ",0"], ""),
    "box without area": (lambda: ["--box={0},{1},{0},{1}".format(*CLICK)], "box"),
    "box turned round": (lambda: ["--box={2},{3},{0},{1}".format(*BOX.bounds)], "box"),
    "point of words": (lambda: ["--point", "a,b"], "--point"),
    "point of NaN": (lambda: ["--point", "nan,1"], "nan"),
    "infinite point in a file": (lambda: vectors.one("p.gpkg", shapely.Point(np.inf, 1)), "prompts"),
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


PLACES = {
    "tile 1": (512.5, 512.5), "border of two tiles": (896.5, 400.5), "corner of four tiles": (896.5, 896.5),
    "edge of a tile": (1024.5, 640.5), "corner of a tile": (1024.5, 1024.5), "start of a tile": (768.5, 1300.5),
    "raster's corner": (70.5, 70.5), "raster's last corner": (2029.5, 2029.5),
    "between shifted tiles": (1430.5, 1700.5),
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

"""Reference polygons in the pixels of stores, and layers that cannot be used."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pyproj
import pytest
import shapely

from encoder_tools.evaluation.ground_truth import locate, read_truth
from geosam_es.errors import VectorError
from geosam_es.store import StoreReader
from tests.encoder_tools.conftest import Ortho
from tests.encoder_tools.scenes import Block, transform_of, write_layer

BLOCK = Block(100, 80, 60, 40)


@pytest.fixture
def reader(made_ortho: Ortho) -> StoreReader:
    return StoreReader(made_ortho.store)


def on_map(ortho: Ortho, *block: int) -> shapely.Geometry:
    return Block(*block).on_map(transform_of(ortho.image))


def test_polygons_in_any_crs_come_to_native_pixels(made_ortho: Ortho, reader: StoreReader, tmp_path: Path) -> None:
    to_degrees = pyproj.Transformer.from_crs(25830, 4326, always_xy=True)
    degrees = shapely.transform(made_ortho.truth, lambda xy: np.column_stack(to_degrees.transform(xy[:, 0], xy[:, 1])))
    layers = [
        write_layer(tmp_path / "metres.gpkg", [made_ortho.truth]),
        write_layer(tmp_path / "degrees.geojson", [degrees], crs="EPSG:4326"),
    ]
    for layer in layers:
        ((found,),) = locate(read_truth(layer), [reader]).objects
        assert found.geometry.bounds == pytest.approx((100, 80, 160, 120), abs=0.01)
        assert found.object_id == "1" and found.prompts is None


def test_invalid_polygons_are_made_valid(made_ortho: Ortho, reader: StoreReader, tmp_path: Path) -> None:
    x, y = made_ortho.centre
    bow_tie = shapely.Polygon([(x, y), (x + 10, y + 10), (x + 10, y), (x, y + 10)])
    assert not bow_tie.is_valid
    layer = write_layer(tmp_path / "bow.gpkg", [bow_tie])
    ((found,),) = locate(read_truth(layer), [reader]).objects
    assert found.geometry.is_valid and found.geometry.area == pytest.approx(200)


def test_objects_outside_the_raster_are_left_out(made_ortho: Ortho, reader: StoreReader, tmp_path: Path) -> None:
    layer = write_layer(
        tmp_path / "mixed.gpkg",
        [
            on_map(made_ortho, 280, 20, 40, 40),
            on_map(made_ortho, 900, 20, 40, 40),
            on_map(made_ortho, 295, 20, 40, 40),
            on_map(made_ortho, 50, 50, 3, 3),
        ],
    )
    located = locate(read_truth(layer), [reader])
    ((found,),) = located.objects
    assert found.geometry.bounds == pytest.approx((280, 20, 300, 60))
    assert located.left_out == {
        "2": "outside the raster",
        "3": "mostly outside the raster",
        "4": "smaller than 16 pixels",
    }


def test_each_object_goes_to_the_store_that_shows_most_of_it(made_ortho: Ortho, tmp_path: Path) -> None:
    reader = StoreReader(made_ortho.store)
    other = StoreReader(made_ortho.store)
    raster = other.metadata.raster
    shifted = raster.transform._replace(c=raster.transform.c + 100)
    object.__setattr__(raster, "transform", shifted)
    layer = write_layer(tmp_path / "two.gpkg", [made_ortho.truth, on_map(made_ortho, 420, 80, 60, 40)])
    first, second = locate(read_truth(layer), [reader, other]).objects
    assert [item.object_id for item in first] == ["1"]
    assert [item.object_id for item in second] == ["2"]


def test_classes(made_ortho: Ortho, reader: StoreReader, tmp_path: Path) -> None:
    polygons = [on_map(made_ortho, 20 * n, 20, 15, 15) for n in range(3)]
    layer = write_layer(tmp_path / "c.gpkg", polygons, Kind=["wood", "water", "wood"], Code=[1.0, np.nan, 3.0])
    (found,) = locate(read_truth(layer, "kind"), [reader]).objects
    assert [item.class_name for item in found] == ["wood", "water", "wood"]
    assert read_truth(layer, "CODE").classes == ("1", "", "3")
    chosen = read_truth(layer, "Kind", "wood")
    assert chosen.object_ids == ("1", "3")


def test_long_codes_stored_as_decimals_stay_apart(made_ortho: Ortho, tmp_path: Path) -> None:
    polygons = [on_map(made_ortho, 20 * n, 20, 15, 15) for n in range(3)]
    layer = write_layer(tmp_path / "codes.gpkg", polygons, code=[3111001.0, 3111002.0, 0.1234567])
    assert read_truth(layer, "code").classes == ("3111001", "3111002", "0.1234567")
    assert read_truth(layer, "code", "3111002").object_ids == ("2",)


def kept(points: list[list[float]], **more: object) -> str:
    return json.dumps({"points": points, **more})


def test_prompts_kept_in_fields(made_ortho: Ortho, reader: StoreReader, tmp_path: Path) -> None:
    x, y = made_ortho.centre
    truth = made_ortho.truth
    rows = [
        (kept([[x, y, 1], [x + 50, y, 0]], level=-2), "ortho.tif"),
        (kept([], box=list(truth.bounds)), "ortho.tif"),
        (kept([[x, y, 1]]), "another.tif"),
        (kept([[x + 40, y, 1]]), "ortho.tif"),
        ("{broken", "ortho.tif"),
        (kept([[x, y, 0]]), "ortho.tif"),
        ("[1, 2]", "ortho.tif"),
        (kept([[x, y, 1]], box=[truth.bounds[0] - 60, truth.bounds[1] - 20, *truth.bounds[2:]]), "ortho.tif"),
    ]
    prompts, rasters = (list(column) for column in zip(*rows))
    layer = write_layer(tmp_path / "kept.gpkg", [truth] * len(rows), prompts=prompts, raster=rasters)
    (found,) = locate(read_truth(layer), [reader]).objects
    known = [item.prompts for item in found]
    assert known[0] is not None and known[1] is not None
    assert [tuple(point) for point in known[0].points] == [(130, 100, True), (230, 100, False)]
    assert known[1].box == pytest.approx((100, 80, 160, 120))
    assert known[2:] == [None] * 6
    # A field of that name alone may mean something else.
    plain = write_layer(tmp_path / "plain.gpkg", [truth], prompts=[rows[0][0]])
    assert read_truth(plain).kept == (None,)


def test_prompts_kept_in_a_table(made_ortho: Ortho, reader: StoreReader, tmp_path: Path) -> None:
    x, y = made_ortho.centre
    path = write_layer(tmp_path / "habitats.gpkg", [None, made_ortho.truth, made_ortho.truth])
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE geosam_provenance (layer TEXT, feature INTEGER, prompts TEXT, raster TEXT)")
        row = ("habitats", 3, kept([[x, y, 1]]), "ortho.tif")
        database.execute("INSERT INTO geosam_provenance VALUES (?, ?, ?, ?)", row)
        database.execute("INSERT INTO geosam_provenance VALUES (?, ?, ?, ?)", ("others", 2, *row[2:]))
    (found,) = locate(read_truth(path), [reader]).objects
    assert [item.prompts is not None for item in found] == [False, True]
    assert [tuple(point) for point in found[1].prompts.points] == [(130, 100, True)]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("lines", "has a LineString, but polygons are needed: use the outlines of the objects"),
        ("points", "has a Point, but polygons are needed"),
        ("without CRS", "has no coordinate reference system: assign its CRS in QGIS"),
        ("metres", "not longitude and latitude in WGS 84: assign its CRS in QGIS"),
        ("no field", "has no field colour: its fields are: kind"),
        ("no class", "has no object with kind = sea: choose one of: wood"),
        ("empty", "has no geometries"),
        ("missing", "does not exist"),
    ],
)
def test_layers_that_cannot_be_used(made_ortho: Ortho, tmp_path: Path, kind: str, message: str) -> None:
    truth = made_ortho.truth
    path = tmp_path / "truth.gpkg"
    if kind == "lines":
        write_layer(path, [truth, shapely.LineString(truth.exterior)])
    elif kind == "points":
        write_layer(path, [truth.centroid])
    elif kind == "without CRS":
        write_layer(path, [truth], crs=None)
    elif kind == "metres":
        path = tmp_path / "truth.geojson"
        path.write_text(shapely.to_geojson(truth))
    elif kind == "empty":
        path = tmp_path / "truth.geojson"
        path.write_text('{"type": "FeatureCollection", "features": []}')
    elif kind != "missing":
        write_layer(path, [truth], kind=["wood"])
    options = {"no field": ("colour", None), "no class": ("kind", "sea")}.get(kind, (None, None))
    with pytest.raises(VectorError, match=message):
        read_truth(path, *options)


def test_nothing_on_the_raster(made_ortho: Ortho, reader: StoreReader, tmp_path: Path) -> None:
    layer = write_layer(tmp_path / "far.gpkg", [on_map(made_ortho, 5000, 20, 40, 40)] * 2)
    with pytest.raises(VectorError, match=r"None of the 2 polygons of .*far.gpkg is on the raster of .*outside"):
        locate(read_truth(layer), [reader])
    beyond = write_layer(tmp_path / "beyond.geojson", [shapely.box(86, -1, 88, 1)], crs="EPSG:4326")
    with pytest.raises(VectorError, match="None of the 1 polygons"):
        locate(read_truth(beyond), [reader])

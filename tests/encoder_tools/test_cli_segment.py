"""The command ``geosam-es segment``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pyproj
import pytest
import rasterio
import shapely

from encoder_tools.cli.encode import _read_aoi
from encoder_tools.crs import AreaMeter
from encoder_tools.evaluation.ground_truth import locate, read_truth
from encoder_tools.raster import Raster
from encoder_tools.vector import read_vector
from geosam_es.store import StoreReader
from tests.encoder_tools.conftest import Ortho, Run, Spawn
from tests.encoder_tools.scenes import BRIGHT, DARK, Block, scene, transform_of, write_layer, write_raster


def iou(found: shapely.Geometry, truth: shapely.Geometry) -> float:
    return float(found.intersection(truth).area / found.union(truth).area)


def to_crs(geometry: shapely.Geometry, source: Any, target: Any) -> shapely.Geometry:
    transformer = pyproj.Transformer.from_crs(source, target, always_xy=True)
    return shapely.transform(geometry, lambda xy: np.column_stack(transformer.transform(xy[:, 0], xy[:, 1])))


@pytest.mark.parametrize("suffix", ["gpkg", "shp", "geojson", "fgb", "gml", "sqlite", "SHP"])
def test_click_to_file(run: Run, ortho: Ortho, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / "salida ñ" / f"parcelas é.{suffix}"
    out.parent.mkdir()
    result = run("segment", ortho.store, ortho.click, "-o", out)
    assert result.exit_code == 0 and result.stdout.startswith(f"{out}: 1 polygon in ")
    layer = read_vector(out)
    assert layer.crs is not None and layer.crs.to_epsg() == 25830
    names = ["object", "score", "level", "area_m2", "model"]
    assert [name for name in layer.fields if name != "gml_id"] == names
    assert iou(layer.geometries[0], ortho.truth) > 0.98
    assert layer.geometries[0].is_valid
    assert layer.fields["object"].tolist() == [1] and layer.fields["model"][0] == "bright"
    assert layer.fields["score"][0] == pytest.approx(0.9) and layer.fields["level"][0] == 0
    assert layer.fields["area_m2"][0] == pytest.approx(60 * 40 * 0.25, rel=0.02)


@pytest.mark.parametrize("suffix", ["gpkg", "shp", "geojson"])
def test_objects_keep_their_type_and_attributes(run: Run, ortho: Ortho, tmp_path: Path, suffix: str) -> None:
    """``object`` has integers with a gap; other fields have names that are taken, or too long for a shapefile."""
    inside = shapely.Point(ortho.centre)
    points = [inside, shapely.Point(inside.x + 1, inside.y), shapely.Point(0, 0), inside]
    columns = {
        "object": np.array([12, 12, 13, 0], dtype=np.int32),
        "label": np.ones(4, dtype=np.int32),
        "Score": np.array([1.5, 2.5, 3.5, np.nan]),
        "fid": np.array([5, 5, 5, 5], dtype=np.int64),
        "clasificación_2025": np.array(["vid", "olivo", "trigo", None], dtype=object),
        "clasificación_2026": np.array(["vid", "olivo", "trigo", "pino"], dtype=object),
        "visited": np.array(["2026-05-01T10:30:00"] * 4, dtype="datetime64[ms]"),
        "checked": np.array([True, True, False, False]),
    }
    gap = np.array([False, False, False, True])
    pyogrio.raw.write(
        tmp_path / "clicks.gpkg", np.array([shapely.to_wkb(point) for point in points], dtype=object),
        list(columns.values()), list(columns), [gap if name == "object" else None for name in columns],
        geometry_type="Point", crs="EPSG:25830", layer_options={"FID": "ogc"},
    )  # fmt: skip
    out = tmp_path / f"out.{suffix}"
    result = run("segment", ortho.store, tmp_path / "clicks.gpkg", "-o", out)
    assert result.exit_code == 0, result.stderr
    assert result.stderr.splitlines()[-1].startswith("No polygon for object 13: ")
    fields = read_vector(out).fields
    assert fields["object"].dtype == np.int32 and fields["object"].tolist() == [12, None]
    short = suffix == "shp"
    names = ["Score_1", "fid_1", "clasificac", "clasific_1"] if short else ["Score_1", "fid_1", *list(columns)[4:6]]
    assert list(fields) == ["object", "score", "level", "area_m2", "model", *names, "visited", "checked"]
    assert fields["score"].tolist() == pytest.approx([0.95, 0.9])
    assert fields["Score_1"][0] == 1.5 and np.isnan(fields["Score_1"][1])
    assert [fields[name].tolist() for name in names[1:]] == [[5, 5], ["vid", None], ["vid", "pino"]]
    assert fields["visited"].astype(str)[0].startswith("2026-05-01T10:30:00")
    assert fields["checked"].tolist() == [True, False]


def test_box_and_points_make_one_object(run: Run, ortho: Ortho, tmp_path: Path) -> None:
    bounds = ",".join(str(value) for value in ortho.truth.buffer(3).bounds)
    x, y = ortho.centre
    out = tmp_path / "out.gpkg"
    result = run(
        "segment", ortho.store, "--box", bounds, "--point", f"{x},{y},1", "--point", f"{x + 35},{y},0", "-o", out
    )
    assert result.exit_code == 0
    layer = read_vector(out)
    assert len(layer.geometries) == 1 and iou(layer.geometries[0], ortho.truth) > 0.98
    assert layer.fields["score"][0] == pytest.approx(0.95)


def test_coordinates_below_zero(run: Run, model: Path, tmp_path: Path) -> None:
    block = Block(40, 40, 40, 40)
    transform = rasterio.Affine(1e-5, 0, -0.4, 0, -1e-5, -39.5)
    image = write_raster(tmp_path / "a.tif", scene(200, 120, [block]), crs="EPSG:4326", transform=transform)
    assert run("encode", image, "--model", model).exit_code == 0
    x, y = block.centre(transform)
    result = run("segment", tmp_path / "a.embeddings.zarr", "--point", f"{x},{y}", "-o", tmp_path / "o.gpkg")
    assert result.exit_code == 0
    assert iou(read_vector(tmp_path / "o.gpkg").geometries[0], block.on_map(transform)) > 0.97


def test_prompts_in_another_crs(run: Run, ortho: Ortho, tmp_path: Path) -> None:
    point = to_crs(shapely.Point(ortho.centre), 25830, 4326)
    prompts = write_layer(tmp_path / "clicks.geojson", [point], crs="EPSG:4326")
    assert run("segment", ortho.store, prompts, "-o", tmp_path / "a.gpkg").exit_code == 0
    option = f"--point={point.x},{point.y}"
    assert run("segment", ortho.store, option, "--crs", "EPSG:4326", "-o", tmp_path / "b.gpkg").exit_code == 0
    bare = write_layer(tmp_path / "bare.gpkg", [point], crs=None)
    assert run("segment", ortho.store, bare, "--crs", "EPSG:4326", "-o", tmp_path / "c.gpkg").exit_code == 0
    for name in "abc":
        assert iou(read_vector(tmp_path / f"{name}.gpkg").geometries[0], ortho.truth) > 0.98


def test_geojson_that_is_not_in_degrees(run: Run, ortho: Ortho, tmp_path: Path) -> None:
    metres, out = tmp_path / "metres.geojson", tmp_path / "o.gpkg"
    metres.write_text(shapely.to_geojson(ortho.truth))
    for command in ("segment", "update"):
        refused = run(command, ortho.store, metres, "-o", out)
        assert refused.exit_code == 2 and "give the CRS that they are in with --crs" in refused.stderr
        result = run(command, ortho.store, metres, "-o", out, "--overwrite", "--crs", "EPSG:25830")
        assert result.exit_code == 0 and "metres.geojson is not in WGS 84, so --crs ETRS89" in result.stderr
        layer = read_vector(out)
        assert iou(layer.geometries[0], ortho.truth) > 0.98
        assert layer.crs is not None and layer.crs.to_epsg() == 25830


def test_output_in_another_crs(run: Run, ortho: Ortho, tmp_path: Path) -> None:
    result = run("segment", ortho.store, ortho.click, "--out-crs", "EPSG:4326", "-o", tmp_path / "o.geojson")
    assert result.exit_code == 0
    layer = read_vector(tmp_path / "o.geojson")
    assert layer.crs is not None and layer.crs.to_epsg() == 4326
    assert iou(to_crs(layer.geometries[0], 4326, 25830), ortho.truth) > 0.98
    assert layer.fields["area_m2"][0] == pytest.approx(600, rel=0.02)


def test_prompts_outside_are_reported_and_the_others_kept(run: Run, ortho: Ortho, tmp_path: Path) -> None:
    inside = shapely.Point(ortho.centre)
    points = [shapely.Point(0, 0), inside, shapely.Point(np.inf, 5), inside.buffer(8), shapely.Point(inside.x, 0)]
    names = ["far", "house", "nowhere", "box", "south"]
    prompts = write_layer(tmp_path / "clicks.gpkg", points, object=names)
    result = run("segment", ortho.store, prompts, "-o", tmp_path / "o.gpkg")
    assert result.exit_code == 0
    assert list(read_vector(tmp_path / "o.gpkg").fields["object"]) == ["house", "box"]
    assert "No polygon for objects far, south: The point (0, 0) lies outside the raster" in result.stderr
    assert "No polygon for object nowhere: The prompts cannot be transformed" in result.stderr
    answer = run("segment", ortho.store, prompts, "-o", tmp_path / "p.gpkg", "--json")
    assert set(json.loads(answer.stdout)["left_out"]) == {"far", "nowhere", "south"}


def test_objects_without_a_polygon_are_reported_in_few_lines(run: Run, ortho: Ortho, tmp_path: Path) -> None:
    inside = shapely.Point(ortho.centre)
    far = [shapely.box(number, 0, number + 1, 1) for number in range(40)] + [shapely.Point(n, 0) for n in range(40)]
    prompts = write_layer(tmp_path / "clicks.gpkg", [inside, *far])
    result = run("segment", ortho.store, prompts, "-o", tmp_path / "o.gpkg")
    lines = [line for line in result.stderr.splitlines() if line.startswith("No polygon")]
    assert result.exit_code == 0 and len(lines) == 2
    assert lines[0].startswith(
        "No polygon for objects 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 30 more: The box lies outside"
    )
    assert "objects 42, 43, 44, 45, 46, 47, 48, 49, 50, 51 and 30 more: The point (0, 0) lies outside" in lines[1]
    assert lines[1].endswith("; and so on")


def test_prompts_that_cannot_be_transformed(run: Run, ortho: Ortho, tmp_path: Path) -> None:
    points = [to_crs(shapely.Point(ortho.centre), 25830, 4326), shapely.Point(10, 400)]
    prompts = write_layer(tmp_path / "clicks.gpkg", points, crs="EPSG:4326")
    result = run("segment", ortho.store, prompts, "-o", tmp_path / "o.gpkg")
    assert result.exit_code == 0 and "No polygon for object 2: " in result.stderr
    assert len(read_vector(tmp_path / "o.gpkg").geometries) == 1


def test_candidates(run: Run, model: Path, tmp_path: Path) -> None:
    """The decoder's thresholds are 0.5, 0.6 and 0.8 in the order of their scores: a tower on a roof on the ground."""
    image = scene(300, 200, [])
    for block, value in ((Block(40, 40, 120, 80), 142), (Block(60, 60, 60, 40), 180), (Block(80, 72, 20, 16), 255)):
        image[:, block.row : block.row + block.height, block.col : block.col + block.width] = value
    path = write_raster(tmp_path / "tower.tif", image)
    assert run("encode", path, "--model", model).exit_code == 0
    store = tmp_path / "tower.embeddings.zarr"
    x, y = transform_of(path) @ (90, 80)

    def areas(candidate: str) -> list[float]:
        out = tmp_path / f"{candidate}.gpkg"
        arguments = ("segment", store, f"--point={x},{y}", "--candidate", candidate, "-o", out)
        answer = json.loads(run(*arguments, "--json").stdout)
        layer = read_vector(out)
        assert [item["area_m2"] for item in answer["objects"]] == pytest.approx(layer.fields["area_m2"], abs=1e-3)
        if candidate == "all":
            assert layer.fields["candidate"].tolist() == [1, 2, 3]
        else:
            assert "candidate" not in layer.fields
        return [float(area) for area in layer.fields["area_m2"]]

    every = areas("all")
    assert every == pytest.approx([120 * 80 / 4, 60 * 40 / 4, 20 * 16 / 4], rel=0.15)
    assert areas("best") == areas("1") == every[:1]
    assert areas("2") == every[1:2] and areas("3") == every[2:]


@pytest.mark.parametrize("crs", ["EPSG:25830", "EPSG:3857", "EPSG:3395", "EPSG:4326"])
def test_areas_on_the_ground(run: Run, model: Path, tmp_path: Path, crs: str) -> None:
    """At 60 degrees north the Mercators double lengths: the hole of 100 m2 must be told from its 400 map units."""
    lon, lat = 10.0, 60.0
    x, y = pyproj.Transformer.from_crs(4326, crs, always_xy=True).transform(lon, lat)
    pixel = 0.5
    if crs == "EPSG:4326":
        transform = rasterio.Affine(pixel / 55_800, 0, x, 0, -pixel / 111_412, y)
    else:
        scale = 1.0 if crs == "EPSG:25830" else 2.0
        transform = rasterio.Affine(pixel * scale, 0, x, 0, -pixel * scale, y)
    image = scene(400, 300, [Block(80, 80, 120, 80)])
    image[:, 100:120, 100:120] = DARK
    image[:, 20:32, 300:312] = BRIGHT
    path = write_raster(tmp_path / "a.tif", image, crs=crs, transform=transform)
    assert run("encode", path, "--model", model).exit_code == 0

    def area(*options: object) -> float:
        at = transform @ (160, 130)
        out = tmp_path / "o.gpkg"
        done = run(
            "segment", tmp_path / "a.embeddings.zarr", f"--point={at[0]},{at[1]}", "-o", out, "--overwrite", *options
        )
        assert done.exit_code == 0, done.stderr
        layer = read_vector(out)
        if not len(layer.geometries):
            return 0.0
        independent = AreaMeter(pyproj.CRS(4326)).area_m2(to_crs(layer.geometries[0], crs, 4326))
        assert layer.fields["area_m2"][0] == pytest.approx(independent, rel=1e-3)
        return float(layer.fields["area_m2"][0])

    # Thirteen degrees from its central meridian, this UTM zone has lengths 0.6 % too long.
    tolerance = 0.035
    assert area() == pytest.approx(2400 - 100, rel=tolerance)
    assert area("--fill-holes-m2", 90) == pytest.approx(2400 - 100, rel=tolerance)
    assert area("--fill-holes-m2", 115) == pytest.approx(2400, rel=tolerance)
    assert area("--min-area-m2", 2150) == pytest.approx(2400 - 100, rel=tolerance)
    none = run(
        "segment", tmp_path / "a.embeddings.zarr", "--point={},{}".format(*(transform @ (160, 130))),
        "-o", tmp_path / "none.gpkg", "--min-area-m2", 2450,
    )  # fmt: skip
    assert none.exit_code == 0 and ": 0 polygons" in none.stdout
    assert "No polygon for object 1: The mask is empty or smaller than the minimum area" in none.stderr


def test_level(run: Run, model: Path, tmp_path: Path) -> None:
    block = Block(400, 400, 800, 480)
    image = write_raster(tmp_path / "a.tif", scene(1800, 1300, [block]))
    assert run("encode", image, "--model", model).exit_code == 0
    truth = block.on_map(transform_of(image))
    click = "--point={},{}".format(*block.centre(transform_of(image)))
    for level in (0, 1, 7):
        out = tmp_path / f"{level}.gpkg"
        assert run("segment", tmp_path / "a.embeddings.zarr", click, "--level", level, "-o", out).exit_code == 0
        layer = read_vector(out)
        # An object that no tile of the finest level holds is answered from farther away.
        assert layer.fields["level"][0] == min(level, 1) or level == 0
        assert iou(layer.geometries[0], truth) > 0.98


def test_rotated_raster(run: Run, model: Path, tmp_path: Path) -> None:
    rotated = rasterio.Affine(0.4, 0.3, 700000, 0.3, -0.4, 4400000)
    block = Block(100, 80, 60, 40)
    image = write_raster(tmp_path / "a.tif", scene(300, 200, [block]), transform=rotated)
    assert run("encode", image, "--model", model).exit_code == 0
    truth = block.on_map(rotated)
    prompts = write_layer(tmp_path / "p.gpkg", [truth.buffer(2), truth.centroid])
    assert run("segment", tmp_path / "a.embeddings.zarr", prompts, "-o", tmp_path / "o.gpkg").exit_code == 0
    layer = read_vector(tmp_path / "o.gpkg")
    assert all(iou(geometry, truth) > 0.98 for geometry in layer.geometries)
    assert layer.fields["area_m2"].tolist() == pytest.approx([600, 600], rel=0.02)


def test_simplify(run: Run, ortho: Ortho, tmp_path: Path) -> None:
    counts = []
    for tolerance in (0, 1, 3):
        out = tmp_path / f"{tolerance}.gpkg"
        assert run("segment", ortho.store, ortho.click, "--simplify", tolerance, "-o", out).exit_code == 0
        counts.append(shapely.get_num_coordinates(read_vector(out).geometries[0]))
    assert counts[0] > counts[1] >= counts[2] >= 5


def test_overwrite(run: Run, ortho: Ortho, tmp_path: Path) -> None:
    out = tmp_path / "o.gpkg"
    out.write_text("old")
    assert run("segment", ortho.store, ortho.click, "-o", out, "--overwrite").exit_code == 0
    assert len(read_vector(out).geometries) == 1


def test_overwrite_keeps_other_layers(run: Run, ortho: Ortho, tmp_path: Path) -> None:
    out = write_layer(tmp_path / "o.gpkg", [shapely.Point(1, 2)])
    pyogrio.raw.write(
        out, np.array([shapely.to_wkb(shapely.Point(1, 2))], dtype=object), [], [], layer="roads",
        geometry_type="Point", crs="EPSG:25830", append=True,
    )  # fmt: skip
    assert run("segment", ortho.store, ortho.click, "-o", out).exit_code == 2
    for _ in range(2):
        assert run("segment", ortho.store, ortho.click, "-o", out, "--overwrite").exit_code == 0
    assert pyogrio.list_layers(out).tolist() == [["roads", "Point"], ["o", "MultiPolygon"]]
    done = run("segment", ortho.store, ortho.click, "-o", out, "--overwrite", "--out-layer", "houses")
    assert done.exit_code == 0 and "houses" in pyogrio.list_layers(out)[:, 0]


@pytest.mark.parametrize("suffix", ["gpkg", "shp", "geojson"])
def test_append(run: Run, ortho: Ortho, tmp_path: Path, suffix: str) -> None:
    prompts = write_layer(tmp_path / "clicks.gpkg", [shapely.Point(ortho.centre)], object=["house"], owner=["me"])
    out = tmp_path / f"o.{suffix}"
    for _ in range(3):
        done = run("segment", ortho.store, prompts, "-o", out, "--append")
        assert done.exit_code == 0, done.stderr
    layer = read_vector(out)
    assert [iou(geometry, ortho.truth) > 0.98 for geometry in layer.geometries] == [True] * 3
    assert layer.fields["owner"].tolist() == ["me"] * 3
    before = out.read_bytes()
    refused = run("segment", ortho.store, prompts, "-o", out, "--append", "--out-crs", "EPSG:4326")
    assert refused.exit_code == 2 and "has the CRS ETRS89 / UTM zone 30N, not WGS 84" in refused.stderr
    assert out.read_bytes() == before and "objects" not in refused.stderr


@pytest.mark.parametrize("suffix", ["kml", "geojsonl"])
def test_formats_in_degrees(run: Run, ortho: Ortho, tmp_path: Path, suffix: str) -> None:
    """KML has no other CRS."""
    out = tmp_path / f"o.{suffix}"
    assert run("segment", ortho.store, ortho.click, "-o", out).exit_code == 0
    layer = read_vector(out)
    assert layer.crs is not None and layer.crs.to_epsg() == 4326
    assert iou(to_crs(layer.geometries[0], 4326, 25830), ortho.truth) > 0.98
    refused = run("segment", ortho.store, ortho.click, "-o", out, "--overwrite", "--out-crs", "EPSG:25830")
    assert refused.exit_code == 2 and "cannot hold the CRS ETRS89 / UTM zone 30N" in refused.stderr


def test_what_a_shapefile_changes_is_said(run: Run, ortho: Ortho, tmp_path: Path) -> None:
    point = shapely.Point(ortho.centre)
    prompts = write_layer(tmp_path / "clicks.gpkg", [point], superficie_catastral=[1.5])
    done = run("segment", ortho.store, prompts, "-o", tmp_path / "o.shp")
    assert done.exit_code == 0
    assert "Note: in o.shp, the field superficie_catastral is called superficie\n" in done.stderr
    long = write_layer(tmp_path / "long.gpkg", [point], object=["x" * 255])
    refused = run("segment", ortho.store, long, "-o", tmp_path / "p.shp")
    assert refused.exit_code == 2 and not (tmp_path / "p.shp").exists()
    assert "p.shp cannot hold the field object (255 bytes, and a Shapefile holds 254): " in refused.stderr
    # Nothing was segmented before.
    assert "objects" not in refused.stderr


@pytest.mark.parametrize(
    "names",
    [
        ("a.gpkg", "a.gpkg"),
        ("a.shp", "a.shp"),
        ("a.dbf", "a.shp"),
        ("a.gpkg", "link.gpkg"),
        ("a.gpkg|layername=a", "a.gpkg"),
    ],
)
@pytest.mark.parametrize("option", ["--overwrite", "--append"])
def test_prompts_are_never_replaced(
    run: Run, ortho: Ortho, tmp_path: Path, names: tuple[str, str], option: str
) -> None:
    path = write_layer(tmp_path / names[0].replace(".dbf", ".shp").split("|")[0], [shapely.Point(ortho.centre)], n=[1])
    if names[1] == "link.gpkg":
        (tmp_path / "link.gpkg").symlink_to(path)
    before = path.read_bytes()
    done = run("segment", ortho.store, tmp_path / names[0], "-o", tmp_path / names[1], option)
    assert done.exit_code == 2 and f"{names[1]} is the file of the prompts: choose another name" in done.stderr
    assert path.read_bytes() == before


def test_prompts_and_polygons_may_be_layers_of_one_file(run: Run, ortho: Ortho, tmp_path: Path) -> None:
    path = write_layer(tmp_path / "a.gpkg", [shapely.Point(ortho.centre)], n=[1])
    for prompts in (path, f"{path}|layername=a"):
        done = run("segment", ortho.store, prompts, "-o", path, "--out-layer", "drawn", "--append")
        assert done.exit_code == 0, done.stderr
    assert len(pyogrio.read_info(path, layer="a")["fields"]) == 1
    assert pyogrio.read_info(path, layer="drawn")["features"] == 2
    for layer in ("a", "A"):
        done = run("segment", ortho.store, f"{path}|layername=a", "-o", path, "--out-layer", layer, "--overwrite")
        assert done.exit_code == 2 and "is the file of the prompts" in done.stderr


@pytest.mark.parametrize(
    ("crs", "out_crs", "message"),
    [
        ('LOCAL_CS["obra",UNIT["metre",1]]', "EPSG:4326", "cannot be transformed from obra to WGS 84"),
        ("EPSG:25830", "EPSG:5782", "is not a CRS"),
        ("EPSG:25830", "EPSG:4978", "is not a CRS"),
    ],
)
def test_output_crs_that_cannot_be(run: Run, model: Path, tmp_path: Path, crs: str, out_crs: str, message: str) -> None:
    image = write_raster(tmp_path / "a.tif", scene(200, 120, [Block(40, 40, 40, 40)]), crs=crs)
    assert run("encode", image, "--model", model).exit_code == 0
    click = "--point={},{}".format(*Block(40, 40, 40, 40).centre(transform_of(image)))
    done = run("segment", tmp_path / "a.embeddings.zarr", click, "-o", tmp_path / "o.gpkg", "--out-crs", out_crs)
    assert done.exit_code == 2 and message in done.stderr and "objects" not in done.stderr
    assert done.stderr.count("\n") == 1
    # The remedy works.
    assert run("segment", tmp_path / "a.embeddings.zarr", click, "-o", tmp_path / "o.gpkg").exit_code == 0


def test_json_is_the_only_output(spawn: Spawn, ortho: Ortho, tmp_path: Path) -> None:
    done = spawn("segment", ortho.store, ortho.click, "-o", tmp_path / "o.shp", "--json")
    assert done.returncode == 0
    answer = json.loads(done.stdout)
    assert set(answer) == {"output", "objects", "left_out", "seconds"} and answer["left_out"] == {}
    (item,) = answer["objects"]
    assert set(item) == {"object", "candidate", "score", "level", "area_m2", "milliseconds"}
    assert [line.split(" (")[0] for line in done.stderr.splitlines()] == ["o.shp: 1/1 objects"]


@pytest.fixture
def enlarged(run: Run, ortho: Ortho, model: Path) -> Ortho:
    """The image with the level -1; its block measures 30 x 20 m, 60 x 40 pixels."""
    assert run("encode", ortho.image, "--model", model, "--finest", -1, "--resume").exit_code == 0
    return ortho


@pytest.mark.parametrize(
    ("options", "level"),
    [
        ((), 0),
        (("--level", -1), -1),
        (("--object-size", 30), -1),
        (("--object-size", 55), 0),
        (("--object-size", 5000), 0),
        (("--scale", "1:900"), -1),
        (("--scale", "1:944"), -1),
        (("--scale", "1:946"), 0),
        (("--scale", "1:1e9"), 0),
    ],
)
def test_the_level_by_number_by_size_or_by_scale(
    run: Run, enlarged: Ortho, tmp_path: Path, options: tuple[object, ...], level: int
) -> None:
    """A pixel of 0.5 m is two of a screen of 96 dpi at 1:945."""
    result = run("segment", enlarged.store, enlarged.click, *options, "-o", tmp_path / "o.gpkg")
    assert result.exit_code == 0 and "Note" not in result.stderr
    layer = read_vector(tmp_path / "o.gpkg")
    assert layer.fields["level"][0] == level
    assert iou(layer.geometries[0], enlarged.truth) > 0.95


def test_a_small_box_gets_an_enlarged_level(run: Run, enlarged: Ortho, tmp_path: Path) -> None:
    box = ",".join(map(str, enlarged.truth.buffer(1).bounds))
    assert run("segment", enlarged.store, "--box", box, "-o", tmp_path / "o.gpkg").exit_code == 0
    layer = read_vector(tmp_path / "o.gpkg")
    assert layer.fields["level"][0] == -1 and iou(layer.geometries[0], enlarged.truth) > 0.95


@pytest.mark.parametrize("options", [("--level", -2), ("--scale", "1:200"), ("--object-size", 8)])
def test_a_level_that_the_store_lacks_is_said(
    run: Run, ortho: Ortho, model: Path, tmp_path: Path, options: tuple[object, ...]
) -> None:
    result = run("segment", ortho.store, ortho.click, *options, "-o", tmp_path / "o.gpkg")
    assert result.exit_code == 0
    assert result.stderr.splitlines()[0] == (
        "Note: ortho.embeddings.zarr has no level -2; its finest level, 0, is used. Add enlarged levels with: "
        "geosam-es encode IMAGE --finest -2 --resume"
    )
    assert read_vector(tmp_path / "o.gpkg").fields["level"][0] == 0
    # The remedy works.
    assert run("encode", ortho.image, "--model", model, "--finest", -2, "--resume").exit_code == 0
    again = run("segment", ortho.store, ortho.click, *options, "-o", tmp_path / "p.gpkg")
    assert again.exit_code == 0 and "Note" not in again.stderr
    assert read_vector(tmp_path / "p.gpkg").fields["level"][0] == -2


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--level", -3), "-3 is not in the range x>=-2"),
        (("--level", 0, "--scale", "1:1000"), "Only one of --level, --scale and --object-size"),
        (("--object-size", 3, "--scale", "1:1000"), "Only one of --level, --scale and --object-size"),
        (("--object-size", 0), "0.0 is not in the range x>0"),
        *((("--scale", scale), f"{scale} is not a scale such as 1:5000") for scale in ("5000", "1:0", "1:x", "1:inf")),
    ],
)
def test_levels_that_make_no_sense(
    run: Run, ortho: Ortho, tmp_path: Path, options: tuple[object, ...], reason: str
) -> None:
    result = run("segment", ortho.store, ortho.click, *options, "-o", tmp_path / "o.gpkg")
    assert result.exit_code == 2 and reason in result.stderr
    assert not (tmp_path / "o.gpkg").exists()


PLACES = [
    ("EPSG:3832", rasterio.Affine(0.5, 0, 3339459.72, 0, -0.5, 9569703.1)),
    ("EPSG:4326", rasterio.Affine(5e-6, 0, 179.99875, 0, -5e-6, -17)),
    ("EPSG:4326", rasterio.Affine(5e-6, 0, -180.00125, 0, -5e-6, -17)),
    ("EPSG:3413", rasterio.Affine(0.5, 0, -125, 0, -0.5, 100)),
]


@pytest.mark.parametrize(("crs", "transform"), PLACES, ids=["3832", "360", "180", "pole"])
def test_at_the_antimeridian_and_the_pole(
    run: Run, model: Path, tmp_path: Path, crs: str, transform: rasterio.Affine
) -> None:
    """Prompts on either side of the antimeridian are found, and areas and outputs are right."""
    block = Block(180, 140, 140, 120)
    write_raster(tmp_path / "a.tif", scene(500, 400, [block]), transform=transform, crs=crs)
    assert run("encode", tmp_path / "a.tif", "--model", model).exit_code == 0
    truth = block.on_map(transform)
    x, y = transform @ (250, 200)
    ring = shapely.get_coordinates(shapely.segmentize(truth, truth.length / 400))
    lon, lat = pyproj.Transformer.from_crs(crs, 4326, always_xy=True).transform(*ring.T)
    area = abs(pyproj.Geod(ellps="WGS84").polygon_area_perimeter(lon, lat)[0])
    longitude, latitude = pyproj.Transformer.from_crs(crs, 4326, always_xy=True).transform(x + 2 * transform.a, y)
    for shifted in (longitude, longitude - 360 if longitude > 0 else longitude + 360):
        out = tmp_path / f"{shifted > 0}.gpkg"
        at = f"{shifted!r},{latitude!r}"
        result = run("segment", tmp_path / "a.embeddings.zarr", "-o", out, "--crs", "EPSG:4326", f"--point={at}")
        assert result.exit_code == 0, result.stderr
        layer = read_vector(out)
        assert layer.fields["area_m2"].tolist() == [pytest.approx(area, rel=0.03)]
        assert iou(layer.geometries[0], truth) > 0.95
    out = tmp_path / "out.gpkg"
    at = f"{x + 2 * transform.a!r},{y!r}"
    arguments = ("-o", out, f"--point={at}", "--min-area-m2", "1", "--out-crs", "EPSG:6933")
    assert run("segment", tmp_path / "a.embeddings.zarr", *arguments).exit_code == 0
    (found,) = read_vector(out).geometries
    assert found.is_valid and found.area == pytest.approx(area, rel=0.03)


@pytest.mark.parametrize("index", [1, 2])
def test_areas_and_true_polygons_across_the_antimeridian(run: Run, model: Path, tmp_path: Path, index: int) -> None:
    crs, transform = PLACES[index]
    block = Block(180, 140, 140, 120)
    image = write_raster(tmp_path / "a.tif", scene(500, 400, [block]), transform=transform, crs=crs)
    min_x, min_y, max_x, max_y = block.on_map(transform).bounds
    turn = 0 if min_x > 0 else 360
    west, east = (
        shapely.box(low, min_y, high, max_y) for low, high in ((min_x + turn, 180), (-180, max_x + turn - 360))
    )
    split = write_layer(tmp_path / "split.geojson", [shapely.MultiPolygon([west, east])], crs="EPSG:4326")
    to_metres = pyproj.Transformer.from_crs(4326, 32760, always_xy=True)
    metres = shapely.transform(
        shapely.box(min_x + turn, min_y, max_x + turn, max_y), lambda xy: np.column_stack(to_metres.transform(*xy.T))
    )
    store = tmp_path / "a.embeddings.zarr"
    for number, area in enumerate((split, write_layer(tmp_path / "metres.gpkg", [metres], crs="EPSG:32760"))):
        plan_area = _read_aoi(area, Raster(image))
        assert plan_area.intersection(block.on_map(transform)).area > 0.99 * block.on_map(transform).area
        result = run("encode", image, "--model", model, "--aoi", area, "--overwrite")
        assert result.exit_code == 0, result.stderr
        loose = ("--pred-iou-thresh", "0.85", "--stability-score-thresh", "0.5", "--points-per-side", "16")
        out = tmp_path / f"{number}.gpkg"
        result = run("auto", store, "-o", out, "--aoi", area, *loose)
        assert result.exit_code == 0, result.stderr
        assert iou(read_vector(out).geometries[0], block.on_map(transform)) > 0.9
        ((found,),) = locate(read_truth(area), [StoreReader(store)]).objects
        assert found.geometry.bounds == pytest.approx((180, 140, 320, 260), abs=0.5)
    for part in (west, east):
        area = _read_aoi(write_layer(tmp_path / "part.geojson", [part], crs="EPSG:4326"), Raster(image))
        assert area.intersection(block.on_map(transform)).area == pytest.approx(part.area, rel=1e-3)
        (tmp_path / "part.geojson").unlink()


def test_degrees_and_metres_are_told_apart(run: Run, ortho: Ortho, tmp_path: Path) -> None:
    x, y = ortho.centre
    out = tmp_path / "o.gpkg"
    result = run("segment", ortho.store, "-o", out, "--point", f"{x},{y}", "--crs", "EPSG:4326")
    assert result.exit_code == 2 and "not longitude and latitude in WGS 84: give the CRS" in result.stderr
    result = run("segment", ortho.store, "-o", out, "--point", "-0.5,39.5")
    assert result.exit_code == 2 and "(-0.5, 39.5) lies outside the raster, (" in result.stderr
    assert not out.exists()


def test_polygons_that_the_output_crs_cannot_hold(run: Run, model: Path, tmp_path: Path) -> None:
    block = Block(180, 140, 140, 120)
    transform = PLACES[3][1]
    write_raster(tmp_path / "a.tif", scene(500, 400, [block]), transform=transform, crs="EPSG:3413")
    assert run("encode", tmp_path / "a.tif", "--model", model).exit_code == 0
    out = tmp_path / "o.gpkg"
    result = run("segment", tmp_path / "a.embeddings.zarr", "-o", out, "--point", "0,0", "--out-crs", "EPSG:3857")
    assert result.exit_code == 2 and "The polygon cannot be transformed to WGS 84 / Pseudo-Mercator" in result.stderr

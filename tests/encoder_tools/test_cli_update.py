"""The command ``geosam-es update``: what became of old polygons on a newer image."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import shapely
from rasterio.transform import Affine

from encoder_tools.vector import read_vector
from tests.encoder_tools.conftest import Run
from tests.encoder_tools.scenes import Block, scene, transform_of, write_layer, write_raster

NEW = {
    "same": Block(40, 40, 60, 40),
    "moved": Block(220, 40, 60, 40),
    "grown": Block(40, 200, 100, 40),
    "at the edge": Block(350, 110, 50, 50),
}
OLD = {
    "same": Block(40, 40, 60, 40),
    "moved": Block(200, 40, 60, 40),
    "grown": Block(40, 200, 60, 40),
    "gone": Block(240, 200, 60, 40),
}
BEYOND = Block(350, 110, 130, 50)
"""Most of it is outside the newer image, its middle too."""


@pytest.fixture(scope="module")
def made(model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, shapely.Geometry]]:
    """A store of the newer image, and the old polygons on the map, with a vertex where one edge is straight."""
    from click.testing import CliRunner

    from encoder_tools.cli.app import cli

    image = write_raster(tmp_path_factory.mktemp("newer") / "newer.tif", scene(400, 300, list(NEW.values())))
    assert CliRunner().invoke(cli, ["encode", str(image), "--model", str(model)]).exit_code == 0
    return image.with_name("newer.embeddings.zarr"), {
        name: shapely.segmentize(block.on_map(transform_of(image)), 11.3)
        for name, block in {**OLD, "beyond": BEYOND}.items()
    }


def test_verdicts_and_vertices(run: Run, made: tuple[Path, dict[str, shapely.Geometry]], tmp_path: Path) -> None:
    store, old = made
    layer = write_layer(
        tmp_path / "old.gpkg", [old[name] for name in OLD], crop=["vid", "olivo", "trigo", "pino"], iou=[1, 2, 3, 4]
    )
    out = tmp_path / "new.gpkg"
    result = run("update", store, layer, "-o", out)
    assert result.exit_code == 0, result.stderr
    assert "1 same, 1 moved, 1 changed, 1 gone" in result.stdout
    found = read_vector(out)
    assert found.fields["verdict"].tolist() == ["same", "moved", "changed", "gone"]
    assert found.fields["crop"].tolist() == ["vid", "olivo", "trigo", "pino"]
    assert found.fields["iou_1"].tolist() == [1, 2, 3, 4], "a field whose name is taken is kept under another"
    same, moved, grown, gone = (shapely.get_parts(item)[0] for item in found.geometries)
    assert same.equals_exact(old["same"], 0) and gone.equals_exact(old["gone"], 0)
    offset = shapely.get_coordinates(moved) - shapely.get_coordinates(old["moved"])
    assert np.ptp(offset, axis=0) == pytest.approx([0, 0], abs=1e-6), "a moved polygon has the same shape"
    assert offset[0] == pytest.approx([10, 0], abs=0.3)
    kept = set(map(tuple, shapely.get_coordinates(old["grown"]))) & set(map(tuple, shapely.get_coordinates(grown)))
    assert len(kept) >= 6, "the border on the left has its old vertices"
    assert found.fields["iou"].tolist() == pytest.approx([1, 0.5, 0.6, 0], abs=0.03)


def test_lost_heights_are_said(run: Run, made: tuple[Path, dict[str, shapely.Geometry]], tmp_path: Path) -> None:
    store, old = made
    layer, out = write_layer(tmp_path / "old.geojson", [shapely.force_3d(old["same"], 5.0)]), tmp_path / "new.gpkg"
    result = run("update", store, layer, "-o", out)
    assert result.exit_code == 0
    assert result.stderr.count(f"Note: the Z values of {layer} are not written to {out}") == 1


def test_thresholds(run: Run, made: tuple[Path, dict[str, shapely.Geometry]], tmp_path: Path) -> None:
    store, old = made
    layer = write_layer(tmp_path / "old.gpkg", [old["grown"]])
    for options, verdict in ((("--same-iou", 0.5), "same"), (("--gone-score", 0.99), "gone")):
        result = run("update", store, layer, "-o", tmp_path / "new.gpkg", "--overwrite", "--json", *options)
        (item,) = json.loads(result.stdout)["objects"]
        assert item["verdict"] == verdict


def test_what_the_model_draws_otherwise_than_the_user_is_no_change_with_the_older_image(
    run: Run, made: tuple[Path, dict[str, shapely.Geometry]], model: Path, tmp_path: Path
) -> None:
    """The old polygons are much larger than the objects; one object has grown, and one is gone."""
    store, _ = made
    image = write_raster(tmp_path / "older.tif", scene(400, 300, [OLD["same"], OLD["grown"], OLD["gone"]]))
    assert run("encode", image, "--model", model).exit_code == 0
    older = tmp_path / "older.embeddings.zarr"
    coarse = [OLD[name].on_map(transform_of(image)).buffer(12) for name in ("same", "grown", "gone")]
    layer = write_layer(tmp_path / "old.gpkg", coarse)
    verdicts = []
    for options in ((), ("--old-store", older)):
        out = tmp_path / "new.gpkg"
        result = run("update", store, layer, "-o", out, "--overwrite", *options)
        assert result.exit_code == 0, result.stderr
        verdicts.append(read_vector(out).fields["verdict"].tolist())
    assert verdicts[0][0] == "changed" and verdicts[1] == ["same", "changed", "gone"]
    other = write_raster(tmp_path / "other.tif", scene(400, 300, []), crs="EPSG:25831")
    assert run("encode", other, "--model", model).exit_code == 0
    result = run("update", store, layer, "-o", out, "--overwrite", "--old-store", other.with_suffix(".embeddings.zarr"))
    assert result.exit_code == 2 and "in the CRS of the newer one" in result.stderr


@pytest.mark.parametrize("ground", [[], [Block(0, 90, 120, 100)]])
def test_what_the_newer_image_does_not_show_is_the_same(
    run: Run, model: Path, tmp_path: Path, ground: list[Block]
) -> None:
    """The old polygon reaches into the newer image, and what the model sees on the older one does not."""
    image = write_raster(tmp_path / "older.tif", scene(800, 300, [Block(300, 100, 80, 60)]))
    beside = transform_of(image) @ Affine.translation(400, 0)
    newer = write_raster(tmp_path / "newer.tif", scene(400, 300, ground), transform=beside)
    for path in (image, newer):
        assert run("encode", path, "--model", model).exit_code == 0
    old = Block(300, 100, 120, 60).on_map(transform_of(image))
    layer, out = write_layer(tmp_path / "old.gpkg", [old]), tmp_path / "new.gpkg"
    stores = [path.with_suffix(".embeddings.zarr") for path in (newer, image)]
    result = run("update", stores[0], layer, "-o", out, "--old-store", stores[1])
    assert result.exit_code == 0, result.stderr
    found = read_vector(out)
    assert found.fields["verdict"].tolist() == ["same"]
    assert shapely.get_parts(found.geometries[0])[0].equals_exact(old, 0)


def test_what_lies_outside_the_image_is_not_compared(
    run: Run, made: tuple[Path, dict[str, shapely.Geometry]], tmp_path: Path
) -> None:
    store, old = made
    layer = write_layer(tmp_path / "old.gpkg", [old["beyond"]])
    result = run("update", store, layer, "-o", tmp_path / "new.gpkg")
    assert "1 same" in result.stdout, result.stdout


def test_an_object_on_the_border_of_two_sheets(run: Run, model: Path, tmp_path: Path) -> None:
    block, sheets = Block(300, 100, 160, 60), tmp_path / "sheets"
    sheets.mkdir()
    pixels = scene(800, 300, [block])
    image = write_raster(sheets / "a.tif", pixels[:, :, :400])
    east = transform_of(image) @ Affine.translation(400, 0)
    write_raster(sheets / "b.tif", pixels[:, :, 400:], transform=east)
    assert run("encode", sheets, "--model", model).exit_code == 0
    longer = Block(300, 100, 280, 60)
    layer = write_layer(tmp_path / "old.gpkg", [item.on_map(transform_of(image)) for item in (block, longer)])
    out = tmp_path / "new.gpkg"
    result = run("update", sheets, layer, "-o", out)
    assert result.exit_code == 0, result.stderr
    found = read_vector(out)
    assert found.fields["verdict"].tolist() == ["same", "changed"]
    assert found.geometries[1].area == pytest.approx(found.geometries[0].area, rel=0.05), "its part that is gone goes"


def test_polygons_of_another_crs_keep_it(
    run: Run, made: tuple[Path, dict[str, shapely.Geometry]], tmp_path: Path
) -> None:
    import pyproj

    store, old = made
    to_degrees = pyproj.Transformer.from_crs(25830, 4326, always_xy=True).transform
    degrees = shapely.transform(old["same"], lambda xy: np.column_stack(to_degrees(*xy.T)))
    layer = write_layer(tmp_path / "old.gpkg", [degrees], crs="EPSG:4326")
    assert run("update", store, layer, "-o", tmp_path / "new.gpkg").exit_code == 0
    found = read_vector(tmp_path / "new.gpkg")
    assert found.crs is not None and found.crs.to_epsg() == 4326
    assert shapely.get_parts(found.geometries[0])[0].equals_exact(degrees, 0)


def test_a_moved_polygon_keeps_its_vertices_where_the_world_ends(run: Run, model: Path, tmp_path: Path) -> None:
    """The world of this CRS has an end, beyond which a raster may go on."""
    image = write_raster(tmp_path / "a.tif", scene(400, 300, [NEW["moved"]]), crs="EPSG:3857")
    assert run("encode", image, "--model", model).exit_code == 0
    old = OLD["moved"].on_map(transform_of(image))
    layer = write_layer(tmp_path / "old.gpkg", [old], crs="EPSG:3857")
    assert "1 moved" in run("update", tmp_path / "a.embeddings.zarr", layer, "-o", tmp_path / "new.gpkg").stdout
    assert len(shapely.get_coordinates(read_vector(tmp_path / "new.gpkg").geometries[0])) == 5


def test_polygons_that_have_no_place_in_the_raster(
    run: Run, made: tuple[Path, dict[str, shapely.Geometry]], tmp_path: Path
) -> None:
    import pyproj

    store, old = made
    to_degrees = pyproj.Transformer.from_crs(25830, 4326, always_xy=True).transform
    degrees = shapely.transform(old["same"], lambda xy: np.column_stack(to_degrees(*xy.T)))
    odd = [degrees, shapely.box(86, -1, 88, 1), shapely.Polygon(), shapely.Polygon([(5, 5), (6, 6), (5, 6), (6, 5)])]
    layer = write_layer(tmp_path / "old.geojson", odd, crs="EPSG:4326")
    result = run("update", store, layer, "-o", tmp_path / "new.gpkg")
    assert result.exit_code == 0, result.stderr
    assert "1 same, 0 moved, 0 changed, 0 gone" in result.stdout
    assert result.stderr.count("No polygon for object") == 2 or "objects" in result.stderr


def test_bad_input(run: Run, made: tuple[Path, dict[str, shapely.Geometry]], tmp_path: Path) -> None:
    store, old = made
    point = write_layer(tmp_path / "points.gpkg", [old["same"], old["same"].centroid])
    result = run("update", store, point, "-o", tmp_path / "new.gpkg")
    assert result.exit_code == 2 and "has a Point, which is not a polygon" in result.stderr
    away = write_layer(tmp_path / "away.gpkg", [shapely.box(0, 0, 9, 9), old["same"]])
    result = run("update", store, away, "-o", tmp_path / "new.gpkg")
    assert result.exit_code == 0 and "No polygon for object 1: The outline lies outside the raster" in result.stderr
    far = shapely.box(0, 0, 9, 9)
    shared = write_layer(tmp_path / "shared.gpkg", [old["same"], far, far, far], object=["A", "A", "B", "B"])
    result = run("update", store, shared, "-o", tmp_path / "shared_new.gpkg")
    assert "No polygon for objects A (feature 2), B (feature 3), B (feature 4): The outline" in result.stderr
    assert read_vector(tmp_path / "shared_new.gpkg").fields["object"].tolist() == ["A"]
    result = run("update", store, away, "-o", away, "--overwrite")
    assert result.exit_code == 2 and "choose another name" in result.stderr

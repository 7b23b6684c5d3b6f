"""The command ``geosam-es auto``."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely

from encoder_tools.cli import auto
from encoder_tools.vector import read_vector
from geosam_es.errors import StoreError
from geosam_es.inference.automatic import automatic_masks
from tests.encoder_tools.conftest import Ortho, Run
from tests.encoder_tools.scenes import write_layer

LOOSE = ("--pred-iou-thresh", "0.85", "--stability-score-thresh", "0.5", "--points-per-side", "16")


def auto_masks(run: Run, ortho: Ortho, output: Path, *options: object) -> Any:
    assert count_masks(run, ortho, output, *options)
    return read_vector(output)


def count_masks(run: Run, ortho: Ortho, output: Path, *options: object) -> int:
    result = run("auto", ortho.store, "-o", output, *LOOSE, *options)
    assert result.exit_code == 0, result.stderr
    return int(pyogrio.read_info(output)["features"])


@pytest.mark.parametrize("name", ["out.gpkg", "out.shp", "out.geojson"])
def test_objects_with_their_fields(run: Run, ortho: Ortho, tmp_path: Path, name: str) -> None:
    found = auto_masks(run, ortho, tmp_path / name)
    (polygon,) = found.geometries
    assert shapely.area(shapely.intersection(polygon, ortho.truth)) > 0.98 * shapely.area(ortho.truth)
    fields = [column[0] for column in found.fields.values()]
    iou, stability, level, area, x, y, model = fields
    assert (iou, level, model) == (pytest.approx(0.9), 0, "bright")
    assert 0.5 < stability <= 1
    assert area == pytest.approx(polygon.area, rel=0.01)
    # This model answers every point alike.
    assert (x - 700000, 4400000 - y) == (16.0, 16.0)
    if name.endswith(".gpkg"):
        assert list(found.fields)[:4] == ["predicted_iou", "stability_score", "level", "area_m2"]
    assert not (tmp_path / f"{name}.tiles").exists()


def test_parts_are_added_to_the_file_as_they_come(
    run: Run, ortho: Ortho, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--pred-iou-thresh", "0.5", "--box-nms-thresh", "1")
    for suffix in (".gpkg", ".geojson"):
        for together in (1000, 3):
            monkeypatch.setattr(auto, "_TOGETHER", together)
            auto_masks(run, ortho, tmp_path / f"by_{together}{suffix}", *options)
        whole, parts = (read_vector(tmp_path / f"by_{together}{suffix}") for together in (1000, 3))
        assert len(whole.geometries) > 5
        assert shapely.equals(whole.geometries, parts.geometries).all()
        np.testing.assert_array_equal(whole.fields["predicted_iou"], parts.fields["predicted_iou"])


def test_polygons_without_a_place_in_the_crs_of_the_output_are_counted(
    run: Run, ortho: Ortho, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def undefined(polygons: Any, *crs: Any) -> Any:
        return polygons, np.zeros(len(polygons), bool)

    monkeypatch.setattr(auto, "reproject_polygons", undefined)
    result = run("auto", ortho.store, "-o", tmp_path / "out.gpkg", *LOOSE, "--out-crs", "EPSG:3857")
    assert result.exit_code == 0
    assert "Note: 1 polygon of" in result.stderr and "outside WGS 84 / Pseudo-Mercator" in result.stderr


def test_area_of_interest_and_minimum_area(run: Run, ortho: Ortho, tmp_path: Path) -> None:
    around = write_layer(tmp_path / "around.gpkg", [ortho.truth])
    assert count_masks(run, ortho, tmp_path / "a.gpkg", "--aoi", around) == 1
    beside = write_layer(tmp_path / "beside.gpkg", [shapely.affinity.translate(ortho.truth, 50, 0)])
    assert count_masks(run, ortho, tmp_path / "b.gpkg", "--aoi", beside) == 0
    assert count_masks(run, ortho, tmp_path / "c.gpkg", "--min-area-m2", 1e6) == 0
    outside = write_layer(tmp_path / "outside.gpkg", [shapely.affinity.translate(ortho.truth, 1e4, 0)])
    result = run("auto", ortho.store, "-o", tmp_path / "d.gpkg", "--aoi", outside)
    assert result.exit_code == 2
    assert "outside.gpkg lies outside the raster" in result.stderr
    line = write_layer(tmp_path / "line.gpkg", [ortho.truth.exterior])
    result = run("auto", ortho.store, "-o", tmp_path / "a.gpkg", "--aoi", line, "--overwrite")
    assert result.exit_code == 2 and "line.gpkg has no polygons" in result.stderr
    assert len(read_vector(tmp_path / "a.gpkg").geometries) == 1
    metres = tmp_path / "metres.geojson"
    metres.write_text(shapely.to_geojson(ortho.truth))
    for command in (("auto", ortho.store), ("encode", ortho.image)):
        result = run(*command, "-o", tmp_path / "d.gpkg", "--aoi", metres)
        assert result.exit_code == 2 and "not longitude and latitude in WGS 84: assign its CRS in QGIS" in result.stderr


def test_an_interrupted_run_is_continued(
    run: Run, ortho: Ortho, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out.gpkg"

    def interrupted(*arguments: Any) -> Iterator[Any]:
        yield from automatic_masks(*arguments)
        raise StoreError("The disk was removed")

    with monkeypatch.context() as patch:
        patch.setattr(auto, "automatic_masks", interrupted)
        result = run("auto", ortho.store, "-o", output, *LOOSE)
    assert result.exit_code == 2
    assert "The disk was removed" in result.stderr
    assert not output.exists()
    other = run("auto", ortho.store, "-o", output, "--resume", "--points-per-side", "8")
    assert other.exit_code == 2
    assert "begun with other options or tiles" in other.stderr
    monkeypatch.setattr("geosam_es.inference.automatic._tile_masks", None)  # nothing is decoded again
    result = run("auto", ortho.store, "-o", output, *LOOSE, "--resume", "--json")
    assert json.loads(result.stdout)["polygons"] == pyogrio.read_info(output)["features"] == 1


def test_masks_of_another_encoding_are_not_continued(run: Run, ortho: Ortho, model: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.gpkg"
    assert count_masks(run, ortho, output) == 1
    folder = tmp_path / "out.gpkg.tiles"

    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(auto, "write_vector", lambda *_, more, **__: (list(more), interrupt()))
        assert run("auto", ortho.store, "-o", output, *LOOSE, "--overwrite").exit_code == 130
    assert folder.is_dir()
    encode = ("encode", ortho.image, "--model", model, "--overwrite")
    assert run(*encode, "--bands", "3,2,1").exit_code == 0
    changed = run("auto", ortho.store, "-o", output, *LOOSE, "--overwrite", "--resume")
    assert changed.exit_code == 2 and "begun with other options or tiles" in changed.stderr


def test_the_area_of_interest_is_not_replaced(run: Run, ortho: Ortho, tmp_path: Path) -> None:
    area = write_layer(tmp_path / "parish.gpkg", [ortho.truth])
    before = area.read_bytes()
    result = run("auto", ortho.store, "-o", area, "--aoi", area, "--overwrite")
    assert result.exit_code == 2 and f"{area} is the area of interest" in result.stderr
    assert area.read_bytes() == before


def test_levels_that_a_store_lacks(run: Run, ortho: Ortho, model: Path, tmp_path: Path) -> None:
    assert count_masks(run, ortho, tmp_path / "coarse.gpkg", "--level", 3) == 1
    result = run("auto", ortho.store, "-o", tmp_path / "fine.gpkg", "--level", -1)
    assert "encode IMAGE --resume --finest -1" in result.stderr
    assert run("encode", ortho.image, "--model", model, "--resume", "--finest", -1).exit_code == 0
    result = run("auto", ortho.store, "-o", tmp_path / "again.gpkg", "--level", -1)
    assert result.exit_code == 0 and "not encoded" not in result.stderr


def test_what_another_program_saves_meanwhile_is_not_lost(
    run: Run, ortho: Ortho, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "project.gpkg"
    command = ("auto", ortho.store, "-o", output, *LOOSE, "--out-layer", "objects", "--append")
    monkeypatch.setattr(auto, "_TOGETHER", 1)
    write_layer(output, [ortho.truth])
    drawn = automatic_masks

    def slowly(*arguments: Any) -> Iterator[Any]:
        for mask in drawn(*arguments):
            yield mask
            yield mask
            write_layer(output, [ortho.truth])

    with monkeypatch.context() as patch:
        patch.setattr(auto, "automatic_masks", slowly)
        result = run(*command)
    assert result.exit_code == 2 and "was changed by another program meanwhile" in result.stderr
    assert [str(name) for name, _ in pyogrio.list_layers(output)] == ["project"]
    assert pyogrio.read_info(output)["features"] == 2
    assert run(*command, "--resume").exit_code == 0
    assert pyogrio.read_info(output, layer="project")["features"] == 2


def test_two_runs_into_one_file_do_not_mix(
    run: Run, ortho: Ortho, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "map.gpkg"
    command = ("auto", ortho.store, "-o", output, *LOOSE, "--out-layer")
    monkeypatch.setattr(auto, "_TOGETHER", 1)
    drawn, others = automatic_masks, []

    def meanwhile(*arguments: Any) -> Iterator[Any]:
        for mask in drawn(*arguments):
            yield mask
            monkeypatch.setattr(auto, "automatic_masks", drawn)
            others.extend(run(*command, layer, "--points-per-side", 8) for layer in ("a", "b"))
            yield mask

    monkeypatch.setattr(auto, "automatic_masks", meanwhile)
    first = run(*command, "a")
    twice, other = others
    assert twice.exit_code == 2 and "map.gpkg is being drawn by another run" in twice.stderr
    assert other.exit_code == 0, other.stderr
    assert first.exit_code == 2 and "was changed by another program meanwhile" in first.stderr
    assert [str(name) for name, _ in pyogrio.list_layers(output)] == ["b"]
    with monkeypatch.context() as patch:
        patch.setattr("geosam_es.inference.automatic._tile_masks", None)  # nothing is decoded again
        assert run(*command, "a", "--append", "--resume").exit_code == 0
    assert {str(name) for name, _ in pyogrio.list_layers(output)} == {"a", "b"}
    assert not (tmp_path / "map.gpkg.tiles").exists()


@pytest.mark.parametrize("name", ["out.gpkg", "out.geojson"])
def test_a_file_made_before_the_first_polygons_is_not_replaced(
    run: Run, ortho: Ortho, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    output = tmp_path / name
    drawn = automatic_masks

    def meanwhile(*arguments: Any) -> Iterator[Any]:
        write_layer(output, [ortho.truth], mine=["yes"])
        yield from drawn(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(auto, "automatic_masks", meanwhile)
        result = run("auto", ortho.store, "-o", output, *LOOSE)
    assert result.exit_code == 2 and "was changed by another program meanwhile" in result.stderr
    assert "move it away" in result.stderr
    assert read_vector(output).fields["mine"].tolist() == ["yes"]
    output.unlink()
    monkeypatch.setattr("geosam_es.inference.automatic._tile_masks", None)  # nothing is decoded again
    assert count_masks(run, ortho, output, "--resume") == 1


def test_an_output_that_is_locked_is_written_with_resume(
    run: Run, ortho: Ortho, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = write_layer(tmp_path / "out.gpkg", [ortho.truth])
    drawn = automatic_masks
    with closing(sqlite3.connect(output, isolation_level=None)) as other, monkeypatch.context() as patch:

        def meanwhile(*arguments: Any) -> Iterator[Any]:
            yield from drawn(*arguments)
            other.execute("BEGIN IMMEDIATE")

        patch.setattr(auto, "automatic_masks", meanwhile)
        result = run("auto", ortho.store, "-o", output, *LOOSE, "--overwrite")
    assert result.exit_code == 2
    assert "is locked: close the program that uses it; the same command continues with --resume" in result.stderr


def test_a_lock_that_cannot_be_used(run: Run, ortho: Ortho, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto, "automatic_masks", None)  # fails, and leaves the lock
    command = ("auto", ortho.store, "-o", tmp_path / "out.gpkg")
    assert run(*command).exit_code == 1
    (lock,) = (tmp_path / "out.gpkg.tiles").glob("*.lock")
    lock.write_bytes(b"no database" * 100)
    result = run(*command)
    assert result.exit_code == 2 and f"{lock} cannot be locked (file is not a database)" in result.stderr


def test_an_existing_output_and_missing_tiles(run: Run, ortho: Ortho, tmp_path: Path) -> None:
    output = tmp_path / "out.gpkg"
    (tmp_path / "out.gpkg.tiles").mkdir()
    assert "not the folder of an interrupted run" in run("auto", ortho.store, "-o", output).stderr
    (tmp_path / "out.gpkg.tiles").rmdir()
    assert count_masks(run, ortho, output) == 1
    assert run("auto", ortho.store, "-o", output).exit_code == 2
    assert count_masks(run, ortho, output, "--append") == 2
    result = run("auto", ortho.store, "-o", tmp_path / "o.gpkg", "--out-crs", "+proj=gnom +lat_0=-40 +lon_0=178")
    assert result.exit_code == 2 and "The raster is outside the CRS" in result.stderr
    shutil.rmtree(ortho.store / "level0" / "image_embeddings" / "c")
    result = run("auto", ortho.store, "-o", output, "--overwrite")
    assert "1 of 1 tiles are not encoded" in result.stderr
    assert result.exit_code == 0
    assert pyogrio.read_info(output)["features"] == 0


def test_coverage_of_the_pixels_with_data(run: Run, ortho: Ortho, model: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.gpkg"
    with rasterio.open(ortho.image, "r+") as image:
        image.nodata = 0
        pixels = image.read()
        pixels[:, :40, :60] = 0
        image.write(pixels)
    result = run("auto", ortho.store, "-o", output, *LOOSE, "--coverage")
    assert f"{ortho.image} is not the image that {ortho.store} was made from, so it is not used." in result.stderr
    assert run("encode", ortho.image, "--model", model, "--overwrite").exit_code == 0
    found = auto_masks(run, ortho, output, "--coverage", "--min-area-m2", "20", "--overwrite")
    assert run("check", output).exit_code == 0
    assert shapely.coverage_is_valid(found.geometries)
    assert shapely.area(found.geometries).sum() == pytest.approx((300 * 200 - 40 * 60) * 0.25, rel=1e-3)
    (block,) = found.geometries[found.fields["group"] == 0]
    assert shapely.intersection(block, ortho.truth).area > 0.97 * shapely.union(block, ortho.truth).area
    assert np.isnan(found.fields["predicted_iou"][found.fields["group"] > 0]).all()
    assert shapely.area(found.geometries).min() > 19
    ortho.image.unlink()
    result = run("auto", ortho.store, "-o", output, *LOOSE, "--coverage", "--overwrite")
    assert "the raster is not beside the store" in result.stderr

"""Commands that go through the stores of a folder or of a catalogue."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pyproj
import pytest
import shapely
from affine import Affine
from click.testing import CliRunner

from encoder_tools.cli.app import cli
from encoder_tools.vector import VectorLayer, read_vector
from geosam_es.inference import automatic
from tests.encoder_tools.conftest import Run
from tests.encoder_tools.scenes import Block, scene, transform_of, write_layer, write_raster

LOOSE = ("--pred-iou-thresh", "0.85", "--stability-score-thresh", "0.5", "--points-per-side", "8")

SHARED = shapely.box(700_112, 4_399_940, 700_132, 4_399_965)
"""An object on the sheets a and b, which overlap from 700100 to 700150."""


class Stores(NamedTuple):
    folder: Path

    def store(self, name: str) -> Path:
        return self.folder / f"{name}.embeddings.zarr"

    def damage(self, name: str) -> Path:
        """Make a store unreadable; the file returned has what to put back."""
        document = self.store(name) / "zarr.json"
        shutil.copy(document, document.with_suffix(".kept"))
        document.write_text("{")
        return document

    def catalog(self, run: Run) -> Path:
        path = self.folder / "catalog.gpkg"
        assert run("catalog", self.folder, "-o", path).exit_code == 0
        return path


@pytest.fixture(scope="module")
def made(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sheets a and b overlap and both show one object; c, in another CRS, has one of its own."""
    folder = tmp_path_factory.mktemp("sheets")
    for name, left, col, crs in (("a", 0, 224, 25830), ("b", 100, 24, 25830), ("c", 0, 60, 25831)):
        transform = Affine(0.5, 0, 700_000 + left, 0, -0.5, 4_400_000)
        block = Block(col, 70, 40, 50)
        image = scene(300, 200, [block])
        path = write_raster(folder / f"{name}.tif", image, transform=transform, crs=f"EPSG:{crs}")
        assert CliRunner().invoke(cli, ["encode", str(path), "--model", str(model)]).exit_code == 0
    return folder


@pytest.fixture
def stores(made: Path, tmp_path: Path) -> Stores:
    return Stores(Path(shutil.copytree(made, tmp_path / "stores")))


def in_utm(layer: VectorLayer, row: int) -> shapely.Geometry:
    assert layer.crs is not None and layer.crs.to_epsg() == 25830
    return layer.geometries[row]


def test_prompts_are_answered_by_one_store_each(run: Run, stores: Stores, tmp_path: Path) -> None:
    x, y = pyproj.Transformer.from_crs(25831, 25830, always_xy=True).transform(700_040, 4_399_952)
    clicks = [SHARED.centroid, shapely.Point(0, 4e6), shapely.Point(x, y)]
    prompts = write_layer(tmp_path / "clicks.gpkg", clicks, kind=["shared", "nowhere", "lone"])
    out = tmp_path / "out.gpkg"
    result = run("segment", stores.catalog(run), prompts, "-o", out)
    assert result.exit_code == 0, result.stderr
    progress, *left_out = result.stderr.splitlines()
    assert "3/3 objects" in progress and left_out == ["No polygon for object 2: It is outside the images"]
    found = read_vector(out)
    assert found.fields["raster"].tolist() == ["a.tif", "c.tif"]
    assert found.fields["kind"].tolist() == ["shared", "lone"]
    assert found.fields["area_m2"].tolist() == pytest.approx([500, 500], rel=0.05)
    assert in_utm(found, 0).symmetric_difference(SHARED).area < 25 and in_utm(found, 1).contains(shapely.Point(x, y))
    alone = write_layer(tmp_path / "nowhere.gpkg", [shapely.Point(0, 4e6)])
    refused = run("segment", stores.folder, alone, "-o", tmp_path / "none.gpkg")
    assert refused.exit_code == 2 and "No store answers any of the prompts" in refused.stderr


@pytest.mark.parametrize("overlap", [0, 30])
@pytest.mark.parametrize("command", ["segment", "auto", "update"])
def test_an_object_across_two_sheets_is_that_of_the_whole_image(
    run: Run, model: Path, tmp_path: Path, command: str, overlap: int
) -> None:
    block = Block(230, 60, 120, 80)
    image = scene(600, 200, [block])
    folder = tmp_path / "stores"
    folder.mkdir()
    for name, left, right in (("a", 0, 300 + overlap), ("b", 300 - overlap, 600)):
        transform = Affine(0.5, 0, 700_000 + 0.5 * left, 0, -0.5, 4_400_000)
        path = write_raster(folder / f"{name}.tif", image[:, :, left:right], transform=transform)
        assert run("encode", path, "--model", model).exit_code == 0
    whole = write_raster(tmp_path / "whole.tif", image)
    assert run("encode", whole, "--model", model).exit_code == 0
    truth = block.on_map(transform_of(whole))
    clicks = write_layer(
        tmp_path / "clicks.gpkg", [shapely.Point(700_000 + 0.5 * col, 4_399_950) for col in (250, 330)]
    )
    old = write_layer(tmp_path / "old.gpkg", [truth])
    inputs: dict[str, tuple[object, ...]] = {"segment": (clicks,), "auto": LOOSE, "update": (old,)}
    found = {}
    for name, place in (("parts", folder), ("whole", tmp_path / "whole.embeddings.zarr")):
        result = run(command, place, *inputs[command], "-o", tmp_path / f"{name}.gpkg")
        assert result.exit_code == 0, result.stderr
        found[name] = read_vector(tmp_path / f"{name}.gpkg").geometries
    assert len(found["parts"]) == len(found["whole"]) == (2 if command == "segment" else 1)
    for part, wanted in zip(found["parts"], found["whole"]):
        assert len(shapely.get_parts(part)) == 1
        assert part.intersection(wanted).area > 0.95 * part.union(wanted).area


def test_a_damaged_tile_of_the_next_sheet_does_not_stop_a_sheet(run: Run, model: Path, tmp_path: Path) -> None:
    image = scene(600, 200, [Block(60, 60, 80, 80), Block(270, 60, 120, 80)])
    for name, left in (("a", 0), ("b", 300)):
        transform = Affine(0.5, 0, 700_000 + 0.5 * left, 0, -0.5, 4_400_000)
        path = write_raster(tmp_path / f"{name}.tif", image[:, :, left : left + 300], transform=transform)
        assert run("encode", path, "--model", model).exit_code == 0
    damaged = tmp_path / "b.embeddings.zarr/level0/image_embeddings/c/0/0/0/0/0"
    damaged.write_bytes(damaged.read_bytes()[:-10])
    clicks = write_layer(
        tmp_path / "clicks.gpkg", [shapely.Point(700_000 + 0.5 * col, 4_399_950) for col in (100, 285, 350)]
    )
    result = run("segment", tmp_path, clicks, "-o", tmp_path / "out.gpkg")
    assert result.exit_code == 1 and "1 of 2 stores could not be used" in result.stderr
    whole, cut = read_vector(tmp_path / "out.gpkg").geometries
    assert whole.area == pytest.approx(40 * 40, rel=0.03) and cut.area == pytest.approx(15 * 40, rel=0.03)


def test_a_folder_of_another_program_is_kept(run: Run, stores: Stores, tmp_path: Path) -> None:
    mine = tmp_path / "out.gpkg.tiles" / "mine.txt"
    mine.parent.mkdir()
    mine.write_text("mine")
    refused = run("auto", stores.folder, "-o", tmp_path / "out.gpkg")
    assert refused.exit_code == 2 and "is not the folder of an interrupted run" in refused.stderr and mine.exists()
    assert (
        "nowhere does not exist"
        in run("catalog", stores.folder, tmp_path / "nowhere", "-o", tmp_path / "c.gpkg").stderr
    )


@pytest.mark.parametrize("width", [40, 200])
def test_objects_across_sheets_in_an_area_are_kept_once(run: Run, model: Path, tmp_path: Path, width: int) -> None:
    """Its middle is on the other sheet, which the area may not reach."""
    image = scene(600, 200, [Block(270, 60, 120, 80)])
    for name, left in (("a", 0), ("b", 300)):
        transform = Affine(0.5, 0, 700_000 + 0.5 * left, 0, -0.5, 4_400_000)
        path = write_raster(tmp_path / f"{name}.tif", image[:, :, left : left + 300], transform=transform)
        assert run("encode", path, "--model", model).exit_code == 0
    area = write_layer(tmp_path / "area.gpkg", [shapely.box(700_105, 4_399_900, 700_105 + width, 4_400_000)])
    catalog = write_layer(
        tmp_path / "catalog.gpkg",
        [shapely.Point(0, 0)] * 3,
        store=["a.embeddings.zarr", "../" + tmp_path.name + "/a.embeddings.zarr", "b.embeddings.zarr"],
    )
    result = run("auto", catalog, *LOOSE[:-1], "32", "--aoi", area, "-o", tmp_path / "out.gpkg")
    assert result.exit_code == 0, result.stderr
    (found,) = read_vector(tmp_path / "out.gpkg").geometries
    assert found.area > 0.9 * 60 * 40
    assert "/2)" in result.stderr and "/3)" not in result.stderr, "a store that is named twice"


def test_old_polygons_are_brought_up_to_date_on_their_image(run: Run, stores: Stores, tmp_path: Path) -> None:
    lost = shapely.box(700_010, 4_399_920, 700_030, 4_399_940)
    old = write_layer(tmp_path / "old.gpkg", [lost, SHARED], raster=["before.tif", "before.tif"])
    out = tmp_path / "out.geojson"
    result = run("update", stores.folder, old, "-o", out)
    assert result.exit_code == 0, result.stderr
    found = read_vector(out)
    assert found.fields["verdict"].tolist() == ["gone", "same"]
    assert found.fields["raster"].tolist() == ["a.tif", "a.tif"]


def test_a_bad_store_does_not_stop_the_rest_and_is_done_later(
    run: Run, stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog, out = stores.catalog(run), tmp_path / "out.gpkg"
    damaged = stores.damage("c")
    for place in (catalog, stores.folder):
        result = run("auto", place, "-o", out, *LOOSE, "--overwrite")
        assert result.exit_code == 1, result.stderr
        assert "1 of 3 stores could not be used:" in result.stderr and "--resume --overwrite" in result.stderr
    found = read_vector(out)
    assert found.fields["raster"].tolist() == ["a.tif"], "an object of two sheets is written once"
    assert in_utm(found, 0).symmetric_difference(SHARED).area < 25
    shutil.copy(damaged.with_suffix(".kept"), damaged)
    decoded: list[object] = []
    tile_masks = automatic._tile_masks

    def counted(*arguments: Any) -> Any:
        decoded.append(arguments)
        return tile_masks(*arguments)

    monkeypatch.setattr(automatic, "_tile_masks", counted)
    result = run("auto", stores.folder, "-o", out, *LOOSE, "--resume", "--overwrite", "--json")
    assert result.exit_code == 0, result.stderr
    assert len(decoded) == 1, "only the store that failed is drawn"
    assert json.loads(result.stdout)["polygons"] == 2
    assert read_vector(out).fields["raster"].tolist() == ["a.tif", "c.tif"]
    assert not out.with_name("out.gpkg.tiles").exists()
    appended = run("auto", stores.folder, "-o", out, *LOOSE, "--append")
    assert appended.exit_code == 0 and len(read_vector(out).geometries) == 4
    for name in "abc":
        stores.damage(name)
    nothing = run("auto", stores.folder, "-o", tmp_path / "none.gpkg")
    assert nothing.exit_code == 2 and "none of the 3 stores can be used" in nothing.stderr


def test_a_click_needs_a_crs_where_the_stores_have_several(run: Run, stores: Stores, tmp_path: Path) -> None:
    """The same numbers are places in each of them."""
    click = ("segment", stores.folder, "--point", "700035,4399950", "-o", tmp_path / "out.gpkg")
    refused = run(*click)
    assert refused.exit_code == 2 and "The stores have several CRSs: give that of --point" in refused.stderr
    assert run(*click, "--crs", "EPSG:25831").exit_code == 0
    assert read_vector(tmp_path / "out.gpkg").fields["raster"].tolist() == ["c.tif"]


def test_a_layer_stays_if_no_store_in_the_area_can_be_used(run: Run, stores: Stores, tmp_path: Path) -> None:
    out = tmp_path / "out.gpkg"
    assert run("auto", stores.folder, "-o", out, *LOOSE).exit_code == 0
    before = len(read_vector(out).geometries)
    area = write_layer(tmp_path / "area.gpkg", [shapely.box(700_155, 4_399_900, 700_250, 4_400_000)])
    (stores.store("b") / "level0" / "image_embeddings" / "c" / "0" / "0" / "0" / "0" / "0").write_bytes(b"x")
    result = run("auto", stores.folder, "-o", out, *LOOSE, "--aoi", area, "--overwrite")
    assert result.exit_code == 2 and "none of the stores in the area can be used" in result.stderr, result.stderr
    assert len(read_vector(out).geometries) == before


def test_tiles_that_a_run_in_an_area_leaves_block_no_other_run(run: Run, stores: Stores, tmp_path: Path) -> None:
    out = tmp_path / "out.gpkg"
    document = stores.damage("c")
    assert run("auto", stores.folder, "-o", out, *LOOSE).exit_code == 1
    shutil.copy(document.with_suffix(".kept"), document)
    area = write_layer(tmp_path / "area.gpkg", [shapely.box(700_010, 4_399_910, 700_090, 4_399_990)])
    assert run("auto", stores.folder, "-o", out, *LOOSE, "--aoi", area, "--overwrite").exit_code == 0
    again = run("auto", stores.folder, "-o", out, *LOOSE, "--overwrite")
    assert again.exit_code == 0, again.stderr
    assert not (tmp_path / "out.gpkg.tiles").exists()


def test_an_area_and_what_several_stores_cannot_do(run: Run, stores: Stores, tmp_path: Path) -> None:
    area = write_layer(tmp_path / "area.gpkg", [SHARED.buffer(100)])
    out = tmp_path / "out.gpkg"
    result = run("auto", stores.folder, "-o", out, *LOOSE, "--aoi", area, "--out-crs", "EPSG:25831")
    assert result.exit_code == 0 and "c.tif" not in result.stderr, result.stderr
    found = read_vector(out)
    assert found.fields["raster"].tolist() == ["a.tif"] and found.crs is not None and found.crs.to_epsg() == 25831
    elsewhere = write_layer(tmp_path / "elsewhere.gpkg", [shapely.box(0, 0, 9, 9)])
    refused = run("auto", stores.folder, "-o", out, "--aoi", elsewhere, "--overwrite")
    assert refused.exit_code == 2 and "lies outside" in refused.stderr
    refused = run("auto", elsewhere, "-o", out, "--overwrite")
    assert refused.exit_code == 2 and "elsewhere.gpkg is not an embedding store" in refused.stderr
    refused = run("auto", stores.folder, "-o", out, "--coverage", "--overwrite")
    assert refused.exit_code == 2 and "--coverage is for one store" in refused.stderr

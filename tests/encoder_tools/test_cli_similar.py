"""``geosam-es similar``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyproj
import pytest
import shapely

from encoder_tools.vector import read_vector
from encoder_tools.vector_output import write_vector
from geosam_es.core.geotransform import GeoTransform
from tests.encoder_tools.conftest import Run
from tests.helpers import disc, make_store, open_blobs

CRS = pyproj.CRS("EPSG:25830")
TRANSFORM = GeoTransform(0.5, 0.0, 700000.0, 0.0, -0.5, 4400000.0)
PLACES = [(x, y) for x in (150, 450, 800) for y in (160, 640)]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("encoder_tools.cli.sheets.open_segmenter", lambda path, *_: open_blobs(path))
    return store_of(tmp_path, 1000)


def store_of(folder: Path, width: int) -> Path:
    image = np.maximum.reduce([disc((800, width), *place, 60) for place in PLACES])
    return located(make_store(folder, image, transform=TRANSFORM))


def located(root: Path) -> Path:
    document = json.loads((root / "zarr.json").read_text())
    document["attributes"]["geosam_es"]["raster"]["crs_wkt"] = CRS.to_wkt()
    (root / "zarr.json").write_text(json.dumps(document))
    return root


def test_examples_on_one_image_find_objects_on_others(run: Run, store: Path, tmp_path: Path) -> None:
    """The second image begins 600 pixels to the right of the first, so both show the last column of discs."""
    both = tmp_path / "both"
    both.mkdir()
    shutil.move(store, both / "first.embeddings.zarr")
    places = [(200, 160), (200, 640), (550, 300), (800, 600)]
    image = np.maximum.reduce([disc((800, 1000), *place, 60) for place in places])
    transform = GeoTransform(0.5, 0.0, 700300.0, 0.0, -0.5, 4400000.0)
    located(make_store(both, image, transform=transform, name="second"))
    output = tmp_path / "found.gpkg"
    for options in ((), ("--rejected", write(tmp_path / "rejected.gpkg", (1150, 300)))):
        result = run(
            "similar", both, write(tmp_path / "examples.gpkg", PLACES[0]), "-o", output, "--overwrite", *options
        )
        assert result.exit_code == 0, result.output
        layer = read_vector(output)
        assert len(layer.geometries) == 7 - bool(options)
        middles = shapely.get_coordinates(shapely.centroid(layer.geometries))
        assert len(set(map(tuple, middles.round(-1).tolist()))) == len(middles), "no object is written twice"
    (both / "first.embeddings.zarr" / "zarr.json").write_text("{")
    failed = run("similar", both, tmp_path / "examples.gpkg", "-o", output, "--overwrite")
    assert failed.exit_code == 2 and "no image shows an example" in failed.stderr


def write(path: Path, *places: tuple[float, float]) -> Path:
    circles = [TRANSFORM.apply_geometry(shapely.Point(place).buffer(60)) for place in places]
    write_vector(path, circles, {}, CRS)
    return path


def test_the_other_objects_are_written(run: Run, store: Path, tmp_path: Path) -> None:
    output = tmp_path / "found.gpkg"
    result = run("similar", store, write(tmp_path / "examples.gpkg", PLACES[0]), "-o", output)
    assert result.exit_code == 0, result.output
    assert "found.gpkg: 5 polygons" in result.output
    layer = read_vector(output)
    assert list(layer.fields) == ["likeness", "score", "area_m2"]
    assert (layer.fields["likeness"] >= 0.5).all()
    assert layer.fields["area_m2"] == pytest.approx(np.pi * 30**2, rel=0.05)
    assert layer.crs is not None and layer.crs.to_epsg() == 25830


def test_rejected_and_known_objects_are_left_out(run: Run, store: Path, tmp_path: Path) -> None:
    output = tmp_path / "found.geojson"
    files = [write(tmp_path / f"{n}.gpkg", PLACES[n]) for n in range(3)]
    options = "--known", files[1], "--rejected", files[2], "--threshold", 0.6, "--json"
    result = run("similar", store, files[0], "-o", output, *options)
    assert json.loads(result.stdout)["output"] == str(output)
    circles = [TRANSFORM.apply_geometry(shapely.Point(place).buffer(30)) for place in PLACES[:3]]
    assert not any(polygon.intersects(circle) for polygon in read_vector(output).geometries for circle in circles)


def test_bad_input_is_one_sentence(run: Run, store: Path, tmp_path: Path) -> None:
    examples = write(tmp_path / "examples.gpkg", (9000, 9000))
    result = run("similar", store, examples, "-o", tmp_path / "found.gpkg")
    assert result.exit_code == 2
    assert "No example lies on a prepared part of the raster" in result.output
    result = run("similar", store, examples, "-o", examples)
    assert result.exit_code == 2
    assert "is a file of input polygons: choose another name with -o" in result.output


def test_missing_tiles_and_a_crs_that_is_not_for_the_place_are_said(run: Run, store: Path, tmp_path: Path) -> None:
    examples, output = write(tmp_path / "examples.gpkg", PLACES[0]), tmp_path / "found.gpkg"
    result = run("similar", store, examples, "-o", output, "--out-crs", "+proj=gnom +lat_0=-40 +lon_0=178")
    assert result.exit_code == 2 and "The raster is outside the CRS" in result.output
    (tmp_path / "wide").mkdir()
    root = store_of(tmp_path / "wide", 1700)
    chunks = root / "level0" / "image_embeddings" / "c"
    shutil.rmtree(chunks / "0" / "1")
    result = run("similar", root, examples, "-o", output)
    assert result.exit_code == 0 and "Note: 1 of 2 tiles are not encoded and are left out" in result.output


def test_examples_without_a_place_in_the_crs_of_the_raster_are_counted(run: Run, store: Path, tmp_path: Path) -> None:
    to_degrees = pyproj.Transformer.from_crs(CRS, 4326, always_xy=True).transform
    here = shapely.transform(
        TRANSFORM.apply_geometry(shapely.Point(PLACES[0]).buffer(60)), to_degrees, interleaved=False
    )
    nowhere = shapely.affinity.translate(here, 500, 100)
    write_vector(tmp_path / "examples.gpkg", [here, nowhere], {}, pyproj.CRS(4326))
    result = run("similar", store, tmp_path / "examples.gpkg", "-o", tmp_path / "out.gpkg", "--out-crs", "EPSG:25830")
    assert result.exit_code == 0, result.stderr
    assert "Note: 1 polygon of" in result.stderr and "ETRS89 / UTM zone 30N" in result.stderr

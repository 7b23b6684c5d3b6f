"""`geosam-es check`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyproj
import pytest
import shapely
from click.testing import CliRunner, Result

from encoder_tools.cli.app import cli
from encoder_tools.vector import read_vector
from encoder_tools.vector_output import write_vector

X, Y = 725_000, 4_372_000


def box(min_x: float, min_y: float, max_x: float, max_y: float) -> shapely.Polygon:
    return shapely.box(X + min_x, Y + min_y, X + max_x, Y + max_y)


POLYGONS = [box(0, 0, 50, 100), box(49, 0, 100, 100), box(0, 100.3, 100, 200), box(100, 0, 103, 3)]
CODES = ["oak", "pine", "oak", "rock"]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["check", *map(str, arguments)])


@pytest.fixture(params=[25830, 4326])
def layer(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """The same polygons in metres and in degrees."""
    to_crs = pyproj.Transformer.from_crs(25830, request.param, always_xy=True).transform
    polygons = [shapely.transform(polygon, lambda xy: np.column_stack(to_crs(*xy.T))) for polygon in POLYGONS]
    path = tmp_path / "habitats.gpkg"
    fields = {"code": np.array(CODES, object), "year": np.arange(2020, 2024)}
    write_vector(path, polygons, fields, pyproj.CRS.from_epsg(request.param))
    return path


def test_findings_as_text_as_json_and_as_a_layer(layer: Path, tmp_path: Path) -> None:
    places = tmp_path / "findings.gpkg"
    result = run(layer, "--min-area-m2", 50, "--findings", places)
    assert result.exit_code == 1
    assert "1 overlap" in result.output and "1 small" in result.output and "2 gap" in result.output
    assert "smallest of the polygons" in result.output
    found = json.loads(run(layer, "--min-area-m2", 50, "--json").output)["findings"]
    assert [(item["kind"], item["unit"]) for item in found][:2] == [("overlap", "m²"), ("gap", "m²")]
    assert found[0]["size"] == pytest.approx(100, rel=0.01) and found[0]["polygons"] == [1, 2]
    written = read_vector(places)
    assert written.fields["kind"].tolist() == [item["kind"] for item in found]
    assert (shapely.area(written.geometries) > 0).all()


def test_the_mended_layer_keeps_attributes_and_is_clean(layer: Path, tmp_path: Path) -> None:
    mended = tmp_path / "mended.gpkg"
    result = run(layer, "--min-area-m2", 50, "--fix", "-o", mended)
    assert (result.exit_code, "nothing left" in result.output) == (0, True)
    written = read_vector(mended)
    assert written.fields["code"].tolist() == ["oak", "pine", "oak"]
    assert written.fields["year"].tolist() == [2020, 2021, 2022]
    assert run(mended, "--min-area-m2", 50).exit_code == 0
    assert run(layer, "--fix", "-o", mended).exit_code == 2
    assert run(layer, "--fix", "-o", mended, "--overwrite").exit_code == 0


def test_classes_limits_and_what_is_skipped(layer: Path) -> None:
    result = run(layer, "--class", "CODE", "--min-area-of", "rock=8", "--tolerance", 0.1, "--skip", "overlap", "--json")
    kinds = {item["kind"] for item in json.loads(result.output)["findings"]}
    assert kinds == {"border"} and result.exit_code == 1
    result = run(layer, "--class", "code", "--min-area-of", "rock=10", "--tolerance", 0.1, "--json")
    assert "small" in {item["kind"] for item in json.loads(result.output)["findings"]}


@pytest.mark.skipif(not hasattr(shapely, "coverage_simplify"), reason="needs shapely 2.1")
def test_simplifying_keeps_the_borders_shared(tmp_path: Path) -> None:
    wave = [(X + 50 + np.sin(y), Y + y) for y in np.linspace(0, 100, 200)]
    west = shapely.Polygon([(X, Y), *wave, (X, Y + 100)])
    east = shapely.Polygon([(X + 100, Y), (X + 100, Y + 100), *wave[::-1]])
    path, simple = tmp_path / "wave.gpkg", tmp_path / "simple.gpkg"
    write_vector(path, [west, east], {}, pyproj.CRS.from_epsg(25830))
    assert run(path).exit_code == 0
    result = run(path, "--simplify", 5, "-o", simple)
    assert result.exit_code == 0, result.output
    assert shapely.get_num_coordinates(read_vector(simple).geometries).sum() < 150


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--fix"], "need --output"),
        (["-o", "out.gpkg"], "need --output"),
        (["--min-area-of", "oak=5"], "needs --class"),
        (["--class", "nothing"], "has no field nothing"),
        (["--class", "code", "--min-area-of", "oak"], "CLASS=AREA"),
    ],
)
def test_wrong_options_are_said_in_one_sentence(layer: Path, arguments: list[str], message: str) -> None:
    result = run(layer, *arguments)
    assert result.exit_code == 2 and message in result.output


def test_layers_without_polygons_or_without_a_crs(tmp_path: Path) -> None:
    points = tmp_path / "points.csv"
    points.write_text("x,y\n1,2\n")
    result = run(points)
    assert result.exit_code == 2 and "no polygons" in result.output
    shape = tmp_path / "bare.csv"
    shape.write_text('WKT\n"POLYGON ((0 0, 1 0, 1 1, 0 0))"\n')
    result = run(shape)
    assert result.exit_code == 2 and "no CRS" in result.output

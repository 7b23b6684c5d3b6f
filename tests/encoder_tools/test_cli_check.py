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
from encoder_tools.crs import AreaMeter
from encoder_tools.progress import SECONDS_VARIABLE
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
    assert "1 overlap, " in result.output and "1 small" in result.output and "2 gaps" in result.output
    assert "smallest of the polygons" in result.output
    found = json.loads(run(layer, "--min-area-m2", 50, "--json").stdout)["findings"]
    assert [(item["kind"], item["unit"]) for item in found][:2] == [("overlap", "m²"), ("gap", "m²")]
    assert found[0]["size"] == pytest.approx(100, rel=0.01) and found[0]["polygons"] == [1, 2]
    written = read_vector(places)
    assert written.fields["kind"].tolist() == [item["kind"] for item in found]
    assert (shapely.area(written.geometries) > 0).all()


def test_the_mended_layer_keeps_attributes_and_is_clean(layer: Path, tmp_path: Path) -> None:
    mended = tmp_path / "mended.gpkg"
    result = run(layer, "--min-area-m2", 50, "--fix", "-o", mended)
    assert result.exit_code == 0 and "3 of 4 polygons, nothing left to mend" in result.output
    written = read_vector(mended)
    assert written.fields["code"].tolist() == ["oak", "pine", "oak"]
    assert written.fields["year"].tolist() == [2020, 2021, 2022]
    assert run(mended, "--min-area-m2", 50).exit_code == 0
    assert run(layer, "--fix", "-o", mended).exit_code == 2
    assert run(layer, "--fix", "-o", mended, "--overwrite").exit_code == 0


@pytest.mark.parametrize("code", [4326, 3857])
def test_areas_in_a_large_layer_are_those_of_the_place(tmp_path: Path, code: int) -> None:
    """In degrees and in Web Mercator, the scale changes with the latitude."""
    globe, crs = pyproj.CRS.from_epsg(4258), pyproj.CRS.from_epsg(code)
    to_crs = pyproj.Transformer.from_crs(globe, crs, always_xy=True).transform
    polygons, meter = [], AreaMeter(crs)
    for latitude in (37.0, 43.5):
        for row, height in enumerate((0.00047, 0.00043, 0.00002)):
            south, east = latitude + 0.0005 * row, 0.00113 * np.cos(np.radians(37)) / np.cos(np.radians(latitude))
            corners = shapely.box(-4, south, -4 + east, south + height)
            polygons.append(shapely.transform(corners, lambda xy: np.column_stack(to_crs(*xy.T))))
    areas = [meter.area_m2(polygon) for polygon in polygons]
    path, mended = tmp_path / "country.gpkg", tmp_path / "mended.gpkg"
    write_vector(path, polygons, {}, crs)
    found = json.loads(run(path, "--min-area-m2", 5000, "--json").stdout)["findings"]
    small = {number: area for number, area in enumerate(areas, start=1) if area < 5000}
    assert len(small) == 4 and {tuple(item["polygons"]) for item in found} == {(number,) for number in small}
    for item in found:
        assert item["size"] == pytest.approx(small[item["polygons"][0]], rel=1e-3)
    assert "6 of 6 polygons" in run(path, "--min-area-m2", 5000, "--fix", "-o", mended).output


def test_a_sliver_without_neighbours_has_another_remedy(tmp_path: Path) -> None:
    path, places = tmp_path / "alone.gpkg", tmp_path / "places.gpkg"
    write_vector(path, [box(0, 0, 50, 50), box(100, 0, 100.2, 50)], {}, pyproj.CRS.from_epsg(25830))
    assert "join it to the neighbour" in run(path).output
    result = run(path, "--fix", "-o", tmp_path / "mended.gpkg", "--findings", places)
    assert result.exit_code == 1 and "no neighbour takes it: delete it or draw it again" in result.output
    assert read_vector(places).fields["remedy"].tolist() == ["no neighbour takes it: delete it or draw it again"]


def test_polygons_that_overlap_by_design_are_pointed_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SECONDS_VARIABLE, "0")
    path = tmp_path / "objects.gpkg"
    write_vector(path, [box(n, n, 50 + n, 50 + n) for n in range(6)], {}, pyproj.CRS.from_epsg(25830))
    result = run(path, "--fix", "-o", tmp_path / "mended.gpkg")
    assert "overlaps among 6 polygons" in result.stderr and "auto --coverage" in result.stderr
    shown = [line for line in result.stderr.splitlines() if line.startswith("checking objects.gpkg: ")]
    assert shown[0].startswith("checking objects.gpkg: 10/100 %") and len(shown) > 4


@pytest.mark.parametrize("options", [["--fix"], ["--simplify", 1]])
def test_areas_are_measured_again_where_a_polygon_changes(tmp_path: Path, options: list[object]) -> None:
    path, mended = tmp_path / "drawn.gpkg", tmp_path / "mended.gpkg"
    outline = shapely.Polygon([(X, Y), (X + 50, Y), (X + 50.001, Y + 50), (X + 50, Y + 100), (X, Y + 100)])
    polygons = [outline, box(49 if options == ["--fix"] else 50.1, 0, 100, 100), box(200, 0, 250, 50)]
    fields = {"area_m2": np.array([5000.0, 5100.0, 7.0]), "area": np.array([1.0, 2.0, 3.0])}
    write_vector(path, polygons, fields, pyproj.CRS.from_epsg(25830))
    result = run(path, *options, "-o", mended)
    assert result.exit_code in (0, 1), result.output
    written = read_vector(mended)
    measured = AreaMeter(pyproj.CRS.from_epsg(25830)).area_m2(written.geometries[0])
    assert written.fields["area_m2"][[0, 2]].tolist() == pytest.approx([measured, 7.0])
    assert written.fields["area"].tolist() == [1, 2, 3]


def test_classes_limits_and_what_is_skipped(layer: Path) -> None:
    result = run(layer, "--class", "CODE", "--min-area-of", "rock=8", "--tolerance", 0.1, "--skip", "overlap", "--json")
    kinds = {item["kind"] for item in json.loads(result.stdout)["findings"]}
    assert kinds == {"border"} and result.exit_code == 1
    result = run(layer, "--class", "code", "--min-area-of", "rock=10", "--tolerance", 0.1, "--json")
    assert "small" in {item["kind"] for item in json.loads(result.stdout)["findings"]}


def test_the_limit_of_a_class_whose_codes_are_stored_as_decimals(tmp_path: Path) -> None:
    path = tmp_path / "codes.gpkg"
    codes = {"code": np.array([3111001.0, np.nan, 2.5])}
    write_vector(path, [box(0, 0, 9, 9), box(20, 0, 29, 9), box(40, 0, 49, 9)], codes, pyproj.CRS.from_epsg(25830))
    found = {
        limit: [
            item["polygons"]
            for item in json.loads(run(path, "--class", "code", "--min-area-of", limit, "--json").stdout)["findings"]
        ]
        for limit in ("3111001=500", "2.5=500", "nan=500")
    }
    assert found == {"3111001=500": [[1]], "2.5=500": [[3]], "nan=500": []}
    result = run(path, "--class", "code", "--min-area-of", "2.5=500", "--min-area-of", "zzz=10")
    assert result.stderr.splitlines()[0] == f"Note: {path} has no class zzz, so --min-area-of zzz is not used"


def test_a_large_gap_is_listed_and_no_fault(tmp_path: Path) -> None:
    path, mended = tmp_path / "lake.gpkg", tmp_path / "mended.gpkg"
    write_vector(
        path, [shapely.difference(box(0, 0, 200, 200), box(10, 10, 190, 190))], {}, pyproj.CRS.from_epsg(25830)
    )
    result = run(path)
    assert (
        result.exit_code == 0
        and "1 large gap" in result.output
        and "fill it with a polygon of its own" in result.output
    )
    assert run(path, "--fix", "-o", mended).exit_code == 0
    assert shapely.area(read_vector(mended).geometries).sum() == pytest.approx(7600)
    assert run(path, "--max-gap-m2", 40_000).exit_code == 1
    assert run(path, "--max-gap-m2", 40_000, "--fix", "-o", mended, "--overwrite").exit_code == 0
    assert shapely.area(read_vector(mended).geometries).sum() == pytest.approx(40_000)


def test_lost_heights_are_said(tmp_path: Path) -> None:
    path = tmp_path / "heights.geojson"
    ring = [[0, 0, 5], [0.001, 0, 5], [0.001, 0.001, 5], [0, 0, 5]]
    path.write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
    result = run(path, "--fix", "-o", tmp_path / "out.gpkg")
    assert result.exit_code == 0 and result.output.count("the Z values of") == 1
    assert "Z values" not in run(path).output


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
        (["--tolerance", "inf"], "not a finite number"),
        (["--max-gap-m2", "nan"], "not a finite number"),
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
    assert result.exit_code == 2 and "no coordinate reference system" in result.output


def test_no_file_is_read_and_written_at_once(layer: Path, tmp_path: Path) -> None:
    """Neither the layer nor one output by the other is lost, not even with --overwrite."""
    before, new = layer.read_bytes(), tmp_path / "new.gpkg"
    for options in (
        ["--findings", layer, "--overwrite"],
        ["--fix", "-o", layer, "--overwrite"],
        ["--fix", "-o", new, "--findings", new],
    ):
        result = run(layer, *options)
        assert result.exit_code == 2 and "choose another name" in result.output
    assert layer.read_bytes() == before and not new.exists()


def test_a_shapefile_gets_names_and_findings_that_it_holds(tmp_path: Path) -> None:
    angles = np.linspace(0, 2 * np.pi, 121)
    ring = np.stack([X + 100 * np.cos(angles), Y + 100 * np.sin(angles)], axis=1)
    middle = np.array([X, Y])
    wedges = [shapely.Polygon([(a + middle) / 2, a, b, (b + middle) / 2]) for a, b in zip(ring, [*ring[1:-1], ring[0]])]
    fields = {name: np.arange(len(wedges)) for name in ("descripcion_2024", "descripcion_2025")}
    write_vector(tmp_path / "ring.gpkg", wedges, fields, pyproj.CRS.from_epsg(25830))
    out, places = tmp_path / "out.shp", tmp_path / "places.shp"
    result = run(tmp_path / "ring.gpkg", "--fix", "-o", out, "--max-gap-m2", 9)
    assert result.exit_code == 0 and "the field descripcion_2025 is called descripc_1" in result.output
    assert list(read_vector(out).fields) == ["descripcio", "descripc_1"]
    assert run(tmp_path / "ring.gpkg", "--findings", places).exit_code == 1
    (names,) = read_vector(places).fields["polygons"].tolist()
    assert names.startswith("1, 2, 3") and names.endswith("and 100 more")


def test_advice_names_no_option_that_the_command_lacks(layer: Path, tmp_path: Path) -> None:
    taken = tmp_path / "taken.gpkg"
    taken.write_text("")
    for name in ("taken.gpkg", "places.kml") if "25830" in str(read_vector(layer).crs) else ("taken.gpkg",):
        result = run(layer, "--findings", tmp_path / name)
        assert result.exit_code == 2 and "--append" not in result.output and "--out-crs" not in result.output


def test_the_crs_of_a_layer(tmp_path: Path) -> None:
    bare = tmp_path / "bare.csv"
    bare.write_text('WKT\n"POLYGON ((0 0, 100 0, 100 100, 0 0))"\n')
    assert "--crs" in run(bare).output
    assert run(bare, "--crs", "EPSG:25830").exit_code == 0
    wrong = tmp_path / "wrong.gpkg"
    write_vector(wrong, POLYGONS, {}, pyproj.CRS.from_epsg(4326))
    result = run(wrong)
    assert result.exit_code == 2 and "not longitude and latitude" in result.output


def test_features_without_a_geometry_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "some.csv"
    path.write_text('WKT,n\n"POLYGON ((0 0, 100 0, 100 100, 0 0))",1\n,2\nPOLYGON EMPTY,3\n')
    result = run(path, "--crs", "EPSG:25830")
    assert result.exit_code == 0 and "without a geometry are left out (2)" in result.output


def test_one_polygon_at_the_origin_does_not_change_the_figures(tmp_path: Path) -> None:
    """In degrees, metres depend on the latitude."""
    to_crs = pyproj.Transformer.from_crs(25830, 4326, always_xy=True).transform
    polygons = [shapely.transform(polygon, lambda xy: np.column_stack(to_crs(*xy.T))) for polygon in POLYGONS]
    path = tmp_path / "stray.gpkg"
    write_vector(path, [*polygons, shapely.box(0, 0, 1e-4, 1e-4)], {}, pyproj.CRS.from_epsg(4326))
    (overlap,) = (item for item in json.loads(run(path, "--json").stdout)["findings"] if item["kind"] == "overlap")
    assert overlap["size"] == pytest.approx(100, rel=0.01)


def test_polygons_with_one_id_are_all_checked(tmp_path: Path) -> None:
    path, mended = tmp_path / "two_files_in_one.geojsonl", tmp_path / "mended.gpkg"
    polygons = [shapely.box(-3 + left, 40, -2.9995 + left, 40.0005) for left in (0, 0.001, 0.002, 0.003)]
    features = [
        {"type": "Feature", "id": number % 2, "properties": {}, "geometry": shapely.geometry.mapping(polygon)}
        for number, polygon in enumerate(polygons)
    ]
    path.write_text("".join(json.dumps(feature) + "\n" for feature in features))
    assert run(path, "--fix", "-o", mended).exit_code == 0
    assert len(read_vector(mended).geometries) == 4

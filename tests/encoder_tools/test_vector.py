"""Reading vector files, reprojection, and areas on the ellipsoid."""

from __future__ import annotations

import json
import math
import os
import zipfile
from pathlib import Path

import numpy as np
import pyogrio
import pyproj
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from shapely.geometry import mapping

from encoder_tools.crs import AreaMeter, parse_crs, reproject, reproject_polygons
from encoder_tools.vector import read_vector
from geosam_es.errors import VectorError
from tests.encoder_tools.scenes import write_layer

UTM = pyproj.CRS.from_epsg(25830)
PIECES = shapely.MultiPolygon([shapely.box(0, 0, 1, 1), shapely.box(5, 5, 6, 7)])


def test_fields_are_found_in_any_case(tmp_path: Path) -> None:
    layer = read_vector(write_layer(tmp_path / "a.gpkg", [shapely.Point(1, 2)], LABEL=[1], Object=["a"]))
    assert list(layer.fields) == ["LABEL", "Object"] and layer.field("none") is None
    assert [layer.field(name).tolist() for name in ("label", "OBJECT")] == [[1], ["a"]]  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["a.gpkg", "a.fgb"])
def test_codes_in_single_precision_are_those_of_the_user(tmp_path: Path, name: str) -> None:
    codes = np.array([3.1, 311, 3111001, np.nan], np.float32)
    layer = read_vector(write_layer(tmp_path / name, [shapely.Point(1, 2)] * 4, code=codes))  # type: ignore[arg-type]
    assert layer.fields["code"].dtype == np.float32
    assert layer.texts("code") == ["3.1", "311", "3111001", ""]


def test_lists_and_times_as_text(tmp_path: Path) -> None:
    rows = [{"kinds": ["oak", "elm"], "day": "2024-05-01"}, {"kinds": None, "day": None}]
    features = [{"type": "Feature", "properties": row, "geometry": mapping(shapely.Point(1, 2))} for row in rows]
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    layer = read_vector(path)
    assert layer.texts("kinds") == ['["oak", "elm"]', ""]
    assert layer.texts("day") == ["2024-05-01", ""]


def test_the_hash_of_a_layer_is_that_of_its_content(tmp_path: Path) -> None:
    points = [shapely.Point(1, 2), shapely.Point(3, 4)]

    def sha256(name: str, crs: str = "EPSG:25830", **fields: list[object]) -> str:
        return read_vector(write_layer(tmp_path / name, points, crs, **fields)).sha256

    known = sha256("a.gpkg", kind=["field", "pond"])
    assert sha256("b.shp", kind=["field", "pond"]) == known
    others = [
        sha256("c.gpkg", kind=["field", "field"]),
        sha256("d.gpkg", kinds=["field", "pond"]),
        sha256("e.gpkg", "EPSG:25829", kind=["field", "pond"]),
        sha256("f.gpkg", kind=["field", None]),
    ]
    points.reverse()
    others.append(sha256("g.gpkg", kind=["field", "pond"]))
    assert len({known, *others}) == 6


def test_features_without_geometry_are_left_out_with_their_fields(tmp_path: Path) -> None:
    points = [None, shapely.Point(1, 2), shapely.Point(), shapely.Point(3, 4)]
    layer = read_vector(write_layer(tmp_path / "a.gpkg", points, label=[1, 0, 1, 1]))
    assert shapely.get_x(layer.geometries).tolist() == [1, 3]
    assert layer.fields["label"].tolist() == [0, 1]


def test_heights_and_measures_are_dropped(tmp_path: Path) -> None:
    layer = read_vector(write_layer(tmp_path / "a.gpkg", [shapely.Point(1, 2, 3)]))
    assert not shapely.has_z(layer.geometries).any()


def test_tables_without_geometries_are_ignored(tmp_path: Path) -> None:
    """QGIS keeps styles in a table without geometries in the same file."""
    path = write_layer(tmp_path / "a.gpkg", [shapely.Point(1, 2)])
    pyogrio.raw.write(
        path, None, [np.array(["red"], dtype=object)], ["style"], layer="layer_styles", geometry_type=None, append=True
    )
    assert len(read_vector(path).geometries) == 1


def test_a_file_with_several_layers_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.gpkg"
    for name in ("fields", "roads"):
        pyogrio.raw.write(
            path, np.array([shapely.to_wkb(PIECES)], dtype=object), [], [], layer=name, geometry_type="MultiPolygon",
            crs="EPSG:25830", append=path.exists(),
        )  # fmt: skip
    with pytest.raises(VectorError, match=r"a\.gpkg has several layers \(fields, roads\)"):
        read_vector(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.gpkg", None, "does not exist"),
        ("text.gpkg", "hello", "is not a vector file"),
        ("empty.shp", "", "is not a vector file"),
        ("none.geojson", '{"type": "FeatureCollection", "features": []}', "has no geometries"),
        ("null.geojson", '{"type": "Feature", "properties": {}, "geometry": null}', "has no geometries"),
        ("table.csv", "name,year\na,2\n", "has no geometries"),
    ],
)
def test_files_without_geometries(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(VectorError, match=message) as caught:
        read_vector(tmp_path / name)
    assert name in caught.value.problem and caught.value.remedy


@pytest.mark.parametrize("name", ["x" * 300 + ".gpkg", "a\udcff.gpkg"])
def test_names_that_the_file_system_does_not_allow(tmp_path: Path, name: str) -> None:
    with pytest.raises(VectorError, match=r"cannot be read|does not exist|is not a vector file"):
        read_vector(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_text_that_is_not_in_the_encoding_of_the_file(tmp_path: Path) -> None:
    path = write_layer(tmp_path / "a.shp", [shapely.Point(1, 2)], kind=["forêt"])
    (tmp_path / "a.cpg").write_text("UTF-8")
    dbf = tmp_path / "a.dbf"
    dbf.write_bytes(dbf.read_bytes().replace("forêt".encode(), b"for\xeat "))
    layer = read_vector(path)
    assert layer.fields["kind"].tolist() == ["forêt"]
    assert layer.note == f"the text in {path} is not in the encoding that the file declares, so it was read as Latin-1"


@pytest.mark.parametrize(
    "stem",
    ["a!b", "a|b", "a?b", "a%20b", "a#b", "[a]", "@a", "-a", "(a", "zip:a", "a.zip!x", "a;b", "a\nb", "a|layername=x"],
)
@pytest.mark.parametrize("suffix", [".gpkg", ".shp", ".geojson"])
def test_names_that_look_like_something_else(tmp_path: Path, stem: str, suffix: str) -> None:
    write_layer(tmp_path / f"plain{suffix}", [shapely.Point(1, 2)], label=[1])
    for file in list(tmp_path.iterdir()):
        file.rename(tmp_path / f"{stem}{file.suffix}")
    layer = read_vector(tmp_path / f"{stem}{suffix}")
    assert layer.geometries.tolist() == [shapely.Point(1, 2)] and layer.crs == UTM and "label" in layer.fields


@pytest.mark.parametrize("name", ["a!b.shp", "c!d"])
def test_names_where_links_are_not_allowed(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(1314, "A required privilege is not held by the client")

    for folder in (tmp_path, tmp_path / "folder"):
        folder.mkdir(exist_ok=True)
        write_layer(folder / "plain.shp", [shapely.Point(1, 2)])
        for file in folder.glob("plain.*"):
            file.rename(folder / f"a!b{file.suffix}")
    folder.rename(tmp_path / "c!d")
    monkeypatch.setattr(Path, "symlink_to", refuse)
    assert read_vector(tmp_path / name).geometries.tolist() == [shapely.Point(1, 2)]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "name;X;Y\nfirst;1;2\n"),
        ("a.csv", "longitude,latitude,label\n1,2,1\n"),
        ("a.csv", 'WKT,label\n"POINT (1 2)",1\n'),
        ("a.gpx", '<gpx version="1.1" creator="t" xmlns="http://www.topografix.com/GPX/1/1">'
         '<wpt lat="2" lon="1"/></gpx>'),
        ("a.kml", '<kml xmlns="http://www.opengis.net/kml/2.2"><Placemark><Point><coordinates>1,2</coordinates></Point></Placemark></kml>'),
    ],
)  # fmt: skip
def test_other_formats(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    assert read_vector(tmp_path / name).geometries.tolist() == [shapely.Point(1, 2)]


@pytest.mark.parametrize("name", ["a.zip", "a!b.ZIP"])
def test_a_shapefile_in_an_archive(tmp_path: Path, name: str) -> None:
    write_layer(tmp_path / "p.shp", [shapely.Point(1, 2)], label=[1])
    with zipfile.ZipFile(tmp_path / name, "w") as archive:
        for file in tmp_path.glob("p.*"):
            archive.write(file, file.name)
    assert read_vector(tmp_path / name).geometries.tolist() == [shapely.Point(1, 2)]


def test_a_layer_of_several_is_chosen_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.gpkg"
    for x, name in enumerate(("fields", "roads")):
        pyogrio.raw.write(
            path, np.array([shapely.to_wkb(shapely.Point(x, 0))], dtype=object), [], [], layer=name,
            geometry_type="Point", crs="EPSG:25830", append=path.exists(),
        )  # fmt: skip
    assert read_vector(Path(f"{path}|layername=roads")).geometries.tolist() == [shapely.Point(1, 0)]
    with pytest.raises(VectorError, match="has no layer trees: its layers are: fields, roads"):
        read_vector(Path(f"{path}|layername=trees"))
    with pytest.raises(VectorError, match=r"choose one, as in a\.gpkg\|layername=fields"):
        read_vector(path)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.gpkg")
    with pytest.raises(VectorError, match=r"a\.gpkg is not a file or folder"):
        read_vector(tmp_path / "a.gpkg")


@pytest.mark.parametrize(
    ("wkt", "bounds"),
    [
        ("TIN Z (((0 0 0,0 0 1,0 1 0,0 0 0)),((0 0 0,0 1 0,1 1 0,0 0 0)))", (0, 0, 1, 1)),
        ("POLYHEDRALSURFACE Z (((0 0 0,0 1 0,1 1 0,0 0 0)))", (0, 0, 1, 1)),
        ("CURVEPOLYGON (CIRCULARSTRING (0 5,5 10,10 5,5 0,0 5))", (0, 0, 10, 10)),
        ("CURVEPOLYGON (COMPOUNDCURVE (CIRCULARSTRING (0 0,5 5,10 0),(10 0,0 0)))", (0, 0, 10, 5)),
        ("CURVEPOLYGON (CIRCULARSTRING (0 0,4 0,0 0))", (0, -2, 4, 2)),
        ("MULTISURFACE (CURVEPOLYGON (CIRCULARSTRING (0 0,4 0,0 0)),((10 9,14 12,11 10,10 9)))", (0, -2, 14, 12)),
        ("TRIANGLE ((0 0,1 0,0 1,0 0))", (0, 0, 1, 1)),
        ("POLYGON M ((0 0 1,1 0 1,0 1 1,0 0 1))", (0, 0, 1, 1)),
    ],
)
def test_surfaces_and_curves(tmp_path: Path, wkt: str, bounds: tuple[float, ...]) -> None:
    (tmp_path / "a.csv").write_text(f'WKT,label\n"{wkt}",1\n')
    (found,) = read_vector(tmp_path / "a.csv").geometries
    assert found.geom_type in ("Polygon", "MultiPolygon") and found.bounds == pytest.approx(bounds, abs=0.01)


def test_coordinates_that_cannot_be_transformed() -> None:
    points = np.array([shapely.Point(-3, 40), shapely.Point(-3, 400)], dtype=object)
    wgs84 = pyproj.CRS.from_epsg(4326)
    with pytest.raises(VectorError, match="cannot be transformed from WGS 84 to ETRS89"):
        reproject(points, wgs84, UTM)
    near, far = reproject(points, wgs84, UTM, may_fail=True)
    assert near.x == pytest.approx(500000) and not np.isfinite([far.x, far.y]).any()


def test_no_transformation_between_two_systems() -> None:
    local = pyproj.CRS.from_wkt('LOCAL_CS["site", UNIT["foot", 0.3048], AXIS["x", EAST], AXIS["y", NORTH]]')
    with pytest.raises(VectorError, match="cannot be transformed from site to ETRS89"):
        reproject(np.array([shapely.Point(1, 2)], dtype=object), local, UTM)


def test_bad_crs() -> None:
    with pytest.raises(VectorError, match=r"^EPSG:0 is not a coordinate reference system: ."):
        parse_crs("EPSG:0")


def equal_area_m2(polygon: shapely.Geometry, crs: pyproj.CRS) -> float:
    """Measure in a local equal-area projection."""
    to_degrees = pyproj.Transformer.from_crs(crs, 4326, always_xy=True)
    lon, lat = to_degrees.transform(polygon.centroid.x, polygon.centroid.y)
    plane = pyproj.CRS.from_proj4(f"+proj=laea +lon_0={lon} +lat_0={lat} +ellps=WGS84")
    forward = pyproj.Transformer.from_crs(crs, plane, always_xy=True)
    return float(shapely.transform(polygon, lambda xy: np.column_stack(forward.transform(*xy.T))).area)


@given(
    lon=st.floats(-179, 179),
    lat=st.floats(-75, 75),
    size_m=st.floats(5, 3000),
    epsg=st.sampled_from([4326, 3857, 3395]),
)
def test_areas_on_the_ground(lon: float, lat: float, size_m: float, epsg: int) -> None:
    """In every CRS, without holes."""
    crs = pyproj.CRS.from_epsg(epsg)
    x, y = pyproj.Transformer.from_crs(4326, crs, always_xy=True).transform(lon, lat)
    side = size_m / 111_000 if epsg == 4326 else size_m
    polygon = shapely.Polygon(
        shapely.box(x, y, x + side, y + side).exterior,
        [shapely.box(x + side / 4, y + side / 4, x + side / 2, y + side / 2).exterior],
    )
    assert AreaMeter(crs).area_m2(polygon) == pytest.approx(equal_area_m2(polygon, crs), rel=1e-4)


def test_areas_of_parts_add_up() -> None:
    meter = AreaMeter(UTM)
    far = shapely.transform(PIECES, lambda xy: xy + np.array([500_000, 4_400_000]))
    assert meter.area_m2(far) == pytest.approx(3 / 0.9996**2, rel=1e-5)
    assert meter.area_m2(shapely.Polygon()) == 0.0


def test_areas_in_a_crs_without_ellipsoid() -> None:
    local = pyproj.CRS.from_wkt('LOCAL_CS["site", UNIT["foot", 0.3048], AXIS["x", EAST], AXIS["y", NORTH]]')
    assert AreaMeter(local).area_m2(shapely.box(0, 0, 10, 10)) == pytest.approx(100 * 0.3048**2)


POLAR_AND_DATE_LINE = [
    ("EPSG:3832", 3339584.72, 9569603.1, 30.0),
    ("EPSG:3857", 20037508.34, 4e6, 100.0),
    ("EPSG:3994", 8905000.0, -4e6, 2000.0),
    ("EPSG:32660", 817000.0, 8e6, 100.0),
    ("EPSG:32601", 182800.0, 8e6, 100.0),
    ("EPSG:4326", 180.0, -17.0, 0.01),
    ("EPSG:4326", 359.99, -17.0, 0.02),
    ("EPSG:4807", 2.0, 52.0, 0.1),
    ("EPSG:3031", 0.0, 0.0, 1000.0),
    ("EPSG:3413", 10.0, 0.0, 1000.0),
    ("EPSG:3995", 0.0, 2e6, 1000.0),
    ("EPSG:2180", 500000.0, 500000.0, 1000.0),
]


def geodesic_m2(crs: pyproj.CRS, polygon: shapely.Geometry) -> float:
    """Area of a densified ring, independent of the code under test."""
    fine = shapely.get_coordinates(shapely.segmentize(polygon, polygon.length / 2000))
    degrees = pyproj.Transformer.from_crs(crs, crs.geodetic_crs, always_xy=True)
    turn = 0.9 if crs.to_epsg() == 4807 else 1.0
    lon, lat = (fine * turn).T if crs.is_geographic else degrees.transform(*fine.T)
    return abs(float(crs.get_geod().polygon_area_perimeter(lon, lat)[0]))


@pytest.mark.parametrize(("code", "x", "y", "radius"), POLAR_AND_DATE_LINE)
@pytest.mark.parametrize("out", ["EPSG:4326", "EPSG:3857", "EPSG:3832", "EPSG:4087", "EPSG:6933"])
def test_polygons_at_the_antimeridian_and_the_poles(code: str, x: float, y: float, radius: float, out: str) -> None:
    source, target = pyproj.CRS(code), pyproj.CRS(out)
    disc = shapely.Point(x, y).buffer(radius, 32)
    area = AreaMeter(source).area_m2(disc)
    assert area == pytest.approx(geodesic_m2(source, disc), rel=1e-5)
    (moved,), (is_defined,) = reproject_polygons(np.array([disc], dtype=object), source, target)
    has_pole = code in ("EPSG:3031", "EPSG:3413")
    if has_pole and out in ("EPSG:3857", "EPSG:3832"):
        assert not is_defined
        return
    assert is_defined and moved.is_valid
    assert AreaMeter(target).area_m2(moved) == pytest.approx(area, rel=1e-4)
    if source != target and not has_pole:
        world = 360 if target.is_geographic else 4e7
        assert all(np.ptp(part.bounds[::2]) < world / 100 for part in shapely.get_parts(moved))


def test_polygons_that_cannot_be_transformed_do_not_affect_the_others() -> None:
    far = np.array([shapely.box(0, 0, 1, 1), shapely.box(0, 100, 1, 101)], dtype=object)
    _, is_defined = reproject_polygons(far, pyproj.CRS(4326), UTM)
    assert is_defined.tolist() == [True, False]


def test_an_area_outside_the_globe_is_refused() -> None:
    with pytest.raises(VectorError, match="cannot be measured in the CRS WGS 84"):
        AreaMeter(pyproj.CRS(4326)).area_m2(shapely.box(0, 0, math.inf, 1))


def test_a_file_without_layers_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.kml"
    path.write_text('<kml xmlns="http://www.opengis.net/kml/2.2"><Document></Document></kml>')
    with pytest.raises(VectorError, match=r"empty\.kml is not a vector file"):
        read_vector(path)

"""Writing polygons to vector files."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, time, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pyproj
import pytest
import rasterio
import shapely
from hypothesis import given
from hypothesis import strategies as st

from encoder_tools.attributes import as_text, differs
from encoder_tools.crs import parse_crs
from encoder_tools.vector import read_vector
from encoder_tools.vector_formats import FORMATS, default_crs, field_name
from encoder_tools.vector_output import check_output, write_vector
from geosam_es.errors import OutputError

if sys.platform != "win32":
    import resource

UTM = pyproj.CRS.from_epsg(25830)
WGS84 = pyproj.CRS.from_epsg(4326)
LOCAL = pyproj.CRS.from_wkt('LOCAL_CS["site", UNIT["foot", 0.3048], AXIS["x", EAST], AXIS["y", NORTH]]')
WITH_HOLE = shapely.Polygon(
    [(0, 0), (100, 0), (100, 50), (0, 50)], [[(10, 10), (20, 10), (20, 20), (10, 20)], [(50, 20), (60, 20), (55, 30)]]
)
PIECES = shapely.MultiPolygon([shapely.box(0, 0, 1, 1), shapely.box(5, 5, 6, 7)])
SMALL = shapely.box(-0.5, 39, -0.4, 39.1)
BIG = 2**53 + 1
DATABASES = [".gpkg", ".sqlite"]
APPENDABLE = [ending for ending, known in FORMATS.items() if known.can_append]


def texts(*values: str | None) -> Any:
    return np.array(values, dtype=object)


def objects(*values: Any) -> Any:
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def crs_for(path: Path) -> pyproj.CRS:
    return default_crs(path) or UTM


def layers(path: Path) -> dict[str, int]:
    """Number of features by layer."""
    return {
        str(name): len(pyogrio.raw.read(path, layer=name, columns=[], return_fids=True)[1])
        for name, _ in pyogrio.list_layers(path)
    }


def add_layer(path: Path, layer: str, crs: str = "EPSG:25830", kind: str = "Point", **fields: Any) -> None:
    count = len(next(iter(fields.values()), [0]))
    wkb = shapely.to_wkb({"Point": shapely.Point(1, 2), "Polygon": SMALL, "MultiPolygon": PIECES}[kind])
    driver = FORMATS[path.suffix.lower()].driver
    pyogrio.raw.write(
        path, np.array([wkb] * count, dtype=object), [np.asarray(column) for column in fields.values()], list(fields),
        layer=layer, geometry_type=kind, crs=crs, driver=driver, append=path.exists(),
    )  # fmt: skip


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("is_capital", [False, True])
def test_a_written_file_can_be_read(tmp_path: Path, ending: str, is_capital: bool) -> None:
    path = tmp_path / f"out{ending.upper() if is_capital else ending}"
    fields = {
        "object": texts("1", "campo ñ"),
        "score": np.array([0.5, 0.25]),
        "level": np.array([0, 2], dtype=np.int32),
    }
    shapes = [WITH_HOLE, PIECES]
    assert not check_output(path, crs_for(path), fields)
    assert not list(tmp_path.iterdir())
    write_vector(path, shapes, fields, crs_for(path))
    layer = read_vector(path)
    assert layer.crs is not None and layer.crs.to_epsg() == crs_for(path).to_epsg()
    assert shapely.area(layer.geometries) == pytest.approx(shapely.area(shapes))
    assert list(layer.fields["object"]) == ["1", "campo ñ"]
    assert layer.fields["score"].tolist() == [0.5, 0.25] and layer.fields["level"].tolist() == [0, 2]
    assert path.exists() and {p.stem for p in tmp_path.iterdir()} == {path.stem}


@pytest.mark.parametrize("ending", [".GeoJson", ".Gpkg", ".Fgb"])
def test_mixed_extensions(tmp_path: Path, ending: str) -> None:
    write_vector(tmp_path / f"o{ending}", [WITH_HOLE], {"score": np.array([0.5])}, UTM)
    assert [p.name for p in tmp_path.iterdir()] == [f"o{ending}"]
    assert len(read_vector(tmp_path / f"o{ending}").geometries) == 1


def test_gdal_opens_no_mixed_shapefile(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"called o\.Shp: use the extension \.shp or \.SHP"):
        check_output(tmp_path / "o.Shp", UTM)


STEMS = [
    "ñandú y más", "!out", "a!b", "zip", "a.zip!b", "(copia)", "[a]", "#a", "-a", "--overwrite", "@a", "~a", "a?b",
    "a%20b", "a%d", "a|layername=b", "a:b", "file:", "http:a", "vsizip", "a&b", "a;b", "a'b", 'a"b', "a\\b", "$HOME",
    "😀", "e\u0301", "日本", "a.b.c", "dot.", " space ", "gpkg_a", "sqlite_a", "select", "12", "___", "..a", "a\nb",
    "x" * 240,
]  # fmt: skip


@pytest.mark.skipif(os.name == "nt", reason="Windows does not allow all of these names")
@pytest.mark.parametrize(
    ("stem", "ending"),
    [(stem, ".gpkg") for stem in STEMS] + [(stem, e) for stem in STEMS[1:24:3] for e in (".shp", ".geojson", ".kml")],
)
def test_the_file_that_was_named_is_written(tmp_path: Path, stem: str, ending: str) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    path = folder / (stem + ending)
    for overwrite in (False, True):
        check_output(path, crs_for(path), {"n": np.array([1])}, overwrite=overwrite)
        write_vector(path, [SMALL], {"n": np.array([1])}, crs_for(path))
    names = {p.name for p in folder.iterdir()}
    parts = (".shp", ".shx", ".dbf", ".prj", ".cpg") if ending == ".shp" else (ending,)
    assert names == {stem + part for part in parts}
    assert [p.name for p in tmp_path.iterdir()] == ["in"]
    copy = tmp_path / f"copy{ending}"
    for part in parts:
        (folder / (stem + part)).rename(copy.with_suffix(part))
    assert len(read_vector(copy).geometries) == 1


@pytest.mark.skipif(os.name == "nt", reason="Windows does not allow all of these names")
@pytest.mark.parametrize("folder", ["a!b", "a.zip", "a?", "a;b", "#", "a%20b", "a\tb", "a\udcf1b", "zip:", "ñ", "a|b"])
@pytest.mark.parametrize("ending", [".gpkg", ".shp", ".gml"])
def test_any_folder(tmp_path: Path, folder: str, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / folder).mkdir()
    path = tmp_path / folder / f"o{ending}"
    check_output(path, UTM)
    write_vector(path, [WITH_HOLE], {"n": np.array([1])}, UTM)
    write_vector(path, [WITH_HOLE] * 2, {"n": np.array([1, 2])}, UTM)
    assert [p.name for p in tmp_path.iterdir()] == [folder] and path.exists()
    monkeypatch.chdir(tmp_path / folder)
    assert layers(Path(f"o{ending}")) == {"o": 2}


def test_a_linked_file_is_written_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link, real = tmp_path / "link.gpkg", tmp_path / "real" / "data.GPKG"
    link.symlink_to(real)
    for _ in range(2):
        write_vector(link, [WITH_HOLE], {"n": np.array([1])}, UTM)
        assert link.is_symlink() and layers(real) == {"link": 1}
    assert len(list(real.parent.iterdir())) == 1


@pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions")
def test_the_permissions_of_an_older_file_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.geojson"
    path.touch()
    path.chmod(0o640)
    write_vector(path, [WITH_HOLE], {"n": np.array([1])}, UTM)
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("name", ["a.dbf", "a.prj"])
@pytest.mark.parametrize("append", [False, True])
def test_other_files_of_the_same_name_are_not_replaced(tmp_path: Path, name: str, append: bool) -> None:
    """A table, or the CRS of an image."""
    (tmp_path / name).write_text("precious")
    with pytest.raises(OutputError, match=rf"{name} already exists"):
        check_output(tmp_path / "a.shp", UTM, append=append)
    check_output(tmp_path / "a.shp", UTM, overwrite=True)
    assert (tmp_path / name).read_text() == "precious"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("x" * 300 + ".gpkg", r"cannot be written \(.*[Nn]ame too long\): choose a shorter name"),
        ("a\udcff.gpkg", r"The name 'a\\udcff\.gpkg' is not valid UTF-8: choose another"),
    ],
)
def test_names_that_cannot_be(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(OutputError, match=reason):
        check_output(tmp_path / name, UTM)
    with pytest.raises(OutputError, match=reason):
        write_vector(tmp_path / name, [PIECES], {}, UTM)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ending", FORMATS)
def test_a_layer_without_features(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"none{ending}"
    write_vector(path, [], {"object": texts(), "score": np.array([])}, crs_for(path))
    assert path.exists()
    if FORMATS[ending].driver == "GeoJSONSeq":
        return
    meta, _, geometry, _ = pyogrio.raw.read(path)
    assert len(geometry) == 0
    if ending in (".gpkg", ".shp"):
        assert list(meta["fields"]) == ["object", "score"]


def test_geojson_in_degrees_is_plain(tmp_path: Path) -> None:
    path = tmp_path / "a.geojson"
    write_vector(path, [SMALL], {"object": texts("1")}, parse_crs("4326"))
    ring = json.loads(path.read_text())["features"][0]["geometry"]["coordinates"][0][0]
    assert all(-0.5 <= x <= -0.4 and 39 <= y <= 39.1 for x, y in ring)


def test_an_older_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.shp"
    write_vector(path, [PIECES] * 50, {"object": texts(*["x"] * 50)}, UTM)
    write_vector(path, [WITH_HOLE], {"score": np.array([0.5])}, UTM)
    layer = read_vector(path)
    assert len(layer.geometries) == 1 and list(layer.fields) == ["score"]


@pytest.mark.parametrize("index", ["a.qix", "a.QIX"])
def test_the_index_of_an_older_file_goes_with_it(tmp_path: Path, index: str) -> None:
    (tmp_path / index).write_bytes(b"index of another file")
    (tmp_path / "a.tif").touch()
    write_vector(tmp_path / "a.shp", [WITH_HOLE], {"score": np.array([0.5])}, UTM)
    assert not (tmp_path / index).exists() and (tmp_path / "a.tif").exists()


def test_nothing_is_left_of_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "a.gpkg").mkdir()
    with pytest.raises(OutputError, match=r"a\.gpkg cannot be written"):
        write_vector(tmp_path / "a.gpkg", [PIECES], {"object": texts("1")}, UTM)
    with pytest.raises(OutputError, match=r"b\.gpkg cannot be written"):
        write_vector(tmp_path / "nowhere" / "b.gpkg", [PIECES], {}, UTM)
    assert [p.name for p in tmp_path.iterdir()] == ["a.gpkg"]


def test_text_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"a\.gpkg cannot be written"):
        write_vector(tmp_path / "a.gpkg", [PIECES], {"kind": texts("\udcff")}, UTM)
    assert not list(tmp_path.iterdir())


def test_paths_that_are_refused(tmp_path: Path) -> None:
    there = tmp_path / "there.gpkg"
    there.touch()
    (tmp_path / "folder.gpkg").mkdir()
    check_output(there, UTM, overwrite=True)
    for path, options, message in [
        (there, {}, "already exists: choose another name with -o, replace it with --overwrite, or add to it with"),
        (there, {"overwrite": True, "append": True}, "exclude each other"),
        (there, {"overwrite": True, "layer": "-a"}, "-a cannot be the name of a layer: use a name such as a"),
        (tmp_path / "folder.gpkg", {"overwrite": True}, "is a folder"),
        (tmp_path / "a.xyz", {}, r"unknown format: use the extension \.gpkg, \.shp"),
        (tmp_path / "a.parquet", {}, "unknown format"),
        (tmp_path / "a", {}, "unknown format"),
        (tmp_path / "nowhere" / "a.gpkg", {}, "folder of .* does not exist"),
        (there / "a.gpkg", {}, r"folder of .* does not exist|cannot be written"),
        (tmp_path / "a.kml", {"append": True}, "Nothing can be appended"),
        (tmp_path / "a.shp", {"layer": "b"}, "has no layers"),
    ]:
        with pytest.raises(OutputError, match=message):
            check_output(path, UTM, **options)  # type: ignore[arg-type]
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_protected_places(tmp_path: Path) -> None:
    path = tmp_path / "a.gpkg"
    path.touch(mode=0o444)
    with pytest.raises(OutputError, match="is write-protected"):
        check_output(path, UTM, overwrite=True)
    tmp_path.chmod(0o555)
    with pytest.raises(OutputError, match=r"cannot be written \(Permission denied\)"):
        check_output(tmp_path / "b.gpkg", UTM)


OWN = pyproj.CRS.from_proj4("+proj=laea +lon_0=-3 +lat_0=40 +ellps=GRS80")


@pytest.mark.parametrize(
    ("crs", "endings"),
    [
        (OWN, [".gpkg", ".shp", ".fgb", ".sqlite"]),
        (LOCAL, [".gpkg", ".shp", ".fgb", ".sqlite"]),
        (pyproj.CRS("EPSG:25830+5782"), [".gpkg", ".shp", ".fgb", ".sqlite", ".geojson"]),
        (pyproj.CRS("ESRI:54009"), [".gpkg", ".shp", ".fgb", ".sqlite", ".geojson", ".gml"]),
        (pyproj.CRS("EPSG:5514"), [".gpkg", ".shp", ".fgb", ".sqlite", ".geojson", ".gml"]),
        (pyproj.CRS("EPSG:4258"), [".gpkg", ".shp", ".fgb", ".sqlite", ".geojson", ".gml"]),
        (WGS84, [".gpkg", ".shp", ".fgb", ".sqlite", ".geojson", ".gml", ".kml", ".geojsonl"]),
        (
            pyproj.CRS("+proj=tmerc +lon_0=9 +x_0=3500000 +ellps=bessel +towgs84=598.1,73.7,418.2,0.2,0.04,-2.4,6.7"),
            [".gpkg", ".fgb", ".sqlite"],
        ),
    ],
)
def test_a_format_holds_the_crs_or_is_refused(tmp_path: Path, crs: pyproj.CRS, endings: list[str]) -> None:
    for ending in (".gpkg", ".shp", ".fgb", ".sqlite", ".geojson", ".gml", ".kml", ".geojsonl"):
        path = tmp_path / f"a{ending}"
        if ending in endings:
            check_output(path, crs)
            write_vector(path, [SMALL], {"score": np.array([0.5])}, crs)
            written = read_vector(path)
            assert written.crs is not None and written.crs.name
            assert written.geometries[0].bounds == pytest.approx(SMALL.bounds)
        else:
            with pytest.raises(OutputError, match=f"a{ending} cannot hold the CRS .* or write a .gpkg"):
                check_output(path, crs)
            assert not path.exists()


COLUMNS: dict[str, Any] = {
    "big": np.ma.masked_array([BIG, 0, 3], [False, True, False]),
    "huge": np.ma.masked_array([2**63 - 1, 0, -(2**63)], [False, True, False]),
    "n": np.ma.masked_array(np.array([1, 0, 3], dtype=np.int32), [False, True, False]),
    "short": np.array([1, -2, 3], dtype=np.int16),
    "real": np.array([0.1, np.nan, -123456789.125]),
    "tiny": np.array([1e-300, 1e300, 1.5]),
    "yes": np.ma.masked_array([True, False, False], [False, True, False]),
    "text": texts("ñ\n\"<&>'", None, "日本 😀"),
    "jsonlike": texts("[1, 2]", '{"a": 1}', None),
    "number": texts("007", "1e5", "true"),
    "date": np.array(["2020-01-02", "NaT", "1900-12-31"], dtype="datetime64[D]"),
    "moment": np.array(["2020-01-02T10:20:30.125", "NaT", "1900-12-31T00:00:00"], dtype="datetime64[ms]"),
    "zoned": objects(
        datetime(2020, 1, 2, 10, 20, 30, tzinfo=timezone(timedelta(hours=5, minutes=45))),
        None,
        datetime(1990, 1, 2, tzinfo=timezone.utc),
    ),
    "hour": objects(time(10, 20, 30), None, time(0)),
    "list": objects(np.array([1, 2], dtype=np.int32), None, np.array([], dtype=np.int32)),
    "words": objects(["a", "ñ"], None, ["b"]),
    "bytes": objects(b"\x00\xff", None, b"a"),
    "nothing": texts(None, None, None),
    "área-2 m²": np.array([1, 2, 3], dtype=np.int32),
}


@pytest.mark.parametrize("ending", FORMATS)
def test_attributes_are_kept(tmp_path: Path, ending: str) -> None:
    """In their type where the format has it, or else as text, which is said."""
    path = tmp_path / f"a{ending}"
    fields: dict[str, Any] = {}
    for name, column in COLUMNS.items():
        fields[field_name(path, name, list(fields))] = column
    said = check_output(path, crs_for(path), fields)
    assert {"hour", "list", "words", "bytes"} <= set(said)
    write_vector(path, [SMALL] * 3, fields, crs_for(path))
    found = read_vector(path)
    for name, column in fields.items():
        kept = found.field(name)
        assert kept is not None
        assert not differs(as_text(column) if name in said else column, kept), (name, column, kept)
    if ending == ".gpkg":
        assert set(said) == {"hour", "list", "words", "bytes"}
        plain = [name for name in fields if name not in said]
        assert [found.fields[name].dtype for name in plain] == [fields[name].dtype for name in plain]


@given(
    ending=st.sampled_from([".gpkg", ".shp", ".geojson", ".fgb", ".sqlite", ".gml", ".kml"]),
    whole=st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), min_size=3, max_size=3),
    real=st.lists(st.floats(allow_subnormal=False), min_size=3, max_size=3),
    words=st.lists(st.none() | st.text(st.characters(exclude_categories=("C",)), max_size=60), min_size=3, max_size=3),
)
def test_any_values_are_kept_or_refused(
    tmp_path_factory: pytest.TempPathFactory, ending: str, whole: Any, real: Any, words: Any
) -> None:
    path = tmp_path_factory.mktemp("any") / f"a{ending}"
    fields = {
        "whole": np.ma.masked_array(
            [value or 0 for value in whole], [value is None for value in whole], dtype=np.int64
        ),
        "real": np.array(real),
        "words": texts(*words),
    }
    try:
        said = check_output(path, crs_for(path), fields)
    except OutputError:
        return
    write_vector(path, [SMALL] * 3, fields, crs_for(path))
    found = read_vector(path)
    for name, column in fields.items():
        assert not differs(as_text(column) if name in said else column, found.fields[name])


@pytest.mark.parametrize(
    ("ending", "value", "message"),
    [
        (".shp", "ñ" * 128, r"a\.shp cannot hold the field note \(256 bytes, and a Shapefile holds 254\): .* write a"),
        (".shp", "a\x00b", "cannot hold the field note .*text that would be changed"),
        (".gpkg", "a\x00b", "cannot hold the field note .*: change its values$"),
        (".kml", "a\x01b", "cannot"),
        (".gml", "a\x01b", "cannot"),
    ],
)
def test_text_is_never_cut(tmp_path: Path, ending: str, value: str, message: str) -> None:
    path = tmp_path / f"a{ending}"
    with pytest.raises(OutputError, match=message) as caught:
        check_output(path, crs_for(path), {"note": texts("short", value)})
    assert "\n" not in caught.value.user_message
    with pytest.raises(OutputError, match=message):
        write_vector(path, [SMALL] * 2, {"note": texts("short", value)}, crs_for(path))
    assert not list(tmp_path.iterdir())


def test_text_of_254_bytes_fits_a_shapefile(tmp_path: Path) -> None:
    check_output(tmp_path / "a.shp", UTM, {"note": texts("ñ" * 127)})


NAMES = """fid|FID|ogc_fid|geom|geometry|gml_id|id|name|description|begin|timestamp|icon|visibility|a b|a-b|a'b|a"b|a:b
a<b|a.b|1x|ñé|select|type|properties|日本|clasificación_2025|clasificación_2026|object|OBJECT|m²|x y z|%d|$a|_a|-a|é"""


@pytest.mark.parametrize("ending", FORMATS)
def test_names_of_fields(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a{ending}"
    fields = {"object": texts("0", "x")}
    for name in NAMES.replace("\n", "|").split("|"):
        free = field_name(path, name, list(fields))
        assert ending == ".shp" or name.lower() == free.lower() or not name.isidentifier() or free[-2:] in ("_1", "_2")
        fields[free] = texts(name, "x")
    assert not check_output(path, crs_for(path), fields)
    write_vector(path, [SMALL] * 2, fields, crs_for(path))
    found = read_vector(path)
    for free, column in fields.items():
        kept = found.field(free)
        assert kept is not None and kept.tolist() == column.tolist()


@pytest.mark.parametrize("ending", DATABASES)
def test_other_layers_are_kept(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"out{ending}"
    add_layer(path, "roads", n=[1, 2, 3])
    own = "out" if ending == ".sqlite" else "Out"
    add_layer(path, own, kind="Polygon", n=[1, 2, 3, 4])
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE notes (text TEXT)")
        database.execute("INSERT INTO notes VALUES ('mine')")
        database.commit()
    for count in (1, 2):
        write_vector(path, [WITH_HOLE] * count, {"score": np.arange(count) / 2}, UTM)
        assert {name: n for name, n in layers(path).items() if name != "notes"} == {"roads": 3, own: count}
    write_vector(path, [WITH_HOLE], {"score": np.array([0.5])}, UTM, layer="more ñ")
    assert {"roads": 3, own: 2, "more ñ": 1}.items() <= layers(path).items()
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT text FROM notes").fetchall() == [("mine",)]
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_the_only_layer_is_kept_if_it_is_another(tmp_path: Path) -> None:
    path = tmp_path / "out.gpkg"
    add_layer(path, "roads", n=[1, 2, 3])
    check_output(path, UTM, overwrite=True)
    assert layers(path) == {"roads": 3}
    write_vector(path, [WITH_HOLE], {"n": np.array([1])}, UTM)
    assert layers(path) == {"roads": 3, "out": 1}


def test_a_table_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "layer_styles.gpkg"
    add_layer(path, "roads", n=[1])
    pyogrio.raw.write(path, None, [texts("red")], ["style"], layer="layer_styles", geometry_type=None, append=True)
    with pytest.raises(OutputError, match=r"layer_styles in .* is a table without geometries"):
        check_output(path, UTM, overwrite=True)


@pytest.mark.parametrize("append", [False, True])
def test_a_geopackage_of_rasters_is_not_replaced(tmp_path: Path, append: bool) -> None:
    path = tmp_path / "ortho.gpkg"
    profile = {"driver": "GPKG", "width": 8, "height": 8, "count": 1, "dtype": "uint8", "crs": "EPSG:25830"}
    with rasterio.open(path, "w", transform=rasterio.Affine(1, 0, 5e5, 0, -1, 42e5), **profile) as image:
        image.write(np.full((1, 8, 8), 7, np.uint8))
    before = path.read_bytes()
    with pytest.raises(OutputError, match="holds rasters and no vector layers: choose another name"):
        check_output(path, UTM, overwrite=not append, append=append)
    assert path.read_bytes() == before


def test_a_layer_never_takes_the_name_of_a_raster(tmp_path: Path) -> None:
    path = tmp_path / "ortho.gpkg"
    profile = {"driver": "GPKG", "width": 8, "height": 8, "count": 1, "dtype": "uint8", "crs": "EPSG:25830"}
    with rasterio.open(path, "w", transform=rasterio.Affine(1, 0, 5e5, 0, -1, 42e5), **profile) as image:
        image.write(np.full((1, 8, 8), 7, np.uint8))
    add_layer(path, "roads", n=[1])
    with pytest.raises(OutputError, match=r"ortho in .* is a table without geometries: choose another"):
        check_output(path, UTM, overwrite=True)
    write_vector(path, [WITH_HOLE], {"n": np.array([1])}, UTM, layer="polygons")
    assert layers(path) == {"roads": 1, "polygons": 1}
    with rasterio.open(path) as image:
        assert (image.read(1) == 7).all()


@pytest.fixture(params=["transaction", "wal"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A GeoPackage that another program has open: while it writes, or as QGIS does while it edits."""
    path = tmp_path / "open.gpkg"
    add_layer(path, "roads", n=[1])
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        if request.param == "wal":
            database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE notes (text TEXT)")
        if request.param == "transaction":
            database.execute("BEGIN IMMEDIATE")
        yield path


@pytest.mark.parametrize("append", [False, True])
def test_a_locked_file_is_said_to_be_locked(opened: Path, append: bool) -> None:
    for call in (
        lambda: check_output(opened, UTM, overwrite=not append, append=append),
        lambda: write_vector(opened, [WITH_HOLE], {"n": np.array([1])}, UTM, append=append),
    ):
        with pytest.raises(OutputError, match=r"open\.gpkg is locked: close the program that uses it"):
            call()
    with closing(sqlite3.connect(opened)) as database:
        assert database.execute("SELECT count(*) FROM notes").fetchall() == [(0,)]


def test_a_log_that_was_left_behind_is_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "a.gpkg"
    add_layer(tmp_path / "b.gpkg", "roads", n=[1])
    with closing(sqlite3.connect(tmp_path / "b.gpkg")) as database:
        database.execute("CREATE TABLE notes (text TEXT)")
        database.commit()
    with closing(sqlite3.connect(tmp_path / "b.gpkg", isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("INSERT INTO notes VALUES ('mine')")
        for ending in ("", "-wal"):
            (tmp_path / f"a.gpkg{ending}").write_bytes((tmp_path / f"b.gpkg{ending}").read_bytes())
    write_vector(path, [WITH_HOLE], {"n": np.array([1])}, UTM)
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT text FROM notes").fetchall() == [("mine",)]
    assert layers(path) == {"roads": 1, "notes": 1, "a": 1}
    assert {p.name for p in tmp_path.iterdir()} == {"a.gpkg", "b.gpkg"}


@pytest.mark.parametrize("ending", APPENDABLE)
@pytest.mark.parametrize("is_capital", [False, True])
def test_append(tmp_path: Path, ending: str, is_capital: bool) -> None:
    path = tmp_path / f"a{ending.upper() if is_capital else ending}"
    first = {
        "object": np.ma.masked_array([BIG, 0], [False, True]),
        "kind": texts("vid", None),
        "score": np.array([0.5, 0.25]),
    }
    second = {"kind": texts("ñ" * 100), "object": np.array([BIG + 2])}
    write_vector(path, [SMALL, PIECES], first, crs_for(path), append=True)
    check_output(path, crs_for(path), second, append=True)
    write_vector(path, [shapely.box(0, 0, 2, 2)], second, crs_for(path), append=True)
    layer = read_vector(path)
    assert layer.crs is not None and layer.crs.to_epsg() == crs_for(path).to_epsg()
    assert shapely.area(layer.geometries) == pytest.approx([SMALL.area, PIECES.area, 4])
    assert layer.fields["object"].tolist() == [BIG, None, BIG + 2]
    assert layer.fields["kind"].tolist() == ["vid", None, "ñ" * 100]
    assert layer.fields["score"][:2].tolist() == [0.5, 0.25] and np.isnan(layer.fields["score"][2])
    assert {p.stem for p in tmp_path.iterdir()} == {"a"}


@pytest.mark.parametrize("ending", DATABASES)
def test_append_keeps_other_layers_and_makes_missing_ones(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a{ending}"
    add_layer(path, "points", n=[1])
    for count in (1, 2):
        write_vector(path, [WITH_HOLE], {"n": np.array([2])}, UTM, append=True)
        write_vector(path, [WITH_HOLE], {"n": np.array([2])}, UTM, append=True, layer="second")
        assert layers(path) == {"points": 1, "a": count, "second": count}


@pytest.mark.parametrize(
    ("existing", "crs", "fields", "message"),
    [
        (
            {"crs": "EPSG:25829"},
            UTM,
            {"n": [1]},
            r"has the CRS ETRS89 / UTM zone 29N, not ETRS89 / UTM zone 30N: choose",
        ),
        ({"kind": "Point"}, UTM, {"n": [1]}, "has geometries of the type Point, not MultiPolygon"),
        ({"kind": "Polygon"}, UTM, {"n": [1]}, "has geometries of the type Polygon, not MultiPolygon"),
        ({}, UTM, {"n": [1], "more": [2]}, "has no field more: add it to the layer"),
        ({}, UTM, {"n": ["word"]}, "cannot hold the field n"),
    ],
)
@pytest.mark.parametrize("ending", [".gpkg", ".geojson"])
def test_append_to_what_does_not_match(
    tmp_path: Path, ending: str, existing: Any, crs: pyproj.CRS, fields: Any, message: str
) -> None:
    path = tmp_path / f"a{ending}"
    add_layer(path, "a", **{"kind": "MultiPolygon", "n": [1], **existing})
    before = path.read_bytes()
    columns = {name: np.array(values, dtype=object if name == "n" else None) for name, values in fields.items()}
    columns["n"] = columns["n"] if isinstance(fields["n"][0], str) else np.array(fields["n"])
    with pytest.raises(OutputError, match=message):
        check_output(path, crs, columns, append=True)
    with pytest.raises(OutputError, match=message):
        write_vector(path, [WITH_HOLE], columns, crs, append=True)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("ending", APPENDABLE)
def test_append_to_a_layer_without_features(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a{ending}"
    write_vector(path, [], {"n": np.array([], dtype=np.int32)}, crs_for(path))
    write_vector(path, [SMALL], {"n": np.array([1], dtype=np.int32)}, crs_for(path), append=True)
    write_vector(path, [], {"n": np.array([], dtype=np.int32)}, crs_for(path), append=True)
    assert read_vector(path).fields["n"].tolist() == [1]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of files")
@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("append", [False, True])
@pytest.mark.parametrize("more", [10, 5000])
def test_on_a_full_disk_the_old_file_stays(tmp_path: Path, ending: str, append: bool, more: int) -> None:
    if append and not FORMATS[ending].can_append:
        pytest.skip("nothing can be appended")
    path = tmp_path / f"a{ending}"
    write_vector(path, [SMALL], {"text": texts("a" * 200)}, crs_for(path))
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (max(map(len, before.values())) + more, limits[1]))
    try:
        with pytest.raises(OutputError, match="cannot be written") as caught:
            write_vector(path, [SMALL] * 2000, {"text": texts(*["b" * 200] * 2000)}, crs_for(path), append=append)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in caught.value.user_message
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_append_to_what_is_no_vector_file(tmp_path: Path) -> None:
    for ending in (".gpkg", ".shp", ".geojson"):
        path = tmp_path / f"a{ending}"
        path.write_text("hello")
        with pytest.raises(OutputError, match="is not a file that GDAL can read"):
            check_output(path, UTM, append=True)
        assert path.read_text() == "hello"


@pytest.mark.parametrize("ending", [".gpkg", ".shp"])
@pytest.mark.parametrize("units", ["km", "us-ft"])
def test_a_utm_zone_in_other_units_keeps_them(tmp_path: Path, ending: str, units: str) -> None:
    path = tmp_path / f"a{ending}"
    crs = pyproj.CRS.from_user_input(f"+proj=utm +zone=30 +datum=WGS84 +units={units}")
    check_output(path, crs)
    write_vector(path, [SMALL], {"text": texts("a")}, crs)
    found = pyproj.CRS.from_user_input(pyogrio.read_info(path)["crs"])
    assert found.equals(crs, ignore_axis_order=True)


@pytest.mark.parametrize("ending", [".gpkg", ".shp"])
def test_a_file_that_another_program_makes_meanwhile_stays(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"out{ending}"
    fields = {"score": np.zeros(1)}

    def more() -> Iterator[Any]:
        write_vector(path, [PIECES, PIECES], {"score": np.ones(2)}, UTM, layer="theirs" if ending == ".gpkg" else "")
        yield [WITH_HOLE], fields

    with pytest.raises(OutputError, match="was changed by another program meanwhile"):
        write_vector(path, [WITH_HOLE], fields, UTM, layer="ours" if ending == ".gpkg" else "", more=more())
    assert list(layers(path).values()) == [2]


@pytest.mark.parametrize("ending", [".gpkg", ".shp", ".geojson"])
def test_a_file_made_since_the_check_is_replaced_only_with_overwrite(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"out{ending}"
    check_output(path, UTM)
    write_vector(path, [PIECES, PIECES], {"score": np.ones(2)}, UTM)
    with pytest.raises(OutputError, match="was changed by another program meanwhile"):
        write_vector(path, [WITH_HOLE], {"score": np.zeros(1)}, UTM, overwrite=False)
    assert list(layers(path).values()) == [2]
    write_vector(path, [WITH_HOLE], {"score": np.zeros(1)}, UTM, overwrite=True)
    assert list(layers(path).values()) == [1]


def test_a_geopackage_has_a_version_that_older_programs_know(tmp_path: Path) -> None:
    path = tmp_path / "a.gpkg"
    for layer in ("a", "b"):
        write_vector(path, [SMALL], {}, WGS84, layer=layer)
        with closing(sqlite3.connect(path)) as database:
            assert database.execute("PRAGMA user_version").fetchone() == (10300,)
    assert layers(path) == {"a": 1, "b": 1}

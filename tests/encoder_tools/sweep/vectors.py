"""The prompts and outputs of the sweep: each row makes its input in the working directory."""

from __future__ import annotations

import json
import sqlite3
import struct
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from tests.encoder_tools.sweep.scene import UTM, Scene, affine, layer, points, to_crs

SCENE = Scene("a.tif", affine())
"""The scene of the store that the rows share."""

CLICK = SCENE.click
LONLAT = to_crs(shapely.Point(CLICK), UTM, "EPSG:4326")
BOX = shapely.box(*SCENE.on_map().bounds)
GRAPHEME = "😀"

Arguments = Callable[[], "Sequence[str]"]
"""Makes prompts, and returns the arguments of ``segment`` for them."""


def text(name: str, content: str) -> str:
    Path(name).write_text(content, encoding="utf-8")
    return name


def one(name: str, geometry: Any = None, crs: str | None = UTM, **keywords: Any) -> list[str]:
    return [layer(name, [shapely.Point(CLICK) if geometry is None else geometry], crs, **keywords)]


def lonlat(name: str, **keywords: Any) -> list[str]:
    return one(name, LONLAT, "EPSG:4326", **keywords)


def geojson(name: str = "p.geojson", crs: Any = None, at: Any = LONLAT, **properties: Any) -> list[str]:
    """A GeoJSON file as it is written by hand."""
    feature = {"type": "Feature", "properties": properties, "geometry": shapely.geometry.mapping(at)}
    content: dict[str, Any] = {"type": "FeatureCollection", "features": [feature]}
    if crs is not None:
        content["crs"] = {"type": "name", "properties": {"name": crs}}
    return [text(name, json.dumps(content))]


def topojson() -> list[str]:
    objects = {
        "p": {"type": "GeometryCollection", "geometries": [{"type": "Point", "coordinates": [*LONLAT.coords[0]]}]}
    }
    return [text("p.topojson", json.dumps({"type": "Topology", "arcs": [], "objects": objects}))]


def gpx() -> list[str]:
    return [
        text(
            "p.gpx",
            '<?xml version="1.0"?><gpx version="1.1" creator="x" xmlns="http://www.topografix.com/GPX/1/1">'
            f'<wpt lat="{LONLAT.y!r}" lon="{LONLAT.x!r}"><name>casa</name></wpt></gpx>',
        )
    ]


def zipped_shapefile(name: str, shown: str) -> list[str]:
    one("p.shp", kind="Point")
    parts = list(Path().glob("p.*"))
    with zipfile.ZipFile(name, "w") as archive:
        for part in parts:
            archive.write(part)
            part.unlink()
    return [shown]


def wrong_code_page() -> list[str]:
    """Latin-1 text, and a .cpg file that says UTF-8."""
    one("p.shp", kind="Point", fields={"name": ["Ávila"]}, encoding="ISO-8859-1")
    return [Path(text("p.cpg", "UTF-8")).with_suffix(".shp").name]


def two_layers(first_is_empty: bool) -> list[str]:
    layer("p.gpkg", [] if first_is_empty else points(CLICK), layer="one", kind="Point")
    return [layer("p.gpkg", points(CLICK), layer="two", append=True, kind="Point")]


def raw_geopackage(kind: str, wkb: bytes) -> list[str]:
    """A GeoPackage with a geometry that pyogrio does not write."""
    (name,) = one("p.gpkg", BOX, SPATIAL_INDEX="NO", layer="p")
    with closing(sqlite3.connect(name)) as database:
        database.execute("UPDATE p SET geom = ?", [b"GP\0\1" + struct.pack("<i", 25830) + wkb])
        database.execute("UPDATE gpkg_geometry_columns SET geometry_type_name = ?, z = 2, m = 2", [kind])
        database.commit()
    return [name]


def multipatch() -> list[str]:
    """A Shapefile of one multipatch: the box as a triangle strip."""
    (name,) = one("p.shp", shapely.force_3d(BOX), kind="Polygon Z")
    x0, y0, x1, y1 = BOX.bounds
    bounds = struct.pack("<4d", x0, y0, x1, y1)
    xy = struct.pack("<8d", x0, y0, x0, y1, x1, y0, x1, y1)
    content = struct.pack("<i", 31) + bounds + struct.pack("<4i", 1, 4, 0, 0) + xy + struct.pack("<6d", *[0.0] * 6)
    head = struct.pack("<2i", 1000, 31) + bounds + struct.pack("<4d", *[0.0] * 4)
    for path, body in (
        (Path(name), struct.pack(">2i", 1, len(content) // 2) + content),
        (Path("p.shx"), struct.pack(">2i", 50, len(content) // 2)),
    ):
        path.write_bytes(struct.pack(">7i", 9994, 0, 0, 0, 0, 0, 50 + len(body) // 2) + head + body)
    return [name]


def iso_wkb(kind: str) -> bytes:
    """A box as a geometry that shapely does not know: CurvePolygon (10), PolyhedralSurface (15) or TIN (16)."""
    x0, y0, x1, y1 = BOX.bounds
    ring = [(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)]

    def rings(code: int, *found: list[tuple[float, float]], z: bool = False) -> bytes:
        flat = struct.pack("<BII", 1, code + (1000 if z else 0), len(found))
        for points_of_ring in found:
            flat += struct.pack("<I", len(points_of_ring))
            flat += b"".join(struct.pack("<ddd" if z else "<dd", *xy, *((0.0,) if z else ())) for xy in points_of_ring)
        return flat

    if kind == "CurvePolygon":
        line = struct.pack("<BII", 1, 2, len(ring)) + b"".join(struct.pack("<dd", *xy) for xy in ring)
        return struct.pack("<BII", 1, 10, 1) + line
    if kind == "PolyhedralSurface":
        return struct.pack("<BII", 1, 1015, 1) + rings(3, ring, z=True)
    first, second = [*ring[:3], ring[0]], [ring[0], *ring[2:4], ring[0]]
    return struct.pack("<BII", 1, 1016, 2) + rings(17, first, z=True) + rings(17, second, z=True)


def many(count: int, name: str = "p.gpkg") -> list[str]:
    """Many clicks on the one disc."""
    rng = np.random.default_rng(1)
    angle, distance = rng.uniform(0, 2 * np.pi, count), 26 * np.sqrt(rng.uniform(0, 1, count))
    at = np.column_stack((CLICK[0] + distance * np.cos(angle), CLICK[1] + distance * np.sin(angle)))
    return [layer(name, list(shapely.points(at)), kind="Point", fields={"object": np.ones(count, np.int32)})]


def outside_too() -> list[str]:
    """A click on the disc, and one that is far away, of another object."""
    return [layer("p.gpkg", points(CLICK, (CLICK[0] + 1e4, CLICK[1])), kind="Point", fields={"object": [7, 8]})]


def negative() -> list[str]:
    """A click on the disc and negative ones around it."""
    around = [(CLICK[0] + 45 * np.cos(a), CLICK[1] + 45 * np.sin(a)) for a in (0.5, 2, 4)]
    return [layer("p.gpkg", points(CLICK, *around), kind="Point", fields={"object": [1] * 4, "label": [1, 0, 0, 0]})]


def x_y(x: float, y: float) -> str:
    return f"--point={x!r},{y!r}"


PROMPTS: Mapping[str, Arguments] = {
    "--point": lambda: [SCENE.point()],
    "--box": lambda: [SCENE.box()],
    "--point and --box": lambda: [SCENE.point(), SCENE.box()],
    "--point and a negative one": lambda: [SCENE.point(), x_y(CLICK[0] + 50, CLICK[1]) + ",0"],
    "--point with spaces": lambda: ["--point", "{}, {}".format(*CLICK)],
    "--point in another CRS": lambda: [x_y(LONLAT.x, LONLAT.y), "--crs", "EPSG:4326"],
    "--box in another CRS": lambda: [
        "--box={!r},{!r},{!r},{!r}".format(*to_crs(BOX, UTM, "EPSG:3857").bounds), "--crs", "EPSG:3857",
    ],
    "--point and --object-size": lambda: [SCENE.point(), "--object-size", "60"],
    "--point and --scale": lambda: [SCENE.point(), "--scale", "1:1000"],
    "--point a turn further": lambda: [x_y(LONLAT.x + 360, LONLAT.y), "--crs", "EPSG:4326"],
    "GeoPackage": lambda: one("p.gpkg"),
    "Shapefile": lambda: one("p.shp", kind="Point"),
    "Shapefile, capital extension": lambda: [str(Path(one("p.shp", kind="Point")[0]).rename("P.SHP")), *capital()],
    "Shapefile in a .shz": lambda: zipped_shapefile("p.shz", "p.shz"),
    "Shapefile in a .shp.zip": lambda: zipped_shapefile("p.shp.zip", "p.shp.zip"),
    "Shapefile in /vsizip/": lambda: zipped_shapefile("p.zip", "/vsizip/p.zip/p.shp"),
    "GeoJSON of RFC 7946": geojson,
    "GeoJSON with a crs": lambda: geojson(crs="urn:ogc:def:crs:EPSG::25830", at=shapely.Point(CLICK)),
    "GeoJSON with extension .json": lambda: geojson("p.json"),
    "GeoJSON lines": lambda: lonlat("p.geojsonl", driver="GeoJSONSeq"),
    "FlatGeobuf": lambda: one("p.fgb"),
    "KML": lambda: lonlat("p.kml", driver="KML"),
    "KMZ": lambda: lonlat("p.kmz", driver="LIBKML"),
    "GML": lambda: one("p.gml"),
    "GPX": gpx,
    "TopoJSON": lambda: [*topojson(), "--crs", "EPSG:4326"],
    "MapInfo TAB": lambda: one("p.tab", driver="MapInfo File", kind="Point"),
    "MapInfo MIF": lambda: one("p.mif", driver="MapInfo File", kind="Point", fields={"n": [1]}),
    "DXF": lambda: [*one("p.dxf", crs=None), "--crs", UTM],
    "SQLite": lambda: one("p.sqlite", driver="SQLite", kind="Point"),
    "SpatiaLite": lambda: one("p.sqlite", driver="SQLite", kind="Point", SPATIALITE="YES"),
    "file geodatabase": lambda: one("p.gdb", driver="OpenFileGDB", kind="Point"),
    "GMT": lambda: one("p.gmt"),
    "JML": lambda: one("p.jml"),
    "JSON-FG": lambda: one("p.json", driver="JSONFG"),
    "GeoRSS": lambda: lonlat("p.xml", driver="GeoRSS"),
    "MapML": lambda: lonlat("p.mapml", driver="MapML"),
    "CSV with WKT": lambda: [text("p.csv", f'WKT,name\n"POINT ({CLICK[0]} {CLICK[1]})",casa\n'), "--crs", UTM],
    "CSV with WKT, its type in .csvt": lambda: [
        text("p.csv", f'WKT,object\n"POINT ({CLICK[0]} {CLICK[1]})",12\n'), "--crs", UTM, *csvt(),
    ],
    "VRT of a table with X and Y": lambda: vector_vrt(),
    "ESRI JSON": lambda: esri_json(),
    "no CRS in the file, --crs": lambda: [*one("p.gpkg", crs=None), "--crs", UTM],
    "another CRS": lambda: one("p.gpkg", to_crs(shapely.Point(CLICK), UTM, "EPSG:3035"), "EPSG:3035"),
    "a CRS with axes north, east": lambda: one("p.gml", LONLAT, "EPSG:4326"),
    "a CRS with heights": lambda: one("p.gpkg", crs="EPSG:25830+5782"),
    "Z": lambda: one("p.gpkg", shapely.Point(*CLICK, 812.5), kind="Point Z"),
    "M": lambda: raw_geopackage("POINT", struct.pack("<BIddd", 1, 2001, *CLICK, 3.0)),
    "ZM in a Shapefile": lambda: one("p.shp", shapely.Point(*CLICK, 812.5), kind="Point Z"),
    "MultiPoint": lambda: one("p.gpkg", shapely.MultiPoint([CLICK, (CLICK[0] + 3, CLICK[1])])),
    "Polygon": lambda: one("p.gpkg", BOX),
    "Polygon Z": lambda: one("p.gpkg", shapely.force_3d(BOX)),
    "Polygon of the disc": lambda: one("p.gpkg", SCENE.on_map()),
    "MultiPolygon": lambda: one("p.gpkg", shapely.MultiPolygon([BOX])),
    "Polygon that crosses itself": lambda: one("p.gpkg", crossed()),
    "CurvePolygon": lambda: raw_geopackage("CURVEPOLYGON", iso_wkb("CurvePolygon")),
    "PolyhedralSurface": lambda: raw_geopackage("POLYHEDRALSURFACE", iso_wkb("PolyhedralSurface")),
    "TIN": lambda: raw_geopackage("TIN", iso_wkb("TIN")),
    "multipatch of a Shapefile": lambda: multipatch(),
    "NULL and empty geometries beside it": lambda: [
        layer("p.gpkg", [None, shapely.Point(), shapely.Point(CLICK)], fields={"object": [1, 2, 3]})
    ],
    "labels as text": lambda: one("p.gpkg", fields={"label": np.array(["1"], dtype=object)}),
    "labels as reals": lambda: one("p.gpkg", fields={"label": [1.0]}),
    "labels NULL": lambda: one("p.gpkg", fields={"label": [0]}, nulls={"label": np.array([True])}),
    "LABEL in capitals": lambda: one("p.gpkg", fields={"LABEL": [1]}),
    "negative clicks": negative,
    "another object outside": outside_too,
    "ten points": lambda: many(10),
    "a hundred points": lambda: many(100),
    "a .cpg that is wrong": wrong_code_page,
    "an empty layer beside it": lambda: two_layers(True),
    "a table without geometries beside it": lambda: styles(),
    "BOM in GeoJSON": lambda: [text("p.geojson", "\ufeff" + Path(geojson()[0]).read_text())],
}  # fmt: skip


def capital() -> list[str]:
    for part in list(Path().glob("p.*")):
        part.rename(part.name.upper())
    return []


def csvt() -> list[str]:
    text("p.csvt", '"WKT","Integer"')
    return []


def crossed() -> Any:
    x0, y0, x1, y1 = BOX.bounds
    return shapely.Polygon([(x0, y0), (x1, y1), (x1, y0), (x0, y1)])


def vector_vrt() -> list[str]:
    text("t.csv", f"x,y\n{CLICK[0]},{CLICK[1]}\n")
    return [
        text(
            "p.vrt",
            '<OGRVRTDataSource><OGRVRTLayer name="t"><SrcDataSource>t.csv</SrcDataSource><GeometryType>wkbPoint'
            f'</GeometryType><LayerSRS>{UTM}</LayerSRS><GeometryField encoding="PointFromColumns" x="x" y="y"/>'
            "</OGRVRTLayer></OGRVRTDataSource>",
        )
    ]


def esri_json() -> list[str]:
    return [
        text(
            "p.json",
            json.dumps(
                {
                    "geometryType": "esriGeometryPoint",
                    "spatialReference": {"wkid": 25830},
                    "fields": [{"name": "n", "type": "esriFieldTypeInteger"}],
                    "features": [{"attributes": {"n": 1}, "geometry": {"x": CLICK[0], "y": CLICK[1]}}],
                }
            ),
        )
    ]


def styles() -> list[str]:
    """A GeoPackage with a table of styles, as QGIS writes them."""
    layer("p.gpkg", points(CLICK), layer="clicks", kind="Point")
    import pyogrio

    pyogrio.raw.write(
        "p.gpkg", None, [np.array(["x"], dtype=object)], ["styleQML"], layer="layer_styles", append=True,
        geometry_type=None,
    )  # fmt: skip
    return ["p.gpkg"]


# --- names -----------------------------------------------------------------------------------------------------------

NAMES = {
    "spaces": "dos  palabras",
    "accents": "cañón é ü ß",
    "accents, decomposed": "can\u0303o\u0301n",
    "emoji": f"casa {GRAPHEME}",
    "Chinese": "房屋",
    "Arabic": "بيت",
    "! first": "!final",
    "( first": "(copia)",
    "[ first": "[1]",
    "# first": "#1",
    "- first": "-o",
    "-- first": "--help",
    "@ first": "@list",
    "%": "50%20 %s %d",
    "?": "what?",
    "*": "all*",
    "|": "a|b",
    "apostrophe": "o'brien",
    "quotes": '"a"',
    "~ first": "~user",
    "&": "a&b",
    ";": "a;b",
    "$": "$HOME",
    "back quotes": "`ls`",
    "backslash": "a\\b",
    "colon": "http:x",
    "driver's prefix": "GPKG:a",
    "=": "a=b",
    ",": "a,b",
    "+ and ^": "+^",
    "<>": "<a>",
    "{}": "{name}",
    "dots": "v1.2.final",
    "dot first": ".hidden",
    "two dots first": "..a",
    "dot last": "a.",
    "CON": "CON",
    "aux": "aux",
    "one letter": "z",
    "digits": "2025",
    "select": "select",
    "long": "l" * 200,
    "tab and newline": "a\tb\nc",
    "zip in the middle": "a.zip.b",
    "embeddings": "x.embeddings.zarr.copy",
}

"""Geometries and areas between shapely, QGIS and several CRSs, checked against PROJ."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyproj
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransform,
    QgsCoordinateTransformContext,
    QgsDistanceArea,
    QgsGeometry,
    QgsPointXY,
)
from shapely.affinity import rotate

from geosam_es.core.prompts import Bounds
from geosam_es.errors import EditError
from geosam_es.qgis_support.crs import (
    EllipsoidArea,
    check_map_crs,
    crs_from_wkt,
    from_qgs,
    made_anew,
    points_in_world,
    to_qgs,
    transform,
    transform_geometry,
    transform_points,
    transform_polygon,
)
from tests.qgis.support import wait_until

UTM = QgsCoordinateReferenceSystem("EPSG:25830")
ETRS89 = QgsCoordinateReferenceSystem("EPSG:4258")
MERCATOR = QgsCoordinateReferenceSystem("EPSG:3857")
X, Y = 725000.0, 4372000.0

WITH_HOLE = shapely.box(0, 0, 10, 10).difference(shapely.box(4, 4, 6, 6))


@pytest.mark.parametrize(
    "geometry",
    [WITH_HOLE, shapely.MultiPolygon([WITH_HOLE, shapely.box(20, 0, 30, 10)]), shapely.Polygon(), shapely.Point(1, 2)],
    ids=["hole", "parts", "empty", "point"],
)
def test_shapely_to_qgis_and_back(geometry: shapely.Geometry) -> None:
    there = to_qgs(geometry)
    assert there.isEmpty() == geometry.is_empty
    assert from_qgs(there).equals_exact(geometry, 0)


@pytest.mark.parametrize(
    "wkt", ["PolygonZ ((0 0 5, 10 0 5, 10 10 5, 0 0 5))", "PolygonM ((0 0 5, 10 0 5, 10 10 5, 0 0 5))"]
)
def test_z_and_m_are_left_out(wkt: str) -> None:
    flat = from_qgs(QgsGeometry.fromWkt(wkt))
    assert not flat.has_z and flat.equals(shapely.Polygon([(0, 0), (10, 0), (10, 10)]))


def test_curves_become_chords_and_null_an_empty_polygon() -> None:
    circle = QgsGeometry.fromWkt("CurvePolygon (CircularString (0 5, 5 10, 10 5, 5 0, 0 5))")
    assert from_qgs(circle).area == pytest.approx(25 * 3.14159, rel=1e-3)
    assert from_qgs(QgsGeometry()).is_empty


def geodesic_area(geometry: shapely.Geometry) -> float:
    return abs(pyproj.Geod(ellps="GRS80").geometry_area_perimeter(geometry)[0])


@given(st.floats(-9, 4), st.floats(36, 43.5), st.floats(1e-5, 0.05), st.floats(0, 90))
def test_areas_agree_with_geodesics(lon: float, lat: float, side: float, angle: float) -> None:
    box = shapely.box(lon, lat, lon + side, lat + side)
    polygon = rotate(box.difference(shapely.box(lon + side / 4, lat + side / 4, lon + side / 2, lat + side / 2)), angle)
    expected = geodesic_area(polygon)
    assert EllipsoidArea(ETRS89).area_m2(polygon) == pytest.approx(expected, rel=1e-4, abs=1e-3)


@pytest.mark.parametrize("code", ["EPSG:25830", "EPSG:25829", "EPSG:3857", "EPSG:3035", "EPSG:2062", "EPSG:4326"])
def test_the_same_field_measures_the_same_in_every_crs(code: str) -> None:
    field = shapely.box(-0.5, 39.4, -0.498, 39.402)
    crs = QgsCoordinateReferenceSystem(code)
    there = transform_geometry(to_qgs(field), transform(ETRS89, crs))
    assert EllipsoidArea(crs).area_m2(from_qgs(there)) == pytest.approx(geodesic_area(field), rel=1e-3)


def test_areas_of_nothing_and_of_parts() -> None:
    meter = EllipsoidArea(UTM)
    assert meter.area_m2(shapely.Polygon()) == 0
    both = shapely.MultiPolygon([shapely.box(X, Y, X + 10, Y + 10), shapely.box(X + 20, Y, X + 30, Y + 10)])
    assert meter.area_m2(both) == pytest.approx(200, rel=2e-3)


def test_without_an_ellipsoid_areas_are_those_of_the_plane() -> None:
    meter = EllipsoidArea(QgsCoordinateReferenceSystem())
    assert meter.area_m2(shapely.box(0, 0, 10, 10)) == pytest.approx(100)


def test_transforms_agree_with_pyproj() -> None:
    ours = from_qgs(transform_geometry(to_qgs(shapely.box(X, Y, X + 100, Y + 100)), transform(UTM, MERCATOR)))
    # What pyproj makes of the two corners; inside QGIS its own pyproj may not find its data.
    for corner in ((-42796.83506, 4788959.48403), (-42663.80069, 4789085.51280)):
        assert ours.boundary.distance(shapely.Point(corner)) < 1e-3


@pytest.mark.parametrize("far", [1e9, 1e300, math.inf], ids=["far", "huge", "infinite"])
def test_coordinates_outside_the_crs_are_refused(far: float) -> None:
    with pytest.raises(EditError, match="cannot be transformed to the CRS EPSG:4258 - ETRS89: check the CRS"):
        transform_geometry(to_qgs(shapely.box(0, 0, far, far)), transform(UTM, ETRS89))


def test_an_invalid_transform_is_refused() -> None:
    with pytest.raises(EditError, match="cannot be transformed"):
        transform_geometry(to_qgs(WITH_HOLE), transform(UTM, QgsCoordinateReferenceSystem()))


LOCAL = QgsCoordinateReferenceSystem.fromWkt('LOCAL_CS["site",UNIT["metre",1]]')


@pytest.mark.parametrize(("source", "target"), [(LOCAL, ETRS89), (ETRS89, LOCAL)])
def test_there_is_no_transform_of_a_local_crs(
    source: QgsCoordinateReferenceSystem, target: QgsCoordinateReferenceSystem
) -> None:
    """QGIS would give the coordinates back unchanged, so that metres would be labelled as degrees."""
    box = to_qgs(shapely.box(X, Y, X + 10, Y + 10))
    with pytest.raises(EditError, match="cannot be transformed"):
        transform_geometry(box, QgsCoordinateTransform(source, target, QgsCoordinateTransformContext()))
    with pytest.raises(EditError, match=r"Coordinates cannot be transformed from the CRS .* to .*: check the CRS"):
        transform(source, target)
    with pytest.raises(EditError, match="Coordinates cannot be transformed"):
        transform_points([QgsPointXY(X, Y)], source, target)
    assert transform_points([QgsPointXY(X, Y)], LOCAL, LOCAL) == [QgsPointXY(X, Y)]


def test_points_stay_where_a_layer_or_a_project_has_no_crs() -> None:
    for source, target in ((UTM, QgsCoordinateReferenceSystem()), (QgsCoordinateReferenceSystem(), UTM)):
        assert transform_points([QgsPointXY(1, 2)], source, target) == [QgsPointXY(1, 2)]


def test_points_that_do_not_exist_in_the_crs_are_refused() -> None:
    with pytest.raises(EditError, match="This place cannot be transformed to the CRS of the raster"):
        transform_points([QgsPointXY(X, Y), QgsPointXY(1e9, 1e9)], UTM, ETRS89)


@pytest.mark.parametrize(
    ("code", "is_map"),
    [
        *((code, True) for code in ("EPSG:25830", "EPSG:4326", "EPSG:4979", "EPSG:2225", "EPSG:9705")),
        *((code, False) for code in ("EPSG:4978", "EPSG:5782", "EPSG:0")),
    ],
)
def test_crs_for_maps(code: str, is_map: bool) -> None:
    crs = QgsCoordinateReferenceSystem(code)
    if is_map:
        check_map_crs(crs)
    else:
        with pytest.raises(EditError, match=r"is not a CRS for maps: choose another CRS"):
            check_map_crs(crs)


def test_a_local_crs_is_for_maps() -> None:
    check_map_crs(LOCAL)


def test_a_transform_that_fails_with_the_settings_of_the_project_is_built_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Failing(QgsCoordinateTransform):
        def __init__(self, source: Any, target: Any, context: Any) -> None:
            # Only the context of the project knows of operations; the one made anew is empty.
            super().__init__(*((source, target, context) if context is empty else ()))

    empty = QgsCoordinateTransformContext()
    monkeypatch.setattr("geosam_es.qgis_support.crs.QgsCoordinateTransform", Failing)
    monkeypatch.setattr("geosam_es.qgis_support.crs.QgsCoordinateTransformContext", lambda: empty)
    moved = from_qgs(transform_geometry(to_qgs(shapely.box(X, Y, X + 100, Y + 100)), transform(UTM, MERCATOR)))
    assert moved.boundary.distance(shapely.Point(-42796.83506, 4788959.48403)) < 1e-3


def test_an_area_that_fails_with_the_settings_of_the_project_is_measured_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Failing(QgsDistanceArea):
        made = 0

        def __init__(self) -> None:
            super().__init__()
            Failing.made += 1
            self.fails = Failing.made == 1

        def measureArea(self, geometry: QgsGeometry) -> float:  # noqa: N802
            return math.nan if self.fails else float(super().measureArea(geometry))

    monkeypatch.setattr("geosam_es.qgis_support.crs.QgsDistanceArea", Failing)
    meter = EllipsoidArea(UTM)
    box = shapely.box(X, Y, X + 100, Y + 100)
    assert meter.area_m2(box) == meter.area_m2(box) == pytest.approx(10_000, rel=2e-3)
    assert Failing.made == 2


def in_a_thread_that_ends(work: Callable[[], Any]) -> Any:
    values: list[Any] = []
    tasks = Path("/proc/self/task")
    thread = threading.Thread(target=lambda: values.append((work(), threading.get_native_id())))
    thread.start()
    thread.join()
    value, number = values[0]
    # Python's threads are over a little before those of the system, which take what PROJ knows with them.
    wait_until(lambda: not (tasks / str(number)).exists())
    return value


_FIRST_AREA_IN_A_THREAD = """
import threading
import shapely
from qgis.core import QgsApplication, QgsCoordinateReferenceSystem, QgsCoordinateTransform, QgsDistanceArea, QgsProject
application = QgsApplication([], False)
application.initQgis()
from geosam_es.qgis_support.crs import EllipsoidArea, to_qgs
field = shapely.box(700000, 4400000, 700100, 4400100)
def measure():
    crs = QgsCoordinateReferenceSystem("EPSG:25830")
    meter = QgsDistanceArea()
    meter.setSourceCrs(crs, QgsProject.instance().transformContext())
    meter.setEllipsoid(crs.ellipsoidAcronym())
    meter.measureArea(to_qgs(field))
    other = QgsCoordinateReferenceSystem("EPSG:4258")
    QgsCoordinateTransform(crs, other, QgsProject.instance().transformContext()).isValid()
thread = threading.Thread(target=measure)
thread.start()
thread.join()
measure()
print(EllipsoidArea(QgsCoordinateReferenceSystem("EPSG:25830")).area_m2(field))
"""


def test_areas_survive_the_thread_that_first_measured_one() -> None:
    """In a process of its own, because QGIS keeps a CRS with each ellipsoid until it ends."""
    command = [sys.executable, "-c", _FIRST_AREA_IN_A_THREAD]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": ":".join(sys.path)})
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(10_000, rel=2e-3)


def test_a_transform_whose_thread_has_ended_is_made_anew() -> None:
    def broken() -> QgsCoordinateTransform:
        QgsCoordinateReferenceSystem.invalidateCache()
        QgsCoordinateTransform.invalidateCache()
        return QgsCoordinateTransform(
            QgsCoordinateReferenceSystem("EPSG:3857"), QgsCoordinateReferenceSystem(), QgsCoordinateTransformContext()
        )

    transformation = in_a_thread_that_ends(broken)
    transformation.setDestinationCrs(ETRS89)
    box = shapely.box(-42796, 4788959, -42663, 4789085)
    moved = transform_polygon(box, transformation)
    expected = transform_polygon(box, QgsCoordinateTransform(MERCATOR, ETRS89, QgsCoordinateTransformContext()))
    assert moved.equals_exact(expected, 1e-12) and not moved.equals_exact(box, 1)


@pytest.mark.parametrize(
    ("code", "place", "metres"),
    [
        ("EPSG:25830", (X, Y), (1.0, 1.0)),
        ("EPSG:4258", (-0.5, 39.5), (86_016.0, 111_024.0)),
        ("EPSG:3857", (-50_000.0, 4_790_000.0), (0.7729, 0.7699)),
        ("EPSG:2225", (6e6, 2e6), (0.3048, 0.3048)),
    ],
)
def test_metres_on_the_ground_in_one_unit(code: str, place: tuple[float, float], metres: tuple[float, float]) -> None:
    measured = EllipsoidArea(QgsCoordinateReferenceSystem(code)).metres_per_unit(*place)
    assert measured == pytest.approx(metres, rel=1e-3)


def test_metres_where_the_crs_is_not_defined() -> None:
    with pytest.raises(EditError, match="cannot be transformed to the CRS"):
        EllipsoidArea(UTM).metres_per_unit(1e9, 1e9)


@pytest.mark.parametrize("crs", [UTM, ETRS89], ids=["metres", "degrees"])
@pytest.mark.parametrize("far", [1e9, 1e300, math.inf, math.nan])
def test_an_area_is_a_number_or_an_error(crs: QgsCoordinateReferenceSystem, far: float) -> None:
    """Also where coordinates in metres have a CRS in degrees, which is easily set by mistake."""
    with pytest.raises(EditError, match=r"area of the polygon cannot be measured in the CRS EPSG:.*: check the CRS"):
        EllipsoidArea(crs).area_m2(shapely.Polygon([(0, 0), (far, 0), (far, far), (0, 0)]))


@pytest.mark.parametrize(
    ("code", "west", "world"), [("EPSG:4326", 179.0, 360.0), ("EPSG:3857", 20037000.0, 40075016.685578)]
)
def test_a_click_beyond_the_antimeridian_goes_to_the_side_of_the_raster(code: str, west: float, world: float) -> None:
    extent = Bounds(west, 0, west + 2 * (world / 2 - west), 10)
    click = (west + 1.5 * (world / 2 - west) - world, 5.0)
    ((x, y),) = points_in_world([click], QgsCoordinateReferenceSystem(code), extent)
    assert (x, y) == pytest.approx((click[0] + world, 5.0), abs=1e-3)
    assert points_in_world([(0.0, 5.0)], QgsCoordinateReferenceSystem(code), extent) == [(0.0, 5.0)]
    assert points_in_world([(0.0, 5.0)], UTM, extent) == [(0.0, 5.0)]


@pytest.mark.parametrize("x", [0.0, 600.0], ids=["around", "beside"])
def test_polygons_at_a_pole(x: float) -> None:
    polar = QgsCoordinateReferenceSystem("EPSG:3413")
    disc = shapely.Point(x, 0).buffer(500)
    split = transform_polygon(disc, transform(polar, ETRS89))
    assert split.is_valid and split.bounds[3] == pytest.approx(90, abs=0.002)
    assert (split.bounds[2] - split.bounds[0] == 360) == (x == 0)
    assert EllipsoidArea(ETRS89).area_m2(split) == pytest.approx(EllipsoidArea(polar).area_m2(disc), rel=1e-3)


@pytest.mark.parametrize("adopted", [True, False])
@pytest.mark.parametrize(
    "definition", ["EPSG:25829", "PROJ4:+proj=tmerc +lon_0=-3.1 +x_0=700000 +ellps=GRS80 +units=m +no_defs"]
)
def test_a_crs_made_in_a_thread_that_has_ended(definition: str, adopted: bool) -> None:
    """As the one of a store, which is opened in a thread of QGIS's pool; those end after a while."""
    wkt = QgsCoordinateReferenceSystem(definition).toWkt(QgsCoordinateReferenceSystem.WKT1_GDAL)
    QgsCoordinateReferenceSystem.invalidateCache()
    made, may_end = [], threading.Event()

    def work() -> None:
        made.append(crs_from_wkt(wkt))
        ready.set()
        may_end.wait()

    ready = threading.Event()
    thread = threading.Thread(target=work)
    thread.start()
    ready.wait()
    crs = made_anew(made[0]) if adopted else None
    may_end.set()
    thread.join()
    crs = crs or crs_from_wkt(wkt)
    there = transform(crs, QgsCoordinateReferenceSystem("EPSG:6933"))
    assert there.isValid()
    square = shapely.box(X, Y, X + 100, Y + 100)
    expected = EllipsoidArea(QgsCoordinateReferenceSystem(definition)).area_m2(square)
    assert EllipsoidArea(crs).area_m2(square) == pytest.approx(expected, rel=1e-9)

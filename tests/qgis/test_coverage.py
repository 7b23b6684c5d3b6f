"""Layers whose polygons form a coverage: changes from the edit buffer and back into it, in one undo step each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsFeature,
    QgsGeometry,
    QgsProject,
    QgsVectorFileWriter,
    QgsVectorLayer,
    QgsVectorLayerUtils,
)

from geosam_es.core.coverage import Changes, Ground
from geosam_es.errors import EditError
from geosam_es.gui.editing.coverage import LayerCoverage
from geosam_es.gui.editing.edits import write_changes
from geosam_es.qgis_support.classes import ClassItem, ClassList, apply_classes
from geosam_es.qgis_support.coverage_mode import CoverageMode
from geosam_es.qgis_support.crs import EllipsoidArea, from_qgs, to_qgs, transform, transform_polygon

UTM = "EPSG:25830"
X, Y = 725000.0, 4372000.0
SIDE = 200.0
FIELDS = "field=class:string(20)&field=note:string(20)&field=id:integer"


def box(min_x: float, min_y: float, max_x: float, max_y: float) -> shapely.Polygon:
    return shapely.box(X + min_x, Y + min_y, X + max_x, Y + max_y)


def memory(kind: str = "MultiPolygon", crs: str = UTM) -> QgsVectorLayer:
    layer = QgsVectorLayer(f"{kind}?crs={crs}&{FIELDS}", "map", "memory")
    assert layer.isValid()
    return layer


def stored(path: Path, driver: str, kind: str = "MultiPolygon", crs: str = UTM) -> QgsVectorLayer:
    options = QgsVectorFileWriter.SaveVectorOptions()
    options.driverName = driver
    context = QgsProject.instance().transformContext()
    QgsVectorFileWriter.writeAsVectorFormatV3(memory(kind, crs), str(path), context, options)
    return QgsVectorLayer(str(path), "map", "ogr")


def add(layer: QgsVectorLayer, shape: shapely.Geometry, **values: Any) -> int:
    layer.startEditing()
    named = {layer.fields().lookupField(name): value for name, value in values.items()}
    feature = QgsVectorLayerUtils.createFeature(layer, to_qgs(shape).coerceToType(layer.wkbType())[0], named)
    assert layer.addFeature(feature)
    return int(feature.id())


def shapes(layer: QgsVectorLayer) -> dict[int, shapely.Geometry]:
    return {feature.id(): from_qgs(feature.geometry()) for feature in layer.getFeatures()}


def state(layer: QgsVectorLayer) -> dict[int, Any]:
    """Return all there is in a layer, bit for bit."""
    return {
        feature.id(): (bytes(feature.geometry().asWkb()), [str(value) for value in feature.attributes()])
        for feature in layer.getFeatures()
    }


def assert_coverage(layer: QgsVectorLayer) -> None:
    found = shapes(layer).values()
    metres = np.array(EllipsoidArea(layer.crs()).metres_per_unit(*next(iter(found)).centroid.coords[0]))
    origin = np.array(next(iter(found)).centroid.coords[0])
    flat = np.array([shapely.transform(shape, lambda xy: (xy - origin) * metres) for shape in found], object)
    assert shapely.is_valid(flat).all()
    assert shapely.area(flat).sum() == pytest.approx(shapely.union_all(flat).area, abs=1e-4)
    if shapely.geos_version >= (3, 12, 0) and hasattr(shapely, "coverage_is_valid"):
        assert shapely.coverage_is_valid(shapely.get_parts(flat))


def test_a_new_polygon_carves_its_neighbours_in_one_undo_step() -> None:
    layer = memory()
    left, right = add(layer, box(0, 0, 10, 10), note="left"), add(layer, box(10, 0, 20, 10), note="right")
    hidden = add(layer, box(8, 4, 12, 6), note="hidden")
    layer.deleteFeature(hidden)
    before, count = state(layer), layer.undoStack().count()
    changes = LayerCoverage(layer, CoverageMode(ground="carve")).place(box(5, 0, 15, 5))
    feature_id = write_changes(layer, changes, "Add polygon", {"class": "new"})
    assert layer.undoStack().count() == count + 1
    assert layer.getFeature(feature_id)["class"] == "new"
    found = shapes(layer)
    for key, whole in ((left, box(0, 0, 10, 10)), (right, box(10, 0, 20, 10))):
        assert found[key].symmetric_difference(whole.difference(box(5, 0, 15, 5))).area < 1e-3
    assert [layer.getFeature(key)["note"] for key in (left, right)] == ["left", "right"]
    assert_coverage(layer)
    layer.undoStack().undo()
    assert state(layer) == before


def test_what_is_split_off_has_the_attributes_and_the_new_class() -> None:
    layer = memory()
    whole = add(layer, box(0, 0, 10, 10), **{"class": "old", "note": "kept", "id": 7})
    changes = LayerCoverage(layer, CoverageMode(ground="split")).place(box(2, 2, 5, 5))
    part = write_changes(layer, changes, "Add polygon", {"class": "new"})
    new, old = layer.getFeature(part), layer.getFeature(whole)
    assert (new["class"], new["note"], new["id"]) == ("new", "kept", 7)
    assert (old["class"], old["note"]) == ("old", "kept")
    assert shapes(layer)[whole].area == pytest.approx(91)


@pytest.mark.parametrize("suffix", ["gpkg", "shp"])
def test_a_layer_of_single_polygons_gets_the_parts(tmp_path: Path, suffix: str) -> None:
    driver = {"gpkg": "GPKG", "shp": "ESRI Shapefile"}[suffix]
    layer = stored(tmp_path / f"map.{suffix}", driver, "Polygon" if suffix == "gpkg" else "MultiPolygon")
    add(layer, box(0, 0, 10, 10), note="old")
    assert layer.commitChanges()
    changes = LayerCoverage(layer, CoverageMode(ground="carve")).place(box(4, -1, 6, 11))
    write_changes(layer, changes, "Add polygon", {"note": "new"})
    assert layer.commitChanges(), layer.commitErrors()
    notes = sorted((feature["note"], feature.geometry().area()) for feature in layer.getFeatures())
    halves = [("old", 40.0), ("old", 40.0)] if suffix == "gpkg" else [("old", 80.0)]
    for note, (name, area) in zip(notes, [("new", 24.0), *halves], strict=True):
        assert note == (name, pytest.approx(area, abs=1e-3))
    assert_coverage(layer)


def test_a_polygon_that_vanishes_is_deleted_and_comes_back() -> None:
    layer = memory()
    small, large = add(layer, box(2, 2, 4, 4)), add(layer, box(20, 0, 30, 10))
    before = state(layer)
    changes = LayerCoverage(layer, CoverageMode(ground="carve")).place(box(0, 0, 10, 10))
    write_changes(layer, changes, "Add polygon")
    assert small not in shapes(layer) and large in shapes(layer)
    layer.undoStack().undo()
    assert state(layer) == before


def test_the_only_polygon_may_be_unsaved() -> None:
    """Ids of unsaved features are negative; -1 stands for no polygon in `core`."""
    for ground in Ground:
        layer = memory()
        add(layer, box(0, 0, 10, 10))
        for step in range(3):
            coverage = LayerCoverage(layer, CoverageMode(ground=ground.value))
            write_changes(layer, coverage.place(box(2 * step, 2, 2 * step + 2, 12)), "Add polygon")
            assert_coverage(layer)
        assert len(shapes(layer)) == 4


@pytest.mark.parametrize("operation", ["carve", "split", "cut", "cut of both", "merge"])
def test_vertices_keep_their_heights(operation: str) -> None:
    layer = memory("PolygonZM")
    layer.startEditing()
    keys = []
    for left, heights in ((0, "1234"), (10, "5678")):
        ring = [
            (X + left + x, Y + y, h, int(h) + 10) for (x, y), h in zip(((0, 0), (10, 0), (10, 10), (0, 10)), heights)
        ]
        feature = QgsFeature(layer.fields())
        text = ", ".join(" ".join(map(str, vertex)) for vertex in [*ring, ring[0]])
        feature.setGeometry(QgsGeometry.fromWkt(f"PolygonZM(({text}))"))
        layer.addFeature(feature)
        keys.append(feature.id())
    before = heights_of(layer)
    coverage = LayerCoverage(layer, CoverageMode(tolerance_m=0.0, ground=operation))
    if operation == "cut":
        found = coverage.cut(keys[:1], shapely.LineString([(X + 4, Y - 5), (X + 4, Y + 15)]))
    elif operation == "cut of both":
        found = coverage.cut(keys, shapely.LineString([(X - 5, Y + 4), (X + 25, Y + 4)]))
    elif operation == "merge":
        found = [coverage.merge(*keys)]
    else:
        found = [coverage.place(box(5, 0, 10, 10))]
    for changes in found:
        write_changes(layer, changes, operation)
    after = heights_of(layer)
    corners = {(0, 0): {(1, 11)}, (0, 10): {(4, 14)}, (20, 0): {(6, 16)}, (20, 10): {(7, 17)}}
    assert {place: after[place] for place in corners} == corners
    if operation in ("cut", "cut of both"):
        # New vertices on an edge get what the edge has there.
        spot, height = ((4, 0), 1.4) if operation == "cut" else ((0, 4), 2.2)
        assert [heights == pytest.approx((height, height + 10)) for heights in after[spot]] == [True]
    # At the common corners both heights stay while both polygons have them.
    common = {place: heights for place, heights in before.items() if len(heights) == 2}
    if operation in ("cut", "cut of both", "split"):
        assert {place: after[place] for place in common} == common
    else:
        assert all(after.get(place, heights) <= heights for place, heights in common.items())


def heights_of(layer: QgsVectorLayer) -> dict[tuple[float, float], set[tuple[float, float]]]:
    """Return all Z and M at each place of a layer."""
    found: dict[tuple[float, float], set[tuple[float, float]]] = {}
    for feature in layer.getFeatures():
        for vertex in feature.geometry().vertices():
            found.setdefault((vertex.x() - X, vertex.y() - Y), set()).add((vertex.z(), vertex.m()))
    return found


def test_a_feature_that_is_gone_is_refused_and_nothing_changes() -> None:
    layer = memory()
    key = add(layer, box(0, 0, 10, 10))
    coverage = LayerCoverage(layer, CoverageMode(ground="carve"))
    changes = coverage.place(box(5, 0, 15, 10))
    layer.deleteFeature(key)
    before = state(layer)
    with pytest.raises(EditError, match="no longer in map"):
        write_changes(layer, changes, "Add polygon")
    assert state(layer) == before
    count = layer.undoStack().count()
    assert write_changes(layer, Changes({}), "Nothing") is None
    assert layer.undoStack().count() == count


def test_the_minimum_of_a_class_comes_before_that_of_the_layer() -> None:
    layer = memory()
    add(layer, box(0, 0, 100, 100))
    classes = ClassList(None, (ClassItem("pond", "Pond", None, 5.0), ClassItem("wood", "Wood")))
    apply_classes(layer, "class", classes)
    mode = CoverageMode(ground="split", min_area_m2=500.0)
    coverage = LayerCoverage(layer, mode, ["class"])
    assert coverage.place(box(10, 10, 20, 20), "pond").new[0].area == pytest.approx(100)
    with pytest.raises(EditError, match="100 m², less than the minimum of 500 m²"):
        coverage.place(box(10, 10, 20, 20), "wood")


def test_metres_on_the_ground_in_degrees() -> None:
    layer = memory(crs="EPSG:4326")
    to_degrees = transform(QgsCoordinateReferenceSystem(UTM), layer.crs())
    add(layer, transform_polygon(box(0, 0, 100, 100), to_degrees))
    coverage = LayerCoverage(layer, CoverageMode(ground="fill", tolerance_m=2.0))
    near = coverage.place(transform_polygon(box(101.5, 0, 200, 100), to_degrees))
    far = coverage.place(transform_polygon(box(103, 0, 200, 100), to_degrees))
    first = next(iter(shapes(layer).values()))
    assert near.new[0].distance(first) == 0 and far.new[0].distance(first) > 0


def grid(layer: QgsVectorLayer) -> None:
    """Add a coverage of nine rectangles that share their vertices."""
    to_layer = transform(QgsCoordinateReferenceSystem(UTM), layer.crs())
    cuts = [0.0, 60.0, 130.0, SIDE]
    for number, (col, row) in enumerate((col, row) for col in range(3) for row in range(3)):
        cell = box(cuts[col], cuts[row], cuts[col + 1], cuts[row + 1])
        shape = transform_polygon(cell, to_layer) if layer.crs().isGeographic() else cell
        add(layer, shape, **{"class": "abc"[number % 3], "note": str(number), "id": number})


def blob(rng: np.random.Generator, x: float, y: float, radius: float) -> shapely.Polygon:
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    radii = radius * (1 + 0.2 * np.sin(3 * angles + rng.uniform(0, 6)))
    return shapely.Polygon(np.column_stack([x + radii * np.cos(angles), y + radii * np.sin(angles)]))


def take_step(rng: np.random.Generator, layer: QgsVectorLayer, tolerance: float) -> None:
    """Accept, carve, split, cut, merge, refine or undo something."""
    kind = str(rng.choice(["fill", "carve", "split", "cut", "merge", "refine", "undo"]))
    stack, before = layer.undoStack(), state(layer)
    if kind == "undo":
        if stack.canUndo():
            stack.undo()
            assert_coverage(layer)
            stack.redo()
            assert state(layer) == before
            stack.undo()
        return
    found = shapes(layer)
    key = int(rng.choice(list(found)))
    scale = EllipsoidArea(layer.crs()).metres_per_unit(*found[key].centroid.coords[0])
    spot = found[key].point_on_surface()

    def drawn(radius: float) -> shapely.Polygon:
        shape = blob(rng, *rng.uniform(-10, 10, 2), radius)
        return shapely.transform(shape, lambda xy: xy / scale + (spot.x, spot.y))

    moves = bool(rng.integers(2))
    ground = kind if kind in ("fill", "carve", "split") else "fill"
    coverage = LayerCoverage(layer, CoverageMode(True, ground, tolerance, 20.0, False, moves), ["class"])
    feature_id = None
    try:
        if kind == "cut":
            far = 1000 / np.array(scale) * rng.normal(size=2)
            (changes,) = coverage.cut([key], shapely.LineString([spot.coords[0] - far, spot.coords[0] + far]))
        elif kind == "merge":
            others = [other for other in found if other != key and found[other].distance(found[key]) == 0]
            changes = coverage.merge(key, int(rng.choice(others or [key])))
        elif kind == "refine":
            changes, feature_id = coverage.reshape(key, drawn(rng.uniform(10, 50))), key
        else:
            changes = coverage.place(drawn(rng.uniform(4, 40)), "d")
        write_changes(layer, changes, kind, {"class": "d"}, feature_id=feature_id)
    except EditError:
        assert state(layer) == before
        return
    assert_coverage(layer)
    after = state(layer)
    if after != before:
        stack.undo()
        assert state(layer) == before
        stack.redo()
        assert state(layer) == after


@pytest.mark.parametrize("seed", range(20))
def test_random_sequences_leave_a_coverage(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    drivers = {"gpkg": "GPKG", "shp": "ESRI Shapefile"}
    kind, suffix = ("MultiPolygon", "Polygon")[seed % 2], ("memory", "gpkg", "shp")[seed % 3]
    crs = "EPSG:4326" if seed % 5 == 4 else UTM
    path = tmp_path / f"map.{suffix}"
    layer = memory(kind, crs) if suffix == "memory" else stored(path, drivers[suffix], kind, crs)
    grid(layer)
    assert layer.commitChanges(), layer.commitErrors()
    start = state(layer)
    layer.startEditing()
    for _ in range(30):
        take_step(rng, layer, (0.0, 1.0)[seed // 10])
    while layer.undoStack().canUndo():
        layer.undoStack().undo()
    assert state(layer) == start
    layer.undoStack().clear()

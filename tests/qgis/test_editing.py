"""Adding polygons to real layers: GeoPackages, Shapefiles and memory layers with many schemas."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from osgeo import gdal, ogr
from qgis.core import (
    NULL,
    QgsCategorizedSymbolRenderer,
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransform,
    QgsDefaultValue,
    QgsFeature,
    QgsFieldConstraints,
    QgsGeometry,
    QgsProject,
    QgsVectorFileWriter,
    QgsVectorLayer,
    QgsWkbTypes,
)
from qgis.gui import QgsAttributeForm
from qgis.PyQt import sip
from qgis.PyQt.QtGui import QColor
from shapely.affinity import rotate

from geosam_es.core.prompts import Point, Prompts
from geosam_es.core.topology import polygon_parts
from geosam_es.errors import EditError
from geosam_es.gui.editing.edits import AcceptOptions, write_polygon
from geosam_es.gui.editing.layer_geometry import LayerFitting
from geosam_es.gui.editing.provenance import Provenance, read_provenance
from geosam_es.gui.editing.refining import outline_in
from geosam_es.gui.editing.target_layer import create_target_layer
from geosam_es.qgis_support.classes import ClassItem, ClassList, classes_of_layer
from geosam_es.qgis_support.crs import EllipsoidArea, from_qgs, to_qgs, transform, transform_polygon

UTM = QgsCoordinateReferenceSystem("EPSG:25830")
GEOGRAPHIC = QgsCoordinateReferenceSystem("EPSG:4326")
FEET = "PROJ:+proj=utm +zone=30 +ellps=GRS80 +units=us-ft +no_defs"
X, Y = 725000.0, 4372000.0
PROVENANCE = Provenance("mini", 0.93, Prompts((Point(X + 5, Y + 5),)), "ortho.tif", "2026-11-20T10:00:00+00:00")
PLAIN = AcceptOptions()


def square(side: float = 10.0, dx: float = 0.0, dy: float = 0.0) -> shapely.Polygon:
    return shapely.box(X + dx, Y + dy, X + dx + side, Y + dy + side)


def memory(definition: str = "MultiPolygon", fields: str = "field=code:string(20)", crs: str = "EPSG:25830") -> Any:
    layer = QgsVectorLayer(f"{definition}?crs={crs}&{fields}", "habitats", "memory")
    assert layer.isValid()
    return layer


def accept(layer: Any, shape: shapely.Geometry, options: AcceptOptions = PLAIN, **kwargs: Any) -> int | None:
    arguments = {"attributes": {}, "provenance": None, **kwargs}
    return write_polygon(layer, shape, UTM, options=options, **arguments)


def add_disc(layer: Any) -> QgsFeature:
    """Add a disc with heights, or arcs if the layer has them, to a layer and return it."""
    if layer.wkbType() == QgsWkbTypes.CurvePolygon:
        ends = [(X - 40, Y), (X, Y + 40), (X + 40, Y), (X, Y - 40), (X - 40, Y)]
        geometry = QgsGeometry.fromWkt(f"CurvePolygon(CircularString({', '.join(f'{x} {y}' for x, y in ends)}))")
    else:
        angles = np.linspace(0, 2 * np.pi, 200, endpoint=False)
        ring = [f"{X + 40 * np.cos(angle)} {Y + 40 * np.sin(angle)} {9 + angle} {angle}" for angle in angles]
        geometry = QgsGeometry.fromWkt(f"PolygonZM(({', '.join([*ring, ring[0]])}))")
    geometry.transform(transform(UTM, layer.crs()))
    feature = QgsFeature(layer.fields())
    feature.setGeometry(geometry)
    layer.startEditing()
    assert layer.addFeature(feature)
    return layer.getFeature(feature.id())


def shapes(layer: Any) -> list[shapely.Geometry]:
    return [from_qgs(feature.geometry()) for feature in layer.getFeatures()]


@pytest.mark.parametrize("kind", ["gpkg", "shp", "memory"])
def test_one_feature_in_one_undo_step_never_committed(tmp_path: Path, kind: str) -> None:
    layer = memory() if kind == "memory" else create_target_layer(tmp_path / f"habitats.{kind}", UTM)
    field = "code" if kind == "memory" else "class"
    fid = accept(layer, square(), attributes={field: "6220"}, provenance=PROVENANCE)
    assert layer.isEditable() and layer.undoStack().count() == 1
    assert layer.undoStack().text(0) == "Add polygon"
    assert layer.featureCount() == 1 and layer.dataProvider().featureCount() == 0
    feature = layer.getFeature(fid)
    assert feature[field] == "6220"
    assert from_qgs(feature.geometry()).equals(square())
    layer.undoStack().undo()
    assert layer.featureCount() == 0 and list(layer.getFeatures()) == []
    layer.undoStack().redo()
    assert layer.featureCount() == 1
    assert layer.commitChanges(), layer.commitErrors()
    assert [shape.equals(square()) for shape in shapes(layer)] == [True]


DEFINITIONS = ["Polygon", "MultiPolygon", "PolygonZ", "MultiPolygonZ", "PolygonM", "MultiPolygonZM"]


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_the_geometry_takes_the_layers_type(definition: str) -> None:
    layer = memory(definition)
    fid = accept(layer, square().difference(square(2, 4, 4)))
    geometry = layer.getFeature(fid).geometry()
    assert geometry.wkbType() == layer.wkbType()
    assert from_qgs(geometry).equals(square().difference(square(2, 4, 4)))
    assert layer.commitChanges(), layer.commitErrors()
    assert [shape.area for shape in shapes(layer)] == [pytest.approx(96)]


@pytest.mark.parametrize("definition", ["CurvePolygon", "MultiSurface"])
def test_layers_of_curves_take_straight_polygons(definition: str) -> None:
    layer = memory(definition)
    accept(layer, square())
    assert layer.commitChanges(), layer.commitErrors()
    assert shapes(layer)[0].equals(square())


def saved_as(layer: Any, path: Path, driver: str) -> Any:
    options = QgsVectorFileWriter.SaveVectorOptions()
    options.driverName = driver
    QgsVectorFileWriter.writeAsVectorFormatV3(layer, str(path), QgsProject.instance().transformContext(), options)
    return QgsVectorLayer(str(path), "saved", "ogr")


@pytest.mark.parametrize(
    ("driver", "suffix"),
    [("GeoJSON", "geojson"), ("SQLite", "sqlite"), ("GPKG", "gpkg"), ("MapInfo File", "tab"), ("GML", "gml")],
)
def test_common_formats(tmp_path: Path, driver: str, suffix: str) -> None:
    source = memory("Polygon")
    source.startEditing()
    accept(source, square(3, 50), attributes={"code": "1"})
    source.commitChanges()
    layer = saved_as(source, tmp_path / f"saved.{suffix}", driver)
    assert layer.isValid() and layer.featureCount() == 1
    if driver == "GML":
        with pytest.raises(EditError, match="saved is read-only"):
            accept(layer, square())
        return
    accept(layer, square(), attributes={"code": "6220"})
    assert layer.undoStack().count() == 1
    assert layer.commitChanges(), layer.commitErrors()
    # MapInfo keeps coordinates as whole numbers of a grid.
    assert sorted(shape.area for shape in shapes(layer)) == pytest.approx([9, 100], rel=5e-3)
    assert {feature["code"] for feature in layer.getFeatures()} == {"1", "6220"}


def test_a_shapefile_with_z(tmp_path: Path) -> None:
    layer = saved_as(memory("MultiPolygonZ"), tmp_path / "z.shp", "ESRI Shapefile")
    accept(layer, square(), attributes={"code": "x"})
    assert layer.commitChanges(), layer.commitErrors()
    stored = next(layer.getFeatures())
    assert stored.geometry().constGet().is3D() and stored["code"] == "x"


def test_parts_stay_together_in_a_multipolygon_layer() -> None:
    layer = memory("MultiPolygon")
    accept(layer, shapely.union(square(), square(5, 20)))
    assert layer.featureCount() == 1 and layer.undoStack().count() == 1


def test_parts_become_features_of_a_single_polygon_layer_in_one_undo_step() -> None:
    layer = memory("Polygon")
    fid = accept(layer, shapely.union(square(), square(5, 20)), attributes={"code": "6220"})
    assert layer.featureCount() == 2 and layer.undoStack().count() == 1
    assert {feature["code"] for feature in layer.getFeatures()} == {"6220"}
    assert layer.getFeature(fid).geometry().area() == pytest.approx(100)
    layer.undoStack().undo()
    assert layer.featureCount() == 0


def test_parts_are_numbered_one_after_the_other() -> None:
    layer = memory("Polygon", "field=number:integer")
    layer.setDefaultValueDefinition(0, QgsDefaultValue('coalesce(maximum("number"), 0) + 1'))
    accept(layer, shapely.union_all([square(), square(5, 20), square(3, 40)]))
    assert sorted(feature["number"] for feature in layer.getFeatures()) == [1, 2, 3]


def test_raster_and_layer_in_different_crs() -> None:
    layer = memory(crs="EPSG:4326")
    accept(layer, square())
    center = shapes(layer)[0].centroid
    expected = QgsCoordinateTransform(UTM, GEOGRAPHIC, QgsProject.instance()).transform(X + 5, Y + 5)
    assert (center.x, center.y) == pytest.approx((expected.x(), expected.y()), abs=1e-9)


def test_earlier_edits_are_left_alone() -> None:
    layer = memory()
    layer.startEditing()
    own = QgsFeature(layer.fields())
    own.setGeometry(to_qgs(square(1, 50)))
    layer.addFeature(own)
    accept(layer, square())
    assert layer.undoStack().count() == 2
    layer.undoStack().undo()
    assert [shape.area for shape in shapes(layer)] == [pytest.approx(1)]


def test_default_values_fill_the_other_fields() -> None:
    layer = memory(fields="field=code:string(20)&field=area:double&field=author:string(20)&field=number:integer")
    layer.setDefaultValueDefinition(1, QgsDefaultValue("$area", True))
    layer.setDefaultValueDefinition(2, QgsDefaultValue("'me'"))
    layer.setDefaultValueDefinition(3, QgsDefaultValue('coalesce(maximum("number"), 0) + 1'))
    first = layer.getFeature(accept(layer, square(), attributes={"code": "x"}))
    assert (first["code"], first["author"], first["number"]) == ("x", "me", 1)
    assert first["area"] == pytest.approx(100, rel=1e-2)
    second = layer.getFeature(accept(layer, square(), attributes={"author": "you"}))
    assert (second["author"], second["number"]) == ("you", 2)
    # A default that applies on update follows the refined geometry.
    write_polygon(layer, square(20), UTM, {}, None, PLAIN, feature_id=first.id())
    assert layer.getFeature(first.id())["area"] == pytest.approx(400, rel=1e-2)


def constrained() -> Any:
    layer = memory(fields="field=code:string(20)&field=number:integer")
    hard = QgsFieldConstraints.ConstraintStrengthHard
    layer.setFieldConstraint(0, QgsFieldConstraints.ConstraintNotNull, hard)
    return layer


def test_a_broken_hard_constraint_leaves_nothing() -> None:
    layer = constrained()
    with pytest.raises(EditError, match="The value of the field code of habitats breaks a constraint"):
        accept(layer, square())
    assert not layer.isEditable() and layer.featureCount() == 0
    accept(layer, square(), attributes={"code": "6220"})
    assert layer.featureCount() == 1


def test_a_broken_soft_constraint_is_accepted() -> None:
    layer = memory()
    soft = QgsFieldConstraints.ConstraintStrengthSoft
    layer.setFieldConstraint(0, QgsFieldConstraints.ConstraintNotNull, soft)
    accept(layer, square())
    assert layer.featureCount() == 1


def test_unique_numbers_stay_unique(tmp_path: Path) -> None:
    layer = create_target_layer(tmp_path / "h.gpkg", UTM)
    for _ in range(3):
        accept(layer, square())
    assert layer.commitChanges(), layer.commitErrors()
    assert sorted(feature["fid"] for feature in layer.getFeatures()) == [1, 2, 3]
    accept(layer, square(), attributes={"fid": 2})
    assert layer.commitChanges(), layer.commitErrors()
    assert layer.featureCount() == 4


@pytest.mark.parametrize(
    ("value", "stored"), [(12, 12), ("12", 12), (12.0, 12), (None, NULL)], ids=["int", "text", "float", "none"]
)
def test_codes_take_the_type_of_the_field(value: Any, stored: Any) -> None:
    layer = memory(fields="field=code:integer")
    assert layer.getFeature(accept(layer, square(), attributes={"code": value}))["code"] == stored


def test_values_and_fields_that_do_not_fit_are_named() -> None:
    layer = memory(fields="field=code:integer&field=short:string(2)")
    with pytest.raises(EditError, match="code cannot hold the value forest"):
        accept(layer, square(), attributes={"code": "forest"})
    with pytest.raises(EditError, match="short cannot hold the value 6220"):
        accept(layer, square(), attributes={"short": "6220"})
    with pytest.raises(EditError, match="habitats has no field class"):
        accept(layer, square(), attributes={"class": "forest"})
    assert not layer.isEditable()


class TestForm:
    FORM = AcceptOptions(open_form=True)

    def test_values_typed_in_the_form_are_in_the_same_undo_step(self) -> None:
        layer = constrained()

        def opener(feature: QgsFeature) -> bool:
            assert layer.getFeature(feature.id()).isValid()
            layer.beginEditCommand("Attributes changed")
            layer.changeAttributeValue(feature.id(), 0, "6220")
            layer.endEditCommand()
            return True

        fid = accept(layer, square(), self.FORM, form_opener=opener)
        assert layer.getFeature(fid)["code"] == "6220" and layer.undoStack().count() == 1
        layer.undoStack().undo()
        assert layer.featureCount() == 0

    def test_the_form_of_qgis_itself(self, qgis_app: Any) -> None:
        layer = memory()

        def opener(feature: QgsFeature) -> bool:
            form = QgsAttributeForm(layer, feature)
            form.changeAttribute("code", "6220")
            return bool(form.save())

        fid = accept(layer, square(), self.FORM, form_opener=opener)
        assert layer.getFeature(fid)["code"] == "6220" and layer.undoStack().count() == 1
        layer.undoStack().undo()
        assert layer.featureCount() == 0
        layer.undoStack().redo()
        assert [feature["code"] for feature in layer.getFeatures()] == ["6220"]

    def test_cancelled_forms_leave_nothing(self) -> None:
        layer = memory()
        assert accept(layer, square(), self.FORM, form_opener=lambda feature: False) is None
        assert layer.featureCount() == 0
        assert accept(layer, square()) is not None and layer.featureCount() == 1

    def test_a_form_that_raises_leaves_nothing(self) -> None:
        layer = memory()

        def opener(feature: QgsFeature) -> bool:
            raise RuntimeError("form")

        with pytest.raises(RuntimeError, match="form"):
            accept(layer, square(), self.FORM, form_opener=opener)
        assert layer.featureCount() == 0

    def test_a_form_with_a_broken_constraint(self) -> None:
        layer = constrained()
        with pytest.raises(EditError, match="The value of the field code"):
            accept(layer, square(), self.FORM, form_opener=lambda feature: True)
        assert layer.featureCount() == 0

    def test_a_layer_removed_under_the_open_form(self) -> None:
        layer = memory()

        def opener(feature: QgsFeature) -> bool:
            sip.delete(layer)
            return True

        with pytest.raises(EditError, match="The target layer was removed"):
            accept(layer, square(), self.FORM, form_opener=opener)

    def test_all_parts_get_the_values_of_the_form(self) -> None:
        layer = memory("Polygon")

        def opener(feature: QgsFeature) -> bool:
            return layer.changeAttributeValue(feature.id(), 0, "6220")

        accept(layer, shapely.union(square(), square(5, 20)), self.FORM, form_opener=opener)
        assert [feature["code"] for feature in layer.getFeatures()] == ["6220", "6220"]

    def test_no_form_by_default(self) -> None:
        layer = memory()
        accept(layer, square(), PLAIN, form_opener=lambda feature: pytest.fail("opened"))
        assert layer.featureCount() == 1


class TestRefused:
    def test_no_layer(self) -> None:
        with pytest.raises(EditError, match="There is no target layer"):
            accept(None, square())

    def test_deleted_layer(self) -> None:
        layer = memory()
        sip.delete(layer)
        with pytest.raises(EditError, match="The target layer was removed"):
            accept(layer, square())

    def test_layer_whose_file_is_gone(self, tmp_path: Path) -> None:
        layer = QgsVectorLayer(str(tmp_path / "gone.gpkg"), "gone", "ogr")
        with pytest.raises(EditError, match="The data source of gone is not available"):
            accept(layer, square())

    @pytest.mark.parametrize("definition", ["Point", "MultiLineString", "NoGeometry"])
    def test_other_geometry(self, definition: str) -> None:
        with pytest.raises(EditError, match="habitats is not a polygon layer"):
            accept(memory(definition), square())

    def test_layer_without_crs(self) -> None:
        layer = memory()
        layer.setCrs(QgsCoordinateReferenceSystem())
        with pytest.raises(EditError, match="habitats has no CRS"):
            accept(layer, square())

    def test_raster_without_crs(self) -> None:
        layer = memory()
        with pytest.raises(EditError, match="The raster has no CRS"):
            write_polygon(layer, square(), QgsCoordinateReferenceSystem(), {}, None, PLAIN)

    def test_read_only_layer(self) -> None:
        layer = memory()
        layer.setReadOnly(True)
        with pytest.raises(EditError, match="habitats is read-only"):
            accept(layer, square())

    def test_read_only_file(self, tmp_path: Path) -> None:
        path = tmp_path / "habitats.csv"
        path.write_text('wkt,code\n"POLYGON((0 0,1 0,1 1,0 0))",6220\n')
        layer = QgsVectorLayer(f"file://{path}?delimiter=,&wktField=wkt&crs=EPSG:25830", "text", "delimitedtext")
        assert layer.isValid()
        with pytest.raises(EditError, match="text is read-only"):
            accept(layer, square())

    @pytest.mark.parametrize("empty", [shapely.Polygon(), shapely.MultiPolygon()], ids=["polygon", "multipolygon"])
    def test_empty_geometry(self, empty: shapely.Geometry) -> None:
        with pytest.raises(EditError, match="There is no polygon to add"):
            accept(memory(), empty)

    def test_lines_are_no_polygon(self) -> None:
        with pytest.raises(EditError, match="There is no polygon to add"):
            accept(memory(), shapely.LineString([(X, Y), (X + 1, Y)]))

    def test_too_small(self) -> None:
        layer = memory()
        with pytest.raises(EditError, match="covers 100 m², less than the minimum of 150 m²"):
            accept(layer, square(), AcceptOptions(min_area_m2=150))
        assert not layer.isEditable()

    def test_outside_the_crs_of_the_layer(self) -> None:
        with pytest.raises(EditError, match="cannot be transformed to the CRS"):
            accept(memory(crs="EPSG:4326"), shapely.box(0, 0, 1e9, 1e9))

    def test_one_sentence_with_a_remedy(self) -> None:
        with pytest.raises(EditError) as caught:
            accept(memory(), square(), AcceptOptions(min_area_m2=150))
        assert caught.value.remedy and "\n" not in caught.value.user_message


def test_bow_ties_are_repaired() -> None:
    layer = memory()
    accept(layer, shapely.Polygon([(X, Y), (X + 10, Y + 10), (X + 10, Y), (X, Y + 10)]))
    assert shapes(layer)[0].is_valid and shapes(layer)[0].area == pytest.approx(50)


class TestOptions:
    def test_areas_are_those_of_the_ellipsoid(self) -> None:
        # In web mercator at 39.5 degrees a square of 10 m measures about 168 square units.
        layer = memory(crs="EPSG:3857")
        with pytest.raises(EditError, match="less than the minimum"):
            accept(layer, square(), AcceptOptions(min_area_m2=120))
        accept(layer, square(), AcceptOptions(min_area_m2=99))
        assert shapes(layer)[0].area > 160

    def test_small_parts_are_left_out(self) -> None:
        layer = memory()
        accept(layer, shapely.union(square(), square(2, 20)), AcceptOptions(min_area_m2=10))
        assert shapes(layer)[0].equals(square())

    @pytest.mark.parametrize("crs", ["EPSG:25830", "EPSG:4326", "EPSG:3857"])
    def test_small_holes_are_filled(self, crs: str) -> None:
        layer = memory(crs=crs)
        ring = square().difference(square(2, 1, 1)).difference(square(4, 5, 5))
        accept(layer, ring, AcceptOptions(fill_holes_m2=10))
        hole_counts = [len(part.interiors) for part in polygon_parts(shapes(layer)[0])]
        assert hole_counts == [1]

    @pytest.mark.parametrize("crs", ["EPSG:25830", "EPSG:4326"])
    def test_right_angles_are_right_on_the_ground(self, crs: str) -> None:
        """In every CRS of the raster: in degrees, right angles are distorted."""
        source = QgsCoordinateReferenceSystem(crs)
        house = rotate(shapely.box(X, Y, X + 30, Y + 20), 25)
        worn = house.buffer(-1.5).buffer(1.5)
        geometry = to_qgs(worn)
        geometry.transform(QgsCoordinateTransform(UTM, source, QgsProject.instance()))
        layer = memory()
        write_polygon(layer, from_qgs(geometry), source, {}, None, AcceptOptions(right_angles=True))
        squared = polygon_parts(shapes(layer)[0])[0]
        assert shapely.get_num_coordinates(squared) == 5
        assert squared.intersection(house).area / squared.union(house).area > 0.97

    @pytest.mark.parametrize("crs", ["EPSG:25830", "EPSG:4326"])
    @pytest.mark.parametrize("outline", ["few", "smooth"])
    def test_other_outlines_stay_within_a_pixel(self, crs: str, outline: str) -> None:
        source = QgsCoordinateReferenceSystem(crs)
        block = shapely.segmentize(shapely.box(X, Y, X + 60, Y + 40), 3).difference(shapely.box(X, Y, X + 20, Y + 10))
        geometry = to_qgs(block)
        geometry.transform(QgsCoordinateTransform(UTM, source, QgsProject.instance()))
        fitting = LayerFitting(memory(), source, AcceptOptions(outline=outline), pixel_m=1.0)
        styled = fitting.fit(from_qgs(geometry))
        assert shapely.hausdorff_distance(styled.boundary, block.boundary, densify=0.01) <= 1.01
        count, corner = shapely.get_num_coordinates(styled), styled.contains(shapely.Point(X + 59.9, Y + 0.1))
        assert (count, corner) == (7, True) if outline == "few" else (count > 20 and not corner)
        kept = fitting.fit(from_qgs(geometry), keeps_outline=True)
        assert shapely.get_num_coordinates(kept) == shapely.get_num_coordinates(block)
        house = AcceptOptions(right_angles=True, outline=outline)
        squared = LayerFitting(memory(), source, house, pixel_m=1.0).fit(from_qgs(geometry))
        assert shapely.get_num_coordinates(squared) == 7, "right angles come first"

    def test_overlaps_are_trimmed_with_unsaved_neighbours_too(self) -> None:
        layer = memory()
        accept(layer, square())
        accept(layer, square(10, 5, 0), AcceptOptions(trim_overlaps=True))
        first, second = shapes(layer)
        assert first.equals(square()) and second.equals(shapely.box(X + 10, Y, X + 15, Y + 10))
        with pytest.raises(EditError, match="cover the whole polygon"):
            accept(layer, square(4, 2, 2), AcceptOptions(trim_overlaps=True))

    def test_trimming_may_leave_too_little(self) -> None:
        layer = memory()
        accept(layer, square())
        with pytest.raises(EditError, match="less than the minimum"):
            accept(layer, square(10, 5, 0), AcceptOptions(trim_overlaps=True, min_area_m2=60))

    def test_borders_are_shared_within_the_tolerance(self) -> None:
        layer = memory()
        neighbour = shapely.Polygon([(X + 11, Y - 5), (X + 30, Y), (X + 11, Y + 15), (X + 10.5, Y + 5)])
        accept(layer, neighbour)
        accept(layer, square(), AcceptOptions(snap_m=1.5))
        snapped = shapes(layer)[1]
        assert (X + 10.5, Y + 5) in {tuple(xy) for xy in shapely.get_coordinates(snapped)}
        assert snapped.intersection(neighbour).area < 1e-6 and snapped.area > 105

    @pytest.mark.parametrize("crs", ["EPSG:25830", "EPSG:4326", "EPSG:3857", FEET])
    def test_snapping_is_in_metres_on_the_ground_in_every_crs(self, crs: str) -> None:
        layer = memory(crs=crs)
        accept(layer, square(40, 11, -5))
        accept(layer, square(), AcceptOptions(snap_m=1.5))
        accept(layer, square(10, 0, 40), AcceptOptions(snap_m=0.5))
        accept(layer, square(40, 11, 40), AcceptOptions(snap_m=0.5))
        back = transform(QgsCoordinateReferenceSystem(crs), UTM)
        areas = [transform_polygon(shape, back).area for shape in shapes(layer)]
        # The gap of 1 m closes with 1.5 m and stays with 0.5 m.
        assert areas == pytest.approx([1600, 110, 100, 1600], abs=0.5)

    @pytest.mark.parametrize("crs", ["EPSG:25830", "EPSG:4326"])
    def test_a_field_is_never_snapped_to_something_else(self, crs: str) -> None:
        """A field of 14,805 m² once became a sliver elsewhere, with a tolerance of 0.01 degrees."""
        layer = memory(crs=crs)
        for shape in (shapely.box(X - 300, Y - 300, X + 36, Y + 300), shapely.box(X + 97, Y - 300, X + 400, Y + 300)):
            accept(layer, shape)
        field = square(121.676)
        with pytest.raises(EditError, match=r"Snapping to neighbours would change the polygon too much: lower"):
            accept(layer, field, AcceptOptions(snap_m=50))
        assert layer.featureCount() == 2
        # What trimming cuts off is what the user asked for.
        accept(layer, field, AcceptOptions(trim_overlaps=True, snap_m=5))
        back = transform(QgsCoordinateReferenceSystem(crs), UTM)
        assert transform_polygon(shapes(layer)[2], back).area == pytest.approx(61 * 121.676, abs=1)

    def test_every_part_is_wider_than_a_pixel(self) -> None:
        """Trimming once left features of 2.5e-13 m²."""
        layer = memory("Polygon")
        # The crumbs beyond the road are narrower than a pixel.
        accept(layer, shapely.box(X + 60, Y - 50, X + 99.7, Y + 50))
        accept(layer, shapely.box(X - 10, Y - 50, X + 0.2, Y + 150))
        fitting = LayerFitting(layer, UTM, AcceptOptions(trim_overlaps=True), pixel_m=0.5)
        fitted = fitting.fit(shapely.box(X, Y, X + 100, Y + 40))
        assert fitted.symmetric_difference(shapely.box(X + 0.2, Y, X + 60, Y + 40)).area < 1e-3

    def test_only_near_features_are_converted(self, monkeypatch: pytest.MonkeyPatch) -> None:
        layer = memory()
        for index in range(20):
            accept(layer, square(10, 100 * index))
        read: list[Any] = []
        monkeypatch.setattr(
            "geosam_es.gui.editing.layer_geometry.from_qgs", lambda geometry: read.append(1) or from_qgs(geometry)
        )
        accept(layer, square(10, 5), AcceptOptions(trim_overlaps=True))
        # One neighbour. The polygon itself stays a shapely geometry until it is written.
        assert len(read) == 1

    @pytest.mark.parametrize("slope", [0.0, 0.3])
    @pytest.mark.parametrize("options", [AcceptOptions(trim_overlaps=True), AcceptOptions(snap_m=1.0)])
    def test_neighbours_get_the_ends_of_borders_with_heights(self, options: AcceptOptions, slope: float) -> None:
        layer = memory("PolygonZM")
        ring = [(X, Y, 0, 5), (X + 10 + slope, Y, 0, 5), (X + 10, Y + 10, 20, 25), (X, Y + 10, 20, 25), (X, Y, 0, 5)]
        feature = QgsFeature(layer.fields())
        text = ", ".join(" ".join(map(str, vertex)) for vertex in ring)
        feature.setGeometry(QgsGeometry.fromWkt(f"PolygonZM(({text}))"))
        layer.startEditing()
        assert layer.addFeature(feature)
        accept(layer, shapely.box(X + 9.8, Y + 2, X + 20, Y + 8), options)
        neighbour, new = (found.geometry() for found in sorted(layer.getFeatures(), key=lambda found: -found.id()))
        vertices = [(v.x(), v.y(), v.z(), v.m()) for v in neighbour.vertices()]
        ends = [vertex for vertex in vertices if vertex not in ring]
        assert {2, 8} <= {round(y - Y, 3) for _, y, _, _ in ends}
        assert [v[2:] for v in ends] == [pytest.approx((2 * (v[1] - Y), 2 * (v[1] - Y) + 5), abs=1e-3) for v in ends]
        assert {v[:2] for v in ends} <= {(v.x(), v.y()) for v in new.vertices()}
        assert layer.undoStack().count() == 2

    def test_topological_editing_gives_neighbours_the_vertices(self, qgis_new_project: None) -> None:
        layer = memory()
        accept(layer, square())
        QgsProject.instance().setTopologicalEditing(True)
        accept(layer, shapely.box(X + 10, Y + 3, X + 15, Y + 6), AcceptOptions(trim_overlaps=True))
        corners = {tuple(xy) for xy in shapely.get_coordinates(shapes(layer)[0]).tolist()}
        assert {(X + 10, Y + 3), (X + 10, Y + 6)} <= corners
        assert layer.undoStack().count() == 2


def test_layers_that_write_through_a_transaction(tmp_path: Path, qgis_new_project: None) -> None:
    """With transaction groups every edit is written at once, and undo uses savepoints."""
    layer = create_target_layer(tmp_path / "h.gpkg", UTM)
    QgsProject.instance().setAutoTransaction(True)
    QgsProject.instance().addMapLayer(layer)
    fid = accept(layer, square(), attributes={"class": "6220"}, provenance=PROVENANCE)
    assert layer.getFeature(fid)["class"] == "6220"
    layer.undoStack().undo()
    assert list(layer.getFeatures()) == []
    fid = accept(layer, square(), provenance=PROVENANCE)
    write_polygon(layer, square(20), UTM, {}, PROVENANCE, PLAIN, feature_id=fid)
    assert layer.commitChanges(), layer.commitErrors()
    assert [shape.area for shape in shapes(layer)] == [pytest.approx(400)]
    QgsProject.instance().setAutoTransaction(False)


class TestRefine:
    def test_geometry_and_provenance_in_one_undo_step(self, tmp_path: Path) -> None:
        layer = create_target_layer(tmp_path / "h.gpkg", UTM)
        fid = accept(layer, square(), attributes={"class": "6220"}, provenance=PROVENANCE)
        assert layer.commitChanges(), layer.commitErrors()
        fid = next(layer.getFeatures()).id()
        better = replace(PROVENANCE, score=0.99, prompts=PROVENANCE.prompts.with_point(Point(X + 15, Y + 15)))
        write_polygon(layer, square(20), UTM, {}, better, PLAIN, feature_id=fid)
        feature = layer.getFeature(fid)
        assert from_qgs(feature.geometry()).equals(square(20)) and feature["class"] == "6220"
        assert read_provenance(layer, feature) == better
        assert layer.undoStack().count() == 1
        layer.undoStack().undo()
        feature = layer.getFeature(fid)
        assert from_qgs(feature.geometry()).equals(square())
        assert read_provenance(layer, feature) == PROVENANCE
        layer.undoStack().redo()
        assert layer.commitChanges(), layer.commitErrors()
        assert from_qgs(layer.getFeature(fid).geometry()).equals(square(20))

    def test_a_polygon_is_not_its_own_neighbour(self) -> None:
        layer = memory()
        fid = accept(layer, square())
        options = AcceptOptions(trim_overlaps=True, snap_m=1.0)
        write_polygon(layer, square(8, 1, 1), UTM, {}, None, options, feature_id=fid)
        assert shapes(layer)[0].equals(square(8, 1, 1))

    def test_parts_in_a_single_polygon_layer(self) -> None:
        layer = memory("Polygon")
        fid = accept(layer, square(), attributes={"code": "6220"})
        write_polygon(layer, shapely.union(square(8), square(3, 20)), UTM, {}, None, PLAIN, feature_id=fid)
        assert sorted(shape.area for shape in shapes(layer)) == pytest.approx([9, 64])
        assert layer.getFeature(fid).geometry().area() == pytest.approx(64)
        assert {feature["code"] for feature in layer.getFeatures()} == {"6220"}
        assert layer.undoStack().count() == 2

    @pytest.mark.parametrize("definition", ["PolygonZM", "CurvePolygon"])
    @pytest.mark.parametrize("crs", ["EPSG:25830", "EPSG:4326", "EPSG:3857"])
    def test_another_class_leaves_the_geometry_alone(self, definition: str, crs: str) -> None:
        for options in PLAIN, AcceptOptions(trim_overlaps=True, snap_m=1.0, fill_holes_m2=1.0):
            layer = memory(definition, crs=crs)
            before = add_disc(layer)
            outline = outline_in(UTM, layer, before)
            write_polygon(layer, outline, UTM, {"code": "6220"}, None, options, feature_id=before.id())
            after = layer.getFeature(before.id())
            assert after["code"] == "6220"
            assert after.geometry().asWkb() == before.geometry().asWkb()

    @pytest.mark.parametrize("crs", ["EPSG:25830", "EPSG:4326", "EPSG:3857"])
    def test_vertices_that_stay_keep_their_place_and_heights(self, crs: str) -> None:
        layer = memory("PolygonZM", crs=crs)
        before = add_disc(layer)
        outline = shapely.union(outline_in(UTM, layer, before), square(30, 35, -15))
        write_polygon(layer, outline, UTM, {}, None, PLAIN, feature_id=before.id())
        after = layer.getFeature(before.id())
        old, new = ({bytes(v.asWkb()) for v in feature.geometry().vertices()} for feature in (before, after))
        # Some lie inside the stroke, which has two corners outside and two ends on the border.
        assert 150 < len(old & new) < 200 and len(new - old) == 4

    def test_a_feature_that_is_gone(self) -> None:
        layer = memory()
        fid = accept(layer, square())
        layer.deleteFeature(fid)
        with pytest.raises(EditError, match="no longer in habitats"):
            write_polygon(layer, square(20), UTM, {}, None, PLAIN, feature_id=fid)

    def test_a_refused_polygon_changes_nothing(self) -> None:
        layer = memory()
        fid = accept(layer, square())
        with pytest.raises(EditError, match="less than the minimum"):
            write_polygon(layer, square(2), UTM, {}, None, AcceptOptions(min_area_m2=50), feature_id=fid)
        assert shapes(layer)[0].equals(square()) and layer.undoStack().count() == 1


class TestNewLayers:
    @pytest.mark.parametrize("suffix", ["gpkg", "shp", "GPKG"])
    def test_fields_and_crs(self, tmp_path: Path, suffix: str) -> None:
        layer = create_target_layer(tmp_path / f"mis hábitats.{suffix}", UTM)
        names = [name for name in layer.fields().names() if name != "fid"]
        assert names == ["class", "model", "score", "prompts", "raster", "created"]
        assert all(len(name) <= 10 for name in names)
        assert layer.crs() == UTM and layer.name() == "mis hábitats"
        assert layer.geometryType() == QgsWkbTypes.PolygonGeometry and layer.featureCount() == 0
        fid = accept(layer, square(), attributes={"class": "ñandú"}, provenance=PROVENANCE)
        assert fid is not None and layer.commitChanges(), layer.commitErrors()
        again = QgsVectorLayer(layer.source(), "again", "ogr")
        feature = next(again.getFeatures())
        assert feature["class"] == "ñandú" and read_provenance(again, feature) == PROVENANCE

    def test_classes_come_with_it(self, tmp_path: Path) -> None:
        items = (ClassItem("6220", "Grassland", QColor("#ffcc00")), ClassItem("5330", "Scrub", None))
        layer = create_target_layer(tmp_path / "h.shp", UTM, classes=ClassList(None, items))
        known = classes_of_layer(layer)
        assert known is not None and known.field == "class"
        assert [item.code for item in known.items] == ["6220", "5330"]
        feature = layer.getFeature(accept(layer, square(), attributes={"class": known.items[0].code}))
        assert feature["class"] == "6220"
        assert isinstance(layer.renderer(), QgsCategorizedSymbolRenderer)

    def test_crs_without_a_code(self, tmp_path: Path) -> None:
        crs = QgsCoordinateReferenceSystem()
        crs.createFromProj("+proj=tmerc +lat_0=39 +lon_0=-0.5 +k=1 +x_0=1000 +y_0=2000 +ellps=GRS80 +units=m")
        layer = create_target_layer(tmp_path / "h.gpkg", crs)
        assert layer.crs().isValid() and "tmerc" in layer.crs().toProj()

    def test_another_layer_in_a_geopackage_and_nothing_overwritten(self, tmp_path: Path) -> None:
        path = tmp_path / "h.gpkg"
        layer = create_target_layer(path, UTM)
        accept(layer, square())
        layer.commitChanges()
        with pytest.raises(EditError, match="already has a layer h"):
            create_target_layer(path, UTM)
        shutil.copy(path, tmp_path / "other.gpkg")
        other = create_target_layer(tmp_path / "other.gpkg", UTM)
        assert other.featureCount() == 0
        assert QgsVectorLayer(f"{tmp_path / 'other.gpkg'}|layername=h", "h", "ogr").featureCount() == 1
        create_target_layer(tmp_path / "h.shp", UTM)
        with pytest.raises(EditError, match="already has a layer h"):
            create_target_layer(tmp_path / "h.shp", UTM)

    def test_invalid_folders_and_names(self, tmp_path: Path) -> None:
        with pytest.raises(EditError, match="cannot be written"):
            create_target_layer(tmp_path / "none" / "h.gpkg", UTM)
        with pytest.raises(EditError, match="neither a GeoPackage nor a Shapefile"):
            create_target_layer(tmp_path / "h.txt", UTM)
        for name in ("con.gpkg", "NUL.v2.shp", "a:b.gpkg"):
            with pytest.raises(EditError, match=f"{name} is not a valid file name on every system: choose another"):
                create_target_layer(tmp_path / name, UTM)
            assert not (tmp_path / name).exists()
        with pytest.raises(EditError, match="needs a CRS"):
            create_target_layer(tmp_path / "h.gpkg", QgsCoordinateReferenceSystem())
        (tmp_path / "broken.gpkg").write_text("no GeoPackage")
        with pytest.raises(EditError, match="cannot be written"):
            create_target_layer(tmp_path / "broken.gpkg", UTM)

    def test_gdal_may_raise_too(self, tmp_path: Path) -> None:
        gdal.UseExceptions()
        ogr.UseExceptions()
        try:
            (tmp_path / "broken.gpkg").write_text("no GeoPackage")
            with pytest.raises(EditError, match="cannot be written"):
                create_target_layer(tmp_path / "broken.gpkg", UTM)
            assert create_target_layer(tmp_path / "h.gpkg", UTM).isValid()
        finally:
            ogr.DontUseExceptions()
            gdal.DontUseExceptions()


def test_a_polygon_across_the_antimeridian_is_split_in_a_layer_in_degrees() -> None:
    pacific = QgsCoordinateReferenceSystem("EPSG:3832")
    disc = shapely.Point(3339584.72, 9569603.1).buffer(30)
    layer = memory(crs="EPSG:4326")
    fitted = LayerFitting(layer, pacific, PLAIN).fit(disc)
    assert fitted.is_valid and len(shapely.get_parts(fitted)) == 2
    assert all(part.bounds[2] - part.bounds[0] < 0.001 for part in shapely.get_parts(fitted))
    assert EllipsoidArea(layer.crs()).area_m2(fitted) == pytest.approx(EllipsoidArea(pacific).area_m2(disc), rel=1e-3)

"""What is written to the fields of a layer at accept, and what QGIS keeps up to date there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import shapely
from osgeo import gdal
from qgis.core import NULL, QgsExpressionContextUtils, QgsField, QgsProject, QgsReadWriteContext, QgsVectorLayer
from qgis.PyQt.QtCore import QDate, QVariant
from qgis.PyQt.QtWidgets import QDialog
from qgis.PyQt.QtXml import QDomDocument

from geosam_es.core.prompts import Bounds, Point, Prompts
from geosam_es.errors import EditError
from geosam_es.gui.editing.coverage import LayerCoverage
from geosam_es.gui.editing.edits import AcceptOptions, write_changes, write_polygon
from geosam_es.gui.editing.provenance import Provenance, read_provenance
from geosam_es.gui.editing.target_layer import create_target_layer
from geosam_es.gui.panel.fields_dialog import FieldsDialog
from geosam_es.qgis_support.coverage_mode import CoverageMode
from geosam_es.qgis_support.crs import EllipsoidArea, from_qgs, to_qgs
from geosam_es.qgis_support.field_map import FieldMap
from geosam_es.qgis_support.gdal_raster import image_date
from tests.qgis.support import Interface
from tests.qgis.test_editing import UTM, X, Y, memory, square

PROMPTS = Prompts((Point(X + 5, Y + 5),), Bounds(X, Y, X + 10, Y + 10))
PROVENANCE = Provenance("mini", 0.93456, PROMPTS, "ortho.tif", "2026-11-20T10:00:00+00:00", image_date="2025-06-01")
NAMES = {
    "area": "ha",
    "date": "day",
    "image": "photo",
    "image_date": "flown",
    "prompts": "how",
    "score": "iou",
    "interpreter": "who",
    "expression": "label",
}
MAP = FieldMap(NAMES, "upper(\"class\") || ' ' || round($perimeter)")


def accept(layer: Any, shape: shapely.Geometry, **kwargs: Any) -> Any:
    feature_id = write_polygon(layer, shape, UTM, {"class": "6220"}, PROVENANCE, AcceptOptions(), **kwargs)
    return layer.getFeature(feature_id)


def hectares(layer: Any, feature: Any) -> float:
    return EllipsoidArea(layer.crs()).area_m2(from_qgs(layer.getGeometry(feature.id()))) / 1e4


@pytest.mark.parametrize("kind", ["memory", "gpkg", "shp"])
@pytest.mark.parametrize("editing", [False, True])
def test_fields_are_made_and_written(qgis_app: Any, tmp_path: Path, kind: str, editing: bool) -> None:
    layer = (
        memory(fields="field=class:string(20)")
        if kind == "memory"
        else create_target_layer(tmp_path / f"a.{kind}", UTM)
    )
    if editing:
        layer.startEditing()
    MAP.apply(layer)
    feature = accept(layer, square(1000))
    assert feature["ha"] == pytest.approx(hectares(layer, feature), rel=1e-4)
    assert feature["day"] == QDate(2026, 11, 20) and feature["flown"] == QDate(2025, 6, 1)
    assert (feature["photo"], feature["how"]) == ("ortho.tif", "box, points")
    assert feature["iou"] == pytest.approx(0.9346)
    assert feature["label"] == "6220 4000"
    assert feature["who"] == QgsExpressionContextUtils.globalScope().variable("user_full_name")
    assert layer.commitChanges(), layer.commitErrors()
    saved = next(layer.getFeatures())
    assert saved["ha"] == pytest.approx(hectares(layer, saved), rel=1e-4)


@pytest.mark.parametrize("item", ["prompts", "image"])
def test_the_field_of_the_prompts_keeps_them_for_refining(qgis_app: Any, tmp_path: Path, item: str) -> None:
    layer = create_target_layer(tmp_path / "a.gpkg", UTM)
    FieldMap({item: "prompts", "date": "created"}).apply(layer)
    feature = accept(layer, square(10))
    assert read_provenance(layer, feature).prompts == PROMPTS
    assert feature["created"] != PROVENANCE.created


def test_the_area_follows_every_change_of_the_polygon(qgis_app: Any) -> None:
    layer = memory(fields="field=class:string(20)")
    MAP.apply(layer)
    feature = accept(layer, square(1000))
    # With a tool of QGIS, in its own undo step.
    layer.beginEditCommand("vertex tool")
    layer.changeGeometry(feature.id(), to_qgs(square(500)).coerceToType(layer.wkbType())[0])
    layer.endEditCommand()
    assert layer.getFeature(feature.id())["ha"] == pytest.approx(25, rel=1e-3)
    layer.undoStack().undo()
    assert layer.getFeature(feature.id())["ha"] == pytest.approx(100, rel=1e-3)
    # A neighbour that gives way.
    changes = LayerCoverage(layer, CoverageMode(ground="carve", tolerance_m=0.0)).place(square(500))
    write_changes(layer, changes, "Add polygon")
    areas = sorted(found["ha"] for found in layer.getFeatures())
    assert areas == pytest.approx([25, 75], rel=1e-3)
    # What was written at accept stays.
    assert layer.getFeature(feature.id())["iou"] == pytest.approx(0.9346)


def test_areas_do_not_depend_on_the_units_of_the_project(qgis_app: Any) -> None:
    QgsProject.instance().setEllipsoid("NONE")
    layer = memory(fields="field=class:string(20)", crs="EPSG:3857")
    MAP.apply(layer)
    feature = accept(layer, square(1000))
    assert feature["ha"] == pytest.approx(hectares(layer, feature), rel=1e-3) == pytest.approx(100, rel=1e-2)


def test_parts_of_one_polygon_have_areas_of_their_own(qgis_app: Any) -> None:
    layer = memory("Polygon", fields="field=class:string(20)")
    MAP.apply(layer)
    accept(layer, shapely.union(square(1000), square(500, 2000)))
    assert sorted(found["ha"] for found in layer.getFeatures()) == pytest.approx([25, 100], rel=1e-3)


def test_text_and_unsuitable_fields(qgis_app: Any) -> None:
    layer = memory(fields="field=class:string(20)&field=day:string(10)&field=when:datetime&field=n:integer")
    FieldMap({"date": "day", "image_date": "when", "image": "n"}).apply(layer)
    feature = accept(layer, square(10))
    assert feature["day"] == "2026-11-20" and feature["when"].date() == QDate(2025, 6, 1)
    assert feature["n"] in (NULL, None)


def test_the_map_is_kept_with_the_layer_in_the_project(qgis_app: Any) -> None:
    layer = memory(fields="field=class:string(20)")
    MAP.apply(layer)
    document = QDomDocument("qgis")
    element = document.createElement("maplayer")
    layer.writeLayerXml(element, document, QgsReadWriteContext())
    other = QgsVectorLayer()
    other.readLayerXml(element, QgsReadWriteContext())
    for name in NAMES.values():
        if other.fields().lookupField(name) < 0:
            other.dataProvider().addAttributes([QgsField(name, QVariant.String)])
    other.updateFields()
    assert FieldMap.of(other) == MAP
    # Fields that are gone, and another map.
    layer.startEditing()
    layer.deleteAttribute(layer.fields().lookupField("how"))
    assert "prompts" not in FieldMap.of(layer).names
    FieldMap({"score": "iou"}).apply(layer)
    assert accept(layer, square(10))["ha"] in (NULL, None)


def test_a_field_that_cannot_be_added_is_refused(qgis_app: Any, tmp_path: Path) -> None:
    layer = create_target_layer(tmp_path / "a.shp", UTM)
    with pytest.raises(EditError, match="The field fotointerprete cannot be added to a"):
        FieldMap({"interpreter": "fotointerprete"}).apply(layer)


@pytest.mark.parametrize("editing", [False, True])
def test_fields_are_added_all_or_none_in_one_undo_step(qgis_app: Any, tmp_path: Path, editing: bool) -> None:
    layer = create_target_layer(tmp_path / "a.shp", UTM)
    if editing:
        layer.startEditing()
    before = layer.fields().names()
    with pytest.raises(EditError, match="The field fotointerprete cannot be added to a"):
        FieldMap({"area": "ha", "interpreter": "fotointerprete"}).apply(layer, "kind")
    assert layer.fields().names() == before and layer.undoStack().count() == 0
    FieldMap({"area": "ha", "score": "iou"}).apply(layer, "kind")
    assert [name for name in layer.fields().names() if name not in before] == ["kind", "ha", "iou"]
    if editing:
        assert layer.undoStack().count() == 1 and layer.undoStack().text(0) == "Add fields"
        layer.undoStack().undo()
        assert layer.fields().names() == before and FieldMap.of(layer) == FieldMap()


def test_a_field_serves_for_one_thing(qgis_app: Any) -> None:
    layer = memory(fields="field=class:string(20)")
    for fields in (FieldMap({"area": "ha", "score": "HA"}), FieldMap({"image": "Class"})):
        with pytest.raises(EditError, match="is chosen more than once: choose another"):
            fields.apply(layer, "class")
    assert layer.fields().names() == ["class"]


def test_the_dialog_shows_and_gives_the_map(iface: Interface) -> None:
    layer = memory(fields="field=class:string(20)")
    MAP.apply(layer)
    dialog = FieldsDialog(layer, "class", iface.window)
    assert isinstance(dialog, QDialog) and dialog.class_field == "class" and dialog.field_map == MAP


@pytest.mark.parametrize(
    ("metadata", "date"),
    [
        ({}, ""),
        ({"TIFFTAG_DATETIME": "2024:05:06 07:08:09"}, "2024-05-06T07:08:09"),
        ({"TIFFTAG_DATETIME": "2024:05:06 07:08:09", "ACQUISITION_DATE": "20240401"}, "2024-04-01"),
        ({"TIFFTAG_DATETIME": "unknown"}, ""),
    ],
)
def test_the_date_of_an_image(qgis_app: Any, tmp_path: Path, metadata: dict[str, str], date: str) -> None:
    dataset = gdal.GetDriverByName("GTiff").Create(str(tmp_path / "image.tif"), 8, 8)
    dataset.SetMetadata(metadata)
    del dataset
    assert image_date(str(tmp_path / "image.tif")) == date
    assert image_date(str(tmp_path / "missing.tif")) == ""

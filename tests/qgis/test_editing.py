"""Polygons go into real layers: GeoPackages, Shapefiles and memory layers of many schemas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import shapely
from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsVectorLayer,
)

from geosam_es.core.prompts import Point, Prompts
from geosam_es.gui.crs import from_qgs, to_qgs
from geosam_es.gui.editing import AcceptOptions, accept_polygon, create_target_layer
from geosam_es.gui.provenance import Provenance

UTM = QgsCoordinateReferenceSystem("EPSG:25830")
GEOGRAPHIC = QgsCoordinateReferenceSystem("EPSG:4326")
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
    return accept_polygon(layer, to_qgs(shape), UTM, options=options, **arguments)


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

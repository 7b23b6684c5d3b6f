"""Provenance of polygons in fields or in a table of the GeoPackage."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from osgeo import ogr
from qgis.core import QgsCoordinateReferenceSystem, QgsFeature, QgsField, QgsVectorLayer
from qgis.PyQt import sip
from qgis.PyQt.QtCore import QObject, QVariant

from geosam_es.core.prompts import Bounds, Point, Prompts
from geosam_es.gui.editing.edits import AcceptOptions, write_polygon
from geosam_es.gui.editing.provenance import (
    PROVENANCE_FIELDS,
    Provenance,
    has_provenance_fields,
    provenance_from_values,
    read_provenance,
)
from geosam_es.gui.editing.target_layer import create_target_layer
from geosam_es.qgis_support.crs import to_qgs
from geosam_es.qgis_support.side_table import SIDE_TABLE

UTM = QgsCoordinateReferenceSystem("EPSG:25830")
X, Y = 725000.0, 4372000.0
PROMPTS = Prompts((Point(X + 1.25, Y + 2), Point(X + 3, Y + 4, False)), Bounds(X, Y, X + 10, Y + 10))
PROVENANCE = Provenance("mini", 0.93, PROMPTS, "ortofoto año.tif", "2026-11-20T10:00:00+00:00")
BESIDE = AcceptOptions(provenance_table=True)
SQUARE = shapely.box(X, Y, X + 10, Y + 10)


def accept(layer: Any, provenance: Provenance | None = PROVENANCE, shape: Any = SQUARE, **options: Any) -> int:
    arguments = {"provenance_table": True, **options}
    fid = write_polygon(layer, shape, UTM, {}, provenance, AcceptOptions(**arguments))
    assert fid is not None
    return fid


def memory(*fields: QgsField) -> Any:
    layer = QgsVectorLayer("Polygon?crs=EPSG:25830", "habitats", "memory")
    layer.dataProvider().addAttributes(list(fields))
    layer.updateFields()
    return layer


class TestValues:
    @given(st.none() | st.integers(-2, 9), st.integers(0, 3), st.sampled_from(["original", "parcelas año 2"]))
    def test_level_candidate_and_decoder_are_read_back(self, level: int | None, candidate: int, decoder: str) -> None:
        provenance = replace(PROVENANCE, level=level, candidate=candidate, decoder=decoder)
        assert provenance_from_values(provenance.values()) == provenance

    @pytest.mark.parametrize("level", ["-3", "1.5", '"1"', "null"])
    def test_a_level_that_does_not_exist_is_unknown(self, level: str) -> None:
        text = f'{{"points":[[1,2,1]],"level":{level}}}'
        assert provenance_from_values({"prompts": text}).level is None

    def test_defaults_are_not_written(self) -> None:
        assert PROVENANCE.values()["prompts"] == (
            '{"points":[[725001.25,4372002,1],[725003,4372004,0]],"box":[725000,4372000,725010,4372010]}'
        )
        assert '"decoder":"fields"' in replace(PROVENANCE, decoder="fields").values()["prompts"]
        assert '"level":2,"candidate":1' in replace(PROVENANCE, level=2, candidate=1).values()["prompts"]

    @pytest.mark.parametrize(
        "text",
        [
            *("", "{", "[]", "{}", "null", '{"points":5}', '{"points":[]}', '{"points":[[1,2]]}', '{"points":["ab"]}'),
            *('{"points":[[NaN,1,1]]}', '{"box":[1,2,3]}', '{"box":"abcd"}'),
        ],
    )
    def test_invalid_prompts_are_none(self, text: str) -> None:
        assert provenance_from_values({"prompts": text}) is None


class TestFields:
    def test_values_are_converted_to_the_types_of_the_fields(self) -> None:
        layer = memory(
            QgsField("PROMPTS", QVariant.String),
            QgsField("created", QVariant.DateTime),
            QgsField("score", QVariant.Double),
            QgsField("note", QVariant.String),
        )
        feature = layer.getFeature(accept(layer))
        assert feature["score"] == 0.93
        assert feature["created"].toPyDateTime().isoformat() == "2026-11-20T10:00:00"
        read = read_provenance(layer, feature)
        assert read is not None and read.prompts == PROMPTS and read.model == ""
        assert read.created.startswith("2026-11-20T10:00:00")

    def test_prompts_in_a_json_field(self, tmp_path: Path) -> None:
        path = str(tmp_path / "json.gpkg")
        dataset = ogr.GetDriverByName("GPKG").CreateDataSource(path)
        table = dataset.CreateLayer("json", None, ogr.wkbMultiPolygon)
        table.CreateField(ogr.FieldDefn("model", ogr.OFTString))
        field = ogr.FieldDefn("prompts", ogr.OFTString)
        field.SetSubType(ogr.OFSTJSON)
        table.CreateField(field)
        del table, dataset
        layer = QgsVectorLayer(path, "json", "ogr")
        layer.setCrs(UTM)
        feature = layer.getFeature(accept(layer))
        assert isinstance(feature["prompts"], dict)
        assert layer.commitChanges(), layer.commitErrors()
        read = read_provenance(layer, next(layer.getFeatures()))
        assert read is not None and read.prompts == PROMPTS

    def test_a_field_that_only_shares_a_name_is_left_alone(self) -> None:
        """The score of a habitat is not the score of a mask."""
        layer = memory(QgsField("score", QVariant.Double), QgsField("code", QVariant.String))
        assert not has_provenance_fields(layer.fields())
        assert layer.getFeature(accept(layer)).attributes() in ([None, None], [QVariant(), QVariant()])

    def test_fields_of_an_unsuitable_type_stay_empty(self) -> None:
        layer = memory(QgsField("model", QVariant.Int), QgsField("raster", QVariant.String, len=4))
        feature = layer.getFeature(accept(layer))
        assert not feature["model"] and not feature["raster"]

    def test_a_computed_field_is_left_alone(self, tmp_path: Path) -> None:
        layer = create_target_layer(tmp_path / "habitats.gpkg", UTM)
        layer.startEditing()
        layer.deleteAttributes([layer.fields().lookupField(name) for name in ("score", "prompts")])
        assert layer.commitChanges(), layer.commitErrors()
        layer.addExpressionField("0.5", QgsField("score", QVariant.Double))
        layer.addExpressionField("'my own'", QgsField("prompts", QVariant.String))
        fid = accept(layer)
        # Refining writes each value by itself.
        assert write_polygon(layer, SQUARE, UTM, {}, PROVENANCE, BESIDE, feature_id=fid) == fid
        feature = layer.getFeature(fid)
        assert feature["model"] == "mini" and feature["score"] == 0.5
        # The table keeps what the fields cannot.
        assert layer.commitChanges(), layer.commitErrors()
        read = read_provenance(layer, next(layer.getFeatures()))
        assert read is not None and read.prompts == PROMPTS

    def test_values_of_the_user_take_precedence(self) -> None:
        layer = memory(QgsField("model", QVariant.String), QgsField("raster", QVariant.String))
        fid = write_polygon(layer, SQUARE, UTM, {"model": "mine"}, PROVENANCE, AcceptOptions())
        assert layer.getFeature(fid)["model"] == "mine"

    def test_prompts_too_long_for_a_shapefile_are_rounded_or_dropped_never_truncated(self, tmp_path: Path) -> None:
        layer = create_target_layer(tmp_path / "h.shp", UTM)

        def stored(count: int) -> Provenance | None:
            many = Prompts(tuple(Point(X + 0.123 * i, Y + 0.456 * i, i % 2 == 0) for i in range(count)))
            fid = accept(layer, replace(PROVENANCE, prompts=many))
            return read_provenance(layer, layer.getFeature(fid))

        exact, coarse, none = stored(5), stored(9), stored(40)
        assert exact is not None and exact.prompts.points[3].x == X + 0.369
        assert coarse is not None and len(coarse.prompts) == 9
        assert coarse.prompts.points[3].x == pytest.approx(X + 0.369, abs=0.05)
        assert none is None
        # Nor do those of an earlier outline stay when it is refined.
        fid = accept(layer)
        many = Prompts(tuple(Point(X + i, Y + i) for i in range(40)))
        write_polygon(layer, SQUARE.buffer(5), UTM, {}, replace(PROVENANCE, prompts=many), BESIDE, feature_id=fid)
        assert read_provenance(layer, layer.getFeature(fid)) is None
        assert layer.commitChanges(), layer.commitErrors()

    def test_features_without_prompts_have_no_provenance(self) -> None:
        layer = memory(QgsField("prompts", QVariant.String), QgsField("model", QVariant.String))
        assert read_provenance(layer, layer.getFeature(accept(layer, None))) is None
        feature = QgsFeature(layer.fields())
        feature.setAttributes(["broken", "x"])
        assert read_provenance(layer, feature) is None

    def test_a_missing_score_is_nan(self) -> None:
        layer = memory(QgsField("prompts", QVariant.String), QgsField("score", QVariant.Double))
        feature = layer.getFeature(accept(layer, replace(PROVENANCE, score=math.nan)))
        read = read_provenance(layer, feature)
        assert read is not None and math.isnan(read.score)


def create_plain_layer(path: Path) -> Any:
    """Create a layer without fields for provenance."""
    layer = create_target_layer(path, UTM)
    assert layer.dataProvider().deleteAttributes([layer.fields().lookupField(name) for name in PROVENANCE_FIELDS])
    layer.updateFields()
    return layer


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Any]:
    """A layer in a GeoPackage without fields for provenance."""
    layer = create_plain_layer(tmp_path / "it's plain.gpkg")
    yield layer
    # pytest holds what a fixture made until QGIS has ended.
    if not sip.isdeleted(layer):
        sip.delete(layer)


def rows(layer: Any) -> list[tuple[Any, ...]]:
    with sqlite3.connect(layer.source().split("|")[0]) as connection:
        names = [row[0] for row in connection.execute("select name from sqlite_master where type = 'table'")]
        if SIDE_TABLE not in names:
            return []
        return connection.execute(f"select layer, feature, model from {SIDE_TABLE} order by feature").fetchall()


class TestSideTable:
    def test_records_are_written_when_the_user_saves(self, plain: Any) -> None:
        first, second = accept(plain), accept(plain, replace(PROVENANCE, model="vit_b"))
        assert rows(plain) == []
        waiting = read_provenance(plain, plain.getFeature(second))
        assert waiting is not None and waiting.model == "vit_b"
        assert read_provenance(plain, plain.getFeature(first)) == PROVENANCE
        assert plain.commitChanges(), plain.commitErrors()
        assert rows(plain) == [("it's plain", 1, "mini"), ("it's plain", 2, "vit_b")]
        again = QgsVectorLayer(plain.source(), "again", "ogr")
        assert read_provenance(again, again.getFeature(1)) == PROVENANCE
        assert read_provenance(again, again.getFeature(3)) is None

    def test_the_layer_itself_gets_no_field(self, plain: Any) -> None:
        accept(plain)
        plain.commitChanges()
        assert plain.fields().names() == ["fid", "class"]
        assert plain.undoStack().count() == 0

    def test_a_layer_with_only_model_and_score_keeps_its_prompts_in_the_table(self, plain: Any) -> None:
        """The command line writes such layers."""
        plain.dataProvider().addAttributes([QgsField("model", QVariant.String), QgsField("score", QVariant.Double)])
        plain.updateFields()
        feature = plain.getFeature(accept(plain))
        assert feature["model"] == "mini" and feature["score"] == 0.93
        assert plain.commitChanges(), plain.commitErrors()
        assert read_provenance(plain, plain.getFeature(1)) == PROVENANCE

    def test_no_table_if_the_option_is_off(self, plain: Any) -> None:
        accept(plain, provenance_table=False)
        plain.commitChanges()
        assert rows(plain) == []

    def test_undone_records_are_not_written(self, plain: Any) -> None:
        accept(plain)
        accept(plain, replace(PROVENANCE, model="undone"))
        plain.undoStack().undo()
        own = QgsFeature(plain.fields())
        own.setGeometry(to_qgs(shapely.box(X + 50, Y, X + 60, Y + 10)))
        plain.addFeature(own)
        assert plain.commitChanges(), plain.commitErrors()
        assert [row[2] for row in rows(plain)] == ["mini"]
        assert plain.featureCount() == 2

    def test_redo_restores_a_record(self, plain: Any) -> None:
        accept(plain)
        plain.undoStack().undo()
        plain.undoStack().redo()
        assert plain.commitChanges(), plain.commitErrors()
        assert len(rows(plain)) == 1

    def test_rolled_back_edits_leave_nothing(self, plain: Any) -> None:
        accept(plain)
        plain.rollBack()
        accept(plain, None)
        assert plain.commitChanges(), plain.commitErrors()
        assert rows(plain) == []

    def test_refining_replaces_the_record_on_saving(self, plain: Any) -> None:
        accept(plain)
        plain.commitChanges()
        larger = SQUARE.buffer(5)
        write_polygon(plain, larger, UTM, {}, replace(PROVENANCE, model="better"), BESIDE, feature_id=1)
        shown = read_provenance(plain, plain.getFeature(1))
        assert shown is not None and shown.model == "better"
        plain.undoStack().undo()
        assert read_provenance(plain, plain.getFeature(1)) == PROVENANCE
        plain.commitChanges()
        assert [row[2] for row in rows(plain)] == ["mini"]
        write_polygon(plain, larger, UTM, {}, replace(PROVENANCE, model="better"), BESIDE, feature_id=1)
        plain.commitChanges()
        assert [row[2] for row in rows(plain)] == ["better"]

    def test_layers_of_other_formats_have_no_table(self, tmp_path: Path) -> None:
        layer = create_plain_layer(tmp_path / "h.shp")
        fid = accept(layer)
        assert read_provenance(layer, layer.getFeature(fid)) is None
        assert layer.commitChanges() and sorted(path.suffix for path in tmp_path.iterdir()) == [
            ".cpg",
            ".dbf",
            ".prj",
            ".shp",
            ".shx",
        ]
        assert read_provenance(memory(), QgsFeature()) is None

    def test_polygons_are_saved_even_if_the_table_cannot_be_written(self, plain: Any, qgis_app: Any) -> None:
        with sqlite3.connect(plain.source().split("|")[0]) as connection:
            connection.execute(f"create view {SIDE_TABLE} as select 1 as layer")
        accept(plain)
        logged: list[str] = []

        def note(text: str) -> None:
            logged.append(text)

        qgis_app.messageLog().messageReceived.connect(note)
        saved = plain.commitChanges()
        qgis_app.messageLog().messageReceived.disconnect(note)
        assert saved and plain.featureCount() == 1
        assert any("The prompts were not saved" in text for text in logged)

    def test_records_are_deleted_with_the_layer(self, plain: Any) -> None:
        accept(plain)
        gone: list[bool] = []
        plain.findChild(QObject, "geosam_es_records").destroyed.connect(lambda: gone.append(True))
        sip.delete(plain)
        assert gone == [True]

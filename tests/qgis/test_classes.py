"""Class lists from layers and from common files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from qgis.core import (
    NULL,
    QgsCategorizedSymbolRenderer,
    QgsEditorWidgetSetup,
    QgsFeature,
    QgsFillSymbol,
    QgsGraduatedSymbolRenderer,
    QgsProject,
    QgsRendererCategory,
    QgsVectorLayer,
)
from qgis.PyQt.QtGui import QColor

from geosam_es.errors import EditError
from geosam_es.gui.editing.coverage import LayerCoverage
from geosam_es.qgis_support.classes import (
    ClassItem,
    ClassList,
    apply_classes,
    classes_of_layer,
    has_own_classes,
    min_areas,
    plain_text,
    read_class_csv,
)


def polygons(fields: str = "field=code:integer&field=state:string(20)") -> Any:
    return QgsVectorLayer(f"Polygon?crs=EPSG:25830&{fields}", "habitats", "memory")


def value_map(layer: Any, field: str, entries: Any) -> None:
    setup = QgsEditorWidgetSetup("ValueMap", {"map": entries})
    layer.setEditorWidgetSetup(layer.fields().lookupField(field), setup)


def categorise(layer: Any, attribute: str, *categories: tuple[Any, str, str]) -> None:
    made = [
        QgsRendererCategory(value, QgsFillSymbol.createSimple({"color": color}), label)
        for value, color, label in categories
    ]
    layer.setRenderer(QgsCategorizedSymbolRenderer(attribute, made))


def pairs(classes: ClassList | None) -> list[tuple[Any, str]]:
    assert classes is not None
    return [(item.code, item.name) for item in classes.items]


def colors(classes: ClassList) -> list[str | None]:
    return [item.color.name() if item.color else None for item in classes.items]


def csv(tmp_path: Path, text: str, encoding: str = "utf-8") -> Path:
    path = tmp_path / "classes.csv"
    path.write_bytes(text.encode(encoding))
    return path


def test_a_layer_without_classes_has_none() -> None:
    assert classes_of_layer(polygons()) is None


def test_a_value_map_gives_codes_in_its_order_and_the_fields_type() -> None:
    layer = polygons()
    value_map(layer, "code", [{"Water": "20"}, {"Forest": "10"}, {"nothing": "{2839923C-8B7D-419E-B84B-CA2FE9B80EC7}"}])
    classes = classes_of_layer(layer)
    assert pairs(classes) == [(20, "Water"), (10, "Forest")]
    assert classes is not None and classes.field == "code" and colors(classes) == [None, None]


def test_a_value_map_of_a_boolean_field() -> None:
    layer = polygons("field=is_wet:boolean")
    value_map(layer, "is_wet", [{"wet": "true"}, {"dry": "false"}])
    assert pairs(classes_of_layer(layer)) == [(True, "wet"), (False, "dry")]


def test_a_value_map_of_an_old_project_is_one_object() -> None:
    layer = polygons()
    value_map(layer, "code", {"Forest": 10, "Water": 20})
    assert pairs(classes_of_layer(layer)) == [(10, "Forest"), (20, "Water")]


@pytest.fixture
def related(qgis_new_project: None) -> dict[str, Any]:
    """A value relation to a table of the project."""
    table = QgsVectorLayer("NoGeometry?field=eunis:string&field=description:string", "classes", "memory")
    for code, name in (("G2.11", "Encinar"), ("X9", "Minas"), ("C1", "Aguas")):
        feature = QgsFeature(table.fields())
        feature.setAttributes([code, name])
        table.dataProvider().addFeature(feature)
    QgsProject.instance().addMapLayer(table)
    return {"Layer": table.id(), "Key": "eunis", "Value": "description"}


@pytest.mark.parametrize(
    ("options", "codes"),
    [
        ({}, ["G2.11", "X9", "C1"]),
        ({"OrderByKey": True}, ["C1", "G2.11", "X9"]),
        ({"OrderByValue": True}, ["C1", "G2.11", "X9"]),
        ({"FilterExpression": "\"eunis\" <> 'X9'"}, ["G2.11", "C1"]),
        ({"FilterExpression": "\"eunis\" = current_value('code')"}, ["G2.11", "X9", "C1"]),
        ({"Key": "no such field"}, None),
    ],
)
def test_a_value_relation_reads_the_other_table(
    related: dict[str, Any], options: dict[str, Any], codes: list[str] | None
) -> None:
    layer = polygons()
    layer.setEditorWidgetSetup(1, QgsEditorWidgetSetup("ValueRelation", {**related, **options}))
    classes = classes_of_layer(layer)
    if codes is None:
        assert classes is None
        return
    assert classes is not None and classes.field == "state"
    assert [item.code for item in classes.items] == codes
    assert {item.code: item.name for item in classes.items}["C1"] == "Aguas"


def test_a_value_relation_whose_table_is_gone_gives_nothing(qgis_new_project: None) -> None:
    layer = polygons()
    config = {"Layer": "gone", "Key": "eunis", "Value": "description"}
    layer.setEditorWidgetSetup(1, QgsEditorWidgetSetup("ValueRelation", config))
    assert classes_of_layer(layer) is None


@pytest.mark.parametrize("attribute", ["code", '"code"'])
def test_a_categorised_style_gives_names_and_colours(attribute: str) -> None:
    layer = polygons()
    categorise(layer, attribute, (10, "#00aa00", "Forest"), (20, "#0000ff", ""), (NULL, "#888888", "the rest"))
    classes = classes_of_layer(layer)
    assert classes is not None and classes.field == "code"
    assert pairs(classes) == [(10, "Forest"), (20, "20")]
    assert colors(classes) == ["#00aa00", "#0000ff"]


def test_names_of_the_value_map_and_colours_of_the_style_go_together() -> None:
    layer = polygons()
    value_map(layer, "state", [{"good": "1"}])
    value_map(layer, "code", [{"Forest": "10"}, {"Water": "20"}])
    categorise(layer, "code", (20, "#0000ff", "blue"))
    classes = classes_of_layer(layer)
    assert pairs(classes) == [(10, "Forest"), (20, "Water")]
    assert classes is not None and colors(classes) == [None, "#0000ff"]


def test_a_style_by_an_expression_has_no_field_to_write_to() -> None:
    layer = polygons()
    categorise(layer, "code % 10", (1, "#00aa00", "odd"))
    assert classes_of_layer(layer) is None


def test_categories_of_several_values_use_the_first() -> None:
    layer = polygons()
    categorise(layer, "code", ([10, 11], "#00aa00", "Forests"))
    assert pairs(classes_of_layer(layer)) == [(10, "Forests")]


LISTS = {
    "semicolons": "code;name;colour\n6220;Pastizal;#ffcc00\n5330;Matorral;#aa5500\n",
    "Spanish": "Código;Descripción;Color\n6220;Pastizal;#ffcc00\n5330;Matorral;#aa5500\n",
    "other order": "nombre,color,código\nPastizal,#ffcc00,6220\nMatorral,#aa5500,5330\n",
    "tabs": "6220\tPastizal\t#ffcc00\n5330\tMatorral\t#aa5500\n",
    "no header": "6220;Pastizal;255,204,0\n5330;Matorral;170,85,0\n",
    "three columns": "cod;nombre;R;G;B\n6220;Pastizal;255;204;0\n5330;Matorral;170;85;0\n",
    "quoted": '"code","name","rgb"\n"6220","Pastizal","rgb(255, 204, 0)"\n"5330","Matorral","rgb(170, 85, 0)"\n',
    "blank lines": "\n\ncode;name;colour\n\n6220;Pastizal;#ffcc00\n;;\n5330;Matorral;#aa5500\n\n",
    "QGIS colour map": "# QGIS Generated Color Map Export File\nINTERPOLATION:EXACT\n"
    "6220,255,204,0,255,Pastizal\n5330,170,85,0,255,Matorral\n",
    "Windows line ends": "code;name;colour\r\n6220;Pastizal;#ffcc00\r\n5330;Matorral;#aa5500\r\n",
    "delimiters in names": "code;name;colour\n6220;Pastizal;#ffcc00;seco;árido\n5330;Matorral;#aa5500\n",
    "codes twice": "code;name;colour\n6220;Pastizal;#ffcc00\n6220;otra vez;#000000\n5330;Matorral;#aa5500\n",
}


@pytest.mark.parametrize("text", LISTS.values(), ids=LISTS.keys())
def test_lists_in_common_forms(tmp_path: Path, text: str) -> None:
    classes = read_class_csv(csv(tmp_path, text))
    assert classes.field is None
    assert pairs(classes) == [("6220", "Pastizal"), ("5330", "Matorral")]
    assert colors(classes) == ["#ffcc00", "#aa5500"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16"])
def test_accents_survive_every_encoding(tmp_path: Path, encoding: str) -> None:
    classes = read_class_csv(csv(tmp_path, "código;descripción\nA1;Peñascal húmedo\nB2;Señorío\n", encoding))
    assert pairs(classes) == [("A1", "Peñascal húmedo"), ("B2", "Señorío")]
    assert colors(classes) == [None, None]


@pytest.mark.parametrize(
    ("text", "areas"),
    [
        ("code;name;min_area\nA1;Pond;50\nB2;Wood;\n", [50.0, None]),
        ("código;nombre;UMC (ha)\nA1;Charca;0,05\nB2;Bosque;2\n", [500.0, 20000.0]),
        ("code,min_area_ha,name,color\nA1,x,Pond,#ff0000\nB2,0.5,Wood,#00ff00\n", [None, 5000.0]),
        ("code;name\nA1;Pond\nB2;Wood\n", [None, None]),
    ],
)
def test_minimum_mapping_units_of_classes(tmp_path: Path, text: str, areas: list[float | None]) -> None:
    classes = read_class_csv(csv(tmp_path, text))
    assert [item.min_area_m2 for item in classes.items] == areas
    layer = QgsVectorLayer("Polygon?crs=EPSG:25830&field=class:string", "habitats", "memory")
    assert min_areas(layer) == {}
    apply_classes(layer, "class", classes)
    codes = [item.code for item in classes.items]
    assert min_areas(layer) == {code: area for code, area in zip(codes, areas) if area is not None}


@pytest.mark.parametrize("kind", ["integer", "double", "string"])
def test_minimum_mapping_units_in_any_kind_of_field(tmp_path: Path, kind: str) -> None:
    """A code is the same whether it is a whole number, one in a field with decimals, or a text."""
    layer = QgsVectorLayer(f"Polygon?crs=EPSG:25830&field=class:{kind}", "habitats", "memory")
    apply_classes(layer, "class", read_class_csv(csv(tmp_path, "code;name;min_area\n311;Pond;50\n312;Wood;\n")))
    assert min_areas(layer) == {"311": 50.0}
    for value in [311, 311.0] if kind == "double" else ["311"] if kind == "string" else [311]:
        assert LayerCoverage.class_name([value]) == "311"
    if kind == "double":
        applied = json.loads(layer.customProperty("geosam_es/classes"))
        layer.setCustomProperty("geosam_es/classes", json.dumps({**applied, "min_areas": {"311.0": 50.0}}))
        assert min_areas(layer) == {"311": 50.0}, "as an older version wrote it"


def test_corine(tmp_path: Path) -> None:
    """The legend that the European Environment Agency publishes."""
    text = (
        "GRID_CODE,CLC_CODE,LABEL1,LABEL2,LABEL3,RGB\n"
        "1,111,Artificial surfaces,Urban fabric,Continuous urban fabric,230-000-077\n"
        "44,523,Water bodies,Marine waters,Sea and ocean,230-242-255\n"
        "48,999,NODATA,NODATA,NODATA,\n"
    )
    classes = read_class_csv(csv(tmp_path, text))
    assert pairs(classes) == [("111", "Continuous urban fabric"), ("523", "Sea and ocean"), ("999", "NODATA")]
    assert colors(classes) == ["#e6004d", "#e6f2ff", None]


def test_eunis_and_siose(tmp_path: Path) -> None:
    eunis = "EUNIS code;EUNIS name;Description\nG2.1;Mediterranean evergreen oak woodland;Woods of Quercus\nE1.3;Dry;\n"
    assert pairs(read_class_csv(csv(tmp_path, eunis)))[0] == ("G2.1", "Mediterranean evergreen oak woodland")
    siose = "ID;COD_SIOSE;ETIQUETA\n1;FDP;Frondosas perennifolias\n2;CNF;Coníferas\n"
    assert pairs(read_class_csv(csv(tmp_path, siose))) == [("FDP", "Frondosas perennifolias"), ("CNF", "Coníferas")]


def test_codes_keep_leading_zeros_and_may_look_like_colours(tmp_path: Path) -> None:
    assert pairs(read_class_csv(csv(tmp_path, "001;a\n020;b\n"))) == [("001", "a"), ("020", "b")]
    assert pairs(read_class_csv(csv(tmp_path, "112233;a\n445566;b\n"))) == [("112233", "a"), ("445566", "b")]


def test_a_single_column_gives_names_and_codes(tmp_path: Path) -> None:
    assert pairs(read_class_csv(csv(tmp_path, "clase\nagua\nbosque\n"))) == [("agua", "agua"), ("bosque", "bosque")]


@pytest.mark.parametrize("text", ["", "\n\n", "code;name;colour\n", ";;\n;;\n", "x" * 200_000])
def test_files_without_classes_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(EditError, match="is not a class list"):
        read_class_csv(csv(tmp_path, text))


def test_missing_and_huge_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EditError, match="cannot be read"):
        read_class_csv(tmp_path / "none.csv")
    huge = tmp_path / "huge.csv"
    with huge.open("wb") as file:
        file.truncate(50_000_000)
    with pytest.raises(EditError, match="is not a class list"):
        read_class_csv(huge)


def test_classes_applied_to_a_layer_can_be_read() -> None:
    layer = polygons()
    classes = ClassList(None, (ClassItem(10, "Forest", QColor("#00aa00")), ClassItem(20, "Water", None)))
    apply_classes(layer, "code", classes)
    read = classes_of_layer(layer)
    assert pairs(read) == [(10, "10 Forest"), (20, "20 Water")]
    assert read is not None and read.field == "code" and colors(read)[0] == "#00aa00"


COLOURED = ClassList(None, (ClassItem("10", "Forest", QColor("#00aa00")), ClassItem("20", "Água", QColor("#0000ff"))))
PLAIN = ClassList(None, (ClassItem("A", "A woods", None), ClassItem("B", "Señorío", None)))


def styles(layer: Any) -> dict[Any, tuple[str, int, str, int]]:
    """Return fill colour and opacity, and outline colour and opacity, by value."""
    found = {}
    for category in layer.renderer().categories():
        shape = category.symbol().symbolLayer(0)
        fill, line = shape.fillColor(), shape.strokeColor()
        found[category.value()] = (fill.name(), fill.alpha(), line.name(), line.alpha())
    return found


@pytest.mark.parametrize("classes", [COLOURED, PLAIN], ids=["colours", "no colours"])
def test_the_image_shows_through_the_style(classes: ClassList) -> None:
    layer = polygons()
    apply_classes(layer, "state", classes)
    shown = styles(layer)
    for index, item in enumerate(classes.items):
        fill, opacity, line, line_opacity = shown.pop(item.code)
        assert fill == line == classes.color(index).name()
        assert 0 < opacity < 128 and line_opacity == 255
    # Polygons without a class are not hidden.
    assert list(shown) == [""]
    assert len({classes.color(index).name() for index in range(2)}) == 2


def test_sixty_classes_without_colours_differ() -> None:
    many = ClassList(None, tuple(ClassItem(str(number), "x") for number in range(60)))
    assert len({many.color(index).name() for index in range(60)}) == 60


def test_a_style_of_the_user_is_kept() -> None:
    layer = polygons()
    categorise(layer, "state", ("old", "#123456", "Old"))
    before = layer.renderer()
    apply_classes(layer, "code", COLOURED)
    assert layer.renderer() is before
    graduated = polygons()
    graduated.setRenderer(QgsGraduatedSymbolRenderer("code"))
    apply_classes(graduated, "state", PLAIN)
    assert isinstance(graduated.renderer(), QgsGraduatedSymbolRenderer)
    assert pairs(classes_of_layer(graduated)) == [("A", "A woods"), ("B", "B Señorío")]


def test_a_second_list_replaces_the_first() -> None:
    layer = polygons()
    apply_classes(layer, "state", COLOURED)
    assert not has_own_classes(layer, "state")
    apply_classes(layer, "state", PLAIN)
    assert pairs(classes_of_layer(layer)) == [("A", "A woods"), ("B", "B Señorío")]
    assert [value for value in styles(layer) if value] == ["A", "B"]


def test_a_style_that_the_user_changed_gets_the_classes_it_lacks() -> None:
    layer = polygons()
    apply_classes(layer, "state", COLOURED)
    changed = layer.renderer().clone()
    changed.updateCategorySymbol(0, QgsFillSymbol.createSimple({"color": "#fedcba"}))
    layer.setRenderer(changed)
    apply_classes(layer, "state", ClassList(None, (*COLOURED.items, ClassItem("30", "Roca", QColor("#777777")))))
    shown = styles(layer)
    assert (shown["10"][0], shown["20"][0], shown["30"][0]) == ("#fedcba", "#0000ff", "#777777")


def test_classes_of_the_user_are_told_from_those_of_a_list() -> None:
    layer = polygons()
    assert not has_own_classes(layer, "code") and not has_own_classes(layer, "none")
    value_map(layer, "code", [{"Forest": "10"}])
    categorise(layer, "state", ("good", "#123456", "Good"))
    assert has_own_classes(layer, "code") and has_own_classes(layer, "state")
    apply_classes(layer, "code", COLOURED)
    assert not has_own_classes(layer, "code")
    value_map(layer, "code", [{"Bosque": "10"}])
    assert has_own_classes(layer, "code")


@pytest.mark.parametrize("code", ["G2.1", "1.5"])
def test_codes_that_the_field_cannot_hold_change_nothing(code: str) -> None:
    layer = polygons()
    before = layer.renderer()
    with pytest.raises(EditError, match=f"code cannot hold the value {code}"):
        apply_classes(layer, "code", ClassList(None, (ClassItem("10", "Forest"), ClassItem(code, "Oak"))))
    assert layer.renderer() is before and classes_of_layer(layer) is None


def test_classes_of_one_field() -> None:
    layer = polygons()
    value_map(layer, "code", [{"Forest": "10"}])
    value_map(layer, "state", [{"good": "1"}])
    assert pairs(classes_of_layer(layer, "state")) == [("1", "good")]
    assert classes_of_layer(layer, "none") is None


@pytest.mark.parametrize(
    ("code", "name", "title"),
    [
        ("G1", "Forest", "G1 Forest"),
        ("G1", "G1 Forest", "G1 Forest"),
        ("G1", "G1: Forest", "G1: Forest"),
        ("G1", "G1", "G1"),
        (1, "10 Forest", "1 10 Forest"),
    ],
)
def test_a_title_has_the_code_once(code: Any, name: str, title: str) -> None:
    assert ClassItem(code, name).title == title


def test_plain_text_has_no_accents() -> None:
    assert plain_text("Peñascal HÚMEDO") == "penascal humedo"

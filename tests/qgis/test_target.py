"""The target layer: which one it is, its classes in layers of any kind, and what survives in the project."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from qgis.core import (
    QgsCategorizedSymbolRenderer,
    QgsCoordinateReferenceSystem,
    QgsEditorWidgetSetup,
    QgsField,
    QgsFillSymbol,
    QgsPointXY,
    QgsProject,
    QgsRendererCategory,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import Qt, QVariant

from geosam_es.errors import GeoSamError
from geosam_es.gui.editing.target import Target
from geosam_es.gui.editing.target_layer import create_target_layer, suggested_crs, suggested_path
from geosam_es.gui.panel.actions import Actions
from geosam_es.gui.panel.dock import SegmentDock
from geosam_es.qgis_support.settings import Settings
from geosam_es.store.raster_name import raster_path
from tests.qgis.support import CRS, Interface

EUNIS = "code;name;colour\nC1;Láminas de agua;#0000ff\nE1.3;Pastos xéricos;#ffcc00\nG2.11;Encinar;#006600\nX;Mosaico;\n"
NUMBERS = "código;descripción\n6220;Pastizal\n5330;Matorral\n"
UTM = QgsCoordinateReferenceSystem(CRS)


class Desk:
    """A panel with its target, and the errors that were shown."""

    def __init__(self, iface: Interface) -> None:
        self.iface = iface
        self.actions = Actions(iface)
        self.open()

    def open(self) -> None:
        self.dock = SegmentDock(self.actions, Settings(), self.iface.window)
        self.iface.addDockWidget(Qt.DockWidgetArea.RightDockWidgetArea, self.dock)
        self.target = Target(self.dock)
        self.errors: list[GeoSamError] = []
        self.target.failed.connect(self.errors.append)

    def close(self) -> None:
        self.target.release()
        self.iface.removeDockWidget(self.dock)
        self.dock.deleteLater()

    @property
    def codes(self) -> list[Any]:
        classes = self.dock.class_box.classes
        return [] if classes is None else [item.code for item in classes.items]

    def load(self, folder: Path, text: str = EUNIS) -> None:
        path = folder / "clases.csv"
        path.write_text(text, encoding="utf-8")
        self.dock.class_box.csv_chosen.emit(str(path))


@pytest.fixture
def desk(iface: Interface) -> Iterator[Desk]:
    desk = Desk(iface)
    yield desk
    desk.close()
    desk.actions.unload()


def layer_of(kind: str, folder: Path, fields: str = "field=class:string(60)&field=code:integer") -> QgsVectorLayer:
    memory = QgsVectorLayer(f"Polygon?crs={CRS}&{fields}", "hábitats", "memory")
    if kind == "memory":
        return memory
    from qgis.core import QgsVectorFileWriter

    path = folder / f"hábitats.{kind}"
    options = QgsVectorFileWriter.SaveVectorOptions()
    options.driverName = {"gpkg": "GPKG", "shp": "ESRI Shapefile"}[kind]
    options.fileEncoding = "UTF-8"
    context = QgsProject.instance().transformContext()
    QgsVectorFileWriter.writeAsVectorFormatV3(memory, str(path), context, options)
    return QgsVectorLayer(str(path), "hábitats", "ogr")


def add(layer: QgsVectorLayer) -> QgsVectorLayer:
    QgsProject.instance().addMapLayer(layer)
    return layer


def look(layer: QgsVectorLayer) -> list[tuple[Any, ...]]:
    found = []
    for category in layer.renderer().categories():
        shape = category.symbol().symbolLayer(0)
        found.append((str(category.value()), category.label(), shape.fillColor().name(), shape.fillColor().alpha()))
    return found


@pytest.mark.parametrize("kind", ["memory", "gpkg", "shp"])
@pytest.mark.parametrize("text", [EUNIS, NUMBERS], ids=["colours", "no colours"])
def test_list_first_and_layer_first_are_the_same(desk: Desk, tmp_path: Path, kind: str, text: str) -> None:
    layers = []
    for number, list_first in enumerate((True, False)):
        folder = tmp_path / str(number)
        folder.mkdir()
        layer = add(layer_of(kind, folder))
        desk.dock.layers.setLayer(None)
        if list_first:
            desk.load(tmp_path, text)
            assert desk.codes
        desk.dock.layers.setLayer(layer)
        if not list_first:
            desk.load(tmp_path, text)
        layers.append(layer)
    first, second = layers
    assert isinstance(second.renderer(), QgsCategorizedSymbolRenderer)
    assert look(first) == look(second)
    assert all(0 < alpha < 128 for *_, alpha in look(first))
    setups = [layer.editorWidgetSetup(layer.fields().lookupField("class")) for layer in layers]
    assert [setup.type() for setup in setups] == ["ValueMap", "ValueMap"]
    assert setups[0].config() == setups[1].config()
    assert desk.errors == []


@pytest.mark.parametrize("kind", ["memory", "gpkg", "shp"])
def test_classes_and_target_survive_in_the_project(desk: Desk, tmp_path: Path, kind: str) -> None:
    add(QgsVectorLayer(f"Polygon?crs={CRS}&field=class:string", "another", "memory"))
    layer = add(layer_of(kind, tmp_path))
    desk.dock.layers.setLayer(layer)
    desk.load(tmp_path)
    codes, before = desk.codes, look(layer)
    project = QgsProject.instance()
    assert project.isDirty()
    assert project.write(str(tmp_path / "p.qgz"))
    project.clear()
    assert desk.codes == [] and desk.dock.layer is None
    assert project.read(str(tmp_path / "p.qgz"))
    again = desk.dock.layer
    assert again is not None and again.name() == "hábitats"
    assert desk.codes == codes
    assert look(again) == before
    # The same after a restart of the plugin.
    desk.close()
    desk.open()
    assert desk.dock.layer is again and desk.codes == codes
    desk.dock.class_box.choose(2)
    assert desk.dock.class_box.attributes() == {"class": "G2.11"}


def test_a_list_for_a_numeric_field(desk: Desk, tmp_path: Path) -> None:
    layer = add(layer_of("gpkg", tmp_path, "field=id:integer&field=codigo:integer"))
    desk.dock.layers.setLayer(layer)
    desk.load(tmp_path, NUMBERS)
    assert desk.codes == [6220, 5330]
    desk.dock.class_box.choose(0)
    assert desk.dock.class_box.attributes() == {"codigo": 6220}


def test_a_list_that_the_field_cannot_hold_is_refused_and_waits(desk: Desk, tmp_path: Path) -> None:
    layer = add(layer_of("memory", tmp_path, "field=code:integer&field=tipo:string"))
    desk.dock.layers.setLayer(layer)
    desk.load(tmp_path)
    assert "cannot hold the value C1" in str(desk.errors[-1])
    assert desk.codes == []
    choose_field(desk, "tipo")
    assert desk.codes == ["C1", "E1.3", "G2.11", "X"]
    desk.dock.class_box.choose(1)
    assert desk.dock.class_box.attributes() == {"tipo": "E1.3"}


def choose_field(desk: Desk, name: str) -> None:
    """Choose a field as a user does."""
    combo = desk.dock.class_box._field
    combo.setField(name)
    combo.activated.emit(combo.currentIndex())


def test_a_layer_without_a_class_field_says_so(desk: Desk, tmp_path: Path) -> None:
    layer = add(layer_of("memory", tmp_path, "field=id:integer&field=notas:string"))
    desk.dock.layers.setLayer(layer)
    desk.load(tmp_path)
    assert "has no class field" in str(desk.errors[-1])
    choose_field(desk, "notas")
    assert desk.codes[0] == "C1"


@pytest.mark.parametrize("list_first", [True, False])
@pytest.mark.parametrize("own", ["style", "value map"])
def test_classes_of_the_users_own_win(desk: Desk, tmp_path: Path, own: str, list_first: bool) -> None:
    layer = layer_of("memory", tmp_path)
    if own == "style":
        categories = [QgsRendererCategory("A", QgsFillSymbol.createSimple({"color": "#123456"}), "Mía")]
        layer.setRenderer(QgsCategorizedSymbolRenderer("class", categories))
    else:
        layer.setEditorWidgetSetup(0, QgsEditorWidgetSetup("ValueMap", {"map": [{"Mía": "A"}]}))
    before = layer.renderer(), layer.editorWidgetSetup(0).config()
    add(layer)
    if list_first:
        desk.load(tmp_path)
    desk.dock.layers.setLayer(layer)
    if not list_first:
        desk.load(tmp_path)
        assert "classes of its own" in str(desk.errors[-1])
    assert desk.codes == ["A"]
    assert (layer.renderer(), layer.editorWidgetSetup(0).config()) == before


def test_a_value_relation_of_sixty_classes_survives(desk: Desk, tmp_path: Path) -> None:
    rows = "\n".join(f"{n};Hábitat número {n}" for n in range(1000, 1060))
    (tmp_path / "leyenda.csv").write_text(f"codigo;nombre\n{rows}\n", encoding="utf-8")
    uri = f"file://{tmp_path}/leyenda.csv?delimiter=;&type=csv&detectTypes=yes&geomType=none"
    table = add(QgsVectorLayer(uri, "leyenda", "delimitedtext"))
    layer = layer_of("gpkg", tmp_path)
    relation = {"Layer": table.id(), "Key": "codigo", "Value": "nombre", "OrderByKey": True}
    layer.setEditorWidgetSetup(layer.fields().lookupField("code"), QgsEditorWidgetSetup("ValueRelation", relation))
    desk.dock.layers.setLayer(add(layer))
    assert desk.codes == list(range(1000, 1060))
    project = QgsProject.instance()
    assert project.write(str(tmp_path / "p.qgz"))
    project.clear()
    assert project.read(str(tmp_path / "p.qgz"))
    assert desk.codes == list(range(1000, 1060))
    desk.dock.class_box.choose(59)
    assert desk.dock.class_box.attributes() == {"code": 1059}
    assert desk.dock.class_box.shown_text == "1059 Hábitat número 1059"


def test_a_list_of_one_layer_is_not_given_to_another(desk: Desk, tmp_path: Path) -> None:
    first, second = add(layer_of("memory", tmp_path)), add(layer_of("memory", tmp_path))
    desk.dock.layers.setLayer(first)
    desk.load(tmp_path)
    desk.dock.class_box.choose(1)
    before = second.renderer()
    desk.dock.layers.setLayer(second)
    assert desk.codes == [] and desk.dock.class_box.attributes() == {}
    assert second.renderer() is before
    desk.dock.layers.setLayer(first)
    assert desk.codes == ["C1", "E1.3", "G2.11", "X"]


def test_another_field_shows_its_own_classes_and_is_remembered(desk: Desk, tmp_path: Path) -> None:
    layer = layer_of("memory", tmp_path)
    layer.setEditorWidgetSetup(0, QgsEditorWidgetSetup("ValueMap", {"map": [{"Bosque": "B"}]}))
    layer.setEditorWidgetSetup(1, QgsEditorWidgetSetup("ValueMap", {"map": [{"uno": "1"}, {"dos": "2"}]}))
    desk.dock.layers.setLayer(add(layer))
    assert desk.codes == ["B"]
    choose_field(desk, "code")
    assert desk.codes == [1, 2]
    desk.dock.layers.setLayer(None)
    desk.dock.layers.setLayer(layer)
    assert (desk.dock.class_box.field, desk.codes) == ("code", [1, 2])


def test_typed_text_is_never_written_to_another_layer_or_project(desk: Desk, tmp_path: Path) -> None:
    first, second = add(layer_of("memory", tmp_path)), add(layer_of("memory", tmp_path))
    box = desk.dock.class_box
    desk.dock.layers.setLayer(first)
    box._text.setText("Maíz")
    assert box.attributes() == {"class": "Maíz"}
    desk.dock.layers.setLayer(second)
    assert box.attributes() == {}
    box._text.setText("Trigo")
    QgsProject.instance().clear()
    desk.dock.layers.setLayer(add(layer_of("memory", tmp_path)))
    assert box.attributes() == {}


def test_text_hidden_by_a_list_is_not_written(desk: Desk, tmp_path: Path) -> None:
    layer = add(layer_of("memory", tmp_path))
    desk.dock.layers.setLayer(layer)
    desk.dock.class_box._text.setText("Maíz")
    desk.load(tmp_path)
    assert desk.dock.class_box.attributes() == {}


def test_a_new_project_forgets_the_list_that_waits(desk: Desk, tmp_path: Path) -> None:
    desk.load(tmp_path)
    assert desk.codes
    QgsProject.instance().clear()
    desk.dock.layers.setLayer(add(layer_of("memory", tmp_path)))
    assert desk.codes == []


def test_the_class_field_survives_new_fields_and_not_its_own_end(desk: Desk, tmp_path: Path) -> None:
    layer = add(layer_of("memory", tmp_path))
    desk.dock.layers.setLayer(layer)
    desk.load(tmp_path)
    box = desk.dock.class_box
    box.choose(1)
    box.mix_fields.choose(["class", "code", "", "", "", ""])
    layer.startEditing()
    layer.addAttribute(QgsField("another", QVariant.Int))
    assert box.attributes() == {"class": "E1.3", "code": 100}
    assert desk.codes == ["C1", "E1.3", "G2.11", "X"]
    layer.deleteAttribute(layer.fields().lookupField("class"))
    assert box.attributes() == {}


class TestWhichLayer:
    def test_layers_that_are_added_are_never_the_target(self, desk: Desk, tmp_path: Path) -> None:
        for _ in range(3):
            add(layer_of("memory", tmp_path))
        assert desk.dock.layer is None
        chosen = add(layer_of("memory", tmp_path))
        desk.dock.layers.setLayer(chosen)
        add(layer_of("memory", tmp_path))
        assert desk.dock.layer is chosen

    def test_no_other_layer_takes_the_place_of_one_that_is_removed(self, desk: Desk, tmp_path: Path) -> None:
        first, second = add(layer_of("memory", tmp_path)), add(layer_of("memory", tmp_path))
        for chosen in (second, first):
            desk.dock.layers.setLayer(chosen)
            QgsProject.instance().removeMapLayer(chosen.id())
            assert desk.dock.layer is None

    def test_choosing_none_is_remembered_too(self, desk: Desk, tmp_path: Path) -> None:
        project = QgsProject.instance()
        desk.dock.layers.setLayer(add(layer_of("gpkg", tmp_path)))
        desk.dock.layers.setLayer(None)
        project.write(str(tmp_path / "p.qgz"))
        project.read(str(tmp_path / "p.qgz"))
        assert desk.dock.layer is None

    def test_opening_a_project_does_not_change_it(self, desk: Desk, tmp_path: Path) -> None:
        project = QgsProject.instance()
        desk.dock.layers.setLayer(add(layer_of("gpkg", tmp_path)))
        desk.load(tmp_path)
        project.write(str(tmp_path / "p.qgz"))
        project.read(str(tmp_path / "p.qgz"))
        assert desk.dock.layer is not None
        assert not project.isDirty()
        project.clear()
        assert not project.isDirty()


class TestNewLayer:
    def test_beside_the_image_with_the_classes_shown(self, desk: Desk, tmp_path: Path) -> None:
        desk.load(tmp_path)
        image = tmp_path / "orto 0567_H50.tif"
        assert desk.target.make_beside(image, UTM)
        layer = desk.dock.layer
        assert layer is not None and layer.name() == "orto 0567_H50_polygons"
        assert (tmp_path / "orto 0567_H50_polygons.gpkg").is_file()
        assert desk.codes == ["C1", "E1.3", "G2.11", "X"]
        assert look(layer)[0][:3] == ("C1", "C1 Láminas de agua", "#0000ff")
        assert desk.target.make_beside(image, UTM)
        assert desk.dock.layer.name() == "orto 0567_H50_polygons_2"
        assert desk.codes == ["C1", "E1.3", "G2.11", "X"]

    def test_a_folder_that_cannot_be_written_to(
        self, desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Path, "home", lambda: tmp_path)
        assert desk.target.make_beside(tmp_path / "gone" / "orto.tif", UTM)
        assert (tmp_path / "orto_polygons.gpkg").is_file()
        assert desk.target.make_beside(raster_path("https://example.org/tiles/pnoa.tif"), UTM)
        assert (tmp_path / "pnoa_polygons.gpkg").is_file()
        assert desk.target.make_beside(None, UTM)
        assert (tmp_path / "polygons.gpkg").is_file()

    def test_in_memory(self, desk: Desk, tmp_path: Path) -> None:
        desk.load(tmp_path)
        assert desk.target.make_temporary(tmp_path / "orto.tif", UTM)
        layer = desk.dock.layer
        assert layer is not None and layer.providerType() == "memory"
        assert (layer.name(), layer.crs().authid()) == ("orto_polygons", CRS)
        filed = create_target_layer(tmp_path / "a.gpkg", UTM)
        assert layer.fields().names() == filed.fields().names()[1:]
        assert desk.codes == ["C1", "E1.3", "G2.11", "X"]

    @pytest.mark.parametrize("suffix", ["gpkg", "shp"])
    def test_its_file_has_the_classes_in_another_project(self, desk: Desk, tmp_path: Path, suffix: str) -> None:
        desk.load(tmp_path)
        path = tmp_path / f"mis hábitats.{suffix}"
        assert desk.target.make(path, UTM)
        before = look(desk.dock.layer)
        QgsProject.instance().clear()
        source = f"{path}|layername={path.stem}" if suffix == "gpkg" else str(path)
        again = add(QgsVectorLayer(source, "again", "ogr"))
        assert look(again) == before
        desk.dock.layers.setLayer(again)
        assert desk.codes == ["C1", "E1.3", "G2.11", "X"]

    def test_codes_of_numbers_become_text(self, desk: Desk, tmp_path: Path) -> None:
        numeric = add(layer_of("memory", tmp_path, "field=codigo:integer"))
        desk.dock.layers.setLayer(numeric)
        desk.load(tmp_path, NUMBERS)
        assert desk.target.make_temporary(None, UTM)
        assert desk.codes == ["6220", "5330"]

    def test_without_a_crs_nothing_is_made(self, desk: Desk) -> None:
        assert not desk.target.make_temporary(None, QgsCoordinateReferenceSystem())
        assert "needs a CRS" in str(desk.errors[-1])
        assert desk.dock.layer is None


@pytest.mark.parametrize(
    ("project_crs", "crs", "center", "wanted"),
    [
        ("EPSG:3035", "EPSG:25830", (700000, 4400000), "EPSG:3035"),
        ("EPSG:4326", "EPSG:25830", (700000, 4400000), "EPSG:25830"),
        ("", "EPSG:25830", (700000, 4400000), "EPSG:25830"),
        ("EPSG:4326", "EPSG:4326", (-3.7, 40.4), "EPSG:32630"),
        ("EPSG:4326", "EPSG:4326", (-70.6, -33.4), "EPSG:32719"),
        ("EPSG:4326", "EPSG:4258", (-3.7, 40.4), "EPSG:25830"),
        ("EPSG:4258", "EPSG:4258", (-16.5, 28.3), "EPSG:25828"),
        ("EPSG:4326", "EPSG:4326", (180.0, 10.0), "EPSG:32601"),
    ],
)
def test_a_new_layer_has_a_projected_crs(
    qgis_new_project: None, project_crs: str, crs: str, center: tuple[float, float], wanted: str
) -> None:
    QgsProject.instance().setCrs(QgsCoordinateReferenceSystem(project_crs))
    assert suggested_crs(QgsCoordinateReferenceSystem(crs), QgsPointXY(*center)).authid() == wanted


def test_suggested_file(qgis_new_project: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    project = QgsProject.instance()
    gone, image = tmp_path / "gone" / "orto.tif", tmp_path / "orto.v2.tif"
    assert suggested_path(image) == tmp_path / "orto.v2_polygons.gpkg"
    assert suggested_path(gone) == tmp_path / "home" / "orto_polygons.gpkg"
    assert suggested_path(Path("orto.tif")) == tmp_path / "home" / "orto_polygons.gpkg"
    monkeypatch.setattr("geosam_es.gui.editing.target_layer.cache_folder", lambda: tmp_path)
    assert suggested_path(image) == tmp_path / "home" / "orto.v2_polygons.gpkg"
    monkeypatch.setattr("geosam_es.gui.editing.target_layer.cache_folder", lambda: tmp_path / "cache")
    (tmp_path / "p").mkdir()
    project.write(str(tmp_path / "p" / "a.qgz"))
    assert suggested_path(gone) == tmp_path / "p" / "orto_polygons.gpkg"
    (tmp_path / "p" / "polygons.gpkg").touch()
    assert suggested_path(None) == tmp_path / "p" / "polygons_2.gpkg"

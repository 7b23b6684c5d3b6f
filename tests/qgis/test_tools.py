"""The algorithms that run ``geosam-es``: arguments, progress, cancelling and errors."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import processing
import pyproj
import pytest
import rasterio
from qgis.core import (
    QgsApplication,
    QgsCategorizedSymbolRenderer,
    QgsCoordinateReferenceSystem,
    QgsFeature,
    QgsFillSymbol,
    QgsGeometry,
    QgsProcessingException,
    QgsProcessingFeatureSourceDefinition,
    QgsProcessingFeedback,
    QgsProject,
    QgsRasterLayer,
    QgsRectangle,
    QgsRendererCategory,
    QgsVectorFileWriter,
    QgsVectorLayer,
)
from qgis.PyQt.QtWidgets import QCheckBox, QComboBox
from rasterio.transform import Affine

import geosam_es
from geosam_es.gui.panel.options_page import OptionsPage
from geosam_es.processing.process import run_command_line
from geosam_es.processing.provider import GeoSamProvider
from geosam_es.qgis_support import command_line
from geosam_es.qgis_support.command_line import CommandLine, CommandLineError, find_command_line
from geosam_es.qgis_support.live_store import live_options
from geosam_es.qgis_support.settings import Settings
from geosam_es.qgis_support.store_news import store_news
from geosam_es.store import StoreReader
from geosam_es.store.decoders import ORIGINAL, active_name, list_decoders
from tests.helpers import add_decoder, disc, make_decoder, make_store
from tests.qgis.support import adds_results, wait_until

CRS = "EPSG:25830"
ROOT = Path(__file__).resolve().parents[2]
TOOL = '''#!{python}
"""A stand-in for geosam-es that follows plan.json and records how it was called."""
import json, os, pathlib, shutil, sys
here = pathlib.Path(__file__).parent
plan = json.loads((here / "plan.json").read_text())
arguments = sys.argv[1:]
truth = arguments[2]
(here / "called.json").write_text(json.dumps({{"arguments": arguments, "environment": dict(os.environ)}}))
shutil.copyfile(truth, here / "truth.gpkg") if truth.endswith(".gpkg") else None
out = pathlib.Path(arguments[arguments.index("-o") + 1])
print("a.zarr: 5/20 objects (1.0/s, 15 s left)", file=sys.stderr, flush=True)
print("año: loss 0.5", flush=True)
print("epoch 4/8  loss 0.412  IoU 0.801  3 s", file=sys.stderr, flush=True)
if plan.get("error"):
    print(plan["error"], file=sys.stderr)
    sys.exit(plan["code"])
shutil.copytree(plan["decoder"], out) if plan.get("decoder") else out.mkdir(parents=True, exist_ok=True)
report = out / "report" if arguments[0] == "finetune" else out
report.mkdir(exist_ok=True)
(report / "report.html").write_text("<html>")
print("a.zarr: 20/20 objects (1.0/s)", file=sys.stderr, flush=True)
'''
TREE = """#!{python}
import os, signal, sys, time
sys.path.insert(0, {root!r})
from encoder_tools.cli import app

@app.cli.command("tree")
def tree() -> None:
    \"\"\"Start a child that ignores SIGTERM, and a grandchild whose parent has ended.\"\"\"
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if os.fork() == 0 and os.fork() != 0:
            os._exit(0)
    with open({pids!r}, "a") as file:
        file.write(f"{{os.getpid()}}\\n")
    time.sleep(100)

app.main()
"""


class Log(QgsProcessingFeedback):
    """Keeps the messages, and cancels at a given progress."""

    def __init__(self, cancel_at: float = 1e9) -> None:
        super().__init__(False)
        self.lines: list[str] = []
        self.commands: list[str] = []
        self.progress: list[float] = []
        self._cancel_at = cancel_at
        self.progressChanged.connect(self._on_progress)

    def _on_progress(self, value: float) -> None:
        self.progress.append(value)
        if value >= self._cancel_at:
            self.cancel()

    def pushInfo(self, info: str) -> None:  # noqa: N802
        self.lines.append(info)

    def pushConsoleInfo(self, info: str) -> None:  # noqa: N802
        self.lines.append(info)

    def reportError(self, error: str, _fatal: bool = False) -> None:  # noqa: N802
        self.lines.append(error)

    def pushCommandInfo(self, info: str) -> None:  # noqa: N802
        self.commands.append(info)


class Tool:
    """A command that follows the plan of a test."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "geosam-es"
        self.folder = folder
        self.path.write_text(TOOL.format(python=sys.executable), encoding="utf-8")
        self.path.chmod(0o755)
        self.plan()

    def plan(self, **plan: Any) -> None:
        (self.folder / "plan.json").write_text(json.dumps(plan))

    @property
    def arguments(self) -> list[str]:
        return json.loads((self.folder / "called.json").read_text())["arguments"]

    def option(self, name: str) -> list[str]:
        arguments = self.arguments
        return [arguments[index + 1] for index, word in enumerate(arguments) if word == name]

    def truth(self) -> list[QgsFeature]:
        """Return the features passed to the tool."""
        layer = QgsVectorLayer(self.arguments[2], "truth", "ogr")
        assert layer.isValid() and layer.crs() == QgsCoordinateReferenceSystem(CRS)
        return list(layer.getFeatures())


@pytest.fixture(scope="module", autouse=True)
def provider(qgis_processing: None) -> Iterator[GeoSamProvider]:
    provider = GeoSamProvider()
    registry = QgsApplication.processingRegistry()
    assert registry.addProvider(provider)
    yield provider
    registry.removeProvider(provider)


@pytest.fixture(autouse=True)
def no_layers_are_left() -> Iterator[None]:
    yield
    QgsProject.instance().removeAllMapLayers()


@pytest.fixture
def tool(tmp_path: Path) -> Tool:
    folder = tmp_path / "tool with a space"
    folder.mkdir()
    tool = Tool(folder)
    Settings().command_line = str(tool.path)
    return tool


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return make_store(tmp_path, disc((300, 300), 150, 150, 60))


def square(x: float) -> QgsGeometry:
    return QgsGeometry.fromRect(QgsRectangle(x, 0, x + 10, 10))


def memory_layer(count: int = 3) -> QgsVectorLayer:
    layer = QgsVectorLayer(f"Polygon?crs={CRS}&field=fid:integer&field=class:string", "fields", "memory")
    for number in range(count):
        feature = QgsFeature(layer.fields())
        feature.setGeometry(square(100 * number))
        feature.setAttributes([number, "wheat" if number % 2 else "maize"])
        layer.dataProvider().addFeature(feature)
    return layer


def saved_layer(path: Path, name: str = "fields", layer: QgsVectorLayer | None = None) -> QgsVectorLayer:
    options = QgsVectorFileWriter.SaveVectorOptions()
    options.driverName = {".gpkg": "GPKG", ".shp": "ESRI Shapefile"}[path.suffix]
    options.layerName = name
    if path.exists():
        options.actionOnExistingFile = QgsVectorFileWriter.ActionOnExistingFile.CreateOrOverwriteLayer
    context = QgsProject.instance().transformContext()
    error = QgsVectorFileWriter.writeAsVectorFormatV3(layer or memory_layer(), str(path), context, options)
    assert error[0] == QgsVectorFileWriter.WriterError.NoError, error
    opened = QgsVectorLayer(f"{path}|layername={name}" if path.suffix == ".gpkg" else str(path), name, "ogr")
    assert opened.isValid()
    # QGIS keeps the parameters of a failed algorithm, and layers among them must not be deleted.
    QgsProject.instance().addMapLayer(opened)
    return opened


def id_at(layer: QgsVectorLayer, x: float) -> int:
    return next(f.id() for f in layer.getFeatures() if f.geometry().boundingBox().xMinimum() == x)


def evaluate(store: Path, layer: Any, tmp_path: Path, feedback: Log | None = None, **parameters: Any) -> dict[str, Any]:
    values = {"STORE": str(store), "INPUT": layer, "OUTPUT": str(tmp_path / "report"), **parameters}
    return processing.run("geosam_es:evaluatedecoders", values, feedback=feedback or Log())


def finetune(store: Path, layer: Any, tmp_path: Path, feedback: Log | None = None, **parameters: Any) -> dict[str, Any]:
    values = {"STORE": str(store), "INPUT": layer, "OUTPUT": str(tmp_path / "tuned by us"), **parameters}
    return processing.run("geosam_es:finetunedecoder", values, feedback=feedback or Log())


class TestClassify:
    def test_layers_field_and_outputs(self, tool: Tool, store: Path, tmp_path: Path) -> None:
        known, wanted = saved_layer(tmp_path / "known.gpkg"), saved_layer(tmp_path / "all.gpkg")
        out, report = tmp_path / "classes.gpkg", tmp_path / "report"
        values = {"STORE": str(store), "INPUT": known, "CLASS_FIELD": "class", "POLYGONS": wanted}
        outputs = processing.run(
            "geosam_es:classifypolygons", {**values, "OUTPUT": str(out), "REPORT": str(report)}, feedback=Log()
        )
        layers = [str(tmp_path / "known.gpkg"), str(tmp_path / "all.gpkg")]
        assert tool.arguments[:4] == ["classify", str(store), *layers]
        assert tool.option("--class") == ["class"] and tool.option("-o") == [str(out)]
        assert tool.option("--report") == [str(report)] and "--overwrite" not in tool.arguments
        assert outputs["OUTPUT"] == str(out) and outputs["HTML"] == str(report / "report.html")

    def test_the_result_must_be_a_file(self) -> None:
        algorithm = QgsApplication.processingRegistry().createAlgorithmById("geosam_es:classifypolygons")
        assert not algorithm.parameterDefinition("OUTPUT").supportsNonFileBasedOutput()

    @adds_results
    @pytest.mark.parametrize("fields", ["", "&field=class:string"])
    def test_the_image_shows_through_in_the_colours_of_the_classes(
        self, tool: Tool, store: Path, tmp_path: Path, fields: str
    ) -> None:
        known, out = saved_layer(tmp_path / "known.gpkg"), tmp_path / "out.gpkg"
        # The stand-in copies a folder, and QGIS opens one of Shapefiles as a layer.
        (tmp_path / "result").mkdir()
        saved_layer(tmp_path / "result" / "fields.shp")
        tool.plan(decoder=str(tmp_path / "result"))
        wanted = QgsVectorLayer(f"Polygon?crs={CRS}{fields}", "all", "memory")
        QgsProject.instance().addMapLayer(wanted)
        symbol = QgsFillSymbol.createSimple({"color": "#aa0000"})
        known.setRenderer(QgsCategorizedSymbolRenderer("class", [QgsRendererCategory("oak", symbol, "Oak")]))
        values = {"STORE": str(store), "INPUT": known, "CLASS_FIELD": "class", "POLYGONS": wanted, "OVERWRITE": True}
        values.update(OUTPUT=str(out), REPORT=str(tmp_path / "report"))
        before = set(QgsProject.instance().mapLayers())
        processing.runAndLoadResults("geosam_es:classifypolygons", values, feedback=Log())
        (added,) = set(QgsProject.instance().mapLayers()) - before
        renderer = QgsProject.instance().mapLayer(added).renderer()
        assert isinstance(renderer, QgsCategorizedSymbolRenderer) and renderer.classAttribute() == "class"
        (category, *_others) = renderer.categories()
        fill = category.symbol().symbolLayer(0).fillColor()
        assert fill.name() == "#aa0000" and fill.alphaF() < 0.5


class TestEvaluate:
    def test_progress_log_and_report(self, tool: Tool, store: Path, tmp_path: Path) -> None:
        feedback = Log()
        outputs = evaluate(store, saved_layer(tmp_path / "a.gpkg"), tmp_path, feedback, CLASS_FIELD="class")
        assert outputs == {"OUTPUT": str(tmp_path / "report"), "HTML": str(tmp_path / "report" / "report.html")}
        assert tool.arguments[:2] == ["evaluate", str(store)]
        assert tool.option("--decoder") == ["original"] and tool.option("--class") == ["class"]
        assert tool.option("--prompts") == ["point,box,clicks:5"]
        assert feedback.progress[-3:] == [25.0, 50.0, 100.0]
        assert "año: loss 0.5" in feedback.lines
        assert not [line for line in feedback.lines if "20/20" in line]
        (typed,) = feedback.commands
        assert typed.startswith(f"'{tool.path}' evaluate {store} ")

    def test_all_decoders_of_the_store_and_another_are_compared(self, tool: Tool, store: Path, tmp_path: Path) -> None:
        add_decoder(store, make_decoder(tmp_path / "tuned", "fields"))
        layer = saved_layer(tmp_path / "a.gpkg")
        other = str(tmp_path / "tuned")
        evaluate(store, layer, tmp_path, DECODER=other)
        assert tool.option("--decoder") == ["original", "fields", other]
        evaluate(store, layer, tmp_path, ALL_DECODERS=False, PROMPTS="box")
        assert tool.option("--decoder") == [] and tool.option("--prompts") == ["box"]

    def test_a_folder_that_is_not_a_store_is_refused_before_the_command_runs(self, tool: Tool, tmp_path: Path) -> None:
        with pytest.raises(QgsProcessingException, match="not an embedding store"):
            evaluate(tmp_path, memory_layer(), tmp_path)
        assert not (tool.folder / "called.json").exists()


class TestRaster:
    @pytest.fixture
    def raster(self, tmp_path: Path) -> Path:
        Settings().store_place = "beside"
        path = tmp_path / "image.tif"
        transform = Affine(0.1, 0.0, 0.0, 0.0, -0.1, 130.0)
        profile = {"driver": "GTiff", "crs": CRS, "transform": transform, "dtype": "uint8"}
        with rasterio.open(path, "w", count=1, height=1300, width=1300, **profile) as dataset:
            dataset.write(np.random.default_rng(1).integers(1, 255, (1, 1300, 1300), dtype=np.uint8))
        return path

    def test_the_tiles_under_the_polygons_are_prepared_first(self, tool: Tool, raster: Path, tmp_path: Path) -> None:
        feedback = Log()
        values = {"RASTER": str(raster), "INPUT": memory_layer(1), "OUTPUT": str(tmp_path / "report")}
        assert processing.run("geosam_es:evaluatedecoders", values, feedback=feedback)["HTML"]
        root = tmp_path / "image.embeddings.zarr"
        assert tool.arguments[:2] == ["evaluate", str(root)]
        # The store in the cache does not know where its raster is, and the report shows it.
        assert tool.option("--raster") == [str(raster)]
        reader = StoreReader(root)
        # The polygon lies in the lower left corner.
        assert [tuple(tile) for tile in reader.pyramid if reader.is_encoded(tile)] == [(0, 1, 0), (1, 0, 0)]
        assert any(line.startswith("2 tiles prepared") for line in feedback.lines)

    def test_polygons_are_compared_in_the_crs_that_the_user_gave_the_layer(
        self, tool: Tool, raster: Path, tmp_path: Path
    ) -> None:
        own = QgsRasterLayer(str(raster), "image")
        QgsProject.instance().addMapLayer(own)
        values = {"RASTER": own, "INPUT": memory_layer(1), "OUTPUT": str(tmp_path / "report"), "OVERWRITE": True}
        processing.run("geosam_es:evaluatedecoders", values, feedback=Log())
        root = tmp_path / "image.embeddings.zarr"
        assert pyproj.CRS(StoreReader(root).metadata.raster.crs_wkt).to_epsg() == 25830
        own.setCrs(QgsCoordinateReferenceSystem("EPSG:23030"))
        outline = {"RASTER": own, "FOOTPRINT": "TEMPORARY_OUTPUT", "TILES": None}
        found = processing.run("geosam_es:storefootprint", outline, feedback=Log())["FOOTPRINT"]
        assert found.crs().authid() == "EPSG:23030"
        feedback = Log()
        processing.run("geosam_es:evaluatedecoders", values, feedback=feedback)
        assert pyproj.CRS(StoreReader(root).metadata.raster.crs_wkt).to_epsg() == 23030
        assert any("It now has the CRS of the layer, EPSG:23030" in line for line in feedback.lines)

    def test_the_tiles_under_the_test_polygons_are_prepared_too(self, tool: Tool, raster: Path, tmp_path: Path) -> None:
        values = {"RASTER": str(raster), "INPUT": memory_layer(1), "OUTPUT": str(tmp_path / "tuned")}
        processing.run("geosam_es:finetunedecoder", {**values, "HOLDOUT_LAYER": memory_layer(2)}, feedback=Log())
        reader = StoreReader(tmp_path / "image.embeddings.zarr")
        # Those for testing reach into the lower right corner.
        assert [tuple(tile) for tile in reader.pyramid if reader.is_encoded(tile)] == [(0, 1, 0), (0, 1, 1), (1, 0, 0)]

    def test_cancelling_meanwhile_runs_nothing(self, tool: Tool, raster: Path, tmp_path: Path) -> None:
        values = {"RASTER": str(raster), "INPUT": memory_layer(1), "OUTPUT": str(tmp_path / "tuned")}
        feedback = Log(cancel_at=1)
        assert processing.run("geosam_es:finetunedecoder", values, feedback=feedback) == {}
        assert not (tool.folder / "called.json").exists()
        assert "Stopped. The tiles prepared so far are kept." in feedback.lines


class TestLayers:
    @pytest.mark.parametrize("suffix", [".gpkg", ".shp"])
    def test_a_file_is_passed_as_it_is(self, tool: Tool, store: Path, tmp_path: Path, suffix: str) -> None:
        path = tmp_path / f"año{suffix}"
        evaluate(store, saved_layer(path), tmp_path)
        assert tool.arguments[2] == str(path)

    def test_relative_paths_are_those_of_the_user(
        self, tool: Tool, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As in a terminal with qgis_process; the command runs in a temporary folder."""
        monkeypatch.chdir(tmp_path)
        saved_layer(tmp_path / "known.gpkg")
        make_decoder(tmp_path / "tuned", "fields")
        layer = str(tmp_path / "known.gpkg")
        evaluate(Path(store.name), "known.gpkg", tmp_path, DECODER="tuned", OUTPUT="report")
        assert tool.arguments[1:3] == [str(store), layer]
        assert tool.option("-o") == [str(tmp_path / "report")]
        assert tool.option("--decoder") == ["original", str(tmp_path / "tuned")]
        values = {"STORE": store.name, "INPUT": "known.gpkg", "CLASS_FIELD": "class", "POLYGONS": "known.gpkg"}
        outputs = processing.run(
            "geosam_es:classifypolygons", {**values, "OUTPUT": "out.gpkg", "REPORT": "classes"}, feedback=Log()
        )
        assert tool.arguments[1:4] == [str(store), layer, layer]
        assert tool.option("-o") == [str(tmp_path / "out.gpkg")] and outputs["OUTPUT"] == "out.gpkg"

    def test_a_layer_in_memory_is_written(self, tool: Tool, store: Path, tmp_path: Path) -> None:
        evaluate(store, memory_layer(), tmp_path)
        assert tool.arguments[2].endswith(".gpkg")
        truth = tool.truth()
        assert [feature["class"] for feature in truth] == ["maize", "wheat", "maize"]
        assert [feature.geometry().boundingBox().xMinimum() for feature in truth] == [0, 100, 200]

    def test_unsaved_edits_are_included(self, tool: Tool, store: Path, tmp_path: Path) -> None:
        layer = saved_layer(tmp_path / "a.gpkg")
        layer.startEditing()
        layer.deleteFeature(id_at(layer, 0))
        feature = QgsFeature(layer.fields())
        feature.setGeometry(square(900))
        layer.addFeature(feature)
        evaluate(store, layer, tmp_path)
        assert sorted(f.geometry().boundingBox().xMinimum() for f in tool.truth()) == [100, 200, 900]
        layer.rollBack()

    def test_only_selected_or_filtered_features(self, tool: Tool, store: Path, tmp_path: Path) -> None:
        layer = saved_layer(tmp_path / "a.gpkg")
        layer.selectByIds([2])
        evaluate(store, QgsProcessingFeatureSourceDefinition(layer.id(), True), tmp_path)
        assert len(tool.truth()) == 1
        layer.setSubsetString("class = 'maize'")
        evaluate(store, layer, tmp_path)
        assert len(tool.truth()) == 2

    def test_one_of_several_layers_of_a_file(self, tool: Tool, store: Path, tmp_path: Path) -> None:
        path = tmp_path / "a.gpkg"
        saved_layer(path, "others", memory_layer(7))
        evaluate(store, saved_layer(path), tmp_path)
        assert tool.arguments[2] != str(path) and len(tool.truth()) == 3

    def test_the_polygons_of_a_file_with_points_too(self, tool: Tool, store: Path, tmp_path: Path) -> None:
        path = tmp_path / "mixed.geojson"
        shapes = [square(0), QgsGeometry.fromWkt("POINT(5 5)")]
        features = [{"type": "Feature", "properties": {}, "geometry": json.loads(shape.asJson())} for shape in shapes]
        crs = {"type": "name", "properties": {"name": f"urn:ogc:def:crs:{CRS.replace(':', '::')}"}}
        path.write_text(json.dumps({"type": "FeatureCollection", "crs": crs, "features": features}))
        # As QGIS opens it.
        evaluate(store, QgsVectorLayer(f"{path}|geometrytype=Polygon", "mixed", "ogr"), tmp_path)
        (feature,) = tool.truth()
        assert tool.arguments[2] != str(path) and feature.geometry().area() == 100

    def test_a_crs_that_the_user_has_set(self, tool: Tool, store: Path, tmp_path: Path) -> None:
        layer = saved_layer(tmp_path / "a.shp")
        (tmp_path / "a.prj").unlink()
        layer = QgsVectorLayer(str(tmp_path / "a.shp"), "a", "ogr")
        layer.setCrs(QgsCoordinateReferenceSystem(CRS))
        evaluate(store, layer, tmp_path)
        assert len(tool.truth()) == 3

    def test_invalid_polygons_are_passed_on(self, tool: Tool, store: Path, tmp_path: Path) -> None:
        layer = memory_layer(0)
        feature = QgsFeature(layer.fields())
        feature.setGeometry(QgsGeometry.fromWkt("POLYGON((0 0, 10 10, 10 0, 0 10, 0 0))"))
        layer.dataProvider().addFeature(feature)
        evaluate(store, layer, tmp_path)
        assert len(tool.truth()) == 1

    def test_prompts_in_the_provenance_table_are_included(self, tool: Tool, store: Path, tmp_path: Path) -> None:
        layer = saved_layer(tmp_path / "a.gpkg")
        with sqlite3.connect(tmp_path / "a.gpkg") as database:
            database.execute(
                "CREATE TABLE geosam_provenance (layer TEXT, feature INTEGER, model TEXT, score REAL, prompts TEXT,"
                " raster TEXT, created TEXT)"
            )
            row = ("fields", id_at(layer, 100), "mini", 0.9, '{"points":[[1,2,1]]}', "a.tif", "2026-11-20")
            database.execute("INSERT INTO geosam_provenance VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            database.execute(
                "INSERT INTO gpkg_contents (table_name, data_type, identifier) VALUES (?, 'attributes', ?)",
                ("geosam_provenance", "geosam_provenance"),
            )
        layer.startEditing()
        layer.deleteFeature(id_at(layer, 0))
        evaluate(store, layer, tmp_path)
        kept = {f.geometry().boundingBox().xMinimum(): f["prompts"] for f in tool.truth()}
        assert kept[100] == '{"points":[[1,2,1]]}' and len(kept) == 2 and kept[200] != kept[100]
        layer.rollBack()


TEMPORARY = {"OUTPUT": "TEMPORARY_OUTPUT"}
MINI_DECODER = {
    name: (Path(geosam_es.__file__).parent / "models" / "mini" / name).read_bytes()
    for name in ("prepare.onnx", "decoder.onnx")
}
"""A decoder that can be loaded."""


class TestFinetune:
    def test_options_are_passed_on(self, tool: Tool, store: Path, tmp_path: Path) -> None:
        test = saved_layer(tmp_path / "test.gpkg")
        layer = saved_layer(tmp_path / "a.gpkg")
        outputs = finetune(store, layer, tmp_path, CLASS_FIELD="class", CLASS_VALUE="wheat", EPOCHS=3, MINUTES=1.5)
        assert tool.arguments[:2] == ["finetune", str(store)]
        for name, value in (
            ("--class", "class=wheat"),
            ("--epochs", "3"),
            ("--minutes", "1.5"),
            ("--holdout", "0.2"),
            ("--depth", "adapter"),
        ):
            assert tool.option(name) == [value]
        assert Path(outputs["HTML"]).is_file() and "DECODER_NAME" not in outputs
        finetune(store, layer, tmp_path, HOLDOUT_LAYER=test)
        assert tool.option("--holdout") == [str(tmp_path / "test.gpkg")]
        assert not tool.option("--epochs") + tool.option("--minutes") + tool.option("--class")
        with pytest.raises(QgsProcessingException, match="Set both"):
            finetune(store, layer, tmp_path, CLASS_FIELD="class")

    @pytest.mark.parametrize("algorithm", [evaluate, finetune])
    def test_earlier_results_are_replaced_only_if_the_user_says_so(
        self, algorithm: Any, tool: Tool, store: Path, tmp_path: Path
    ) -> None:
        layer = saved_layer(tmp_path / "a.gpkg")
        algorithm(store, layer, tmp_path)
        assert "--overwrite" not in tool.arguments
        tool.plan(error="Error: tuned has a result already: replace it with --overwrite", code=2)
        with pytest.raises(QgsProcessingException, match=r"^tuned has a result already: replace it with --overwrite$"):
            algorithm(store, layer, tmp_path)
        tool.plan()
        algorithm(store, layer, tmp_path, OVERWRITE=True)
        assert tool.arguments[3:6] == ["-o", tool.option("-o")[0], "--overwrite"]

    def test_the_decoder_is_added_to_the_store_if_wanted(self, tool: Tool, store: Path, tmp_path: Path) -> None:
        told: list[Any] = []
        store_news.decoders_changed.connect(lambda *news: told.append(news))
        tool.plan(decoder=str(make_decoder(tmp_path / "made", "fields", MINI_DECODER)))
        layer = saved_layer(tmp_path / "a.gpkg")
        outputs = finetune(store, layer, tmp_path, USE=True)
        store_news.decoders_changed.disconnect()
        assert outputs["DECODER_NAME"] == "fields" == active_name(store)
        assert told == [(str(store), "fields")]

    @pytest.mark.parametrize(
        ("parameters", "layer_name", "name"),
        [({"NAME": "wheat 2026"}, "a/b", "wheat 2026"), (TEMPORARY, "a/b", "a_b"), (TEMPORARY, "nul", "_nul")],
    )
    def test_the_name_in_the_store(
        self, tool: Tool, store: Path, tmp_path: Path, parameters: dict[str, Any], layer_name: str, name: str
    ) -> None:
        tool.plan(decoder=str(make_decoder(tmp_path / "made", "OUTPUT", MINI_DECODER)))
        layer = saved_layer(tmp_path / "a.gpkg")
        layer.setName(layer_name)
        feedback = Log()
        outputs = finetune(store, layer, tmp_path, feedback, USE=True, **parameters)
        assert outputs.get("DECODER_NAME") == name, feedback.lines

    def test_a_decoder_that_cannot_be_added_is_kept(self, tool: Tool, store: Path, tmp_path: Path) -> None:
        tool.plan(decoder=str(make_decoder(tmp_path / "made", "fields", encoder_sha256="1" * 64)))
        feedback = Log()
        outputs = finetune(store, saved_layer(tmp_path / "a.gpkg"), tmp_path, feedback, USE=True)
        assert Path(outputs["OUTPUT"], "decoder.onnx").is_file()
        assert [line for line in feedback.lines if "encoder blobs" in line]

    def test_the_layer_may_be_removed_while_it_runs(self, tool: Tool, store: Path, tmp_path: Path) -> None:
        tool.plan(decoder=str(make_decoder(tmp_path / "made", "OUTPUT", MINI_DECODER)))
        layer = saved_layer(tmp_path / "a.gpkg")
        layer.setName("crowns")
        project, layer_id, feedback = QgsProject.instance(), layer.id(), Log()
        feedback.progressChanged.connect(lambda _: project.removeMapLayer(layer_id))
        outputs = finetune(store, layer_id, tmp_path, feedback, USE=True, **TEMPORARY)
        assert project.mapLayer(layer_id) is None
        assert outputs.get("DECODER_NAME") == "crowns" == active_name(store), feedback.lines

    def test_one_that_cannot_be_loaded_is_not_used(self, tool: Tool, store: Path, tmp_path: Path) -> None:
        tool.plan(decoder=str(make_decoder(tmp_path / "made", "fields")))
        outputs = finetune(store, saved_layer(tmp_path / "a.gpkg"), tmp_path, USE=True)
        assert "DECODER_NAME" not in outputs and active_name(store) == ORIGINAL
        assert [decoder.name for decoder in list_decoders(store)] == [ORIGINAL]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z"
    except FileNotFoundError:
        return False


class TestProcess:
    def test_cancelling_ends_everything_the_command_has_started(self, tmp_path: Path) -> None:
        pids = tmp_path / "pids"
        path = tmp_path / "geosam-es"
        path.write_text(TREE.format(python=sys.executable, root=str(ROOT), pids=str(pids)))
        path.chmod(0o755)

        class Canceller(Log):
            def isCanceled(self) -> bool:  # noqa: N802
                return pids.exists() and len(pids.read_text().split()) == 3

        assert not run_command_line(CommandLine(str(path)), ["tree"], Canceller())
        started = [int(pid) for pid in pids.read_text().split()]
        wait_until(lambda: not any(map(is_running, started)))

    def test_cancelling_at_once_ends_the_command(self, tool: Tool, store: Path, tmp_path: Path) -> None:
        class Cancelled(Log):
            def isCanceled(self) -> bool:  # noqa: N802
                return True

        assert not run_command_line(
            CommandLine(sys.executable, ("-c", "import time; time.sleep(100)")), [], Cancelled()
        )

    def test_the_error_message_of_the_command_is_raised(self, tool: Tool, store: Path, tmp_path: Path) -> None:
        tool.plan(error="Error: a.gpkg has 3 objects, and 5 are needed: draw more", code=2)
        with pytest.raises(QgsProcessingException, match=r"^a.gpkg has 3 objects, and 5 are needed: draw more$"):
            evaluate(store, saved_layer(tmp_path / "a.gpkg"), tmp_path)

    @pytest.mark.parametrize(
        ("last", "message"),
        [("Killed", "ended without a result"), ("torch.OutOfMemoryError: 3 GiB", "OutOfMemoryError: 3 GiB")],
    )
    def test_a_crash_is_an_error(self, tool: Tool, store: Path, tmp_path: Path, last: str, message: str) -> None:
        tool.plan(error=last, code=137)
        feedback = Log()
        with pytest.raises(QgsProcessingException, match=message):
            evaluate(store, saved_layer(tmp_path / "a.gpkg"), tmp_path, feedback)
        assert last in feedback.lines

    def test_variables_of_qgis_are_removed(
        self, tool: Tool, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("PYTHONHOME", "PROJ_LIB", "GDAL_DATA"):
            monkeypatch.setenv(name, "/usr/share/qgis")
        evaluate(store, saved_layer(tmp_path / "a.gpkg"), tmp_path)
        environment = json.loads((tool.folder / "called.json").read_text())["environment"]
        assert not {"PYTHONHOME", "PYTHONPATH", "PROJ_LIB", "GDAL_DATA"} & set(environment)
        assert environment["GEOSAM_ES_PROGRESS_SECONDS"] == "1" and environment["HOME"] == os.environ["HOME"]

    def test_the_real_command(self, store: Path, tmp_path: Path) -> None:
        """From the sources, with the packages of the test environment."""
        path = tmp_path / "geosam-es"
        start = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from encoder_tools.cli import main; main()"
        path.write_text(f"#!{sys.executable}\n{start}\n")
        path.chmod(0o755)
        command, feedback = CommandLine(str(path)), Log()
        assert run_command_line(command, ["decoder", "list", str(store)], feedback)
        assert feedback.lines[-1].startswith("* original")
        with pytest.raises(CommandLineError, match="not an embedding store"):
            run_command_line(command, ["decoder", "list", str(tmp_path)], Log())


class TestFinding:
    @pytest.fixture(autouse=True)
    def nowhere(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("PATH", str(tmp_path / "empty"))
        monkeypatch.setattr(command_line, "_EXTRA_FOLDERS", (str(tmp_path / "extra"),))

    def test_the_log_says_how_to_install_it(self, store: Path, tmp_path: Path) -> None:
        feedback = Log()
        with pytest.raises(QgsProcessingException, match="command was not found on this computer"):
            evaluate(store, saved_layer(tmp_path / "a.gpkg"), tmp_path, feedback)
        # From the source folder: no address is trusted to belong to this project.
        make, install, collect, *offline, command = feedback.commands
        assert make.endswith("-m venv ~/geosam-es") and install.endswith('-m pip install "FOLDER[finetune]"')
        assert collect.endswith('-m pip wheel --wheel-dir wheels "FOLDER[finetune]"') and offline[0] == make
        assert offline[1].endswith('-m pip install --no-index --find-links wheels "geosam-es[finetune]"')
        assert command.startswith(f"geosam-es evaluate {store}")
        text = " ".join(feedback.lines)
        assert "a Python of its own" in text and "Settings > Options > GeoSAM-ES > Command line" in text

    def test_the_commands_of_windows(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(command_line.sys, "platform", "win32")
        commands = [line for step in command_line.install_steps() for line in step.commands]
        assert commands[:2] == [
            r'py -3 -m venv "%USERPROFILE%\geosam-es"',
            r'"%USERPROFILE%\geosam-es\Scripts\python" -m pip install "FOLDER[finetune]"',
        ]

    def test_it_is_found_on_the_path(self, monkeypatch: pytest.MonkeyPatch, tool: Tool, tmp_path: Path) -> None:
        monkeypatch.setenv("PATH", str(tool.folder))
        assert find_command_line("") == CommandLine(str(tool.path))
        monkeypatch.setenv("PATH", "")
        shutil.copytree(tool.folder, tmp_path / "extra")
        assert find_command_line("") == CommandLine(str(tmp_path / "extra" / "geosam-es"))

    def test_a_python_or_an_environment_can_be_chosen(self, tool: Tool, tmp_path: Path) -> None:
        assert find_command_line(sys.executable) == CommandLine(sys.executable, ("-m", "encoder_tools.cli"))
        shutil.copytree(tool.folder, tmp_path / "venv" / "bin")
        assert find_command_line(str(tmp_path / "venv")).program == str(tmp_path / "venv" / "bin" / "geosam-es")

    @pytest.mark.parametrize("wrong", ["missing", "folder"])
    def test_a_wrong_choice(self, tmp_path: Path, wrong: str) -> None:
        (tmp_path / "folder").mkdir()
        with pytest.raises(CommandLineError, match="neither the geosam-es command nor a Python"):
            find_command_line(str(tmp_path / wrong))

    def test_a_file_that_cannot_be_started(self, tmp_path: Path) -> None:
        text = tmp_path / "geosam-es"
        text.write_text("no program")
        with pytest.raises(CommandLineError, match="cannot be started"):
            run_command_line(find_command_line(str(text)), [], Log())

    def test_a_python_without_geosam_es(self, tmp_path: Path) -> None:
        with pytest.raises(CommandLineError, match="GeoSAM-ES is not installed in the Python"):
            run_command_line(CommandLine(sys.executable, ("-m", "encoder_tools_of_old.cli")), [], Log())

    def test_it_is_chosen_on_the_options_page(self, tool: Tool) -> None:
        Settings().command_line = ""
        page = OptionsPage(Settings(), lambda: None)
        assert page._command.lineEdit().placeholderText() == "not found"
        page._command.setFilePath(str(tool.path))
        page.apply()
        assert Settings().command_line == str(tool.path)


def test_enlarging_with_slow_models_is_switched_on_by_the_user(qgis_app: Any) -> None:
    assert not live_options(Settings()).enlarges
    page = OptionsPage(Settings(), lambda: None)
    box = page.findChild(QCheckBox, "enlarges")
    assert not box.isChecked()
    box.setChecked(True)
    page.apply()
    assert live_options(Settings()).enlarges
    assert OptionsPage(Settings(), lambda: None).findChild(QCheckBox, "enlarges").isChecked()


def test_where_prepared_images_go_is_chosen_on_the_options_page(qgis_app: Any) -> None:
    assert Settings().store_place == "ask" and not live_options(Settings()).beside
    page = OptionsPage(Settings(), lambda: None)
    box = page.findChild(QComboBox, "store_place")
    assert [box.itemData(index) for index in range(box.count())] == ["ask", "cache", "beside"]
    box.setCurrentIndex(2)
    page.apply()
    assert live_options(Settings()).beside
    assert OptionsPage(Settings(), lambda: None).findChild(QComboBox, "store_place").currentData() == "beside"

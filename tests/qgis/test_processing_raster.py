"""The algorithms on rasters: tiles are prepared with the embedded model, and polygons get a style."""

from __future__ import annotations

import gc
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import processing
import pytest
import rasterio
from osgeo import gdal
from qgis.core import (
    QgsApplication,
    QgsCategorizedSymbolRenderer,
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransform,
    QgsEditorWidgetSetup,
    QgsFeature,
    QgsGeometry,
    QgsMarkerSymbol,
    QgsPointXY,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProcessingModelAlgorithm,
    QgsProcessingModelChildAlgorithm,
    QgsProcessingModelChildParameterSource,
    QgsProcessingModelOutput,
    QgsProcessingModelParameter,
    QgsProcessingParameterEnum,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterVectorLayer,
    QgsProject,
    QgsRasterLayer,
    QgsRendererCategory,
    QgsSingleSymbolRenderer,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QCoreApplication, QThread, QTranslator
from rasterio.transform import Affine

from geosam_es.errors import StoreError
from geosam_es.processing.provider import GeoSamProvider
from geosam_es.qgis_support import live_store
from geosam_es.qgis_support.layer_source import source_of
from geosam_es.qgis_support.settings import Settings
from geosam_es.store import StoreReader
from geosam_es.store.decoders import list_decoders
from geosam_es.store.reader import TileState
from tests.helpers import add_decoder, disc, make_decoder
from tests.qgis.support import adds_results, wait_until

TRANSFORM = Affine(0.5, 0.0, 700000.0, 0.0, -0.5, 4400000.0)
CRS = "EPSG:25830"
SIZE = 1300
"""Four tiles at full resolution, and one at half."""

CENTRES = [(150.0, 150.0), (1150.0, 1150.0)]
"""Of the discs in pixels; each lies on one tile of level 0."""

RADIUS = 70
ROOT = Path(__file__).resolve().parents[2]


class Log(QgsProcessingFeedback):
    """Keeps what is said, and cancels when a text of the progress contains something."""

    def __init__(self, cancel_at: Callable[[float], bool] = lambda _: False) -> None:
        super().__init__(False)
        self.lines: list[str] = []
        self.texts: list[str] = []
        self.progress: list[float] = []
        self._cancel_at = cancel_at
        self.progressChanged.connect(self._on_progress)

    def _on_progress(self, value: float) -> None:
        self.progress.append(value)
        if self._cancel_at(value):
            self.cancel()

    def pushInfo(self, info: str) -> None:  # noqa: N802
        self.lines.append(info)

    def pushWarning(self, warning: str) -> None:  # noqa: N802
        self.lines.append(warning)

    def setProgressText(self, text: str) -> None:  # noqa: N802
        self.texts.append(text)


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
    QgsProject.instance().layerTreeRoot().removeAllChildren()


def write(path: Path, crs: str | None = CRS, size: int = SIZE, value: int | None = None) -> Path:
    """Write an image of two bright discs on uneven ground, or of one value."""
    ground = np.random.default_rng(1).normal(70, 6, (size, size))
    for centre in CENTRES:
        if max(centre) + RADIUS < size:
            ground += 120 * disc((size, size), *centre, RADIUS)
    pixels = np.repeat(ground[None], 3, axis=0).clip(0, 255).astype(np.uint8)
    pixels = pixels if value is None else np.full_like(pixels, value)
    profile = {"driver": "GTiff", "crs": crs, "transform": TRANSFORM, "dtype": "uint8"}
    with rasterio.open(path, "w", count=3, height=size, width=size, **profile) as dataset:
        dataset.write(pixels)
    return path


@pytest.fixture
def raster(tmp_path: Path) -> QgsRasterLayer:
    """Return a raster in a group of the project, with spaces and accents in its names; its store goes beside it."""
    Settings().store_place = "beside"
    folder = tmp_path / "vuelo de 2024"
    folder.mkdir()
    return add_to_project(QgsRasterLayer(str(write(folder / "año.tif")), "Ortofoto año"), "Imágenes")


def add_to_project(layer: Any, group: str) -> Any:
    assert layer.isValid()
    QgsProject.instance().addMapLayer(layer, False)
    QgsProject.instance().layerTreeRoot().addGroup(group).addLayer(layer)
    return layer


def points(places: list[tuple[float, float]] = CENTRES, fields: str = "", values: Any = ()) -> QgsVectorLayer:
    layer = QgsVectorLayer(f"Point?crs={CRS}{fields}", "clicks", "memory")
    for index, place in enumerate(places):
        feature = QgsFeature(layer.fields())
        feature.setGeometry(QgsGeometry.fromPointXY(QgsPointXY(*(TRANSFORM @ place))))
        if values:
            feature.setAttributes(list(values[index]))
        assert layer.dataProvider().addFeatures([feature])[0]
    return layer


def area(left: float, top: float, right: float, bottom: float) -> QgsVectorLayer:
    """Return a layer with a rectangle, given in pixels, in degrees."""
    layer = QgsVectorLayer("Polygon?crs=EPSG:4326", "area", "memory")
    (x0, y0), (x1, y1) = TRANSFORM @ (left, top), TRANSFORM @ (right, bottom)
    geometry = QgsGeometry.fromWkt(f"POLYGON(({x0} {y0},{x1} {y0},{x1} {y1},{x0} {y1},{x0} {y0}))")
    geometry.transform(QgsCoordinateTransform(QgsCoordinateReferenceSystem(CRS), layer.crs(), QgsProject.instance()))
    feature = QgsFeature()
    feature.setGeometry(geometry)
    assert layer.dataProvider().addFeatures([feature])[0]
    return layer


def run(name: str, feedback: Log | None = None, **parameters: Any) -> dict[str, Any]:
    if name != "encoderaster":
        parameters = {"OUTPUT": "TEMPORARY_OUTPUT", **parameters}
    return processing.run(f"geosam_es:{name}", parameters, feedback=feedback or Log())


def features(result: dict[str, Any]) -> list[QgsFeature]:
    return list(result["OUTPUT"].getFeatures())


def encoded(root: Path) -> list[tuple[int, int, int]]:
    reader = StoreReader(root)
    return [tuple(tile) for grid in reader.grids for tile in grid if reader.state(tile) is TileState.ENCODED]


def beside(layer: QgsRasterLayer) -> Path:
    return Path(layer.source()).with_suffix(".embeddings.zarr")


def contain_the_centres(found: list[QgsFeature]) -> bool:
    places = [QgsGeometry.fromPointXY(QgsPointXY(*(TRANSFORM @ centre))) for centre in CENTRES]
    return all(any(feature.geometry().contains(place) for feature in found) for place in places)


class TestSegmentRaster:
    def test_the_tiles_under_the_points_are_prepared_and_kept(self, raster: QgsRasterLayer) -> None:
        log = Log()
        found = features(run("segmentpoints", log, RASTER=raster, INPUT=points()))
        assert len(found) == 2 and contain_the_centres(found) and found[0]["model"] == "mini"
        assert (0, 0, 0) in encoded(beside(raster)) and (0, 1, 1) in encoded(beside(raster))
        assert "Preparing 2 tiles" in log.lines
        assert any("2 of 2 tiles" in text for text in log.texts)
        assert log.progress[-1] == 100 and log.progress == sorted(log.progress)
        again = Log()
        same = features(run("segmentpoints", again, RASTER=raster, INPUT=points()))
        assert not [line for line in again.lines if line.startswith("Preparing")]
        assert [feature.geometry().asWkt(3) for feature in same] == [feature.geometry().asWkt(3) for feature in found]

    def test_the_raster_by_id_by_path_and_by_name(self, raster: QgsRasterLayer) -> None:
        for value in (raster.id(), raster.source(), raster.name()):
            assert len(features(run("segmentpoints", RASTER=value, INPUT=points()))) == 2

    def test_boxes(self, raster: QgsRasterLayer) -> None:
        boxes = area(60, 60, 240, 240)
        (found,) = features(run("segmentboxes", RASTER=raster, INPUT=boxes))
        assert found.geometry().area() == pytest.approx(np.pi * (RADIUS * 0.5) ** 2, rel=0.2)

    def test_the_crs_of_the_layer_counts(self, raster: QgsRasterLayer) -> None:
        """The user may have corrected it after the raster was prepared."""
        run("segmentpoints", RASTER=raster, INPUT=points())
        raster.setCrs(QgsCoordinateReferenceSystem("EPSG:25829"))
        clicks = points()
        clicks.setCrs(QgsCoordinateReferenceSystem("EPSG:25829"))
        result = run("segmentpoints", RASTER=raster, INPUT=clicks)
        assert result["OUTPUT"].crs().authid() == "EPSG:25829" and len(features(result)) == 2

    def test_a_prepared_image_elsewhere_is_continued(self, raster: QgsRasterLayer, tmp_path: Path) -> None:
        where = tmp_path / "elsewhere"
        run("encoderaster", RASTER=raster, FOLDER=str(where), AREA=area(100, 100, 200, 200))
        root = where / beside(raster).name
        assert (0, 1, 1) not in encoded(root)
        found = features(run("segmentpoints", RASTER=raster, STORE=str(root), INPUT=points()))
        assert contain_the_centres(found) and (0, 1, 1) in encoded(root) and not beside(raster).exists()

    def test_a_prepared_image_of_another_raster_is_refused(self, raster: QgsRasterLayer, tmp_path: Path) -> None:
        other = QgsRasterLayer(str(write(tmp_path / "other.tif", size=900)), "other")
        run("encoderaster", RASTER=other)
        with pytest.raises(QgsProcessingException, match=r"other\.embeddings.zarr was made with raster size"):
            run("segmentpoints", RASTER=raster, STORE=str(beside(other)), INPUT=points())

    def test_that_of_another_model_is_used_as_it_is(self, raster: QgsRasterLayer, other_model: Path) -> None:
        run("encoderaster", RASTER=raster, MODEL=str(other_model), AREA=area(100, 100, 200, 200))
        before, log = encoded(beside(raster)), Log()
        found = features(run("segmentpoints", log, RASTER=raster, INPUT=points(CENTRES[:1])))
        assert len(found) == 1 and encoded(beside(raster)) == before

    def test_in_a_folder_that_cannot_be_written_the_cache_is_used(
        self, raster: QgsRasterLayer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(live_store.StoreWriter, "create", refuse_beside(beside(raster).parent))
        self.check_cached(raster)

    def test_the_cache_is_used_unless_the_user_chose_otherwise(self, raster: QgsRasterLayer) -> None:
        Settings().store_place = ""
        self.check_cached(raster)

    def check_cached(self, raster: QgsRasterLayer) -> None:
        assert len(features(run("segmentpoints", RASTER=raster, INPUT=points()))) == 2
        (cached,) = live_store.cache_folder().iterdir()
        assert encoded(cached) and not beside(raster).exists()
        # The outline finds it there.
        assert run("storefootprint", RASTER=raster, FOOTPRINT="TEMPORARY_OUTPUT")["ENCODED"] >= 2

    def test_cancelling_while_tiles_are_prepared_keeps_them(self, raster: QgsRasterLayer) -> None:
        log = Log(cancel_at=lambda value: 0 < value < 90)
        assert features(run("segmentpoints", log, RASTER=raster, INPUT=points())) == []
        assert 1 <= len(encoded(beside(raster))) < 5
        assert "Stopped. The tiles prepared so far are kept." in log.lines

    def test_layers_are_not_touched_in_the_background(self, raster: QgsRasterLayer) -> None:
        """As the dialog runs it: prepared on this thread, run on another."""
        algorithm = QgsApplication.processingRegistry().createAlgorithmById("geosam_es:segmentpoints")
        context, log = QgsProcessingContext(), Log()
        context.setProject(QgsProject.instance())
        parameters = {"RASTER": raster.id(), "INPUT": add_to_project(points(), "a").id(), "OUTPUT": "memory:"}
        assert algorithm.checkParameterValues(parameters, context)[0]
        assert algorithm.prepare(parameters, context, log)
        QgsProject.instance().removeMapLayer(raster.id())
        results: list[Any] = []

        class Thread(QThread):
            def run(self) -> None:
                results.append(algorithm.runPrepared(parameters, context, log))
                context.pushToThread(QCoreApplication.instance().thread())

        thread = Thread()
        context.pushToThread(thread)
        thread.start()
        wait_until(thread.isFinished)
        algorithm.postProcess(context, log)
        assert len(list(context.getMapLayer(results[0]["OUTPUT"]).getFeatures())) == 2


def refuse_beside(folder: Path) -> Any:
    """Return `StoreWriter.create` for a folder that cannot be written."""
    create = live_store.StoreWriter.create

    def refuse(root: Path, *arguments: Any, **options: Any) -> Any:
        if root.parent == folder:
            raise live_store.OutputError("refused")
        return create(root, *arguments, **options)

    return refuse


@pytest.fixture
def other_model(tmp_path: Path) -> Path:
    """Return a model that differs from the embedded one in its checksum."""
    folder = Path(shutil.copytree(live_store.EMBEDDED_MODEL, tmp_path / "other"))
    encoder = folder / "encoder.onnx"
    # An unknown field at the end of a protocol buffer changes nothing.
    encoder.write_bytes(encoder.read_bytes() + b"\xfa\x3f\x01x")
    info = json.loads((folder / "model.json").read_text())
    info["encoder_sha256"] = hashlib.sha256(encoder.read_bytes()).hexdigest()
    (folder / "model.json").write_text(json.dumps(info))
    return folder


def test_dialogs_offer_the_topmost_visible_raster(raster: QgsRasterLayer, tmp_path: Path) -> None:
    """Not scripts and models, which must say what they take."""
    registry, root = QgsApplication.processingRegistry(), QgsProject.instance().layerTreeRoot()
    hidden = add_to_project(QgsRasterLayer(str(write(tmp_path / "hidden.tif", size=64)), "hidden"), "more")
    root.findLayer(hidden).setItemVisibilityChecked(False)
    add_to_project(points(), "more")
    for name in ("segmentpoints", "encoderaster", "storefootprint", "evaluatedecoders", "finetunedecoder"):
        algorithm = registry.createAlgorithmById(f"geosam_es:{name}")
        offered = algorithm.parameterDefinition("RASTER")
        assert offered.defaultValueForGui() == raster.id() and offered.defaultValue() is None


class TestProblems:
    def test_neither_raster_nor_prepared_image(self) -> None:
        for name in ("segmentpoints", "segmentboxes", "storefootprint", "evaluatedecoders", "finetunedecoder"):
            algorithm = QgsApplication.processingRegistry().createAlgorithmById(f"geosam_es:{name}")
            parameters = {"INPUT": points() if name == "segmentpoints" else area(0, 0, 9, 9), "OUTPUT": "memory:"}
            parameters = {**parameters, "FOOTPRINT": "memory:"}
            is_valid, problem = algorithm.checkParameterValues(parameters, QgsProcessingContext())
            assert not is_valid
            assert problem == "There is no image: choose a raster, or the folder of a prepared image"

    @pytest.mark.parametrize("name", ["segmentpoints", "encoderaster"])
    def test_rasters_that_cannot_be_read(self, tmp_path: Path, name: str) -> None:
        broken = tmp_path / "broken.tif"
        broken.write_bytes(b"II*\x00 nothing more")
        for path, problem in (
            (broken, "broken.tif"),
            (tmp_path / "lost.tif", "lost.tif does not exist: check the path"),
            (write(tmp_path / "plain.tif", crs=None, size=64), "has no coordinate reference system"),
        ):
            with pytest.raises(QgsProcessingException, match=problem) as caught:
                run(name, RASTER=str(path), INPUT=points())
            # The first line may be QGIS's own.
            assert len(str(caught.value).replace("Unable to execute algorithm\n", "").splitlines()) == 1
            assert not list(tmp_path.glob("*.zarr"))
        # QGIS keeps the exceptions for ever; the rasters must not stay open with them.
        del caught
        gc.collect()
        assert not [left for left in gc.get_objects() if type(left) is gdal.Dataset]

    @pytest.mark.parametrize("name", ["segmentpoints", "encoderaster", "storefootprint"])
    def test_a_layer_from_a_service(self, name: str) -> None:
        online = QgsRasterLayer("type=xyz&url=http://127.0.0.1:9/{z}/{x}/{y}.png&zmax=19&zmin=0", "tiles", "wms")
        QgsProject.instance().addMapLayer(online)
        with pytest.raises(QgsProcessingException, match=r"tiles comes from a service, .*: save the part you need"):
            run(name, RASTER=online, INPUT=points(), FOOTPRINT="memory:")

    def test_a_vector_layer(self) -> None:
        layer = add_to_project(area(0, 0, 9, 9), "a")
        with pytest.raises(QgsProcessingException, match="area is not a raster layer: choose an orthophoto"):
            run("segmentpoints", RASTER=layer.id(), INPUT=points())

    def test_a_model_folder_that_is_none(self, raster: QgsRasterLayer, tmp_path: Path) -> None:
        Settings().encoder_folder = str(tmp_path)
        for name in ("segmentpoints", "encoderaster"):
            with pytest.raises(QgsProcessingException, match="is not a model folder"):
                run(name, RASTER=raster, INPUT=points())
        assert run("encoderaster", RASTER=raster, MODEL="mini")["ENCODED"] == 5


class TestPrepareRaster:
    def test_beside_the_raster(self, raster: QgsRasterLayer) -> None:
        log = Log()
        result = run("encoderaster", log, RASTER=raster)
        assert result == {"OUTPUT": str(beside(raster)), "ENCODED": 5, "SKIPPED": 0}
        assert len(encoded(beside(raster))) == 5 and StoreReader(beside(raster)).metadata.dtype == "float16"
        assert log.progress[-1] == 100 and log.texts[-1] == "5 of 5 tiles, 0 s left"
        text = "\n".join(log.lines)
        assert f"5 tiles of año.tif are prepared, at most 21.0 MB, in {beside(raster)}" in text
        assert "5 tiles prepared, 0 without data, in" in text and "The prepared image takes" in text
        # The other algorithms find it.
        outline = run("storefootprint", RASTER=raster, FOOTPRINT="TEMPORARY_OUTPUT")
        assert (outline["ENCODED"], outline["MISSING"]) == (5, 0)

    def test_an_area_a_folder_and_a_type(self, raster: QgsRasterLayer, tmp_path: Path) -> None:
        options = {"AREA": area(100, 100, 200, 200), "FOLDER": str(tmp_path / "new" / "folder"), "DTYPE": "int8"}
        result = run("encoderaster", RASTER=raster, FINEST="-1", **options)
        root = tmp_path / "new" / "folder" / "año.embeddings.zarr"
        assert result["OUTPUT"] == str(root) and StoreReader(root).metadata.dtype == "int8"
        assert {level for level, *_ in encoded(root)} == {-1, 0, 1} and (0, 1, 1) not in encoded(root)
        assert not beside(raster).exists()
        # The rest may follow: nothing was marked as empty.
        assert run("encoderaster", RASTER=raster, FOLDER=str(root))["SKIPPED"] == 0
        assert (0, 1, 1) in encoded(root)

    def test_a_spike_is_no_part_of_an_area(self, raster: QgsRasterLayer) -> None:
        layer = QgsVectorLayer(f"Polygon?crs={CRS}", "area", "memory")
        places = [(200, 200), (1250, 200), (200, 200), (200, 100), (100, 100), (100, 200)]
        feature = QgsFeature()
        feature.setGeometry(QgsGeometry.fromPolygonXY([[QgsPointXY(*(TRANSFORM @ place)) for place in places]]))
        assert layer.dataProvider().addFeatures([feature])[0]
        run("encoderaster", RASTER=raster, AREA=layer)
        assert encoded(beside(raster)) == [(0, 0, 0), (1, 0, 0)]

    def test_cancelling_keeps_tiles_and_running_it_again_continues(self, raster: QgsRasterLayer) -> None:
        log = Log(cancel_at=lambda value: value > 0)
        assert run("encoderaster", log, RASTER=raster)["OUTPUT"] == str(beside(raster))
        kept = len(encoded(beside(raster)))
        assert 1 <= kept < 5 and "Stopped. The tiles prepared so far are kept." in log.lines
        assert run("encoderaster", RASTER=raster)["ENCODED"] == 5 - kept
        last = Log()
        assert run("encoderaster", last, RASTER=raster)["ENCODED"] == 0
        assert any(line.startswith("Nothing is missing in") for line in last.lines)

    def test_anew(self, raster: QgsRasterLayer) -> None:
        run("encoderaster", RASTER=raster, AREA=area(100, 100, 200, 200))
        result = run("encoderaster", RASTER=raster, EXISTING="replace", DTYPE=1)
        assert result["ENCODED"] == 5 and StoreReader(beside(raster)).metadata.dtype == "int8"

    def test_anew_keeps_the_model_variants(self, raster: QgsRasterLayer, other_model: Path, tmp_path: Path) -> None:
        run("encoderaster", RASTER=raster, AREA=area(100, 100, 200, 200))
        sha256 = StoreReader(beside(raster)).metadata.model["encoder_sha256"]
        add_decoder(beside(raster), make_decoder(tmp_path / "tuned", "orchards", encoder_sha256=sha256))
        run("encoderaster", RASTER=raster, AREA=area(100, 100, 200, 200), EXISTING="replace", DTYPE=1)
        assert [decoder.name for decoder in list_decoders(beside(raster))] == ["original", "orchards"]
        # They are of no use with another model, but not lost either.
        log = Log()
        run("encoderaster", log, RASTER=raster, EXISTING="replace", MODEL=str(other_model))
        kept = beside(raster).with_name("año.old-decoders")
        assert [decoder.name for decoder in list_decoders(beside(raster))] == ["original"]
        assert (kept / "orchards" / "decoder.json").is_file()
        assert any(line.endswith(f"belong to another model and are now in {kept}") for line in log.lines)

    def test_anew_that_is_stopped_before_its_first_tile_changes_nothing(
        self, raster: QgsRasterLayer, tmp_path: Path
    ) -> None:
        log = Log()
        log.cancel()
        assert run("encoderaster", log, RASTER=raster) == {}
        assert "Stopped before the first tile was prepared. Nothing was changed." in log.lines
        assert not beside(raster).exists()
        run("encoderaster", RASTER=raster)
        sha256 = StoreReader(beside(raster)).metadata.model["encoder_sha256"]
        add_decoder(beside(raster), make_decoder(tmp_path / "tuned", "orchards", encoder_sha256=sha256))
        before = sorted(tmp_path.rglob("*"))
        assert run("encoderaster", log, RASTER=raster, EXISTING="replace") == {}
        assert len(encoded(beside(raster))) == 5 and sorted(tmp_path.rglob("*")) == before

    def test_a_panel_that_has_the_image_open_does_not_mix_models(
        self, raster: QgsRasterLayer, other_model: Path
    ) -> None:
        run("encoderaster", RASTER=raster, AREA=area(100, 100, 200, 200))
        live = live_store.LiveStore.open(source_of(raster))
        assert live.root == beside(raster) and live.is_there
        run("encoderaster", RASTER=raster, AREA=area(100, 100, 200, 200), EXISTING="replace", MODEL=str(other_model))
        assert not live.is_there
        with pytest.raises(StoreError, match="is no longer there: click again"):
            live.ensure_tile(live.tiles_in()[0])
        live.close()

    def test_nothing_is_left_or_lost_where_it_cannot_work(self, raster: QgsRasterLayer, tmp_path: Path) -> None:
        outside = area(9000, 9000, 9100, 9100)
        with pytest.raises(QgsProcessingException, match=r"area lies outside the raster año\.tif: check the layer"):
            run("encoderaster", RASTER=raster, AREA=outside)
        with pytest.raises(QgsProcessingException, match="drawn has no polygons: draw some"):
            run("encoderaster", RASTER=raster, AREA=QgsVectorLayer(f"Polygon?crs={CRS}", "drawn", "memory"))
        assert not beside(raster).exists()
        run("encoderaster", RASTER=raster)
        with pytest.raises(QgsProcessingException, match="area lies outside the raster"):
            run("encoderaster", RASTER=raster, AREA=outside, EXISTING="replace")
        assert len(encoded(beside(raster))) == 5
        empty = write(tmp_path / "empty.tif", size=600, value=9)
        with pytest.raises(QgsProcessingException, match=r"empty\.tif has no data there: check the image"):
            run("encoderaster", RASTER=str(empty))
        assert not (tmp_path / "empty.embeddings.zarr").exists()

    def test_a_store_of_another_model_is_not_mixed(self, raster: QgsRasterLayer, other_model: Path) -> None:
        run("encoderaster", RASTER=raster, MODEL=str(other_model), AREA=area(100, 100, 200, 200))
        with pytest.raises(QgsProcessingException, match=r"made with model .*: choose another folder, or prepare all"):
            run("encoderaster", RASTER=raster)

    def test_in_a_model_the_prepared_image_goes_on_to_the_next_step(self, raster: QgsRasterLayer) -> None:
        source = QgsProcessingModelChildParameterSource
        model = QgsProcessingModelAlgorithm("both", "tests")
        model.addModelParameter(QgsProcessingParameterRasterLayer("image"), QgsProcessingModelParameter("image"))
        model.addModelParameter(QgsProcessingParameterVectorLayer("clicks"), QgsProcessingModelParameter("clicks"))
        steps = {
            "prepare": {
                "RASTER": source.fromModelParameter("image"),
                **{name: source.fromStaticValue(0) for name in ("FINEST", "EXISTING", "DTYPE")},
            },
            "segment": {
                "STORE": source.fromChildOutput("prepare", "OUTPUT"),
                "INPUT": source.fromModelParameter("clicks"),
                # As models saved by earlier versions have it.
                "CANDIDATE": source.fromStaticValue("best"),
                **{name: source.fromStaticValue(0) for name in ("MIN_AREA_M2", "FILL_HOLES_M2", "SIMPLIFY", "LEVEL")},
            },
        }
        for name, algorithm in (("prepare", "encoderaster"), ("segment", "segmentpoints")):
            child = QgsProcessingModelChildAlgorithm(f"geosam_es:{algorithm}")
            child.setChildId(name)
            for parameter, value in steps[name].items():
                child.addParameterSources(parameter, [value])
            if name == "segment":
                output = QgsProcessingModelOutput("polygons")
                output.setChildId("segment")
                output.setChildOutputName("OUTPUT")
                child.setModelOutputs({"polygons": output})
            model.addChildAlgorithm(child)
        valid, problems = model.validate()
        assert valid, problems
        context = QgsProcessingContext()
        context.setProject(QgsProject.instance())
        results, ok = model.run({"image": raster, "clicks": points(), "segment:polygons": "memory:"}, context, Log())
        assert ok
        assert len(list(context.takeResultLayer(results["segment:polygons"]).getFeatures())) == 2


class TestFindSimilar:
    def test_all_tiles_are_prepared_before_it_learns(self, raster: QgsRasterLayer) -> None:
        log, example = Log(), area(80, 80, 220, 220)
        runs = [features(run("findsimilar", feedback, RASTER=raster, INPUT=example)) for feedback in (log, Log())]
        first, second = ([found["likeness"] for found in one] for one in runs)
        assert first and first == pytest.approx(second)
        assert "Preparing 4 tiles" in log.lines and log.progress == sorted(log.progress)

    def test_none_are_for_examples_outside_the_raster(self, raster: QgsRasterLayer) -> None:
        with pytest.raises(QgsProcessingException, match=r"area lies outside the raster año\.tif"):
            run("findsimilar", RASTER=raster, INPUT=area(9000, 9000, 9100, 9100))
        assert not encoded(beside(raster))


class TestFootprint:
    def test_a_raster_that_was_not_prepared(self, raster: QgsRasterLayer) -> None:
        with pytest.raises(QgsProcessingException, match="Ortofoto año has not been prepared: run Prepare raster"):
            run("storefootprint", RASTER=raster, FOOTPRINT="TEMPORARY_OUTPUT")
        assert not beside(raster).exists()


def loaded(raster: QgsRasterLayer, clicks: QgsVectorLayer, output: str = "TEMPORARY_OUTPUT") -> QgsVectorLayer:
    return loaded_from("segmentpoints", RASTER=raster, INPUT=clicks, OUTPUT=output)


def loaded_from(name: str, **parameters: Any) -> QgsVectorLayer:
    """Run an algorithm as the dialog does, and return the layer that is added to the project."""
    before = set(QgsProject.instance().mapLayers())
    processing.runAndLoadResults(f"geosam_es:{name}", parameters, feedback=Log())
    (added,) = set(QgsProject.instance().mapLayers()) - before
    return QgsProject.instance().mapLayer(added)


@adds_results
class TestStyle:
    def test_without_classes_it_is_that_of_the_panel(self, raster: QgsRasterLayer, tmp_path: Path) -> None:
        Settings().outline_colour, Settings().fill_opacity = "#00aa33", 20
        for output in ("TEMPORARY_OUTPUT", str(tmp_path / "polygons.gpkg")):
            renderer = loaded(raster, points(), output).renderer()
            assert isinstance(renderer, QgsSingleSymbolRenderer)
            fill = renderer.symbol().symbolLayer(0)
            assert fill.strokeColor().name() == fill.fillColor().name() == "#00aa33"
            assert fill.fillColor().alphaF() == pytest.approx(0.2, abs=0.01)

    def test_a_coverage_does_not_tint_the_image(self, raster: QgsRasterLayer) -> None:
        layer = loaded_from(
            "automaticmasks", RASTER=raster, COVERAGE=True, POINTS_PER_SIDE=2, OUTPUT="TEMPORARY_OUTPUT"
        )
        assert layer.renderer().symbol().symbolLayer(0).fillColor().alpha() == 0

    def test_the_classes_of_the_prompts(self, raster: QgsRasterLayer) -> None:
        clicks = points(CENTRES, "&field=model:string", [("oak",), ("elm",)])
        names = {"oak": "Oak woodland", "elm": "Elms"}
        entries = [{name: code} for code, name in names.items()]
        clicks.setEditorWidgetSetup(0, QgsEditorWidgetSetup("ValueMap", {"map": entries}))
        colours = {"oak": "#aa0000", "elm": "#0000aa"}
        symbols = {code: QgsMarkerSymbol.createSimple({"color": colour}) for code, colour in colours.items()}
        clicks.setRenderer(
            QgsCategorizedSymbolRenderer("model", [QgsRendererCategory(c, s, names[c]) for c, s in symbols.items()])
        )
        layer = loaded(raster, clicks)
        assert sorted(feature["model_1"] for feature in layer.getFeatures()) == ["elm", "oak"]
        renderer = layer.renderer()
        assert isinstance(renderer, QgsCategorizedSymbolRenderer) and renderer.classAttribute() == "model_1"
        categories = renderer.categories()
        shown = {category.value(): category.symbol().color().name() for category in categories if category.value()}
        assert shown == colours
        index = layer.fields().lookupField("model_1")
        assert layer.editorWidgetSetup(index).type() == "ValueMap"


class TestChoices:
    """The texts are translated, the names in scripts are not, and the numbers are those of QGIS."""

    def test_by_name_and_by_number(self, raster: QgsRasterLayer) -> None:
        clicks = points(CENTRES[:1])
        for number, name in enumerate(("best", "1", "2", "3", "all")):
            results = [
                [feature.geometry().asWkt(3) for feature in features(run("segmentpoints", RASTER=raster, **values))]
                for values in ({"INPUT": clicks, "CANDIDATE": value} for value in (name, number, str(number)))
            ]
            assert results[0] == results[1] == results[2] and len(results[0]) == (3 if name == "all" else 1)

    def test_others_are_refused(self, raster: QgsRasterLayer) -> None:
        for wrong in ("worst", 5, "7"):
            with pytest.raises(QgsProcessingException, match="Incorrect parameter value for CANDIDATE"):
                run("segmentpoints", RASTER=raster, INPUT=points(), CANDIDATE=wrong)

    def test_the_texts_are_translated(self, provider: GeoSamProvider) -> None:
        class Translator(QTranslator):
            def translate(self, _context: str, text: str, *_rest: Any) -> str:
                return f"<{text}>"

        translator = Translator()
        QCoreApplication.installTranslator(translator)
        try:
            for algorithm in provider.algorithms():
                made = algorithm.create()
                for parameter in made.parameterDefinitions():
                    if isinstance(parameter, QgsProcessingParameterEnum):
                        assert all(text.startswith("<") or text.isdigit() for text in parameter.options())
        finally:
            QCoreApplication.removeTranslator(translator)


def test_qgis_process_prepares_a_raster_and_segments_it(tmp_path: Path) -> None:
    """Without a window, and from a plugin folder, where the package has another name."""
    # Debian's wrapper adds an option that the program does not know.
    program = shutil.which("qgis_process.bin") or shutil.which("qgis_process")
    if program is None:
        pytest.skip("qgis_process is not installed")
    plugin = tmp_path / "plugins" / "geosam_es"
    plugin.mkdir(parents=True)
    for name in ("__init__.py", "metadata.txt", "geosam_es"):
        (plugin / name).symlink_to(ROOT / name)
    environment = {
        **os.environ,
        "QT_QPA_PLATFORM": "offscreen",
        "QGIS_CUSTOM_CONFIG_PATH": str(tmp_path / "profile"),
        "QGIS_PLUGINPATH": str(tmp_path / "plugins"),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    image, clicks, output = write(tmp_path / "image.tif", size=1000), tmp_path / "clicks.csv", tmp_path / "out.gpkg"
    clicks = tmp_path / "clicks.geojson"
    x, y = TRANSFORM @ CENTRES[0]
    clicks.write_text(
        '{"type":"FeatureCollection","crs":{"type":"name","properties":{"name":"urn:ogc:def:crs:EPSG::25830"}},'
        f'"features":[{{"type":"Feature","properties":{{"tree":"oak"}},"geometry":{{"type":"Point","coordinates":[{x},{y}]}}}}]}}'
    )

    def call(*arguments: Any) -> str:
        done = subprocess.run(
            [program, *map(str, arguments)], env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    call("plugins", "enable", "geosam_es")
    prepared = call("run", "geosam_es:encoderaster", "--", f"RASTER={image}", "DTYPE=int8", "FINEST=0")
    assert "1 tiles prepared, 0 without data" in prepared and str(tmp_path / "image.embeddings.zarr") in prepared
    call("run", "geosam_es:segmentpoints", "--", f"RASTER={image}", f"INPUT={clicks}", f"OUTPUT={output}")
    (found,) = QgsVectorLayer(str(output), "polygons", "ogr").getFeatures()
    assert found["model"] == "mini" and found["tree"] == "oak"

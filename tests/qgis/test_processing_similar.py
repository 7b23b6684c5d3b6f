"""The algorithm that finds similar objects, as the toolbox runs it."""

from __future__ import annotations

from pathlib import Path

import processing
import pytest
import shapely
from qgis.core import (
    QgsApplication,
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingOutputLayerDefinition,
    QgsProject,
    QgsVectorLayer,
)

from geosam_es.gui.editing.candidates import candidate_layer
from geosam_es.processing.provider import GeoSamProvider
from geosam_es.qgis_support.crs import from_qgs
from geosam_es.store.metadata import read_metadata
from tests.helpers import open_blobs
from tests.qgis.support import DISCS, TRANSFORM


@pytest.fixture(scope="module", autouse=True)
def provider(qgis_processing: None) -> object:
    provider = GeoSamProvider()
    registry = QgsApplication.processingRegistry()
    assert registry.addProvider(provider)
    yield provider
    registry.removeProvider(provider)


def discs(*names: str) -> QgsVectorLayer:
    """Return a layer of discs of the scene, which the project holds."""
    circles = [shapely.Point(DISCS[name][:2]).buffer(DISCS[name][2]) for name in names]
    crs = QgsProject.instance().crs()
    layer = candidate_layer("discs", crs, [TRANSFORM.apply_geometry(circle) for circle in circles])
    QgsProject.instance().addMapLayer(layer)
    return layer


@pytest.fixture
def found(blob_store: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setattr("geosam_es.processing.drawing.open_segmenter", open_blobs)
    QgsProject.instance().setCrs(QgsVectorLayer("Point?crs=EPSG:25830", "", "memory").crs())

    def run(examples: QgsVectorLayer, rejected: QgsVectorLayer | None = None) -> QgsVectorLayer:
        parameters = {"STORE": str(blob_store), "INPUT": examples, "REJECTED": rejected, "OUTPUT": "memory:"}
        return processing.run("geosam_es:findsimilar", parameters, feedback=QgsProcessingFeedback())["OUTPUT"]

    return run


def test_other_objects_get_likeness_score_and_area(found: object) -> None:
    layer = found(discs("a"))  # type: ignore[operator]
    assert [field.name() for field in layer.fields()] == ["likeness", "score", "area_m2"]
    assert layer.featureCount() == 2
    for feature in layer.getFeatures():
        assert 0.5 <= feature["likeness"] <= 1 and feature["score"] == pytest.approx(0.9)
        assert feature["area_m2"] == pytest.approx(from_qgs(feature.geometry()).area, rel=0.01)


def test_what_is_rejected_is_left_out(found: object) -> None:
    layer = found(discs("a"), discs("b"))  # type: ignore[operator]
    assert layer.featureCount() <= 1
    b = TRANSFORM.apply_geometry(shapely.Point(DISCS["b"][:2]))
    assert all(from_qgs(feature.geometry()).distance(b) > 1 for feature in layer.getFeatures())


@pytest.mark.parametrize(("own_name", "shown"), [("", ": similar objects"), ("Roofs", "Roofs")])
def test_the_layer_is_named_by_the_raster_and_what_it_holds(
    blob_store: Path, found: object, own_name: str, shown: str
) -> None:
    context, output = QgsProcessingContext(), QgsProcessingOutputLayerDefinition("memory:", QgsProject.instance())
    context.setProject(QgsProject.instance())
    output.destinationName = own_name
    parameters = {"STORE": str(blob_store), "INPUT": discs("a"), "OUTPUT": output}
    algorithm = QgsApplication.processingRegistry().createAlgorithmById("geosam_es:findsimilar")
    _, is_done = algorithm.run(parameters, context, QgsProcessingFeedback(), {}, False)
    (details,) = context.layersToLoadOnCompletion().values()
    raster = "" if own_name else Path(read_metadata(blob_store).raster.file_name).stem
    assert is_done and details.name == raster + shown

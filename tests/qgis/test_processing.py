"""The algorithms as the toolbox, a model and `qgis_process` run them."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import processing
import pytest
import shapely
from qgis.core import (
    NULL,
    QgsApplication,
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransform,
    QgsFeature,
    QgsGeometry,
    QgsPointXY,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProcessingModelAlgorithm,
    QgsProcessingModelChildAlgorithm,
    QgsProcessingModelChildParameterSource,
    QgsProcessingModelOutput,
    QgsProcessingModelParameter,
    QgsProcessingParameterFeatureSource,
    QgsProject,
    QgsVectorFileWriter,
    QgsVectorLayer,
    QgsWkbTypes,
)
from qgis.PyQt.QtCore import QDate

from geosam_es.core.geotransform import GeoTransform
from geosam_es.core.prompts import Bounds
from geosam_es.inference.encoder import OnnxEncoder
from geosam_es.processing import drawing, segmenting
from geosam_es.processing.provider import GeoSamProvider
from geosam_es.qgis_support.crs import EllipsoidArea, from_qgs
from geosam_es.store import StoreReader, StoreWriter
from geosam_es.store.layout import skipped_key
from tests.helpers import add_enlarged, disc, make_metadata, make_store, open_blobs

TRANSFORM = GeoTransform(0.5, 0.0, 700000.0, 0.0, -0.5, 4400000.0)
RASTER_CRS = "EPSG:25830"
SMALL, LARGE = (300.0, 300.0, 60.0), (800.0, 500.0, 100.0)
"""Column, row and radius in pixels."""


@pytest.fixture(scope="module", autouse=True)
def provider(qgis_processing: None) -> Iterator[GeoSamProvider]:
    provider = GeoSamProvider()
    registry = QgsApplication.processingRegistry()
    assert registry.addProvider(provider)
    yield provider
    registry.removeProvider(provider)


@pytest.fixture(scope="module")
def made_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    image = np.maximum(disc((1200, 1500), *SMALL), disc((1200, 1500), *LARGE))
    image = np.minimum(image, 1 - disc((1200, 1500), LARGE[0], LARGE[1], 30))
    return set_crs(make_store(tmp_path_factory.mktemp("store"), image, transform=TRANSFORM))


@pytest.fixture
def store(made_store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(segmenting, "open_segmenter", open_blobs)
    monkeypatch.setattr(drawing, "open_segmenter", open_blobs)
    return made_store


def set_crs(root: Path, code: str = RASTER_CRS) -> Path:
    document = json.loads((root / "zarr.json").read_text())
    document["attributes"]["geosam_es"]["raster"]["crs_wkt"] = QgsCoordinateReferenceSystem(code).toWkt()
    (root / "zarr.json").write_text(json.dumps(document))
    return root


def layer(
    kind: str, geometries: list[QgsGeometry], crs: str = RASTER_CRS, fields: str = "", values: Any = ()
) -> QgsVectorLayer:
    """Make a memory layer from geometries in the raster's CRS, transformed to another CRS."""
    made = QgsVectorLayer(f"{kind}?crs={crs}{fields}", "prompts", "memory")
    assert made.isValid()
    target = QgsCoordinateReferenceSystem(crs)
    transform = QgsCoordinateTransform(QgsCoordinateReferenceSystem(RASTER_CRS), target, QgsProject.instance())
    for index, geometry in enumerate(geometries):
        feature = QgsFeature(made.fields())
        if not geometry.isNull():
            geometry.transform(transform)
            feature.setGeometry(geometry)
        if values:
            feature.setAttributes(list(values[index]))
        assert made.dataProvider().addFeatures([feature])[0]
    return made


def point(col: float, row: float) -> QgsGeometry:
    return QgsGeometry.fromPointXY(QgsPointXY(*TRANSFORM.apply(col, row)))


def box(left: float, top: float, right: float, bottom: float) -> QgsGeometry:
    corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
    return QgsGeometry.fromPolygonXY([[QgsPointXY(*TRANSFORM.apply(*corner)) for corner in corners]])


class Log(QgsProcessingFeedback):
    """Keeps the warnings, and cancels at a given progress."""

    def __init__(self, cancel_at: float = math.inf) -> None:
        super().__init__(False)
        self.warnings: list[str] = []
        self.progress: list[float] = []
        self._cancel_at = cancel_at
        self.progressChanged.connect(self._on_progress)

    def _on_progress(self, value: float) -> None:
        self.progress.append(value)
        if value >= self._cancel_at:
            self.cancel()

    def pushWarning(self, warning: str) -> None:  # noqa: N802
        self.warnings.append(warning)


def run(name: str, feedback: Log | None = None, **parameters: Any) -> list[QgsFeature]:
    output = processing.run(
        f"geosam_es:{name}", {"OUTPUT": "TEMPORARY_OUTPUT", **parameters}, feedback=feedback or Log()
    )["OUTPUT"]
    assert output.crs().isValid()
    return list(output.getFeatures())


def planar_area(radius: float, hole: float = 0.0) -> float:
    return math.pi * (radius**2 - hole**2) * abs(TRANSFORM.determinant)


def test_points_give_polygons_in_the_rasters_crs(store: Path) -> None:
    log = Log()
    clicks = layer("Point", [point(300, 300), point(800, 450)])
    output = processing.run(
        "geosam_es:segmentpoints",
        {"STORE": str(store), "INPUT": clicks, "OUTPUT": "TEMPORARY_OUTPUT"},
        feedback=log,
    )["OUTPUT"]
    assert output.crs().authid() == RASTER_CRS
    assert output.wkbType() == QgsWkbTypes.Type.MultiPolygon
    assert [field.name() for field in output.fields()] == ["object", "score", "level", "area_m2", "model"]
    small, large = sorted(output.getFeatures(), key=lambda feature: feature["area_m2"])
    assert small.geometry().area() == pytest.approx(planar_area(60), rel=0.03)
    assert large.geometry().area() == pytest.approx(planar_area(100, 30), rel=0.03)
    # At this place UTM draws areas 0.02 % too small.
    ratio = small["area_m2"] / small.geometry().area()
    assert 1 < ratio < 1.0005 or 0.9995 < ratio < 1
    assert (small["object"], small["level"], small["model"]) == (1, 0, "blobs")
    assert 0.5 < small["score"] <= 1
    assert log.progress[-1] == 100 and not log.warnings


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857", "EPSG:23030"])
def test_points_from_another_crs(store: Path, crs: str) -> None:
    expected = run("segmentpoints", STORE=str(store), INPUT=layer("Point", [point(300, 300)]))
    found = run("segmentpoints", STORE=str(store), INPUT=layer("Point", [point(300, 300)], crs))
    overlap = found[0].geometry().intersection(expected[0].geometry()).area()
    assert overlap == pytest.approx(expected[0].geometry().area(), rel=1e-6)


def test_polygons_in_another_crs_have_the_same_area_on_the_ground(store: Path) -> None:
    clicks = layer("Point", [point(300, 300)])
    expected = run("segmentpoints", STORE=str(store), INPUT=clicks)[0]
    mercator = run("segmentpoints", STORE=str(store), INPUT=clicks, CRS="EPSG:3857")[0]
    assert mercator["area_m2"] == pytest.approx(expected["area_m2"], rel=1e-9)
    assert mercator.geometry().area() > 1.5 * expected.geometry().area()


def test_polygons_outside_the_output_crs_are_reported(store: Path) -> None:
    """Spain is not visible from a satellite over the other side of the globe."""
    log = Log()
    behind = "PROJ:+proj=geos +h=35785831 +lon_0=180 +datum=WGS84 +type=crs"
    found = run("segmentpoints", log, STORE=str(store), INPUT=layer("Point", [point(300, 300)]), CRS=behind)
    assert found == []
    assert (
        len(log.warnings) == 1 and "Skipped object 1: The polygon cannot be transformed to the CRS" in log.warnings[0]
    )


@pytest.mark.parametrize(
    ("crs", "problem"),
    [
        ('WKT:LOCAL_CS["site",UNIT["metre",1]]', "Coordinates cannot be transformed from the CRS EPSG:.* to site"),
        ("EPSG:4978", "The CRS EPSG:4978 .* is not a CRS for maps: choose another CRS"),
        ("EPSG:5782", "is not a CRS for maps: choose another CRS"),
    ],
)
def test_an_output_crs_without_a_place_on_the_map_is_refused_before_decoding(
    store: Path, crs: str, problem: str
) -> None:
    log = Log()
    with pytest.raises(QgsProcessingException, match=problem):
        run("segmentpoints", log, STORE=str(store), INPUT=layer("Point", [point(300, 300)]), CRS=crs)
    assert log.progress == [] and log.warnings == []


def test_prompts_in_a_local_crs_are_refused(store: Path) -> None:
    """QGIS would take their coordinates for those of the raster."""
    clicks = layer("Point", [point(300, 300)])
    clicks.setCrs(QgsCoordinateReferenceSystem.fromWkt('LOCAL_CS["site",UNIT["metre",1]]'))
    with pytest.raises(QgsProcessingException, match="Coordinates cannot be transformed from the CRS site to EPSG"):
        run("segmentpoints", STORE=str(store), INPUT=clicks)


def test_labels_and_objects(store: Path) -> None:
    fields = "&field=Object:double&field=LABEL:integer"
    places = [point(300, 300), point(800, 450), point(800, 450), point(1200, 1000)]
    values = [(3.0, 1), (3.0, None), (None, 1), (7.0, 0)]
    log = Log()
    found = run("segmentpoints", log, STORE=str(store), INPUT=layer("Point", places, RASTER_CRS, fields, values))
    areas = {feature["object"]: feature.geometry().area() for feature in found}
    assert areas == {
        3.0: pytest.approx(planar_area(60) + planar_area(100, 30), rel=0.03),
        NULL: pytest.approx(planar_area(100, 30), rel=0.03),
    }
    assert log.warnings == ["Skipped object 7: The object has no positive point and no box: add one of them"]


def test_objects_and_other_attributes_keep_their_types(store: Path) -> None:
    fields = "&field=tree:integer&field=species:string(20)&field=score:double&field=planted:date"
    values = [(12, "oak", 1.5, QDate(2020, 2, 1)), (13, "elm", None, None), (12, "ash", 9.0, None)]
    places = [point(300, 300), point(800, 450), point(300, 310)]
    clicks = layer("Point", places, RASTER_CRS, fields, values)
    found = run("segmentpoints", STORE=str(store), INPUT=clicks, OBJECT_FIELD="tree")
    names = ["object", "score", "level", "area_m2", "model", "species", "score_1", "planted"]
    assert [field.name() for field in found[0].fields()] == names
    # Those of the first feature of each object.
    copied = {feature["object"]: [feature[name] for name in names[-3:]] for feature in found}
    assert copied == {12: ["oak", 1.5, QDate(2020, 2, 1)], 13: ["elm", NULL, NULL]}


def test_fields_may_have_any_name(store: Path) -> None:
    fields = "&field=tree:string&field=inside:integer"
    values = [("oak", 1), ("oak", 0)]
    clicks = layer("Point", [point(300, 300), point(800, 450)], RASTER_CRS, fields, values)
    found = run("segmentpoints", STORE=str(store), INPUT=clicks, OBJECT_FIELD="tree", LABEL_FIELD="inside")
    assert [feature["object"] for feature in found] == ["oak"]
    assert found[0].geometry().area() == pytest.approx(planar_area(60), rel=0.03)


def test_multipoints_are_one_object(store: Path) -> None:
    both = QgsGeometry.collectGeometry([point(300, 300), point(800, 450)])
    found = run("segmentpoints", STORE=str(store), INPUT=layer("MultiPoint", [both]))
    assert len(found) == 1
    assert found[0].geometry().area() == pytest.approx(planar_area(60) + planar_area(100, 30), rel=0.03)


def test_prompts_without_a_result_are_reported_and_the_others_kept(store: Path) -> None:
    log = Log()
    places = [point(-500, 300), point(300, 300), QgsGeometry(), point(1400, 100)]
    found = run("segmentpoints", log, STORE=str(store), INPUT=layer("Point", places))
    assert [feature["object"] for feature in found] == [2]
    assert len(log.warnings) == 3
    assert log.warnings[0].startswith("Skipped feature 3: it has no geometry")
    assert any(text.startswith("Skipped object 1: The point (699750, ") for text in log.warnings)
    assert any(text.startswith("Skipped object 4: The mask is empty") for text in log.warnings)


def test_points_outside_the_crs_are_reported(store: Path) -> None:
    # One point is on the other side of the globe of UTM, the other far outside of it.
    clicks = QgsVectorLayer("Point?crs=EPSG:4326", "clicks", "memory")
    for x, y in ((87.0, 0.0), (0.0, 1e6)):
        feature = QgsFeature()
        feature.setGeometry(QgsGeometry.fromPointXY(QgsPointXY(x, y)))
        clicks.dataProvider().addFeatures([feature])
    log = Log()
    assert run("segmentpoints", log, STORE=str(store), INPUT=clicks) == []
    assert len(log.warnings) == 2


def test_options_of_the_outline(store: Path) -> None:
    common = {"STORE": str(store), "INPUT": layer("Point", [point(300, 300), point(800, 450)])}
    log = Log()
    large = run("segmentpoints", log, **common, MIN_AREA_M2=planar_area(80), FILL_HOLES_M2=planar_area(40))
    assert len(large) == 1 and len(log.warnings) == 1
    assert large[0].geometry().area() == pytest.approx(planar_area(100), rel=0.03)
    rough, fine = (run("segmentpoints", **common, SIMPLIFY=value)[0].geometry() for value in (20, 0))
    assert rough.constGet().nCoordinates() < fine.constGet().nCoordinates() / 3
    around = layer("Polygon", [point(300, 300).combine(point(800, 450)).buffer(60, 4)])
    one, both = (run("segmentboxes", STORE=str(store), INPUT=around, ALL_PARTS=keeps)[0] for keeps in (False, True))
    parts = [len(item.geometry().asGeometryCollection()) for item in (one, both)]
    assert parts == [1, 2] and both["area_m2"] > one["area_m2"]


@pytest.mark.parametrize(("candidate", "areas"), [("1", [60]), ("2", [44]), ("all", [60, 44])])
def test_candidates(store: Path, candidate: str, areas: list[float]) -> None:
    clicks = layer("Point", [point(300, 300)])
    found = run("segmentpoints", STORE=str(store), INPUT=clicks, CANDIDATE=candidate)
    assert [feature.geometry().area() for feature in found] == pytest.approx([planar_area(r) for r in areas], rel=0.1)
    if candidate == "all":
        assert [feature["candidate"] for feature in found] == [1, 2]


def test_level(store: Path) -> None:
    found = run("segmentpoints", STORE=str(store), INPUT=layer("Point", [point(300, 300)]), LEVEL=1)
    assert found[0]["level"] == 1


@pytest.fixture
def enlarged(store: Path, tmp_path: Path) -> Path:
    """Return a store that has the level -1 around the small disc."""
    copy = Path(shutil.copytree(store, tmp_path / store.name))
    add_enlarged(copy, disc((1200, 1500), *SMALL), -1, Bounds(200, 200, 400, 400))
    return copy


@pytest.mark.parametrize(
    ("parameters", "level"),
    [
        ({}, 0),
        ({"LEVEL": -1}, -1),
        # Pixels of 0.5 m: 60 pixels, 600 pixels, 1200 pixels.
        ({"OBJECT_SIZE_M": 30}, -1),
        ({"OBJECT_SIZE_M": 300}, 0),
        ({"OBJECT_SIZE_M": 600, "LEVEL": -1}, 1),
        # A pixel of a screen is 0.26 mm.
        ({"SCALE": 900}, -1),
        ({"SCALE": 2000}, 0),
        ({"SCALE": 5000}, 1),
        ({"SCALE": "", "OBJECT_SIZE_M": None, "LEVEL": 1}, 1),
        ({"SCALE": None, "OBJECT_SIZE_M": 600}, 1),
    ],
)
def test_the_level_by_number_by_size_or_by_scale(enlarged: Path, parameters: dict[str, Any], level: int) -> None:
    log = Log()
    found = run("segmentpoints", log, STORE=str(enlarged), INPUT=layer("Point", [point(300, 300)]), **parameters)
    assert found[0]["level"] == level and not log.warnings
    assert found[0].geometry().area() == pytest.approx(planar_area(60), rel=0.05)


def test_a_level_that_is_not_prepared_is_said_and_the_finest_one_used(enlarged: Path, store: Path) -> None:
    clicks = layer("Point", [point(300, 300)])
    for root, level in ((enlarged, -1), (store, 0)):
        log = Log()
        (found,) = run("segmentpoints", log, STORE=str(root), INPUT=clicks, LEVEL=-2)
        assert found["level"] == level
        assert log.warnings == [
            f"The prepared image has no level -2; its finest level, {level}, is used. The algorithm Prepare "
            "raster adds enlarged levels."
        ]


def test_scale_and_size_are_not_given_together(store: Path) -> None:
    with pytest.raises(QgsProcessingException, match="not both"):
        run("segmentboxes", STORE=str(store), INPUT=layer("Polygon", []), SCALE=1000, OBJECT_SIZE_M=5)


@pytest.mark.parametrize("parameters", [{"LEVEL": -3}, {"SCALE": 0}, {"OBJECT_SIZE_M": 0}])
def test_levels_that_do_not_exist_are_refused(store: Path, parameters: dict[str, Any]) -> None:
    with pytest.raises(QgsProcessingException, match="Incorrect parameter value"):
        run("segmentboxes", STORE=str(store), INPUT=layer("Polygon", []), **parameters)


def test_a_small_box_gets_an_enlarged_level(enlarged: Path) -> None:
    boxes = layer("Polygon", [box(260, 260, 340, 340), box(230, 230, 370, 370)])
    assert [found["level"] for found in run("segmentboxes", STORE=str(enlarged), INPUT=boxes)] == [-1, 0]


@pytest.mark.parametrize("crs", [RASTER_CRS, "EPSG:4326"])
def test_boxes(store: Path, crs: str) -> None:
    """A field named label is ignored for boxes; outlines need not be rectangles or valid."""
    corners = [(690, 390), (910, 610), (910, 390), (690, 610), (690, 390)]
    bow = QgsGeometry.fromPolygonXY([[QgsPointXY(*TRANSFORM.apply(*corner)) for corner in corners]])
    fields, values = "&field=label:string&field=object:string", [("oak", "a"), ("elm", "b")]
    boxes = layer("Polygon", [box(230, 230, 370, 370), bow], crs, fields, values)
    found = {feature["object"]: feature for feature in run("segmentboxes", STORE=str(store), INPUT=boxes)}
    assert found["a"].geometry().area() == pytest.approx(planar_area(60), rel=0.03)
    assert found["b"].geometry().area() == pytest.approx(planar_area(100, 30), rel=0.03)


def test_old_polygons_are_brought_up_to_date(store: Path) -> None:
    """One that is the same, one that lies beside its object, one that has grown, and one that is gone."""
    discs = [
        QgsGeometry(point(*centre).buffer(radius * 0.5, 24))
        for centre, radius in (
            ((300, 300), 60),
            ((330, 300), 60),
            ((300, 300), 40),
            ((1200, 1000), 60),
        )
    ]
    wkb = [bytes(geometry.asWkb()) for geometry in discs]
    old = layer("Polygon", discs, fields="&field=crop:string", values=[("vid",), ("olivo",), ("trigo",), ("pino",)])
    found = run("updatepolygons", STORE=str(store), INPUT=old)
    assert [item["verdict"] for item in found] == ["same", "moved", "changed", "gone"]
    assert [item["crop"] for item in found] == ["vid", "olivo", "trigo", "pino"]
    assert [item["iou"] for item in found] == pytest.approx([1, 0.52, 0.45, 0], abs=0.05)
    same, moved, grown, gone = (item.geometry().asGeometryCollection()[0] for item in found)
    assert (bytes(same.asWkb()), bytes(gone.asWkb())) == (wkb[0], wkb[3])
    assert moved.centroid().distance(same.centroid()) < 1.0
    assert grown.area() == pytest.approx(planar_area(60), rel=0.05)
    (found,) = run("updatepolygons", STORE=str(store), INPUT=layer("Polygon", [discs[2]]), SAME_IOU=0.4)
    assert found["verdict"] == "same"
    (found,) = run("updatepolygons", STORE=str(store), INPUT=layer("Polygon", [discs[2]]), OLD_STORE=str(store))
    assert found["verdict"] == "same", "the model draws the object on both images as it is now"


@pytest.mark.parametrize(("raster", "ours"), [("EPSG:3857", "EPSG:3857"), ("EPSG:3857", RASTER_CRS)])
def test_polygons_that_are_the_same_keep_their_vertices(store: Path, tmp_path: Path, raster: str, ours: str) -> None:
    root = set_crs(shutil.copytree(store, tmp_path / "s.embeddings.zarr"), raster)
    square = box(244, 244, 356, 356)
    if ours != raster:
        square.transform(
            QgsCoordinateTransform(*map(QgsCoordinateReferenceSystem, (raster, ours)), QgsProject.instance())
        )
    old = QgsVectorLayer(f"Polygon?crs={ours}", "prompts", "memory")
    feature = QgsFeature(old.fields())
    feature.setGeometry(square)
    old.dataProvider().addFeatures([feature])
    (found,) = run("updatepolygons", STORE=str(root), INPUT=old, SAME_IOU=0.3, CRS=ours)
    assert found["verdict"] == "same"
    assert bytes(found.geometry().asGeometryCollection()[0].asWkb()) == bytes(square.asWkb())


LOOSE = {"POINTS_PER_SIDE": 16, "PRED_IOU_THRESH": 0.85, "STABILITY_SCORE_THRESH": 0.5}
"""Whole blobs have a predicted IoU of 0.9, their inner parts 0.6."""


def test_everything(store: Path) -> None:
    small, large = sorted(run("automaticmasks", STORE=str(store), **LOOSE), key=lambda f: f["area_m2"])
    assert small["area_m2"] == pytest.approx(math.pi * 30**2, rel=0.02)
    assert large["area_m2"] == pytest.approx(math.pi * (50**2 - 15**2), rel=0.02)
    for feature in (small, large):
        place = QgsGeometry.fromPointXY(QgsPointXY(feature["point_x"], feature["point_y"]))
        assert feature.geometry().contains(place)
        assert feature["predicted_iou"] == pytest.approx(0.9)
        assert (feature["level"], feature["model"]) == (0, "blobs")
    by_extent = box(200, 200, 400, 400).boundingBox()
    (found,) = run("automaticmasks", STORE=str(store), EXTENT=by_extent, **LOOSE)
    (again,) = run("automaticmasks", STORE=str(store), AREA=layer("Polygon", [box(250, 250, 350, 350)]), **LOOSE)
    assert found.geometry().equals(again.geometry())
    with pytest.raises(QgsProcessingException, match="The area lies outside the raster"):
        run("automaticmasks", STORE=str(store), EXTENT=box(9000, 0, 9100, 100).boundingBox())


def test_everything_as_a_coverage(store: Path) -> None:
    found = run("automaticmasks", STORE=str(store), COVERAGE=True, MIN_AREA=50, **LOOSE)
    raster = StoreReader(store).metadata.raster
    pixels = raster.width * raster.height * raster.transform.pixel_size**2
    assert sum(feature.geometry().area() for feature in found) == pytest.approx(pixels, rel=1e-3)
    masks = [feature for feature in found if feature["group"] == 0]
    assert len(masks) == 2 and all(feature["predicted_iou"] == pytest.approx(0.9) for feature in masks)
    assert all(feature["predicted_iou"] == NULL for feature in found if feature["group"] > 0)


def test_cancelling_everything_keeps_what_was_found(store: Path) -> None:
    log = Log(cancel_at=60)
    run("automaticmasks", log, STORE=str(store), **LOOSE)
    assert 60 <= log.progress[-1] < 100


def test_a_coverage_is_cancelled_when_all_masks_are_found(store: Path) -> None:
    log = Log(cancel_at=90.1)
    assert run("automaticmasks", log, STORE=str(store), COVERAGE=True, **LOOSE) == []
    assert 90 < log.progress[-1] < 100


@pytest.mark.parametrize("name", ["segmentpoints", "segmentboxes"])
def test_a_folder_that_is_not_a_store(tmp_path: Path, name: str) -> None:
    kind = "Point" if name == "segmentpoints" else "Polygon"
    with pytest.raises(QgsProcessingException, match=r"is not an embedding store: it has no zarr\.json: choose"):
        run(name, STORE=str(tmp_path), INPUT=layer(kind, []))


def test_an_invalid_label(store: Path) -> None:
    clicks = layer("Point", [point(300, 300)], RASTER_CRS, "&field=label:integer", [(2,)])
    with pytest.raises(QgsProcessingException, match="prompts has label 2: use 1 for positive and 0 for negative"):
        run("segmentpoints", STORE=str(store), INPUT=clicks)


@pytest.mark.parametrize("parameter", ["LABEL_FIELD", "OBJECT_FIELD"])
def test_a_field_that_does_not_exist(store: Path, parameter: str) -> None:
    """It would be as if all points were positive, and each its own object."""
    clicks = layer("Point", [point(300, 300)], RASTER_CRS, "&field=lable:integer", [(0,)])
    with pytest.raises(QgsProcessingException, match="prompts has no field sign: choose one of its fields"):
        run("segmentpoints", STORE=str(store), INPUT=clicks, **{parameter: "sign"})


def test_cancelling_keeps_finished_objects(store: Path) -> None:
    clicks = layer("Point", [point(300, 300)] * 10)
    log = Log(cancel_at=40)
    found = run("segmentpoints", log, STORE=str(store), INPUT=clicks)
    assert len(found) == 4
    assert log.progress[-1] == 40


def test_no_features(store: Path) -> None:
    assert run("segmentpoints", STORE=str(store), INPUT=layer("Point", [])) == []


def test_footprint(store: Path) -> None:
    tile = store / skipped_key(open_blobs(store).pyramid.choose(open_blobs(store).pyramid.bounds, is_box=False))
    assert not tile.exists()
    result = processing.run(
        "geosam_es:storefootprint",
        {"STORE": str(store), "FOOTPRINT": "TEMPORARY_OUTPUT", "TILES": "TEMPORARY_OUTPUT"},
    )
    (footprint,) = result["FOOTPRINT"].getFeatures()
    assert footprint.geometry().area() == pytest.approx(1500 * 1200 * 0.25)
    assert (footprint["raster"], footprint["width"], footprint["model"]) == ("blobs.tif", 1500, "blobs")
    assert (footprint["levels"], footprint["encoded"], footprint["missing"]) == (2, 5, 0)
    tiles = list(result["TILES"].getFeatures())
    assert [tile["level"] for tile in tiles] == [0, 0, 0, 0, 1]
    assert {tile["state"] for tile in tiles} == {"encoded"}
    assert tiles[0].geometry().area() == pytest.approx(1024 * 1024 * 0.25)
    assert tiles[4].geometry().area() == pytest.approx(1500 * 1200 * 0.25)
    assert (tiles[0]["pixel_size"], tiles[4]["pixel_size"]) == (0.5, 1.0)
    assert (result["ENCODED"], result["SKIPPED"], result["MISSING"]) == (5, 0, 0)
    assert result["TILES"].crs().authid() == RASTER_CRS


def test_footprint_of_enlarged_levels_shows_the_tiles_that_exist(enlarged: Path) -> None:
    count = open_blobs(enlarged).reader.counts()[0]
    result = processing.run(
        "geosam_es:storefootprint",
        {"STORE": str(enlarged), "FOOTPRINT": "TEMPORARY_OUTPUT", "TILES": "TEMPORARY_OUTPUT"},
    )
    tiles = [tile for tile in result["TILES"].getFeatures() if tile["level"] < 0]
    assert (count.level, count.encoded) == (-1, len(tiles)) and count.missing > 0
    assert {(tile["level"], tile["state"], tile["pixel_size"]) for tile in tiles} == {(-1, "encoded", 0.25)}
    assert tiles[0].geometry().area() == pytest.approx(512 * 512 * 0.25)
    assert (result["ENCODED"], result["SKIPPED"], result["MISSING"]) == (5 + len(tiles), 0, 0)


def test_footprint_shows_the_state_of_each_tile(tmp_path: Path) -> None:
    metadata = make_metadata(2000, 900, transform=TRANSFORM)
    decoder = tmp_path / "decoder.bin"
    decoder.write_bytes(b"none")
    writer = StoreWriter.create(tmp_path / "a.embeddings.zarr", metadata, {"decoder.onnx": decoder})
    tiles = list(metadata.pyramid)
    writer.write(tiles[0], {"image_embeddings": np.zeros((1, 256, 256))})
    writer.skip(tiles[1])
    result = processing.run(
        "geosam_es:storefootprint",
        {"STORE": str(set_crs(writer.root)), "FOOTPRINT": "TEMPORARY_OUTPUT", "TILES": "TEMPORARY_OUTPUT"},
    )
    states = [tile["state"] for tile in result["TILES"].getFeatures()]
    assert states == ["encoded", "skipped"] + ["missing"] * (len(tiles) - 2)
    without = processing.run(
        "geosam_es:storefootprint", {"STORE": str(writer.root), "FOOTPRINT": "TEMPORARY_OUTPUT", "TILES": None}
    )
    assert without["MISSING"] == len(tiles) - 2


def test_a_cancelled_footprint_writes_nothing(store: Path, tmp_path: Path) -> None:
    out = {"FOOTPRINT": str(tmp_path / "outline.gpkg"), "TILES": str(tmp_path / "tiles.gpkg")}
    result = processing.run("geosam_es:storefootprint", {"STORE": str(store), **out}, feedback=Log(cancel_at=40))
    assert not result and not list(tmp_path.iterdir())


def test_every_algorithm_has_help(provider: GeoSamProvider) -> None:
    names = {algorithm.name() for algorithm in provider.algorithms()}
    segmenting = {"segmentpoints", "segmentboxes", "updatepolygons", "automaticmasks"}
    images = {"encoderaster", "storefootprint"}
    learning = {"classifypolygons", "evaluatedecoders", "finetunedecoder", "findsimilar"}
    assert names == {*segmenting, *images, *learning, "checkcoverage"}
    assert (provider.id(), provider.name()) == ("geosam_es", "GeoSAM-ES")
    assert not provider.icon().isNull()
    for algorithm in provider.algorithms():
        assert algorithm.shortHelpString() and algorithm.displayName() and algorithm.group()
        assert not algorithm.icon().pixmap(24).isNull()
        assert type(algorithm.create()) is type(algorithm)


def test_in_a_model(store: Path) -> None:
    """Another algorithm of the model makes the points, and the polygons are its output."""
    model = QgsProcessingModelAlgorithm("segment", "tests")
    model.addModelParameter(QgsProcessingParameterFeatureSource("clicks"), QgsProcessingModelParameter("clicks"))
    centroids = QgsProcessingModelChildAlgorithm("native:centroids")
    centroids.setChildId("centroids")
    source = QgsProcessingModelChildParameterSource
    centroids.addParameterSources("INPUT", [source.fromModelParameter("clicks")])
    centroids.addParameterSources("ALL_PARTS", [source.fromStaticValue(False)])
    model.addChildAlgorithm(centroids)
    segments = QgsProcessingModelChildAlgorithm("geosam_es:segmentpoints")
    segments.setChildId("segments")
    segments.addParameterSources("INPUT", [source.fromChildOutput("centroids", "OUTPUT")])
    settings = {"CANDIDATE": "best", "MIN_AREA_M2": 0, "FILL_HOLES_M2": 0, "SIMPLIFY": 1, "LEVEL": 0}
    for name, value in {"STORE": str(store), **settings}.items():
        segments.addParameterSources(name, [source.fromStaticValue(value)])
    output = QgsProcessingModelOutput("polygons")
    output.setChildId("segments")
    output.setChildOutputName("OUTPUT")
    segments.setModelOutputs({"polygons": output})
    model.addChildAlgorithm(segments)
    valid, problems = model.validate()
    assert valid, problems
    boxes = layer("Polygon", [box(250, 250, 350, 350)])
    context = QgsProcessingContext()
    context.setProject(QgsProject.instance())
    parameters = {"clicks": boxes, "segments:polygons": "memory:"}
    results, ok = model.run(parameters, context, Log())
    assert ok
    (feature,) = context.takeResultLayer(results["segments:polygons"]).getFeatures()
    assert feature.geometry().area() == pytest.approx(planar_area(60), rel=0.03)


def test_with_the_embedded_model(tmp_path: Path) -> None:
    """Encoded and decoded with onnxruntime, without stand-ins."""
    root = encode_picture(tmp_path)
    (feature,) = run("segmentpoints", STORE=str(root), INPUT=layer("Point", [point(512, 512)]))
    assert feature["model"] == "mini" and 0 < feature["score"] <= 1
    assert feature.geometry().contains(point(512, 512))


def test_from_qgis_process(tmp_path: Path) -> None:
    """Without a window, and from a plugin folder, where the package has another name."""
    # Debian's wrapper adds an option that the program does not know.
    program = shutil.which("qgis_process.bin") or shutil.which("qgis_process")
    if program is None:
        pytest.skip("qgis_process is not installed")
    plugin = tmp_path / "plugins" / "geosam_es"
    plugin.mkdir(parents=True)
    root = Path(segmenting.__file__).parents[2]
    for name in ("__init__.py", "metadata.txt", "geosam_es"):
        (plugin / name).symlink_to(root / name)
    clicks = tmp_path / "clicks.geojson"
    QgsVectorFileWriter.writeAsVectorFormatV3(
        layer("Point", [point(512, 512), point(-90, 0)], "EPSG:4326"),
        str(clicks),
        QgsProject.instance().transformContext(),
        geojson_options(),
    )
    environment = {
        **os.environ,
        "QT_QPA_PLATFORM": "offscreen",
        "QGIS_CUSTOM_CONFIG_PATH": str(tmp_path / "profile"),
        "QGIS_PLUGINPATH": str(tmp_path / "plugins"),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    output = tmp_path / "polygons.gpkg"
    parameters = {"STORE": encode_picture(tmp_path), "INPUT": clicks, "OUTPUT": output, "MIN_AREA_M2": 10}
    arguments = ["run", "geosam_es:segmentpoints", "--", *(f"{key}={value}" for key, value in parameters.items())]
    for command in (["plugins", "enable", "geosam_es"], arguments):
        done = subprocess.run(
            [program, *command], env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert "The point (699955, 4400000) lies outside the raster" in done.stdout + done.stderr
    found = list(QgsVectorLayer(str(output), "polygons", "ogr").getFeatures())
    assert len(found) == 1 and found[0]["model"] == "mini"


def geojson_options() -> QgsVectorFileWriter.SaveVectorOptions:
    options = QgsVectorFileWriter.SaveVectorOptions()
    options.driverName = "GeoJSON"
    return options


def test_the_provider_loads_without_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    bare = GeoSamProvider()
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "contourpy", None)
        bare.refreshAlgorithms()
        assert bare.algorithms() == [] and "contourpy" in bare.warningMessage()
    bare.refreshAlgorithms()
    assert len(bare.algorithms()) == 11 and bare.warningMessage() == ""


def test_the_provider_and_the_plugin_import_no_optional_package() -> None:
    code = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("onnxruntime", "shapely", "contourpy"):
            raise ModuleNotFoundError(name + " is blocked", name=name)
sys.meta_path.insert(0, Block())
import geosam_es.processing.provider
import geosam_es.gui.plugin
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    root = Path(segmenting.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def encode_picture(folder: Path) -> Path:
    """Make a store of a bright disc with the embedded model."""
    models = Path(segmenting.__file__).parents[1] / "models" / "mini"
    encoder = OnnxEncoder(models, threads=1)
    picture = np.repeat((disc((1024, 1024), 512, 512, 150) * 160 + 60)[..., None], 3, axis=2).astype(np.uint8)
    metadata = make_metadata(1024, 1024, transform=TRANSFORM)
    metadata = type(metadata)(**{**metadata.__dict__, "model": encoder.info.to_json(), "dtype": "float16"})
    files = {name: models / name for name in ("prepare.onnx", "decoder.onnx")}
    writer = StoreWriter.create(folder / "picture.embeddings.zarr", metadata, files)
    (tile,) = metadata.pyramid
    writer.write(tile, {name: values[0] for name, values in encoder.encode(picture[None]).items()})
    return set_crs(writer.root)


DATE_LINE = [
    ("EPSG:3832", GeoTransform(0.5, 0.0, 3339434.72, 0.0, -0.5, 9569753.0), (-180.0, 65.0)),
    ("EPSG:3857", GeoTransform(0.5, 0.0, 20037358.34, 0.0, -0.5, 4000150.0), (180.0, 33.7852)),
    ("EPSG:4326", GeoTransform(5e-6, 0.0, 179.9985, 0.0, -5e-6, -16.9985), (-180.0, -17.0)),
    ("EPSG:3413", GeoTransform(0.5, 0.0, -150.0, 0.0, -0.5, 150.0), (0.0, 90.0)),
]
"""CRS and place of a raster, and the longitude and latitude near its middle."""


@pytest.mark.parametrize(("code", "transform", "middle"), DATE_LINE, ids=[code for code, _, _ in DATE_LINE])
@pytest.mark.parametrize("out", ["EPSG:4326", "EPSG:3832", "EPSG:6933"])
def test_polygons_and_prompts_at_the_antimeridian_and_the_pole(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    code: str,
    transform: GeoTransform,
    middle: tuple[float, float],
    out: str,
) -> None:
    monkeypatch.setattr(drawing, "open_segmenter", open_blobs)
    root = set_crs(make_store(tmp_path, disc((600, 600), 300, 300, 60), transform=transform), code)
    crs, target = QgsCoordinateReferenceSystem(code), QgsCoordinateReferenceSystem(out)
    truth = EllipsoidArea(crs).area_m2(transform.apply_geometry(shapely.Point(300, 300).buffer(60)))
    clicks = QgsVectorLayer("Point?crs=EPSG:4326&field=object:string", "clicks", "memory")
    feature = QgsFeature(clicks.fields())
    feature.setGeometry(QgsGeometry.fromPointXY(QgsPointXY(*middle)))
    feature.setAttributes(["island"])
    clicks.dataProvider().addFeatures([feature])
    if out == "EPSG:3832" and code == "EPSG:3413":
        log = Log()
        assert run("segmentpoints", log, STORE=str(root), INPUT=clicks, CRS=target) == []
        assert any("cannot be transformed" in warning for warning in log.warnings)
        return
    (found,) = run("segmentpoints", STORE=str(root), INPUT=clicks, CRS=target)
    assert found["object"] == "island" and found["area_m2"] == pytest.approx(truth, rel=0.05)
    polygon = from_qgs(found.geometry())
    assert polygon.is_valid and EllipsoidArea(target).area_m2(polygon) == pytest.approx(truth, rel=0.05)
    if code != "EPSG:3413":
        world = 360 if target.isGeographic() else 3e7
        assert all(part.bounds[2] - part.bounds[0] < world / 1000 for part in shapely.get_parts(polygon))


def test_a_box_drawn_across_the_antimeridian(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "open_segmenter", open_blobs)
    code, transform, _ = DATE_LINE[2]
    root = set_crs(make_store(tmp_path, disc((600, 600), 300, 300, 60), transform=transform), code)
    near, far = 0.0004, 17.0004
    for wkt in (
        f"MultiPolygon ((({180 - near} -16.9996,180 -16.9996,180 -{far},{180 - near} -{far},{180 - near} -16.9996)),"
        f"((-180 -16.9996,{near - 180} -16.9996,{near - 180} -{far},-180 -{far},-180 -16.9996)))",
        f"Polygon (({180 - near} -16.9996,{near - 180} -16.9996,{near - 180} -{far},{180 - near} -{far},"
        f"{180 - near} -16.9996))",
    ):
        boxes = QgsVectorLayer(f"{wkt.split(' ')[0]}?crs=EPSG:4326", "boxes", "memory")
        feature = QgsFeature()
        feature.setGeometry(QgsGeometry.fromWkt(wkt))
        assert boxes.dataProvider().addFeatures([feature])[0]
        (found,) = run("segmentboxes", STORE=str(root), INPUT=boxes)
        left, _, right, _ = from_qgs(found.geometry()).bounds
        assert (left, right) == pytest.approx((179.9997, 180.0003), abs=2e-5)


def test_metres_in_a_layer_in_degrees_are_refused(store: Path) -> None:
    clicks = QgsVectorLayer("Point?crs=EPSG:4326", "clicks", "memory")
    feature = QgsFeature()
    feature.setGeometry(point(300, 300))
    clicks.dataProvider().addFeatures([feature])
    with pytest.raises(QgsProcessingException, match=r"clicks has coordinates such as .* not longitude and latitude"):
        run("segmentpoints", STORE=str(store), INPUT=clicks)


def test_a_layer_without_a_crs_is_refused(store: Path) -> None:
    clicks = QgsVectorLayer("Point", "clicks", "memory")
    clicks.setCrs(QgsCoordinateReferenceSystem())
    feature = QgsFeature()
    feature.setGeometry(point(300, 300))
    clicks.dataProvider().addFeatures([feature])
    with pytest.raises(QgsProcessingException, match="clicks has no coordinate reference system: set it"):
        run("segmentpoints", STORE=str(store), INPUT=clicks)


def test_strays_in_a_layer_in_degrees_are_reported(store: Path) -> None:
    clicks = layer("Point", [point(300, 300)], "EPSG:4326")
    strays = [QgsPointXY(-700000, 4400000), QgsPointXY(math.inf, 0.0)]
    for stray in strays:
        feature = QgsFeature()
        feature.setGeometry(QgsGeometry.fromPointXY(stray))
        assert clicks.dataProvider().addFeatures([feature])[0]
    log = Log()
    assert len(run("segmentpoints", log, STORE=str(store), INPUT=clicks)) == 1
    assert len(log.warnings) == len(strays)


def test_a_raster_without_a_crs_is_refused(store: Path, tmp_path: Path) -> None:
    root = set_crs(Path(shutil.copytree(store, tmp_path / "plain.embeddings.zarr")), "")
    for output in ({}, {"CRS": QgsCoordinateReferenceSystem("EPSG:4326")}):
        with pytest.raises(QgsProcessingException, match="The raster has no CRS: set it in"):
            run("segmentpoints", STORE=str(root), INPUT=layer("Point", [point(300, 300)]), **output)


def test_a_scale_that_is_no_number_counts_as_not_given(store: Path) -> None:
    clicks = layer("Point", [point(300, 300)])
    (found,) = run("segmentpoints", STORE=str(store), INPUT=clicks, SCALE="nan")
    assert found["level"] == 0

"""The algorithm that checks and mends polygons that share borders."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import processing
import pytest
import shapely
from qgis.core import (
    QgsApplication,
    QgsFeature,
    QgsField,
    QgsGeometry,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QVariant

from geosam_es.processing.provider import GeoSamProvider

X, Y = 725_000, 4_372_000


@pytest.fixture(scope="module", autouse=True)
def provider(qgis_processing: None) -> Iterator[GeoSamProvider]:
    provider = GeoSamProvider()
    registry = QgsApplication.processingRegistry()
    assert registry.addProvider(provider)
    yield provider
    registry.removeProvider(provider)


def ring(*points: tuple[float, float]) -> str:
    return f"Polygon (({', '.join(f'{X + x} {Y + y}' for x, y in (*points, points[0]))}))"


def box(min_x: float, min_y: float, max_x: float, max_y: float) -> str:
    return ring((min_x, min_y), (max_x, min_y), (max_x, max_y), (min_x, max_y))


def layer(*polygons: tuple[str, str | None], crs: str = "EPSG:25830") -> QgsVectorLayer:
    made = QgsVectorLayer(f"Polygon?crs={crs}&field=code:string(20)", "habitats", "memory")
    for wkt, code in polygons:
        feature = QgsFeature(made.fields())
        feature.setGeometry(QgsGeometry.fromWkt(wkt))
        feature.setAttributes([code])
        assert made.dataProvider().addFeatures([feature])[0]
    return made


def run(**parameters: Any) -> dict[str, Any]:
    outputs = {"FINDINGS": "TEMPORARY_OUTPUT", "OUTPUT": "TEMPORARY_OUTPUT"}
    result: dict[str, Any] = processing.run(
        "geosam_es:checkcoverage", {**outputs, **parameters}, feedback=QgsProcessingFeedback(False)
    )
    return result


def test_findings_and_mended_polygons() -> None:
    source = layer(
        (box(0, 0, 50, 100), "A"),
        (box(49, 0, 100, 100), "B"),
        (box(0, 100.2, 100, 200), "C"),
        (box(100, 0, 103, 3), "D"),
        (ring((200, 0), (220, 20), (220, 0), (200, 20)), "E"),
    )
    result = run(INPUT=source, MIN_AREA_M2=50, TOLERANCE_M=0.5)
    found = [(feature["kind"], round(feature["size"])) for feature in result["FINDINGS"].getFeatures()]
    assert result["FOUND"] == len(found)
    assert set(found) >= {("Invalid polygon", 200), ("Overlap", 100), ("Below the minimum area", 9), ("Gap", 10)}
    assert all(feature.geometry().area() > 0 for feature in result["FINDINGS"].getFeatures())
    mended = {feature["code"]: feature.geometry() for feature in result["OUTPUT"].getFeatures()}
    assert result["LEFT"] == 0 and set(mended) == {"A", "B", "C", "E"}
    assert all(geometry.isGeosValid() for geometry in mended.values())
    # The smaller polygon keeps the overlap, and takes the small one beside it.
    assert mended["A"].area() + mended["B"].area() == pytest.approx(100 * 100 + 9, abs=21)
    assert mended["A"].intersection(mended["B"]).area() == pytest.approx(0, abs=1e-6)


def test_areas_are_measured_again_where_a_polygon_changes() -> None:
    source = layer((box(0, 0, 50, 100), "A"), (box(49, 0, 100, 100), "B"), (box(200, 0, 250, 50), "C"))
    assert source.dataProvider().addAttributes([QgsField("area_m2", QVariant.Double)])
    source.updateFields()
    for feature, area in zip(list(source.getFeatures()), (5000.0, 5100.0, 7.0)):
        assert source.dataProvider().changeAttributeValues({feature.id(): {1: area}})
    areas = {feature["code"]: feature["area_m2"] for feature in run(INPUT=source)["OUTPUT"].getFeatures()}
    assert areas["C"] == 7.0 and areas["A"] + areas["B"] == pytest.approx(10_000, rel=0.01)
    assert 5100.0 not in areas.values()


def test_neighbours_of_the_same_class_are_merged() -> None:
    source = layer((box(0, 0, 50, 100), "A"), (box(50, 0, 100, 100), "A"), (box(100, 0, 150, 100), None))
    result = run(INPUT=source, CLASS_FIELD="code")
    (found,) = result["FINDINGS"].getFeatures()
    assert (found["kind"], found["unit"]) == ("Neighbours of the same class", "m")
    assert found["size"] == pytest.approx(100, rel=1e-3)
    assert sorted(feature.geometry().area() for feature in result["OUTPUT"].getFeatures()) == [5000, 10_000]
    assert run(INPUT=source)["FOUND"] == 0


def test_gaps_may_be_large_and_wanted() -> None:
    around = [box(0, 0, 100, 30), box(0, 70, 100, 100), box(0, 30, 30, 70), box(70, 30, 100, 70)]
    source = layer(*((wkt, None) for wkt in around))
    kinds = {feature["kind"] for feature in run(INPUT=source)["FINDINGS"].getFeatures()}
    assert "Gap" in kinds
    result = run(INPUT=source, MAX_GAP_M2=1000)
    found = [feature["kind"] for feature in result["FINDINGS"].getFeatures()]
    assert "Gap" not in found and found[-1] == "Large gap" and result["FOUND"] == len(found) - 1
    assert sum(feature.geometry().area() for feature in result["OUTPUT"].getFeatures()) == pytest.approx(8400)


def test_an_empty_layer_and_one_without_a_crs() -> None:
    result = run(INPUT=layer())
    assert result["FOUND"] == result["LEFT"] == 0
    with pytest.raises(QgsProcessingException, match="no CRS"):
        run(INPUT=layer((box(0, 0, 1, 1), None), crs=""))


def test_features_without_a_geometry_stay() -> None:
    source = layer((box(0, 0, 50, 100), "A"), (box(50, 0, 100, 100), "B"))
    feature = QgsFeature(source.fields())
    feature.setAttributes(["to draw"])
    assert source.dataProvider().addFeatures([feature])[0]
    mended = list(run(INPUT=source)["OUTPUT"].getFeatures())
    assert [feature["code"] for feature in mended] == ["A", "B", "to draw"] and not mended[2].hasGeometry()


def test_lines_and_unknown_fields_are_refused_in_one_sentence() -> None:
    lines = QgsVectorLayer("LineString?crs=EPSG:25830&field=code:string(20)", "roads", "memory")
    feature = QgsFeature(lines.fields())
    feature.setGeometry(QgsGeometry.fromWkt("LineString (0 0, 9 9)"))
    assert lines.dataProvider().addFeatures([feature])[0]
    with pytest.raises(QgsProcessingException, match=r"^roads is not a polygon layer"):
        run(INPUT=lines)
    with pytest.raises(QgsProcessingException, match=r"^habitats has no field nada"):
        run(INPUT=layer((box(0, 0, 50, 100), "A")), CLASS_FIELD="nada")


@pytest.mark.parametrize(("percent", "findings"), [(0, False), (50, True)])
def test_it_can_be_cancelled_and_leaves_no_empty_layer(tmp_path: Path, percent: int, findings: bool) -> None:
    feedback = QgsProcessingFeedback(False)
    feedback.progressChanged.connect(lambda done: feedback.cancel() if done > percent else None)
    source = layer((box(0, 0, 50, 100), "A"), (box(49, 0, 100, 100), "B"), (box(98, 0, 150, 100), "C"))
    out = {"FINDINGS": str(tmp_path / "findings.gpkg"), "OUTPUT": str(tmp_path / "mended.gpkg")}
    result = processing.run("geosam_es:checkcoverage", {"INPUT": source, **out}, feedback=feedback)
    assert (result.get("FOUND", 0) > 1) == findings and "LEFT" not in result
    assert [path.name for path in tmp_path.glob("*.gpkg")] == ["findings.gpkg"] * findings


def test_where_shapely_cannot_simplify_it_is_said_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(shapely, "coverage_simplify", raising=False)
    feedback, shown = QgsProcessingFeedback(False), list[float]()
    feedback.progressChanged.connect(shown.append)
    out = {"FINDINGS": "TEMPORARY_OUTPUT", "OUTPUT": "TEMPORARY_OUTPUT"}
    with pytest.raises(QgsProcessingException, match=r"^Simplifying a coverage needs shapely 2\.1"):
        values = {"INPUT": layer((box(0, 0, 1, 1), None)), "SIMPLIFY_M": 1, **out}
        processing.run("geosam_es:checkcoverage", values, feedback=feedback)
    assert not shown

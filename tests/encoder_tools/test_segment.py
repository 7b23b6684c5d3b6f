"""Prompts from layers, and segmenting many objects."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyproj
import pytest
import shapely

from encoder_tools.segment import ObjectPrompts, SegmentOptions, prompts_from_layer, segment
from encoder_tools.vector import VectorLayer
from geosam_es.core.prompts import Bounds, Point, Prompts
from geosam_es.errors import PromptError, StoreError, VectorError
from geosam_es.inference.session import SegmentationSession, open_segmenter
from tests.encoder_tools.conftest import Ortho

UTM = pyproj.CRS.from_epsg(25830)
AT = shapely.Point(1, 2)
BOX = shapely.box(0, 0, 4, 3)


def layer(geometries: list[Any], **fields: Any) -> VectorLayer:
    return VectorLayer(np.array(geometries, dtype=object), {k: np.asarray(v) for k, v in fields.items()}, UTM)


def read(geometries: list[Any], **fields: Any) -> list[ObjectPrompts]:
    return prompts_from_layer(layer(geometries, **fields), UTM, "clicks.gpkg", Bounds(0, 0, 100, 100))


def test_each_feature_is_an_object_of_its_own() -> None:
    assert read([AT, BOX]) == [ObjectPrompts(1, (Point(1, 2),)), ObjectPrompts(2, (), BOX)]


def test_features_of_one_object() -> None:
    found = read([AT, AT, BOX, AT], object=["b", "a", "b", "b"], label=[1, 1, 1, 0])
    assert found == [
        ObjectPrompts("b", (Point(1, 2), Point(1, 2, False)), BOX),
        ObjectPrompts("a", (Point(1, 2),)),
    ]


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ([7, 7, 8], ["7", "8"]),
        (np.array([3.0, np.nan, 3.0]), ["3", "feature 2"]),
        (np.array([None, "a", None], dtype=object), ["feature 1", "a", "feature 3"]),
        ([1.5, 1.5, 2.0], ["1.5", "2"]),
    ],
)
def test_names_of_objects(values: Any, names: list[str]) -> None:
    assert [item.name for item in read([AT] * 3, object=values)] == names


@pytest.mark.parametrize(
    "labels",
    [[1, 0, 1], [True, False, True], [1.0, 0.0, np.nan], np.array(["1", "0", None], dtype=object), ["1", "0.0", " 1 "]],
)
def test_labels(labels: Any) -> None:
    (found,) = read([AT] * 3, object=["a"] * 3, label=labels)
    assert [point.positive for point in found.points] == [True, False, True]


@pytest.mark.parametrize(("label", "shown"), [(2, "2"), (-1, "-1"), (0.5, "0.5"), ("yes", "yes")])
def test_bad_labels(label: Any, shown: str) -> None:
    with pytest.raises(VectorError, match=rf"clicks\.gpkg has label {shown}: use 1"):
        read([AT, AT], label=np.array([1, label], dtype=object))


def test_multipoints_and_multipolygons() -> None:
    parts = shapely.MultiPolygon([BOX, shapely.box(10, 10, 12, 12)])
    points, box = read([shapely.MultiPoint([(1, 2), (3, 4)]), parts])
    assert points.points == (Point(1, 2), Point(3, 4)) and box.box == parts


@pytest.mark.parametrize("geometry", [shapely.LineString([(0, 0), (1, 1)]), shapely.GeometryCollection([AT, BOX])])
def test_other_geometries_are_no_prompts(geometry: Any) -> None:
    with pytest.raises(VectorError, match=rf"clicks\.gpkg has a {geometry.geom_type}, which is not a valid prompt"):
        read([AT, geometry])


def test_a_box_of_another_crs_is_the_box_around_it() -> None:
    turned = shapely.transform(
        shapely.box(699000, 4399000, 700000, 4400000),
        lambda xy: np.column_stack(pyproj.Transformer.from_crs(25830, 4326, always_xy=True).transform(*xy.T)),
    )
    source = VectorLayer(np.array([turned], dtype=object), {}, pyproj.CRS.from_epsg(4326))
    (found,) = prompts_from_layer(source, UTM, "a.geojson", Bounds(699000, 4399000, 700000, 4400000))
    assert found.box is not None
    assert found.box.bounds == pytest.approx((699000, 4399000, 700000, 4400000), abs=0.05)


def test_order_of_results_is_that_of_the_prompts(made_ortho: Ortho) -> None:
    x, y = made_ortho.centre
    objects = [
        ObjectPrompts("far", (Point(0, 0),)),
        ObjectPrompts("box", (), shapely.box(*made_ortho.truth.buffer(3).bounds)),
        ObjectPrompts("click", (Point(x, y),)),
    ]
    seen: list[tuple[int, int]] = []
    report = segment(
        open_segmenter(made_ortho.store), objects, SegmentOptions(candidate="all"), lambda *at: seen.append(at)
    )
    assert [(item.object_id, item.result.rank) for item in report.results] == [
        *[("box", rank) for rank in range(4)],
        *[("click", rank) for rank in range(3)],
    ]
    assert list(report.left_out) == ["far"] and seen == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_the_same_prompt_gives_the_same_polygon(made_ortho: Ortho) -> None:
    x, y = made_ortho.centre
    segmenter = open_segmenter(made_ortho.store)
    first, again = (
        segment(segmenter, [ObjectPrompts("1", (Point(x, y),))], SegmentOptions()).results[0] for _ in range(2)
    )
    assert first.result.geometry.equals_exact(again.result.geometry) and first.area_m2 == again.area_m2


def test_many_objects_get_the_polygons_of_single_ones(made_ortho: Ortho) -> None:
    """More than are decoded together, some refused among them, of different numbers of points."""
    x, y = made_ortho.centre
    objects = [
        ObjectPrompts(
            str(index),
            (Point(x + index / 4, y), *[Point(x - 1, y + 1)] * (index % 3)) if index % 5 else (Point(index, 0),),
            shapely.box(*made_ortho.truth.buffer(3 + index).bounds) if index % 4 == 3 else None,
        )
        for index in range(40)
    ]
    segmenter = open_segmenter(made_ortho.store)
    transform = segmenter.reader.metadata.raster.transform
    report = segment(segmenter, objects, SegmentOptions())
    assert list(report.left_out) == [str(index) for index in range(0, 40, 5)]
    assert len(report.results) == 32
    for item in report.results:
        asked = objects[int(item.object_id)]
        prompts = Prompts(asked.points, asked.box and Bounds(*asked.box.bounds)).transformed(transform.inverse().apply)
        single = SegmentationSession(segmenter).prompt(prompts)
        assert item.result.geometry.equals_exact(single.geometry, 1e-3)
        assert item.result.score == pytest.approx(single.score, abs=1e-5)
        assert item.result.milliseconds > 0


def test_when_nothing_can_be_answered(made_ortho: Ortho) -> None:
    objects = [ObjectPrompts(str(number), (Point(number, 0),)) for number in range(3)]
    with pytest.raises(PromptError, match=r"The point \(0, 0\) lies outside the raster"):
        segment(open_segmenter(made_ortho.store), objects, SegmentOptions())


def test_a_damaged_tile_is_an_error_of_the_store(ortho: Ortho) -> None:
    chunk = next(path for path in (ortho.store / "level0" / "image_embeddings" / "c").rglob("*") if path.is_file())
    chunk.write_bytes(b"")
    x, y = ortho.centre
    with pytest.raises(StoreError, match="has 0 values"):
        segment(open_segmenter(ortho.store), [ObjectPrompts("1", (Point(x, y),))], SegmentOptions())

"""Grouping the features of a prompt layer into objects, and segmenting them."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely

from geosam_es.core.geotransform import GeoTransform
from geosam_es.core.prompts import Point
from geosam_es.errors import VectorError
from geosam_es.inference.batch import ObjectPrompts, PromptFeature, SegmentOptions, answer_objects, group_prompts
from tests.helpers import disc, make_store, open_blobs

AT = shapely.Point(1, 2)
BOX = shapely.box(0, 0, 4, 3)


class PlaneArea:
    def area_m2(self, geometry: shapely.Geometry) -> float:
        return float(geometry.area)


def group(*features: PromptFeature) -> list[ObjectPrompts]:
    return group_prompts(features, "clicks.gpkg")


def test_features_with_one_object_value_belong_together() -> None:
    first, second = group(
        PromptFeature(AT, 1, "b"), PromptFeature(AT, 0, "a"), PromptFeature(AT, 0, "b"), PromptFeature(BOX, None, "b")
    )
    assert first == ObjectPrompts("b", (Point(1, 2), Point(1, 2, False)), BOX)
    assert second == ObjectPrompts("a", (Point(1, 2, False),))


@pytest.mark.parametrize(
    ("value", "object_id", "name"),
    [
        (7, 7, "7"),
        (np.int32(7), 7, "7"),
        (np.float64(7.0), 7.0, "7"),
        (1.5, 1.5, "1.5"),
        ("007", "007", "007"),
        (np.datetime64("2026-05-01"), date(2026, 5, 1), "2026-05-01"),
        (["a", 1], "['a', 1]", "['a', 1]"),
        (None, None, "feature 2"),
        (float("nan"), None, "feature 2"),
        (np.float32("nan"), None, "feature 2"),
    ],
)
def test_object_values_keep_their_type(value: Any, object_id: Any, name: str) -> None:
    _, found = group(PromptFeature(AT, 1, "other"), PromptFeature(AT, 1, value))
    assert (found.object_id, type(found.object_id)) == (object_id, type(object_id))
    assert found.name == name


def test_features_without_an_object_value_are_objects_of_their_own() -> None:
    found = group(*[PromptFeature(AT, 1, None)] * 2, PromptFeature(AT, 1, 1))
    assert [(item.object_id, item.name) for item in found] == [(None, "feature 1"), (None, "feature 2"), (1, "1")]


def test_the_first_feature_gives_the_attributes() -> None:
    (found,) = group(PromptFeature(AT, 1, 3, {"crop": "vid", "ha": 2}), PromptFeature(BOX, 1, 3, {"crop": "olivo"}))
    assert found.attributes == {"crop": "vid", "ha": 2}
    assert group(PromptFeature(AT))[0].attributes == {}


@pytest.mark.parametrize("label", [1, True, 1.0, "1", " 1 ", None, float("nan"), np.float32("nan")])
def test_positive_labels(label: Any) -> None:
    assert group(PromptFeature(AT, label))[0].points[0].positive


@pytest.mark.parametrize(("label", "shown"), [(2, "2"), (-1.0, "-1"), (0.5, "0.5"), ("yes", "yes"), ("2", "2")])
def test_labels_that_are_neither_0_nor_1(label: Any, shown: str) -> None:
    with pytest.raises(VectorError, match=rf"clicks\.gpkg has label {shown}: use 1 for positive"):
        group(PromptFeature(AT), PromptFeature(AT, label))


def test_features_that_are_not_prompts() -> None:
    with pytest.raises(VectorError, match=r"clicks\.gpkg has a LineString, which is not a valid prompt"):
        group(PromptFeature(shapely.LineString([(0, 0), (1, 1)])))
    with pytest.raises(VectorError, match="has two boxes for object 4: remove one"):
        group(PromptFeature(BOX, 1, 4.0), PromptFeature(BOX, 1, 4))
    with pytest.raises(VectorError, match="has a polygon with label 0: use points to mark what is outside"):
        group(PromptFeature(BOX, 0))


def test_polygons_carry_the_object_and_its_attributes(tmp_path: Path) -> None:
    image = np.maximum(disc((1200, 1400), 300, 300, 100), disc((1200, 1400), 1000, 900, 60))
    features = [
        PromptFeature(shapely.Point(300, 300), 1, 12, {"crop": "vid"}),
        PromptFeature(shapely.Point(-50, 5), 1, 13, {"crop": "olivo"}),
        PromptFeature(shapely.Point(1000, 900), 1, None, {"crop": "trigo"}),
    ]
    objects = group(*features)
    answers = {
        answer.index: answer
        for answer in answer_objects(open_blobs(make_store(tmp_path, image)), objects, SegmentOptions(), PlaneArea())
    }
    found = [(item.object_id, item.attributes["crop"]) for index in range(3) for item in answers[index].results]
    assert found == [(12, "vid"), (None, "trigo")]
    assert answers[0].results[0].area_m2 == pytest.approx(np.pi * 100**2, rel=0.02)
    assert [answers[index].prompts.name for index in range(3)] == ["12", "13", "feature 3"]
    assert "outside the raster" in answers[1].left_out and not answers[2].left_out
    # 10,000 results with their masks would take 2.5 GiB.
    assert not any(mask.logits.size for mask in answers[0].results[0].result.candidate.masks)
    assert answers[0].results[0].result.score > 0.5 and not answers[0].results[0].result.proposal.masks


@pytest.mark.parametrize("degrees", [0, 45])
@pytest.mark.parametrize(
    "shape", [shapely.box(500, 500, 700, 700), shapely.Polygon([(500, 500), (700, 600), (600, 700)])]
)
def test_a_box_has_the_bounds_of_its_polygon_in_pixels(tmp_path: Path, degrees: int, shape: shapely.Polygon) -> None:
    """On a turned raster, the bounds on the map would reach the other disc."""
    a, b = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    transform = GeoTransform(a, -b, 700_000, -b, -a, 4_400_000)
    image = np.maximum(disc((1024, 1024), 600, 600, 60), disc((1024, 1024), 750, 600, 30))
    segmenter = open_blobs(make_store(tmp_path, image, transform=transform))
    objects = group(PromptFeature(transform.apply_geometry(shape)))
    (answer,) = answer_objects(segmenter, objects, SegmentOptions(all_parts=True), PlaneArea())
    (found,) = answer.results
    assert found.result.proposal.prompts.box == pytest.approx((500, 500, 700, 700))
    assert found.area_m2 == pytest.approx(np.pi * 60**2, rel=0.02)

"""Finding objects like examples, on discs whose outlines are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import shapely

from geosam_es.errors import PromptError
from geosam_es.inference.similar import SimilarObject, SimilarObjects
from tests.helpers import disc, make_store, open_blobs

SHAPE = (1300, 2000)
PLACES = [(x, y) for x in (150, 420, 900, 1300, 1850) for y in (160, 640, 1150)]


def circle(x: float, y: float, radius: float = 60) -> shapely.Polygon:
    return shapely.Point(x, y).buffer(radius)


def finder(folder: Path, examples: int = 2, extra: np.ndarray | None = None) -> SimilarObjects:
    image = np.maximum.reduce([disc(SHAPE, *place, 60) for place in PLACES])
    store = make_store(folder, image if extra is None else np.maximum(image, extra))
    return SimilarObjects(open_blobs(store), [circle(*place) for place in PLACES[:examples]])


def places_of(found: list[SimilarObject]) -> list[tuple[int, int]]:
    """Return the centre of the disc that each polygon is, or fail."""
    places = []
    for item in found:
        x, y = min(PLACES, key=lambda place: item.polygon.distance(shapely.Point(place)))
        assert item.polygon.intersection(circle(x, y)).area / item.polygon.union(circle(x, y)).area > 0.9
        places.append((x, y))
    return places


def test_every_other_object_is_found_once(tmp_path: Path) -> None:
    found = list(finder(tmp_path).search())
    assert sorted(places_of(found)) == sorted(PLACES[2:])
    assert all(0.5 <= item.likeness <= 1 and 0 <= item.score <= 1 for item in found)


def test_known_objects_and_other_places_are_left_out(tmp_path: Path) -> None:
    similar = finder(tmp_path)
    area = shapely.box(0, 0, 600, 500)
    calls: list[tuple[int, int]] = []
    found = list(similar.search(area, known=[circle(150, 1150)], progress=lambda *call: calls.append(call)))
    assert places_of(found) == [(420, 160)]
    assert calls[0][0] == 0 and calls[-1][0] == calls[-1][1]


def test_a_search_of_few_clicks_is_continued_by_the_next(tmp_path: Path) -> None:
    similar = finder(tmp_path)
    numbers = [len(places_of(list(similar.search(most_clicks=5)))) for _ in range(4)]
    assert 0 < numbers[0] <= 5 and numbers == sorted(numbers)
    assert numbers[-1] == len(PLACES) - 2


def test_what_is_rejected_does_not_come_back_and_teaches(tmp_path: Path) -> None:
    larger = np.maximum.reduce([disc(SHAPE, x, y, 100) for x, y in ((660, 400), (1080, 400), (1580, 400), (1580, 900))])
    similar = finder(tmp_path, examples=3, extra=larger)
    wrong = [item for item in similar.search(threshold=0.0) if item.polygon.area > 20000]
    assert len(wrong) == 4
    before = {item.polygon.centroid.wkt: item.likeness for item in wrong}
    similar.learn([], [item.polygon for item in wrong[:2]])
    rest = [item for item in similar.search(threshold=0.0) if item.polygon.area > 20000]
    assert len(rest) == 2
    assert all(item.likeness < before[item.polygon.centroid.wkt] for item in rest)


def test_a_search_can_be_stopped(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(finder(tmp_path).search(progress=stop))


def test_examples_without_features_are_refused(tmp_path: Path) -> None:
    segmenter = open_blobs(make_store(tmp_path, disc(SHAPE, 500, 500, 60)))
    with pytest.raises(PromptError, match="No example lies on a prepared part of the raster"):
        SimilarObjects(segmenter, [circle(9000, 9000), shapely.Polygon()])

"""Classes learned from polygons on a store whose features are the brightness of its image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import shapely

from geosam_es.inference.class_learner import LEAST_POLYGONS, ClassLearner
from geosam_es.store import StoreReader
from tests.helpers import disc, make_store

PLACES = [(150 + 200 * (n % 5), 150 + 200 * (n // 5)) for n in range(10)]


def bright(n: int) -> shapely.Polygon:
    return shapely.Point(PLACES[n]).buffer(40)


def dark(n: int) -> shapely.Polygon:
    x, y = PLACES[n]
    return shapely.Point(x + 100, y).buffer(30)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> StoreReader:
    image = np.maximum.reduce([disc((1000, 1200), x, y, 60) for x, y in PLACES])
    return StoreReader(make_store(tmp_path_factory.mktemp("store"), image))


@pytest.fixture
def learner(reader: StoreReader) -> ClassLearner:
    """A learner of three polygons of each of two classes."""
    learner = ClassLearner(reader)
    learner.put({n: (bright(n), "pond") for n in range(3)} | {10 + n: (dark(n), "land") for n in range(3)})
    assert learner.learn(60)
    return learner


def test_three_polygons_of_two_classes_are_enough(reader: StoreReader) -> None:
    learner = ClassLearner(reader)
    rows = [(bright(n), "pond") for n in range(4)] + [(dark(n), "land") for n in range(LEAST_POLYGONS - 1)]
    learner.put(dict(enumerate(rows)))
    assert learner.learn(60) and learner.suggest(bright(5)) == []
    learner.put({"new": (dark(3), "land"), "rare": (dark(4), "marsh")})
    learner.learn(60)
    (first, most), (second, least) = learner.suggest(bright(5))
    assert (first, second) == ("pond", "land") and most > 0.7 and most + least == pytest.approx(1)
    assert learner.suggest(dark(6))[0][0] == "land"


def test_another_class_and_a_deleted_polygon(learner: ClassLearner) -> None:
    learner.put({n: (bright(n), "lake") for n in range(3)})
    learner.learn(60)
    assert learner.suggest(bright(5))[0][0] == "lake"
    learner.put({0: None})
    assert learner.suggest(bright(5)) == []
    learner.put({10 + n: (dark(n), "land") for n in range(3)}, are_all=True)
    learner.learn(60)
    assert learner.suggest(dark(5)) == []


def test_what_is_added_counts_as_if_it_had_been_there(learner: ClassLearner, reader: StoreReader) -> None:
    assert learner.suggest(bright(5))
    learner.put({"new": (bright(4), "pond"), "other": (dark(4), "land")})
    learner.learn(60)
    whole = ClassLearner(reader)
    rows = [(bright(n), "pond") for n in (0, 1, 2, 4)] + [(dark(n), "land") for n in (0, 1, 2, 4)]
    whole.put(dict(enumerate(rows)))
    whole.learn(60)
    assert dict(learner.suggest(bright(7))) == pytest.approx(dict(whole.suggest(bright(7))), abs=1e-6)


def test_learning_is_done_in_parts(reader: StoreReader) -> None:
    learner = ClassLearner(reader)
    learner.put({n: (bright(n % 10), "pond") for n in range(40)})
    assert not learner.learn(0.0)
    assert learner.learn(60)


def test_polygons_off_the_store_are_ignored(learner: ClassLearner) -> None:
    far = shapely.box(9000, 9000, 9100, 9100)
    learner.put({"far": (far, "pond")})
    assert learner.learn(60) and learner.suggest(far) == []
    assert learner.suggest(bright(5))[0][0] == "pond"


def test_a_class_with_many_polygons_is_learned_from_some(reader: StoreReader) -> None:
    learner = ClassLearner(reader, most_polygons=3)
    rows = [(bright(n), "pond") for n in range(4)] + [(dark(n), "land") for n in range(3)]
    learner.put(dict(enumerate(rows)))
    assert learner.learn(60)
    before = learner.suggest(bright(5))
    learner.put({"more": (dark(5), "pond")})
    assert learner.learn(60) and learner.suggest(bright(5)) == before != []
    # What makes room counts again.
    learner.put({3: None, 2: None, 1: None, 0: None})
    assert learner.suggest(bright(5)) == []


def test_polygons_whose_tiles_are_encoded_later(tmp_path: Path) -> None:
    image = np.maximum.reduce([disc((1000, 1200), x, y, 60) for x, y in PLACES])
    root = make_store(tmp_path, image)
    tiles = sorted(root.glob("level*/image_embeddings/c"))
    for path in tiles:
        path.rename(path.with_name("later"))
    learner = ClassLearner(StoreReader(root))
    polygons = {n: (bright(n), "pond") for n in range(3)} | {10 + n: (dark(n), "land") for n in range(4)}
    learner.put(polygons)
    assert learner.learn(60) and learner.suggest(bright(5)) == []
    learner.put({13: None})
    for path in tiles:
        path.with_name("later").rename(path)
    while not learner.learn(60):
        pass
    whole = ClassLearner(StoreReader(root))
    whole.put({key: item for key, item in polygons.items() if key != 13})
    assert whole.learn(60)
    found = learner.suggest(bright(5))
    assert found[0][0] == "pond" and dict(found) == pytest.approx(dict(whole.suggest(bright(5))), abs=1e-6)

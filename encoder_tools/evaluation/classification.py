"""Classes of polygons, learned from others.

A polygon is described by the stored features under it and around it, by its shape, and by the pixels of the raster. A
linear classifier turns the hundreds of features into one score per class. A forest of random trees learns from these
scores, of the training polygons each without itself, and from the few other values. With 10 or 40 polygons per class
this is better than a forest or a linear classifier of all values.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.features import geometry_mask
from rasterio.transform import Affine
from shapely.geometry.base import BaseGeometry

from geosam_es.core.linear import LinearClassifier
from geosam_es.core.prompts import Bounds
from geosam_es.errors import ModelError, StoreError, VectorError
from geosam_es.inference.features import FeaturePool
from geosam_es.store import StoreReader

from .ground_truth import Located, TruthObject
from .pictures import RasterWindows

__all__ = ["LEAST_POLYGONS", "Classified", "Described", "check_classes", "classify", "cross_validate", "describe"]

LEAST_POLYGONS = 3
"""Training polygons that a class needs."""

_RIDGE = 100.0
_TREES = 200
_FOLDS = 5
_BLOCKS = 20
_GAP_WIDTHS = 0.5
"""Gap between training and held-out polygons in widths of a median polygon, as `spatial_split` has it."""


class Described(NamedTuple):
    """What describes polygons: features (N, D), and values of their shape and pixels (N, S)."""

    features: NDArray[np.float32]
    others: NDArray[np.float64]

    def at(self, rows: Any) -> Described:
        """Return what describes some of the polygons."""
        return Described(self.features[rows], self.others[rows])


class Classified(NamedTuple):
    """The classes, and their probabilities for polygons (N, K); NaN in rows without an answer."""

    names: tuple[str, ...]
    probabilities: NDArray[np.float64]

    @property
    def ranked(self) -> NDArray[np.object_]:
        """The classes of each polygon (N, K), the most probable first."""
        order = np.argsort(-self.probabilities, axis=1, kind="stable")
        return np.array(self.names, dtype=object)[order]


def check_classes(objects: Sequence[TruthObject], source: Path, field: str) -> list[str]:
    """Return the classes that have enough training polygons.

    Raises
    ------
    VectorError
        If there are fewer than two; it names the file and the field.
    """
    counts = Counter(item.class_name for item in objects if item.class_name)
    enough = sorted(name for name, count in counts.items() if count >= LEAST_POLYGONS)
    if len(enough) < 2:
        found = ", ".join(f"{count} of {name}" for name, count in counts.most_common(10)) or "none"
        raise VectorError(
            f"{source} needs {LEAST_POLYGONS} polygons on the raster of each of at least two classes in the field"
            f" {field}; it has {found}",
            "draw more polygons, or choose another field with --class",
        )
    return enough


def describe(reader: StoreReader, located: Located, windows: RasterWindows) -> tuple[list[TruthObject], Described]:
    """Describe the polygons on a store; those on no encoded tile are added to ``located.left_out`` instead.

    Raises
    ------
    StoreError
        If no polygon is on an encoded tile.
    """
    geometries = [item.geometry for item in located.objects[0]]
    features = _features(reader, geometries)
    others = np.array([_shape(geometry) for geometry in geometries])
    if windows.any_found:
        others = np.column_stack([others, [_pixels(windows, geometry) for geometry in geometries]])
    is_known = np.asarray(np.isfinite(features).all(axis=1))
    if not is_known.any():
        raise StoreError(f"{reader.root} has no encoded tile under the polygons", "encode the raster with --resume")
    for item, known in zip(located.objects[0], is_known):
        if not known:
            located.left_out[item.object_id] = "on no encoded tile"
    objects = [item for item, known in zip(located.objects[0], is_known) if known]
    return objects, Described(features, others).at(is_known)


def _features(reader: StoreReader, geometries: Sequence[BaseGeometry]) -> NDArray[np.float32]:
    """Pool features at the level of each polygon, and at the next coarser one."""
    pool = FeaturePool(reader)
    tiles = [pool.tile_of(geometry) for geometry in geometries]
    coarser = []
    for tile, geometry in zip(tiles, geometries):
        grids = pool.pyramid.grids_from(tile.level + 1)[:1] if tile is not None else ()
        around = [tile for grid in grids for _, tile in grid.tiles_around(Bounds(*geometry.bounds), grid.scale)]
        coarser.append(next(filter(reader.is_encoded, around), tile))
    return np.column_stack([pool.vectors(geometries, some) for some in (tiles, coarser)])


def _shape(geometry: BaseGeometry) -> list[float]:
    """Return size, compactness, elongation, solidity and number of holes of a polygon in native pixels."""
    box = shapely.minimum_rotated_rectangle(geometry)
    sides = np.hypot(*np.diff(shapely.get_coordinates(box)[:3], axis=0).T)
    holes = int(shapely.get_num_interior_rings(shapely.get_parts(geometry)).sum())
    compactness, solidity = 4 * np.pi * geometry.area / geometry.length**2, geometry.area / geometry.convex_hull.area
    return [float(np.log(geometry.area)), compactness, float(sides.min() / sides.max()), solidity, float(holes)]


def _pixels(windows: RasterWindows, geometry: BaseGeometry) -> NDArray[np.float64]:
    """Return mean, spread and texture of each band under a polygon (9,); zeros where they cannot be read."""
    # Imported here, because every command imports this module.
    from scipy import ndimage

    low, high = np.reshape(geometry.bounds, (2, 2))
    image, (left, right, bottom, top) = windows.square(0, low, high)
    if image is None:
        return np.zeros(9)
    height, width = image.shape[:2]
    grid = Affine((right - left) / width, 0, left, 0, (bottom - top) / height, top)
    inside = geometry_mask([geometry], (height, width), grid, invert=True, all_touched=True)
    bands = image.astype(np.float64)
    texture = np.hypot(ndimage.sobel(bands, axis=0), ndimage.sobel(bands, axis=1))
    return np.concatenate([bands[inside].mean(axis=0), bands[inside].std(axis=0), texture[inside].mean(axis=0)])


def classify(known: Described, classes: Sequence[str], wanted: Described) -> Classified:
    """Learn at least two classes from some polygons, and give them to others.

    Raises
    ------
    ModelError
        If scikit-learn is not installed.
    """
    forest = _scikit_learn().ensemble.ExtraTreesClassifier(_TREES, class_weight="balanced", random_state=0, n_jobs=-1)
    linear = LinearClassifier(_RIDGE)
    linear.add(known.features, classes)
    labels = np.array([linear.classes.index(name) for name in classes])
    # It groups the rows by class.
    scores = np.empty((len(classes), len(linear.classes)))
    scores[np.argsort(labels, kind="stable")], _ = linear.left_out()
    # Scikit-learn mistakes names such as "4090" for numbers.
    forest.fit(np.column_stack([scores, known.others]), labels)
    answer = forest.predict_proba(np.column_stack([linear.scores(wanted.features), wanted.others]))
    return Classified(tuple(linear.classes[label] for label in forest.classes_), answer)


def cross_validate(known: Described, classes: Sequence[str], geometries: Sequence[BaseGeometry]) -> Classified:
    """Give each polygon a class learned from polygons elsewhere.

    Polygons in blocks of the raster are held out in turn, and those near them are not learned from. There is no answer
    where too little is left to learn from.

    Raises
    ------
    ModelError
        If scikit-learn is not installed.
    """
    names, labels = tuple(sorted(set(classes))), np.array(classes)
    probabilities = np.full((len(labels), len(names)), np.nan)
    for train, held in _folds(labels, np.array(geometries, dtype=object)):
        if len(set(labels[train])) > 1:
            answer = classify(known.at(train), labels[train].tolist(), known.at(held))
            probabilities[held] = 0.0
            for name, column in zip(answer.names, answer.probabilities.T):
                probabilities[held, names.index(name)] = column
    return Classified(names, probabilities)


def _folds(
    labels: NDArray[Any], geometries: NDArray[np.object_]
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Yield the indices of training and of held-out polygons."""
    learn = _scikit_learn()
    centres, bounds = shapely.get_coordinates(shapely.centroid(geometries)), shapely.bounds(geometries)
    gap = _GAP_WIDTHS * float(np.median((bounds[:, 2:] - bounds[:, :2]).max(axis=1)))
    count = min(_BLOCKS, len(np.unique(centres, axis=0)))
    blocks = learn.cluster.KMeans(count, n_init=3, random_state=0).fit_predict(centres)
    if count < 2:
        return
    # Scikit-learn refuses more folds than the largest class has polygons.
    folds = min(_FOLDS, count, max(Counter(labels.tolist()).values()))
    splitter = learn.model_selection.StratifiedGroupKFold(folds, shuffle=True, random_state=0)
    for train, held in splitter.split(centres, labels, blocks):
        near, _ = shapely.STRtree(geometries[held]).query(geometries[train], predicate="dwithin", distance=gap)
        yield np.delete(train, near), held


def _scikit_learn() -> Any:
    try:
        import sklearn.cluster
        import sklearn.ensemble
        import sklearn.model_selection
    except Exception as error:  # builds for another system or NumPy fail in many ways
        raise ModelError(
            f"scikit-learn cannot be imported ({error})", 'install it with: pip install "geosam-es[classify]"'
        ) from error
    return sklearn

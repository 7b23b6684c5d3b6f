"""Small objects: those drawn by hand, the measurement of a scene and the table."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely

from benchmarks.mini.exported_model import MODEL_FOLDER, OnnxMini
from benchmarks.mini.small_objects import (
    DRAWN,
    SMALL,
    Measured,
    drawn_by_hand,
    measure_scene,
    small_objects_table,
    with_totals,
)
from encoder_tools.mini.labelled_tiles import LabelledScene
from geosam_es.errors import RasterError

LEVELS = (0, -1, -2)


def red_boxes(*boxes: shapely.Polygon) -> np.ndarray:
    """Return a grey image of 96 x 128 with noise and red boxes."""
    image = np.random.default_rng(0).integers(90, 110, (96, 128, 3)).astype(np.uint8)
    for box in boxes:
        x0, y0, x1, y1 = (int(value) for value in box.bounds)
        image[y0:y1, x0:x1] = (220, 30, 40)
    return image


def measured(size: float, iou: float) -> Measured:
    """Return what is measured of an object whose answers all have the same IoU."""
    answers = {f"{kind} {level}": iou for kind in ("click", "best", "box") for level in LEVELS}
    return {"size": size, "box itself": 0.5, "box": iou, "box level": -2, **answers}


def table_rows(found: dict[str, list[Measured]]) -> list[list[str]]:
    lines = small_objects_table(found).splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def write_objects(folder: Path, *items: tuple[str, int, str, shapely.Polygon]) -> Path:
    path = folder / "objects.json"
    names = ("image", "reduction", "kind", "polygon")
    rows = [dict(zip(names, (*item[:3], list(item[3].exterior.coords)[:-1]))) for item in items]
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def write_image(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True)
    profile = {"count": 3, "height": image.shape[0], "width": image.shape[1], "dtype": "uint8"}
    with rasterio.open(
        path, "w", driver="GTiff", crs="EPSG:25830", transform=rasterio.Affine(1, 0, 500000, 0, -1, 4200000), **profile
    ) as file:
        file.write(np.moveaxis(image, -1, 0))


def test_objects_drawn_by_hand_are_valid_and_small() -> None:
    for item in json.loads(DRAWN.read_text(encoding="utf-8")):
        assert list(item) == ["image", "reduction", "kind", "polygon"]
        assert not Path(item["image"]).is_absolute()
        polygon = shapely.Polygon(item["polygon"])
        x0, y0, x1, y1 = polygon.bounds
        assert polygon.is_valid, item
        assert min(x0, y0) >= 0, item
        assert 8 <= max(x1 - x0, y1 - y0) / item["reduction"] < SMALL, item


def test_objects_drawn_by_hand_are_of_several_kinds_and_drawn_once() -> None:
    items = json.loads(DRAWN.read_text(encoding="utf-8"))
    assert len(items) >= 80
    assert len({item["kind"] for item in items}) >= 4
    for image in {item["image"] for item in items}:
        polygons = [shapely.Polygon(item["polygon"]) for item in items if item["image"] == image]
        for index, polygon in enumerate(polygons):
            for other in polygons[:index]:
                assert polygon.intersection(other).area < 0.1 * min(polygon.area, other.area)


def test_drawn_objects_are_reduced_with_their_image_and_kept_apart_if_trained_on(tmp_path: Path) -> None:
    box = shapely.box(20, 30, 60, 50)
    for name in ("val_x/a.tif", "train_x/b.tif"):
        write_image(tmp_path / name, red_boxes(box))
    objects = write_objects(tmp_path, ("val_x/a.tif", 2, "car", box), ("train_x/b.tif", 1, "car", box))
    held_out, trained = drawn_by_hand(tmp_path, objects)
    assert (held_out.dataset, trained.dataset) == ("drawn by hand: car", "drawn by hand, training image: car")
    assert held_out.image.shape == (48, 64, 3)
    assert held_out.polygons[0].equals(shapely.box(10, 15, 30, 25))
    assert held_out.image[20, 20].tolist() == [220, 30, 40]
    assert trained.polygons[0].equals(box)


def test_a_missing_image_of_drawn_objects_is_named(tmp_path: Path) -> None:
    objects = write_objects(tmp_path, ("val_x/a.tif", 1, "car", shapely.box(0, 0, 9, 9)))
    with pytest.raises(RasterError, match=r"a\.tif"):
        drawn_by_hand(tmp_path, objects)


def test_a_small_red_box_is_found_better_on_the_enlarged_image() -> None:
    box, tiny = shapely.box(50, 40, 74, 56), shapely.box(100, 10, 103, 13)
    scene = LabelledScene("drawn by hand: car", red_boxes(box, tiny), [box, tiny])
    (found,) = measure_scene(MODEL_FOLDER, OnnxMini(MODEL_FOLDER), scene)
    assert found["size"] == 24
    assert found["box itself"] == 1
    assert found["box level"] == -2
    assert found["box"] == found["box -2"]
    assert all(found[f"best {level}"] >= found[f"click {level}"] for level in LEVELS)
    assert found["box -2"] > max(0.8, found["box 0"])


def test_the_table_groups_by_size_and_sums_up_the_small() -> None:
    rows = table_rows({"fields/val / 2": [measured(15, 0.5), measured(30, 0.7), measured(60, 0.1), measured(8, 0.9)]})
    assert [row[:3] for row in rows] == [
        ["fields/val / 2", sizes, str(count)]
        for sizes, count in (("10 to 20", 1), ("20 to 40", 1), ("40 to 80", 1), ("under 40", 3))
    ]
    assert [row[-1][:4] for row in rows] == ["0.50", "0.70", "0.10", "0.70"]
    assert [row[1] for row in table_rows({"drawn by hand: car": [measured(30, 0.7)]})] == ["under 40"]


def test_the_total_of_drawn_objects_leaves_out_reduced_sets_and_training_images() -> None:
    cars, roofs, trained, fields = ([measured(size, 0.5)] for size in (11, 12, 13, 14))
    found = {
        "fields/val / 2": fields,
        "drawn by hand: car": cars,
        "drawn by hand: small roof": roofs,
        "drawn by hand, training image: car": trained,
    }
    assert with_totals(found) == {**found, "drawn by hand: all kinds": [*cars, *roofs]}
    assert with_totals({"fields/val / 2": fields}) == {"fields/val / 2": fields}

"""Prepares `day.py`: two sheets, an image to serve as an online layer, a class list, and the fields to draw."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import rasterio
import shapely
import shapely.affinity
import shapely.ops
from rasterio.transform import Affine, from_origin

from encoder_tools.synthetic import synthetic_orthophoto

SIDE, PIXEL, LEFT, TOP = 2600, 0.25, 726000.0, 4372000.0
SHEETS = {"west": (21, 8), "east": (23, 7), "served": (24, 2)}
"""Seed of the scene, and number of fields to draw."""

REACH_M = 4.0
"""Fields closer than this are neighbours: between them is a strip of grass."""

CLASSES = (
    ("I1.1", "Monocultivos intensivos sin árboles"),
    ("I1.2", "Cultivos mixtos de huerta y floricultura"),
    ("I1.3", "Cultivos extensivos de secano"),
    ("I1.5", "Barbechos y cultivos abandonados"),
    ("E1.3", "Pastizales xéricos mediterráneos"),
    ("E2.6", "Céspedes y prados resembrados, también los muy abonados"),
    ("F5.2", "Maquis y matorral arborescente mediterráneo"),
    ("F9.1", "Saucedas ribereñas"),
    ("G1.7", "Bosques caducifolios termófilos: quejigares y melojares"),
    ("G2.1", "Encinares y alcornocales mediterráneos"),
    ("J1.2", "Edificios residenciales de pueblos y periferias"),
    ("C2.3", "Cursos de agua permanentes, no mareales"),
)


def prepare(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rows = ["codigo;nombre", *(f"{code};{name}" for code, name in CLASSES)]
    (folder / "habitats.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    fields = []
    for index, (name, (seed, count)) in enumerate(SHEETS.items()):
        scene = synthetic_orthophoto(SIDE, SIDE, PIXEL, seed=seed)
        transform = from_origin(LEFT + index * SIDE * PIXEL, TOP, PIXEL, PIXEL)
        _write(folder / f"{name}.tif", scene.image, transform)
        polygons = [polygon for kind, polygon in scene.objects if kind == "field"]
        fields += [_place(name, polygon, transform) for polygon in _adjacent(polygons, count)]
    (folder / "fields.json").write_text(json.dumps(fields))


def _write(path: Path, image: np.ndarray, transform: Affine) -> None:
    profile = {"driver": "GTiff", "height": SIDE, "width": SIDE, "count": 3, "dtype": "uint8", "tiled": True}
    with rasterio.open(path, "w", crs="EPSG:25830", transform=transform, **profile) as dataset:
        dataset.write(image.transpose(2, 0, 1))


def _adjacent(polygons: list[shapely.Polygon], count: int) -> list[shapely.Polygon]:
    """Return fields each of which, but the first, has a neighbour among those before it."""
    inside = shapely.box(30, 30, SIDE - 30, SIDE - 30)
    free = [field for field in polygons if inside.contains(field) and field.area * PIXEL**2 > 2000]
    best: list[shapely.Polygon] = []
    for start in free:
        chosen = [start]
        while len(chosen) < count:
            reach = shapely.union_all(chosen).buffer(REACH_M / PIXEL)
            near = [field for field in free if field not in chosen and reach.intersects(field)]
            if not near:
                break
            chosen.append(max(near, key=lambda field: reach.intersection(field.boundary).length))
        if len(chosen) > len(best):
            best = chosen
        if len(best) == count:
            return best
    raise ValueError(f"only {len(best)} adjacent fields")


def _place(sheet: str, polygon: shapely.Polygon, transform: Affine) -> dict[str, object]:
    moved = shapely.affinity.affine_transform(polygon, [transform.a, 0, 0, transform.e, transform.c, transform.f])
    inside = shapely.ops.polylabel(moved, 1.0)
    return {"sheet": sheet, "inside": [inside.x, inside.y], "bounds": moved.bounds, "outline": moved.wkt}


if __name__ == "__main__":
    prepare(Path(sys.argv[1]))

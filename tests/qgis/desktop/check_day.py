"""Checks the layer that ``day.py`` drew, with shapely and pyogrio outside QGIS.

Run as ``python -m tests.qgis.desktop.check_day FOLDER``; prints what it measured, and ends with 1 if a check fails.
"""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path
from typing import Any

import pyogrio
import shapely

SLIVER_WIDTH_M = 0.25
GAP_M = 1.0
OVERLAP_M2 = 1e-5
"""A tenth of a square centimetre: rounding."""


def check(folder: Path) -> dict[str, Any]:
    """Return figures, and the failed checks under ``failed``."""
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    if "error" in report:
        return {"failed": [report["error"]]}
    expected = json.loads((folder / "expected.json").read_text())
    path = folder / report["layer"]["path"]
    meta, _, geometry, values = pyogrio.raw.read(path, layer=pyogrio.list_layers(path)[0][0])
    polygons = shapely.from_wkb(geometry)
    columns = dict(zip(meta["fields"], values))
    pairs = list(itertools.combinations(polygons, 2))
    union = shapely.union_all(polygons)
    holes = [shapely.Polygon(ring) for part in shapely.get_parts(union) for ring in part.interiors]
    # A hole in a polygon is no gap.
    between = [hole for hole in holes if (shapely.distance(polygons, hole) < OVERLAP_M2).sum() > 1]
    parts = shapely.get_parts(polygons)
    narrowest = min(2 * part.area / part.length for part in parts)
    figures: dict[str, Any] = {
        "polygons": len(polygons),
        "is_coverage": bool(shapely.coverage_is_valid(polygons)),
        "overlap_m2": max(first.intersection(second).area for first, second in pairs),
        "narrowest_part_m": round(narrowest, 2),
        "gaps": sum(0 < first.distance(second) < GAP_M for first, second in pairs)
        + sum(hole.buffer(-GAP_M / 2).is_empty for hole in between),
        "shared_borders": sum(first.boundary.intersection(second.boundary).length > 1 for first, second in pairs),
    }
    failed = [] if shapely.is_valid(polygons).all() else ["invalid polygon"]
    failed += [] if len(polygons) == len(expected) else [f"{len(expected)} polygons expected"]
    failed += ["overlap"] if figures["overlap_m2"] > OVERLAP_M2 else []
    failed += ["sliver"] if narrowest < SLIVER_WIDTH_M else []
    failed += ["gap"] if figures["gaps"] else []
    agreement = []
    for wanted in expected:
        inside, outline = shapely.Point(wanted["inside"]), shapely.from_wkt(wanted["outline"])
        found = [index for index, polygon in enumerate(polygons) if polygon.contains(inside)]
        if len(found) != 1:
            failed.append(f"{len(found)} polygons at {wanted['inside']}")
            continue
        polygon, code = polygons[found[0]], columns[report["layer"].get("field", "class")][found[0]]
        agreement.append(polygon.intersection(outline).area / polygon.union(outline).area)
        if code != wanted["class"]:
            failed.append(f"class {code} instead of {wanted['class']} at {wanted['inside']}")
    figures["agreement"] = [round(value, 3) for value in sorted(agreement)]
    failed += ["written beside the image unasked"] if report["beside_unasked"] else []
    failed += ["project lost its layer or classes"] if not all(report["reopened"].values()) else []
    failed += ["shapely differs inside QGIS"] if report["shapely_differs_in"] else []
    return {**figures, "failed": failed}


if __name__ == "__main__":
    result = check(Path(sys.argv[1]))
    print(json.dumps(result, indent=1))
    sys.exit(bool(result["failed"]))

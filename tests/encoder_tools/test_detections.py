"""Boxes of detectors as prompts: COCO JSON and YOLO text files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pytest

from encoder_tools.detections import read_detections
from encoder_tools.vector import VectorLayer, read_vector
from geosam_es.core.geotransform import GeoTransform
from geosam_es.errors import VectorError
from geosam_es.store.metadata import RasterInfo
from tests.encoder_tools.conftest import Ortho, Run

UTM = pyproj.CRS.from_epsg(25830)
RASTER = RasterInfo("ortho.tif", 1, 200, 100, "", "", GeoTransform(0.5, 0, 1000, 0, -0.5, 2000))
IMAGE = {"id": 7, "file_name": "images/ortho.tif", "width": 200, "height": 100}
FIRST = {"id": 1, "image_id": 7, "category_id": 3, "bbox": [20, 10, 40, 30], "score": 0.75}
SECOND = {"id": 2, "image_id": 7, "category_id": 4, "bbox": [100, 50, 20, 20]}
CATEGORIES = [{"id": 3, "name": "tejado"}, {"id": 4, "name": "pool"}]
ON_MAP = (1010.0, 1980.0, 1030.0, 1995.0)
"""The first box on the map."""
YOLO = "3 0.2 0.25 0.2 0.3 0.75\n\n4 0.55 0.6 0.1 0.2\n"


def read(path: Path, content: Any) -> VectorLayer | None:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return read_detections(path, RASTER, UTM)


def coco(*boxes: Any, images: Any = (IMAGE,)) -> dict[str, Any]:
    return {"images": list(images), "annotations": list(boxes), "categories": CATEGORIES}


@pytest.mark.parametrize(
    ("name", "content", "beside", "classes"),
    [
        ("a.json", coco(FIRST, SECOND), "", ["tejado", "pool"]),
        ("a.json", coco(FIRST, SECOND, {**FIRST, "image_id": 8}, images=[IMAGE, {"id": 8}]), "", ["tejado", "pool"]),
        ("a.json", [FIRST, SECOND], "", [3, 4]),
        ("a.json", [{**FIRST, "image_id": "ortho"}, {**SECOND, "image_id": "ortho"}, FIRST], "", [3, 4]),
        ("a.txt", YOLO, "", [3, 4]),
        ("a.txt", YOLO, "classes.txt: a\nb\nc\ntejado\npool\n", ["tejado", "pool"]),
        ("a.txt", YOLO, "data.yaml: nc: 5\nnames: [a, b, c, 'tejado', \"pool\"]\n", ["tejado", "pool"]),
        ("a.txt", YOLO, "data.yaml: names:\n  3: tejado  # red\n  4: pool\nnc: 2\n", ["tejado", "pool"]),
        ("a.txt", YOLO, "data.yaml: names:\n- a\n- b\n- c\n- tejado\n- pool\n", ["tejado", "pool"]),
        ("a.txt", "0 0.1 0.1 0.3 0.1 0.3 0.4 0.1 0.4 0.75\n4 0.5 0.5 0.6 0.5 0.6 0.7 0.5 0.7\n", "", [0, 4]),
    ],
)
def test_boxes_on_the_map(tmp_path: Path, name: str, content: Any, beside: str, classes: list[Any]) -> None:
    if beside:
        file, text = beside.split(": ", 1)
        (tmp_path / file).write_text(text)
    (tmp_path / "labels").mkdir()
    layer = read(tmp_path / "labels" / name, content)
    assert layer is not None and layer.crs == UTM and not layer.note
    assert layer.geometries[0].bounds == pytest.approx(ON_MAP)
    assert layer.geometries[1].bounds == pytest.approx((1050, 1965, 1060, 1975))
    assert layer.fields["class"].tolist() == classes
    assert layer.fields["score"].tolist() == pytest.approx([0.75, np.nan], nan_ok=True)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", "{", "is not valid JSON"),
        ("a.json", coco(), "has no boxes"),
        ("a.txt", "", "has no boxes"),
        ("a.json", coco({**FIRST, "bbox": [1, 2, 3]}), "box 1 is damaged"),
        ("a.json", [FIRST, {"image_id": 7, "category_id": 1}], "box 2 is damaged"),
        ("a.json", coco(FIRST, images=["ortho.tif"]), "its images or categories are damaged"),
        ("a.json", coco(FIRST, images=[{**IMAGE, "width": 640}]), "for an image of 640 x 100 pixels, .* 200 x 100"),
        ("a.json", [FIRST, {**FIRST, "image_id": 8}], "for 2 images, of which none has the name ortho.tif"),
        ("a.json", coco({**FIRST, "bbox": [200, 0, 9, 9]}), "has no box on ortho.tif, which has 200 x 100"),
        ("a.json", coco({**FIRST, "bbox": [float("nan"), 0, 9, 9]}), "only boxes without an area"),
        ("a.txt", "0 0.2 0.2 0.1 0.1\n0 0.2 here 0.1 0.1\n", "Line 2 of .* is not a YOLO box"),
        ("a.txt", "0 0.2 0.2 0.1\n", "Line 1 of .* is not a YOLO box"),
        ("a.txt", "0 120 80 40 30\n", "Line 1 of .* is not a YOLO box"),
        ("a.txt", "0 0.5 0.5 0 0.1\n", "only boxes without an area"),
    ],
)
def test_what_cannot_be_used(tmp_path: Path, name: str, content: Any, message: str) -> None:
    with pytest.raises(VectorError, match=message):
        read(tmp_path / name, content)


def test_a_box_without_area_does_not_affect_the_others(tmp_path: Path) -> None:
    layer = read(tmp_path / "a.json", coco(FIRST, {**FIRST, "bbox": [5, 5, -1, 2]}, SECOND))
    assert layer is not None and len(layer.geometries) == 2
    assert "left out (1, the first one is number 2)" in layer.note


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", {"type": "FeatureCollection", "features": []}),
        ("a.txt", "x,y\n1,2\n"),
        ("a.csv", "0 0.5 0.5 0.1 0.1"),
    ],
)
def test_other_files_are_left_to_gdal(tmp_path: Path, name: str, content: Any) -> None:
    assert read(tmp_path / name, content) is None


def test_a_detection_becomes_a_polygon(run: Run, ortho: Ortho, tmp_path: Path) -> None:
    box = [ortho.block.col - 4, ortho.block.row - 4, ortho.block.width + 8, ortho.block.height + 8]
    found = tmp_path / "found.json"
    found.write_text(json.dumps([{"image_id": 1, "category_id": 2, "bbox": box, "score": 0.5}]))
    result = run("segment", ortho.store, found, "-o", tmp_path / "o.gpkg")
    assert result.exit_code == 0, result.stderr
    layer = read_vector(tmp_path / "o.gpkg")
    assert layer.geometries[0].symmetric_difference(ortho.truth).area < 0.02 * ortho.truth.area
    assert layer.fields["class"].tolist() == [2] and layer.fields["score_1"].tolist() == [0.5]
    assert "the field score is called score_1" in result.stderr
    found.write_text("0 0.5 0.5\n")
    assert run("segment", ortho.store, found.rename(tmp_path / "f.txt"), "-o", tmp_path / "p.gpkg").exit_code == 2

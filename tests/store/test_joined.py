"""Sheets that are read as one: an object across their border is answered as on the whole image."""

from __future__ import annotations

import json
import operator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from numpy.typing import NDArray

from geosam_es.core.geotransform import GeoTransform
from geosam_es.core.prompts import Bounds, Point, Prompts
from geosam_es.errors import PromptError
from geosam_es.inference.decoder import Context, DecodedMasks
from geosam_es.inference.segmenter import Segmenter
from geosam_es.inference.session import CleanOptions, SegmentationSession
from geosam_es.store import StoreReader
from geosam_es.store.joined import JoinedReader
from tests.helpers import BlobDecoder, disc, make_store, open_blobs

WIDTH, HEIGHT = 2600, 1500
OBJECTS = {
    "house": disc((HEIGHT, WIDTH), 1300, 700, 40),
    "pond": disc((HEIGHT, WIDTH), 1330, 600, 300),
    "road": np.pad(np.ones((30, WIDTH - 200), np.float32), ((500, HEIGHT - 530), (100, 100))),
}
CUTS = {"touching": (1300, 1300, 0, 0), "overlapping": (1430, 1170, 0, 0), "not aligned": (1403, 1211, 37, 90)}
"""Where the left sheet ends and the right one begins, and how many rows the left and the right one lack at the top."""


def cut(folder: Path, image: NDArray[np.float32], ends: tuple[int, int, int, int]) -> list[Path]:
    left, right, top, other_top = ends
    parts = {"left": (image[top:, :left], (0, top)), "right": (image[other_top:, right:], (right, other_top))}
    return [sheet(folder, part, *place, name) for name, (part, place) in parts.items()]


def sheet(folder: Path, image: NDArray[np.float32], col: float, row: float, name: str, pixel: float = 0.5) -> Path:
    transform = GeoTransform(pixel, 0, 1000 + 0.5 * col, 0, -pixel, 2000 - 0.5 * row)
    return make_store(folder, image, transform=transform, name=name)


def joined(main: Path, *others: Path) -> Segmenter:
    return Segmenter(JoinedReader(main, others, operator.eq), BlobDecoder())


def iou(first: shapely.Geometry, second: shapely.Geometry) -> float:
    return float(first.intersection(second).area / first.union(second).area)


@pytest.mark.parametrize("ends", CUTS.values(), ids=CUTS)
@pytest.mark.parametrize("name", OBJECTS)
def test_an_object_across_two_sheets_is_that_of_the_whole_image(
    tmp_path: Path, name: str, ends: tuple[int, int, int, int]
) -> None:
    whole = SegmentationSession(open_blobs(sheet(tmp_path, OBJECTS[name], 0, 0, "whole")))
    stores = cut(tmp_path, OBJECTS[name], ends)
    y = 2000 - 0.5 * {"house": 700, "pond": 600, "road": 515}[name]
    for main, other, x in ((*stores, 1000 + 0.5 * 1290), (*stores[::-1], 1000 + 0.5 * 1310)):
        wanted = SegmentationSession(whole.segmenter).add_point(x, y).geometry
        alone = SegmentationSession(open_blobs(main)).add_point(x, y).geometry
        found = SegmentationSession(joined(main, other)).add_point(x, y).geometry
        # The whole road is answered by a coarser level.
        assert found.geom_type == "Polygon" and iou(found, wanted) > (0.92 if name == "road" else 0.97)
        assert iou(alone, wanted) < 0.9 or ends[0] > ends[1], "the border cuts it"


@pytest.mark.parametrize("ends", CUTS.values(), ids=CUTS)
def test_boxes_and_points_on_both_sheets(tmp_path: Path, ends: tuple[int, int, int, int]) -> None:
    image = OBJECTS["pond"]
    whole = SegmentationSession(open_blobs(sheet(tmp_path, image, 0, 0, "whole")))
    left, right = cut(tmp_path, image, ends)
    for main, other in ((left, right), (right, left)):
        boxed, pointed = (SegmentationSession(joined(main, other)) for _ in range(2))
        found = boxed.set_box(Bounds(1000 + 0.5 * 1020, 1540, 1000 + 0.5 * 1640, 1860).corners).geometry
        assert iou(found, whole.add_point(1665, 1700).geometry) > 0.97 and found.geom_type == "Polygon"
        pointed.add_point(1000 + 0.5 * 1100, 1700)
        assert iou(pointed.add_point(1000 + 0.5 * 1600, 1700).geometry, found) > 0.97


def test_points_on_both_sheets_leave_out_what_they_do_not_point_at(tmp_path: Path) -> None:
    """As SAM does, the decoder also marks specks that nobody has clicked."""

    class Everything(BlobDecoder):
        def decode(self, context: Context, prompts: Prompts, mask_input: Any = None) -> DecodedMasks:
            decoded = super().decode(context, prompts, mask_input)
            field = (context["image_embeddings"][0, 0] - 0.5) * 20
            return decoded._replace(low_res_masks=np.repeat(field[None], 4, axis=0))

    specks = np.maximum(disc((HEIGHT, WIDTH), 300, 300, 60), disc((HEIGHT, WIDTH), 2300, 1200, 60))
    left, right = cut(tmp_path, np.maximum(OBJECTS["pond"], specks), CUTS["touching"])
    session = SegmentationSession(Segmenter(JoinedReader(left, [right], operator.eq), Everything()))
    first = session.add_point(1000 + 0.5 * 1100, 1700)
    found = session.add_point(1000 + 0.5 * 1600, 1700)
    assert found.geometry.geom_type == "Polygon" and iou(found.geometry, first.geometry) > 0.97
    session.options = CleanOptions(all_parts=True)
    assert len(shapely.get_parts(session.select_candidate(0).geometry)) > 1


def test_boxes_over_the_corner_of_three_sheets(tmp_path: Path) -> None:
    image = disc((1200, 1200), 600, 600, 300)
    image[600:, 600:] = 0
    parts = {"a": image[:600, :600], "b": image[:600, 600:], "c": image[600:, :600]}
    places = {"a": (0, 0), "b": (600, 0), "c": (0, 600)}
    sheets = [sheet(tmp_path, part, *places[name], name) for name, part in parts.items()]
    wanted = shapely.difference(shapely.Point(1300, 1700).buffer(150), shapely.box(1300, 1500, 1600, 1700))
    for main in sheets:
        segmenter = joined(main, *(other for other in sheets if other != main))
        session = SegmentationSession(segmenter)
        assert iou(session.set_box(Bounds(1150, 1550, 1450, 1850).corners).geometry, wanted) > 0.95
        with pytest.raises(PromptError, match="The box lies outside the raster"):
            SegmentationSession(segmenter).set_box(Bounds(1400, 1510, 1500, 1600).corners)


def test_a_sheet_answers_for_itself_as_without_neighbours(tmp_path: Path) -> None:
    left, right = cut(tmp_path, disc((HEIGHT, WIDTH), 500, 600, 200), CUTS["touching"])
    alone, together = open_blobs(left), joined(left, right)
    prompts = Prompts((Point(520, 610),))
    assert together.resolve(together.propose(prompts)).polygons == alone.resolve(alone.propose(prompts)).polygons
    assert together.map_bounds == alone.map_bounds and len(together.pyramid) == len(alone.pyramid)
    assert together.is_on_image(1000 + 0.5 * 2599, 1500) and not alone.is_on_image(1000 + 0.5 * 1301, 1500)
    with pytest.raises(PromptError, match="outside the raster"):
        together.propose(Prompts((Point(2700, 600),)))


@pytest.mark.parametrize("change", ["model", "grid", "pixel", "gone", "damaged"])
def test_sheets_that_do_not_agree_are_left_out(tmp_path: Path, change: str) -> None:
    image = np.ones((300, 300), np.float32)
    main = sheet(tmp_path, image, 0, 0, "main")
    other = sheet(tmp_path, image, 300.4 if change == "grid" else 300, 0, "other", 0.6 if change == "pixel" else 0.5)
    fitting = sheet(tmp_path, image, 0, 300, "fitting")
    document = other / "zarr.json"
    text = json.loads(document.read_text())
    text["attributes"]["geosam_es"]["model"]["encoder_sha256"] = ("1" if change == "model" else "0") * 64
    document.write_text("{" if change == "damaged" else json.dumps(text))
    reader = JoinedReader(main, [tmp_path / "nowhere" if change == "gone" else other, fitting], operator.eq)
    assert reader.pyramid.parts == (Bounds(0, 0, 300, 300), Bounds(0, 300, 300, 600))
    assert JoinedReader(main, [fitting], lambda *_: False).pyramid.parts == StoreReader(main).pyramid.parts

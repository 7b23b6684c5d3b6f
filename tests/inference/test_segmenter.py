"""Which tile is decoded, what happens at borders, and that no prompt is lost. The true polygon is the drawn disc."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import shapely

from geosam_es.core.geotransform import GeoTransform
from geosam_es.core.grid import Tile
from geosam_es.core.prompts import Bounds, Point, Prompts
from geosam_es.core.topology import merge
from geosam_es.errors import PromptError
from geosam_es.inference.masks import Candidate, Proposal
from geosam_es.inference.segmenter import Segmenter
from geosam_es.store import StoreReader, StoreWriter
from geosam_es.store.reader import TileState
from tests.helpers import BlobDecoder, disc, make_store, open_blobs

SHAPE = (2600, 3100)


def circle(x: float, y: float, radius: float) -> shapely.Polygon:
    return shapely.Point(x, y).buffer(radius, quad_segs=64)


def iou(candidate: Candidate, truth: shapely.Geometry) -> float:
    ours = merge(candidate.polygons)
    return ours.intersection(truth).area / ours.union(truth).area


def click(segmenter: Segmenter, *points: Point, level: int = 0) -> Candidate:
    return segmenter.resolve(segmenter.propose(Prompts(points), level))


def decoder_of(segmenter: Segmenter) -> BlobDecoder:
    assert isinstance(segmenter.decoder, BlobDecoder)
    return segmenter.decoder


@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.parametrize(
    ("x", "y", "radius"),
    [(500, 500, 200), (1024, 1024, 150), (896, 768, 120), (3000, 2500, 90), (1600, 20, 100), (30, 1300, 200)],
    ids=["in a tile", "where four tiles meet", "on a tile's border", "at the corner", "at the top", "at the left"],
)
def test_every_level_finds_the_object(tmp_path: Path, level: int, x: float, y: float, radius: float) -> None:
    segmenter = open_blobs(make_store(tmp_path, disc(SHAPE, x, y, radius)))
    truth = circle(x, y, radius).intersection(shapely.box(0, 0, SHAPE[1], SHAPE[0]))
    centre = truth.centroid
    candidate = click(segmenter, Point(centre.x, centre.y), level=level)
    assert candidate.level == level
    assert iou(candidate, truth) > (0.985, 0.97, 0.93)[level]


@pytest.mark.parametrize("overlap", [0, 64, 256, 700])
def test_object_larger_than_a_tile(tmp_path: Path, overlap: int) -> None:
    x, y, radius = 1500, 1300, 900
    segmenter = open_blobs(make_store(tmp_path, disc(SHAPE, x, y, radius), overlap))
    for px, py in [(1500, 1300), (800, 1100), (2300, 1300), (1500, 2150)]:
        candidate = click(segmenter, Point(px, py))
        assert iou(candidate, circle(x, y, radius)) > 0.98
        assert candidate.level > 0


@pytest.mark.parametrize("overlap", [64, 256])
def test_object_larger_than_a_tile_in_a_store_with_one_level(tmp_path: Path, overlap: int) -> None:
    x, y, radius = 1500, 1300, 900
    segmenter = open_blobs(make_store(tmp_path, disc(SHAPE, x, y, radius), overlap, levels=1))
    candidate = click(segmenter, Point(1500, 1300))
    assert iou(candidate, circle(x, y, radius)) > 0.99
    assert candidate.level == 0
    assert len(candidate.tiles) > 4


def test_object_cut_by_the_first_tile_moves_to_one_that_holds_it(tmp_path: Path) -> None:
    """A click near the edge of a large object is nearest to a tile that cuts the object."""
    segmenter = open_blobs(make_store(tmp_path, disc(SHAPE, 1280, 500, 400)))
    candidate = click(segmenter, Point(900, 500))
    assert candidate.level == 0
    assert len(candidate.tiles) == 1
    assert iou(candidate, circle(1280, 500, 400)) > 0.99


def test_same_answer_from_stores_with_joints_elsewhere(tmp_path: Path) -> None:
    image = np.maximum.reduce([disc(SHAPE, x, y, 120) for x in (300, 780, 1540, 2400) for y in (400, 1000, 1900)])
    stores = [open_blobs(make_store(tmp_path, image, overlap, name=str(overlap))) for overlap in (256, 384, 100)]
    for x in (300, 780, 1540, 2400):
        for y in (400, 1000, 1900):
            first, *others = [merge(click(store, Point(x, y)).polygons) for store in stores]
            for other in others:
                assert first.intersection(other).area / first.union(other).area > 0.97


def test_road_through_all_tiles_is_followed_at_its_level(tmp_path: Path) -> None:
    """A line too thin for the coarse levels is followed from tile to tile."""
    road = np.zeros(SHAPE, np.float32)
    # Seven pixels wide, astride two rows of the coarse level's cells: neither is half covered.
    road[701:708] = 1
    segmenter = open_blobs(make_store(tmp_path, road))
    candidate = click(segmenter, Point(1500, 704))
    assert candidate.level == 0
    assert len(candidate.tiles) == 4
    assert iou(candidate, shapely.box(0, 701, SHAPE[1], 708)) > 0.8
    assert shapely.total_bounds(np.array(candidate.polygons))[[0, 2]].tolist() == [0, SHAPE[1]]


def test_prompts_that_no_tile_holds_are_cut_least_by_the_coarsest_level(tmp_path: Path) -> None:
    """On held-out roofs, IoU with a box is 0.89 there and 0.88 at the level that suits their size."""
    segmenter = open_blobs(make_store(tmp_path, disc((1000, 4000), 1850, 500, 340), levels=2))
    for prompts in (Prompts(box=Bounds(1500, 150, 2200, 850)), Prompts((Point(1515, 500), Point(2185, 500)))):
        candidate = segmenter.resolve(segmenter.propose(prompts))
        assert {tile.level for tile in candidate.tiles} == {1}
        assert iou(candidate, circle(1850, 500, 340)) > 0.97


def test_following_a_long_object_is_bounded(tmp_path: Path) -> None:
    ys = np.mgrid[:300, :16000][0] + 0.5
    road = np.clip((7 - np.abs(ys - 150)) / 8 + 0.5, 0, 1).astype(np.float32)
    segmenter = open_blobs(make_store(tmp_path, road, levels=1))
    candidate = click(segmenter, Point(8000, 150))
    assert len(candidate.tiles) == 16


def test_raster_smaller_than_a_tile(tmp_path: Path) -> None:
    segmenter = open_blobs(make_store(tmp_path, disc((300, 500), 480, 150, 60)))
    truth = circle(480, 150, 60).intersection(shapely.box(0, 0, 500, 300))
    assert iou(click(segmenter, Point(470, 150)), truth) > 0.97


def test_coarse_levels_reach_the_rasters_edge(tmp_path: Path) -> None:
    """The last coarse pixel is cut, and the polygon is not."""
    segmenter = open_blobs(make_store(tmp_path, np.ones((2051, 2055), np.float32)))
    for level in range(3):
        candidate = click(segmenter, Point(2040, 2040), level=level)
        assert shapely.total_bounds(np.array(candidate.polygons)).tolist() == [0, 0, 2055, 2051]


def test_points_farther_apart_than_a_tile(tmp_path: Path) -> None:
    image = np.maximum(disc(SHAPE, 300, 300, 150), disc(SHAPE, 2800, 2300, 150))
    truth = shapely.union(circle(300, 300, 150), circle(2800, 2300, 150))
    prompts = Point(300, 300), Point(2800, 2300)
    for levels, wanted in ((99, 0.93), (1, 0.98)):
        segmenter = open_blobs(make_store(tmp_path, image, levels=levels, name=str(levels)))
        candidate = click(segmenter, *prompts)
        assert len(candidate.polygons) == 2
        assert iou(candidate, truth) > wanted


def test_box_larger_than_any_tile_of_a_store_with_one_level(tmp_path: Path) -> None:
    segmenter = open_blobs(make_store(tmp_path, disc(SHAPE, 1500, 1300, 900), levels=1))
    proposal = segmenter.propose(Prompts(box=Bounds(590, 390, 2410, 2210)))
    assert len(proposal.masks) > 1
    assert iou(segmenter.resolve(proposal), circle(1500, 1300, 900)) > 0.98


def test_box_goes_to_the_level_it_fits(tmp_path: Path) -> None:
    segmenter = open_blobs(make_store(tmp_path, disc(SHAPE, 1500, 1300, 500)))
    candidate = segmenter.resolve(segmenter.propose(Prompts(box=Bounds(990, 790, 2010, 1810))))
    assert candidate.level == 1
    assert iou(candidate, circle(1500, 1300, 500)) > 0.98


def test_box_is_cut_at_the_rasters_edge(tmp_path: Path) -> None:
    segmenter = open_blobs(make_store(tmp_path, disc(SHAPE, 3050, 1300, 100)))
    proposal = segmenter.propose(Prompts(box=Bounds(2900, 1150, 9999, 1450)))
    assert proposal.prompts.box == (2900, 1150, 3100, 1450)


def test_negative_points_beyond_the_tile_are_kept_for_the_tiles_they_lie_in(tmp_path: Path) -> None:
    """Two discs joined by a thin bridge; a negative click on the far one, beyond the first tile."""
    ys, xs = np.mgrid[: SHAPE[0], : SHAPE[1]] + 0.5
    bridge = np.clip((10 - np.abs(ys - 500)) / 8 + 0.5, 0, 1) * ((xs > 500) & (xs < 1700))
    image = np.maximum.reduce([disc(SHAPE, 500, 500, 250), disc(SHAPE, 1900, 500, 250), bridge]).astype(np.float32)
    segmenter = open_blobs(make_store(tmp_path, image, levels=1))
    both = click(segmenter, Point(300, 500))
    cut = click(segmenter, Point(300, 500), Point(1950, 500, positive=False))
    assert merge(both.polygons).covers(shapely.Point(1950, 500))
    assert not merge(cut.polygons).covers(shapely.Point(1950, 500))
    assert merge(cut.polygons).covers(shapely.Point(300, 500))


def test_candidates_follow_sams_ranking(tmp_path: Path) -> None:
    segmenter = open_blobs(make_store(tmp_path, disc(SHAPE, 500, 500, 200)))
    single = segmenter.propose(Prompts((Point(500, 500),)))
    assert single.ranking == (2, 1, 3)
    several = segmenter.propose(Prompts((Point(500, 500), Point(510, 500))))
    assert several.ranking == (0, 2, 1, 3)
    part = segmenter.resolve(single, 1)
    assert merge(part.polygons).area < merge(segmenter.resolve(single, 0).polygons).area
    assert segmenter.resolve(single, 2).polygons == ()


def test_specks_that_were_not_clicked_are_left_out(tmp_path: Path) -> None:
    image = np.maximum(disc(SHAPE, 500, 500, 200), disc(SHAPE, 850, 850, 40))
    segmenter = open_blobs(make_store(tmp_path, image))
    box = segmenter.resolve(segmenter.propose(Prompts(box=Bounds(290, 290, 895, 895))))
    assert len(box.polygons) == 1
    assert iou(box, circle(500, 500, 200)) > 0.98


def test_earlier_logits_go_back_in(tmp_path: Path) -> None:
    segmenter = open_blobs(make_store(tmp_path, disc(SHAPE, 1020, 500, 200)))
    first = click(segmenter, Point(1020, 500))
    prompts = Prompts((Point(1020, 500), Point(1100, 500)))
    segmenter.propose(prompts, previous=first)
    mask_input = decoder_of(segmenter).calls[-1][1]
    assert mask_input is not None
    np.testing.assert_array_equal(mask_input, first.mask.logits)
    segmenter.propose(prompts, level=1, previous=first)
    warped = decoder_of(segmenter).calls[-1][1]
    # The same object in the coarser tile takes a quarter of the cells.
    assert warped is not None
    assert (warped > 0).sum() == pytest.approx((first.mask.logits > 0).sum() / 4, rel=0.05)


def test_a_tile_is_prepared_once(tmp_path: Path) -> None:
    segmenter = open_blobs(make_store(tmp_path, disc(SHAPE, 500, 500, 200)))
    for _ in range(5):
        click(segmenter, Point(500, 500))
    assert decoder_of(segmenter).prepared == 1


def test_prompts_outside_are_refused(tmp_path: Path) -> None:
    segmenter = open_blobs(make_store(tmp_path, disc((300, 300), 100, 100, 50)))
    for prompts in (
        Prompts((Point(-1, 5),)),
        Prompts((Point(5, 5), Point(5, 301, positive=False))),
        Prompts(box=Bounds(400, 0, 500, 10)),
    ):
        with pytest.raises(PromptError, match="outside the raster"):
            segmenter.propose(prompts)
    with pytest.raises(PromptError, match="no positive point"):
        segmenter.propose(Prompts((Point(5, 5, positive=False),)))


def test_skipped_tiles_have_no_data_and_missing_ones_are_replaced_by_coarser_ones(tmp_path: Path) -> None:
    root = make_store(tmp_path, disc(SHAPE, 500, 500, 200))
    (root / "level0/image_embeddings/c/0/0/0/0/0").unlink()
    assert click(open_blobs(root), Point(500, 500)).level == 1
    marker = root / "level0/skipped/c/0/0"
    marker.parent.mkdir(parents=True)
    marker.write_bytes(b"\1")
    with pytest.raises(PromptError, match=r"no data at \(500, 500\)"):
        click(open_blobs(root), Point(500, 500))


def test_a_place_without_encoded_tiles_is_reported(tmp_path: Path) -> None:
    root = make_store(tmp_path, disc((300, 300), 100, 100, 50))
    (root / "level0/image_embeddings/c/0/0/0/0/0").unlink()
    with pytest.raises(PromptError, match="--resume"):
        click(open_blobs(root), Point(100, 100))


def test_tile_for_is_the_tile_that_is_decoded(tmp_path: Path) -> None:
    segmenter = open_blobs(make_store(tmp_path, disc(SHAPE, 500, 500, 200)))
    prompts = Prompts((Point(500, 500),))
    assert segmenter.tile_for(prompts) == segmenter.propose(prompts).masks[0][0].frame.tile == Tile(0, 0, 0)


@pytest.mark.parametrize("first_only", [False, True])
def test_many_prompts_give_the_same_as_one_by_one(tmp_path: Path, first_only: bool) -> None:
    segmenter = open_blobs(make_store(tmp_path, disc(SHAPE, 1500, 1300, 300)))
    many = [
        Prompts((Point(1500, 1300),)),
        Prompts((Point(-5, 10),)),
        Prompts((Point(1400, 1200), Point(20, 20, positive=False))),
        Prompts(box=Bounds(1190, 990, 1810, 1610)),
        Prompts((Point(10, 10), Point(3000, 2500))),
        Prompts((Point(1, 1, positive=False),)),
    ]
    answers = segmenter.propose_many(many, first_only=first_only)
    assert len(answers) == len(many)
    for prompts, got in zip(many, answers):
        try:
            wanted = segmenter.propose(prompts)
        except PromptError as error:
            assert isinstance(got, PromptError) and got.user_message == error.user_message
            continue
        assert not isinstance(got, PromptError)
        assert (got.prompts, got.ranking) == (wanted.prompts, wanted.ranking)
        assert [masks[0].frame for masks in got.masks] == [masks[0].frame for masks in wanted.masks]
        assert segmenter.resolve(got).polygons == segmenter.resolve(wanted).polygons
    assert sum(isinstance(answer, PromptError) for answer in answers) == 2


def remove(root: Path, tile: Tile, is_skipped: bool = False) -> None:
    level, row, col = tile
    (root / f"level{level}/image_embeddings/c/{row}/{col}/0/0/0").unlink()
    if is_skipped:
        marker = root / f"level{level}/skipped/c/{row}/{col}"
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.write_bytes(b"\1")


WIDE = (1100, 2000)
APART = Point(150, 150), Point(1900, 950)
CORNER = (Tile(0, 0, 2), Tile(0, 1, 2))
"""The tiles of the finest level with the second point."""


@pytest.fixture
def two_discs(tmp_path: Path) -> Path:
    image = np.maximum(disc(WIDE, 150, 150, 100), disc(WIDE, 1900, 950, 90))
    return make_store(tmp_path, image, levels=1)


@pytest.mark.parametrize(
    ("is_skipped", "message"),
    [(False, r"around \(1900, 950\) have been prepared yet: .*--resume"), (True, r"no data at \(1900, 950\)")],
)
def test_a_point_without_a_tile_is_never_dropped(two_discs: Path, is_skipped: bool, message: str) -> None:
    for tile in CORNER:
        remove(two_discs, tile, is_skipped)
    segmenter = open_blobs(two_discs)
    with pytest.raises(PromptError, match=message):
        segmenter.propose(Prompts(APART))
    (refusal,) = segmenter.propose_many([Prompts(APART)])
    assert isinstance(refusal, PromptError)
    assert segmenter.resolve(segmenter.propose(Prompts(APART[:1]))).polygons


def test_the_point_without_data_is_named_and_a_box_around_data_is_answered(two_discs: Path) -> None:
    for col in (1, 2):
        for row in (0, 1):
            remove(two_discs, Tile(0, row, col), is_skipped=True)
    segmenter = open_blobs(two_discs)
    for x in (900, 1010):
        with pytest.raises(PromptError, match=r"no data at \(1040, 500\)"):
            segmenter.propose(Prompts((Point(x, 500), Point(1040, 500))))
    assert segmenter.propose(Prompts(box=Bounds(600, 300, 1100, 700))).masks
    with pytest.raises(PromptError, match=r"no data at \(1250, 500\)"):
        segmenter.propose(Prompts(box=Bounds(1100, 300, 1400, 700)))


def test_a_negative_point_may_lie_where_nothing_is_encoded(two_discs: Path) -> None:
    for tile in CORNER:
        remove(two_discs, tile)
    proposal = open_blobs(two_discs).propose(Prompts((APART[0], APART[1]._replace(positive=False))))
    assert [masks[0].frame.tile for masks in proposal.masks] == [Tile(0, 0, 0)]


def test_no_part_of_a_box_is_dropped(two_discs: Path) -> None:
    for tile in CORNER:
        remove(two_discs, tile)
    with pytest.raises(PromptError, match=r"around \(18\d\d.*, \d+.*\) have been prepared yet"):
        open_blobs(two_discs).propose(Prompts(APART[:1], Bounds(50, 50, 1950, 1050)))


def test_a_box_may_lie_partly_where_there_is_no_data(two_discs: Path) -> None:
    for tile in CORNER:
        remove(two_discs, tile, is_skipped=True)
    segmenter = open_blobs(two_discs)
    candidate = segmenter.resolve(segmenter.propose(Prompts(box=Bounds(40, 40, 1960, 1060))))
    assert iou(candidate, circle(150, 150, 100)) > 0.98


def test_a_finer_level_answers_if_the_coarser_ones_lack_a_tile(tmp_path: Path) -> None:
    image = np.maximum(disc(WIDE, 150, 150, 100), disc(WIDE, 1900, 950, 90))
    root = make_store(tmp_path, image)
    remove(root, Tile(1, 0, 0))
    segmenter = open_blobs(root)
    for level in (0, 1):
        proposal = segmenter.propose(Prompts(APART), level)
        assert [masks[0].frame.tile.level for masks in proposal.masks] == [0, 0]
        assert iou(segmenter.resolve(proposal), shapely.union(circle(150, 150, 100), circle(1900, 950, 90))) > 0.97
    assert click(segmenter, APART[0], level=1).level == 0


class OnDemand:
    """Encodes the tiles of a store by copying them from a whole one."""

    def __init__(self, root: Path, whole: Path, levels: tuple[int, ...] = (0, 1, 2)) -> None:
        self.writer, self.whole = StoreWriter(root, StoreReader(root).metadata), StoreReader(whole)
        self.levels = levels
        self.asked: list[Tile] = []

    finest_level = 0

    def can_encode(self, tile: Tile) -> bool:
        return tile.level in self.levels

    def ensure_tile(self, tile: Tile) -> TileState:
        self.asked.append(tile)
        features = self.whole.read(tile)["image_embeddings"]
        if features.max() == 0:
            self.writer.skip(tile)
            return TileState.SKIPPED
        self.writer.write(tile, {"image_embeddings": features[0]})
        return TileState.ENCODED


def on_demand(tmp_path: Path, image: np.ndarray, levels: tuple[int, ...] = (0, 1, 2)) -> tuple[Segmenter, OnDemand]:
    whole = make_store(tmp_path, image, name="whole")
    root = tmp_path / "live.embeddings.zarr"
    shutil.copytree(whole, root)
    for tile in StoreReader(whole).pyramid:
        remove(root, tile)
    encoder = OnDemand(root, whole, levels)
    return Segmenter(StoreReader(root), BlobDecoder(), encoder), encoder


def test_only_the_tile_that_answers_is_encoded_and_only_when_it_is_needed(tmp_path: Path) -> None:
    segmenter, encoder = on_demand(tmp_path, disc(WIDE, 500, 500, 200))
    prompts = Prompts((Point(500, 500),))
    assert segmenter.tile_for(prompts) == Tile(0, 0, 0) and segmenter.can_provide(Tile(0, 0, 0))
    assert not segmenter.reader.is_encoded(Tile(0, 0, 0)) and encoder.asked == []
    for _ in range(2):
        assert iou(segmenter.resolve(segmenter.propose(prompts)), circle(500, 500, 200)) > 0.98
    assert isinstance(segmenter.propose_many([prompts])[0], Proposal)
    assert encoder.asked == [Tile(0, 0, 0)]


def test_following_a_border_encodes_what_it_needs(tmp_path: Path) -> None:
    segmenter, encoder = on_demand(tmp_path, disc(SHAPE, 1500, 1300, 900))
    candidate = click(segmenter, Point(800, 1100))
    assert iou(candidate, circle(1500, 1300, 900)) > 0.98
    assert {tile.level for tile in encoder.asked} == {0, 1, 2} and len(encoder.asked) <= 4


def test_a_level_that_takes_too_long_is_left_to_finer_ones(tmp_path: Path) -> None:
    segmenter, encoder = on_demand(tmp_path, disc(WIDE, 500, 500, 200), levels=(0,))
    assert click(segmenter, Point(500, 500), level=1).level == 0
    assert not segmenter.provide(Tile(1, 0, 0)) and encoder.asked == [Tile(0, 0, 0)]


def test_points_on_several_tiles_encode_these(tmp_path: Path) -> None:
    image = np.maximum(disc(WIDE, 150, 150, 100), disc(WIDE, 1900, 950, 90))
    segmenter, encoder = on_demand(tmp_path, image, levels=(0,))
    assert len(click(segmenter, *APART).polygons) == 2
    assert encoder.asked == [Tile(0, 0, 0), CORNER[0]]


def test_a_tile_found_to_have_no_data_is_reported_at_the_first_click(tmp_path: Path) -> None:
    segmenter, encoder = on_demand(tmp_path, disc(WIDE, 150, 150, 100), levels=(0,))
    with pytest.raises(PromptError, match=r"no data at \(1900, 950\)"):
        click(segmenter, APART[1])
    with pytest.raises(PromptError, match=r"no data at \(1900, 950\)"):
        click(segmenter, *APART)
    assert set(encoder.asked) == set(CORNER)


@pytest.mark.parametrize(
    ("transform", "x", "y"),
    [
        (GeoTransform(0.5, 0, 524038.3, 0, -0.5, 4200000), 524188.3, 4199900.0),
        (GeoTransform(5e-6, 0, 179.99875, 0, -5e-6, -17), 179.99875 + 300 * 5e-6, -17.0005),
        (GeoTransform(0.01, 0, 20037508.34, 0, -0.01, -4e7), 20037511.34, -40000001.0),
        (GeoTransform(0.5, 0, 524038.3, 0, -0.5, 4200000), 524113.3, 4199850.0),
        (GeoTransform(0.1, 0, 0.3, 0, -0.1, 0.7), 0.3, 0.6),
    ],
    ids=["right", "degrees", "small pixels", "lower", "left"],
)
def test_a_click_on_the_edge_is_answered(tmp_path: Path, transform: GeoTransform, x: float, y: float) -> None:
    segmenter = open_blobs(make_store(tmp_path, np.ones((300, 300)), transform=transform))
    col, row = transform.inverse().apply(x, y)
    assert not segmenter.resolve(segmenter.propose(Prompts((Point(col, row),)))).polygons[0].is_empty


@pytest.mark.parametrize("beyond", [(300.001, 5.0), (-0.001, 5.0), (5.0, 300.001), (5.0, -0.001)])
def test_a_click_beyond_the_edge_is_refused_and_the_raster_shown(tmp_path: Path, beyond: tuple[float, float]) -> None:
    transform = GeoTransform(0.5, 0, 524038.3, 0, -0.5, 4200000)
    segmenter = open_blobs(make_store(tmp_path, np.ones((300, 300)), transform=transform))
    with pytest.raises(PromptError, match=r"outside the raster, \(524038\.3, 4199850\) - \(524188\.3, 4200000\): move"):
        segmenter.propose(Prompts((Point(*beyond),)))

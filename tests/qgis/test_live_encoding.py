"""Stores that are filled on demand, with the embedded model."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import shapely
from osgeo import gdal
from qgis.core import QgsApplication, QgsProject, QgsRasterLayer, QgsVectorLayer
from qgis.PyQt.QtCore import QCoreApplication
from rasterio.enums import Resampling
from rasterio.transform import Affine

from geosam_es.core.grid import Tile
from geosam_es.core.prompts import Bounds, Point, Prompts
from geosam_es.errors import GeoSamError, ModelError, OutputError, PromptError, RasterError, StoreError
from geosam_es.gui.canvas.view_tiles import prepare_tile
from geosam_es.gui.stores.encode_task import EncodeTask
from geosam_es.inference.masks import Proposal
from geosam_es.inference.session import SegmentationSession, open_segmenter
from geosam_es.qgis_support import live_store as live_encoding
from geosam_es.qgis_support.layer_source import LayerSource, source_of
from geosam_es.qgis_support.live_store import EMBEDDED_MODEL, LiveOptions, LiveStore
from geosam_es.qgis_support.settings import cache_folder
from geosam_es.store import StoreReader, StoreWriter
from geosam_es.store.cache import StoreCache
from geosam_es.store.files import folder_bytes
from geosam_es.store.reader import TileState
from tests.helpers import disc
from tests.qgis.support import wait_until

TRANSFORM = Affine(0.5, 0.0, 700000.0, 0.0, -0.5, 4400000.0)
RANGE_SERVER = Path(__file__).parents[1] / "encoder_tools" / "sweep" / "server.py"
SIZE = 1300
"""Four tiles at full resolution, and one at half."""


def write(path: Path, pixels: Any, **profile: Any) -> Path:
    options = {"crs": "EPSG:25830", "transform": TRANSFORM, "driver": "GTiff", **profile}
    count, height, width = pixels.shape
    with rasterio.open(path, "w", count=count, height=height, width=width, dtype=pixels.dtype, **options) as dataset:
        dataset.write(pixels)
    return path


def picture(size: int = SIZE) -> Any:
    """Draw a bright disc on uneven ground."""
    ground = np.random.default_rng(1).normal(70, 6, (size, size))
    return np.repeat((ground + 120 * disc((size, size), 400, 400, 80))[None], 3, axis=0).clip(0, 255).astype(np.uint8)


@pytest.fixture
def raster(tmp_path: Path) -> Path:
    (tmp_path / "maps").mkdir()
    return write(tmp_path / "maps" / "ortho.tif", picture())


@pytest.fixture
def options(tmp_path: Path) -> LiveOptions:
    return LiveOptions(cache_folder=tmp_path / "cache", threads=1, beside=True)


@pytest.fixture
def live(raster: Path, options: LiveOptions) -> Iterator[LiveStore]:
    opened = LiveStore.open(LayerSource(raster, "", "ortho"), options)
    yield opened
    opened.close()


def encoded(root: Path) -> list[Tile]:
    reader = StoreReader(root)
    return [tile for tile in reader.pyramid if reader.is_encoded(tile)]


def click(x: float, y: float) -> Prompts:
    return Prompts((Point(x, y),))


def tiles_of(proposal: Proposal) -> list[Tile]:
    return [masks[0].frame.tile for masks in proposal.masks]


def on_map(x: float, y: float) -> tuple[float, float]:
    return TRANSFORM @ (x, y)


def test_a_click_encodes_its_tile_and_is_answered(live: LiveStore, raster: Path) -> None:
    assert live.root == raster.with_name("ortho.embeddings.zarr")
    assert encoded(live.root) == []
    session = SegmentationSession(live.segmenter)
    result = session.add_point(*on_map(400, 400))
    assert Tile(0, 0, 0) in encoded(live.root)
    assert len(encoded(live.root)) < len(live.reader.pyramid)
    assert result.model == "mini" and result.geometry.contains(shapely.Point(on_map(400, 400)))
    # It is an ordinary store: who opens it later gets the same answer.
    again = SegmentationSession(open_segmenter(live.root)).add_point(*on_map(400, 400))
    # Fewer threads add up in another order.
    unlike = again.geometry.symmetric_difference(result.geometry).area
    assert unlike < 0.001 * result.geometry.area


SMALL = (701.0, 633.0, 9.0)
"""Column, row and radius in pixels of a small disc, on tiles that differ from level to level."""


@pytest.fixture
def small(tmp_path: Path, options: LiveOptions) -> Iterator[LiveStore]:
    pixels = picture()
    spot = (140 * disc((SIZE, SIZE), *SMALL)).astype(np.uint8)
    path = write(tmp_path / "small.tif", np.clip(pixels.astype(int) + spot, 0, 255).astype(np.uint8))
    opened = LiveStore.open(LayerSource(path, "", "small"), options)
    yield opened
    opened.close()


def small_box(margin: float = 3.0) -> Bounds:
    x, y, radius = SMALL
    (left, bottom), (right, top) = (
        on_map(x - radius - margin, y + radius + margin),
        on_map(x + radius + margin, y - radius - margin),
    )
    return Bounds(left, bottom, right, top)


@pytest.mark.parametrize("level", [-1, -2])
def test_a_click_on_an_enlarged_map_encodes_only_the_tile_that_answers(small: LiveStore, level: int) -> None:
    assert small.segmenter.finest_level == -2
    result = SegmentationSession(small.segmenter, level).add_point(*on_map(*SMALL[:2]))
    assert result.level == level
    assert [(count.level, count.encoded) for count in StoreReader(small.root).counts()] == [(level, 1), (0, 0), (1, 0)]
    centre = shapely.Point(on_map(*SMALL[:2]))
    # The edge of the disc is soft.
    assert result.geometry.contains(centre) and centre.buffer(0.5 * (SMALL[2] + 9)).contains(result.geometry)


@pytest.mark.parametrize("level", [1, 0, -2])
def test_a_small_box_encodes_an_enlarged_tile_at_any_scale(small: LiveStore, level: int) -> None:
    result = SegmentationSession(small.segmenter, level).set_box(small_box().corners)
    assert result.level == -2
    (count, *_) = StoreReader(small.root).counts()
    assert (count.level, count.encoded) == (-2, 1)


def test_enlarged_answers_are_the_same_after_a_restart_and_whatever_else_was_encoded(
    small: LiveStore, options: LiveOptions
) -> None:
    def answers(live: LiveStore) -> list[shapely.Geometry]:
        clicked = SegmentationSession(live.segmenter, -1).add_point(*on_map(*SMALL[:2]))
        boxed = SegmentationSession(live.segmenter, 0).set_box(small_box().corners)
        return [clicked.geometry, boxed.geometry]

    first = answers(small)
    for tile in [*small.reader.pyramid.grid(-1), *list(small.reader.pyramid.grid(-2))[:8], *small.reader.pyramid]:
        small.ensure_tile(tile)
    again = LiveStore.open(LayerSource(small.root.with_name("small.tif"), "", "small"), options)
    assert again.root == small.root
    for found in (answers(small), answers(again)):
        assert all(one.equals_exact(other, 0) for one, other in zip(first, found))
    again.close()


def other_model(folder: Path) -> Path:
    """Copy the embedded model as if it were another one."""
    shutil.copytree(EMBEDDED_MODEL, folder)
    text = (folder / "model.json").read_text()
    sha256 = live_encoding.OnnxEncoder(EMBEDDED_MODEL, 1).info.encoder_sha256
    (folder / "model.json").write_text(text.replace(sha256, "e" * 64).replace('"mini"', '"mine"'))
    return folder


@pytest.mark.parametrize("enlarges", [False, True])
def test_a_slow_model_enlarges_only_if_the_user_asks(
    raster: Path, options: LiveOptions, tmp_path: Path, enlarges: bool
) -> None:
    model = other_model(tmp_path / "other model")
    live = LiveStore.open(LayerSource(raster, "", "ortho"), replace(options, model_folder=model, enlarges=enlarges))
    level = -2 if enlarges else 0
    assert live.segmenter.finest_level == level
    assert tiles_of(live.segmenter.propose(click(400, 400), level=-2))[0].level == level
    box = Bounds(390, 390, 410, 410)
    assert tiles_of(live.segmenter.propose(Prompts(box=box)))[0].level == level
    assert {tile.level for tile in live.tiles_in(finest_level=-2)} == set(range(level, 2))
    live.close()


def test_enlarged_tiles_of_the_store_answer_even_if_no_more_are_encoded(
    raster: Path, options: LiveOptions, tmp_path: Path
) -> None:
    slow = replace(options, model_folder=other_model(tmp_path / "other model"))
    source = LayerSource(raster, "", "ortho")
    asked = LiveStore.open(source, replace(slow, enlarges=True))
    tile = tiles_of(asked.segmenter.propose(click(400, 400), level=-1))[0]
    asked.close()
    live = LiveStore.open(source, slow)
    assert live.root == asked.root and live.segmenter.finest_level == -1
    assert tiles_of(live.segmenter.propose(click(400, 400), level=-1)) == [tile]
    assert tiles_of(live.segmenter.propose(click(400, 400), level=-2)) == [tile]
    assert tiles_of(live.segmenter.propose(click(1200, 1200), level=-1))[0].level == 0
    live.close()


def test_a_tile_is_encoded_once(live: LiveStore, monkeypatch: pytest.MonkeyPatch) -> None:
    writes: list[Tile] = []
    write_tile = StoreWriter.write
    monkeypatch.setattr(
        StoreWriter, "write", lambda self, tile, maps: (writes.append(tile), write_tile(self, tile, maps))
    )
    for x in (400, 420):
        assert tiles_of(live.segmenter.propose(click(x, 400))) == [Tile(0, 0, 0)]
    assert live.ensure_tile(Tile(0, 0, 0)) is TileState.ENCODED
    assert writes == [Tile(0, 0, 0)]


def test_tiles_are_those_of_the_command_line(live: LiveStore, raster: Path, tmp_path: Path) -> None:
    from encoder_tools.pipeline import EncodeOptions, encode, make_plan
    from encoder_tools.raster import Raster
    from geosam_es.inference.encoder import OnnxEncoder

    encoder = OnnxEncoder(EMBEDDED_MODEL, threads=1)
    files = {name: EMBEDDED_MODEL / name for name in ("prepare.onnx", "decoder.onnx")}
    encode(make_plan(Raster(raster), encoder, EncodeOptions()), encoder, tmp_path / "cli.zarr", lambda: files)
    expected = StoreReader(tmp_path / "cli.zarr")
    for tile in expected.pyramid:
        live.ensure_tile(tile)
        found = live.reader.read(tile)["image_embeddings"]
        np.testing.assert_array_equal(found, expected.read(tile)["image_embeddings"])


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_a_store_of_the_command_line_is_continued(raster: Path, options: LiveOptions, dtype: str) -> None:
    """Its bands, stretch and dtype are used for the new tiles too."""
    from encoder_tools.pipeline import EncodeOptions, encode, make_plan
    from encoder_tools.raster import Raster
    from geosam_es.inference.encoder import OnnxEncoder

    encoder = OnnxEncoder(EMBEDDED_MODEL, threads=1)
    files = {name: EMBEDDED_MODEL / name for name in ("prepare.onnx", "decoder.onnx")}
    plan = make_plan(Raster(raster, bands=(2,)), encoder, EncodeOptions(stretch="0:200", overlap=128, dtype=dtype))
    root = raster.with_name("ortho.embeddings.zarr")
    encode(plan, encoder, root, lambda: files)
    tile = Tile(0, 0, 0)
    expected = StoreReader(root).read(tile)["image_embeddings"]
    shutil.rmtree(root / "level0" / "image_embeddings" / "c" / "0" / "0")
    live = LiveStore.open(LayerSource(raster, "", "ortho"), options)
    assert live.root == root
    assert live.ensure_tile(tile) is TileState.ENCODED
    np.testing.assert_array_equal(live.reader.read(tile)["image_embeddings"], expected)


def test_a_store_of_another_model_is_left_alone(raster: Path, options: LiveOptions, tmp_path: Path) -> None:
    other = other_model(tmp_path / "other model")
    source = LayerSource(raster, "", "ortho")
    first = LiveStore.open(source, options)
    second = LiveStore.open(source, LiveOptions(other, options.cache_folder, threads=1))
    assert [live.reader.metadata.model["name"] for live in (first, second)] == ["mini", "mine"]
    assert first.root == raster.with_name("ortho.embeddings.zarr") and second.root.parent == options.cache_folder
    second.ensure_tile(Tile(0, 0, 0))
    assert encoded(first.root) == [] and encoded(second.root) == [Tile(0, 0, 0)]
    again = LiveStore.open(source, LiveOptions(other, options.cache_folder, threads=1))
    assert again.root == second.root and encoded(again.root) == [Tile(0, 0, 0)]
    for live in (first, second, again):
        live.close()


def test_another_image_of_the_same_name_gets_another_store(raster: Path, options: LiveOptions) -> None:
    source = LayerSource(raster, "", "ortho")
    LiveStore.open(source, options).ensure_tile(Tile(0, 0, 0))
    pixels = picture()
    pixels[:, :700] = 255 - pixels[:, :700]
    write(raster, pixels)
    live = LiveStore.open(source, options)
    assert live.root.parent == options.cache_folder and encoded(live.root) == []
    live.close()


@pytest.mark.parametrize("is_begun", [False, True])
def test_a_folder_that_cannot_be_written(
    raster: Path, options: LiveOptions, monkeypatch: pytest.MonkeyPatch, is_begun: bool
) -> None:
    source = LayerSource(raster, "", "ortho")
    if is_begun:
        LiveStore.open(source, options)
    read_only = raster.parent
    create, temporary = StoreWriter.create, live_encoding.tempfile.TemporaryFile

    def refuse_create(root: Path, *arguments: Any, **keywords: Any) -> StoreWriter:
        if read_only in root.parents:
            raise OutputError(f"{root} cannot be written (Permission denied)")
        return create(root, *arguments, **keywords)

    def refuse_file(dir: Path) -> Any:
        if read_only in dir.parents:
            raise PermissionError(13, "Permission denied")
        return temporary(dir=dir)

    monkeypatch.setattr(StoreWriter, "create", refuse_create)
    monkeypatch.setattr(live_encoding.tempfile, "TemporaryFile", refuse_file)
    live = LiveStore.open(source, options)
    assert live.root.parent == options.cache_folder
    assert live.ensure_tile(Tile(0, 0, 0)) is TileState.ENCODED
    again = LiveStore.open(source, options)
    assert again.root == live.root and encoded(again.root) == [Tile(0, 0, 0)]
    live.close()


def test_a_full_cache_stops_the_encoding(raster: Path, options: LiveOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    raster.with_name("ortho.embeddings.zarr").mkdir()
    live = LiveStore.open(LayerSource(raster, "", "ortho"), LiveOptions(cache_folder=options.cache_folder, threads=1))
    assert live.root.parent == options.cache_folder
    monkeypatch.setattr(live_encoding, "_TRIM_EVERY", 1)
    monkeypatch.setattr(live._cache, "max_bytes", 1)
    with pytest.raises(OutputError, match="is full"):
        live.ensure_tile(Tile(0, 0, 0))
    live.close()


def test_a_store_that_does_not_fit_into_the_cache_is_closed(raster: Path, options: LiveOptions) -> None:
    raster.with_name("ortho.embeddings.zarr").mkdir()
    assert options.cache_folder is not None
    with pytest.raises(OutputError, match="is full"):
        LiveStore.open(LayerSource(raster, "", "ortho"), replace(options, cache_bytes=1))
    cache = StoreCache(options.cache_folder, 0)
    assert len(cache.stores()) == 1
    cache.trim()
    assert cache.stores() == []


def test_the_default_cache_is_in_the_profile(raster: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_encoding, "cache_folder", cache_folder)
    live = LiveStore.open(LayerSource(raster, "", "ortho"), LiveOptions(threads=1))
    assert Path(QgsApplication.qgisSettingsDirPath()) in live.root.parents
    live.close()
    shutil.rmtree(live.root)


class TestPlace:
    """Nothing is written beside an image unless the user says so."""

    def open(self, raster: Path, options: LiveOptions) -> LiveStore:
        return LiveStore.open(LayerSource(raster, "", "ortho"), replace(options, beside=False))

    def test_a_new_store_is_in_the_cache(self, raster: Path, options: LiveOptions) -> None:
        live = self.open(raster, options)
        assert live.root.parent == options.cache_folder
        assert live.reader.metadata.dtype == "int8"
        assert list(raster.parent.iterdir()) == [raster]
        assert live.beside == raster.with_name("ortho.embeddings.zarr")
        live.close()
        again = self.open(raster, options)
        assert again.root == live.root and again.beside is None
        again.close()

    def test_a_store_beside_the_image_goes_on_being_used(self, raster: Path, options: LiveOptions) -> None:
        first = LiveStore.open(LayerSource(raster, "", "ortho"), options)
        live = self.open(raster, options)
        assert live.root == first.root == raster.with_name("ortho.embeddings.zarr")
        for one in (first, live):
            one.close()

    def test_it_is_as_large_as_said(self, raster: Path, options: LiveOptions) -> None:
        live = self.open(raster, options)
        live.encode(live.tiles_in())
        arrays = sum(path.stat().st_size for path in live.root.rglob("zarr.json"))
        assert folder_bytes(live.root) - arrays == live.most_bytes()
        # Each enlarged level has up to four times the tiles of the one above it.
        assert 5 * live.most_bytes() < live.most_bytes(-2) < 22 * live.most_bytes()
        live.close()

    def test_it_moves_beside_the_image_while_an_object_is_drawn(self, raster: Path, options: LiveOptions) -> None:
        live = self.open(raster, options)
        session = SegmentationSession(live.segmenter, 0)
        first = session.add_point(*on_map(400, 400))
        former, tiles = live.root, encoded(live.root)
        live.keep_beside()
        assert live.root == live.reader.root == raster.with_name("ortho.embeddings.zarr")
        assert encoded(live.root) == tiles and live.beside is None and not former.exists()
        assert (
            session.add_point(*on_map(410, 400)).geometry.intersection(first.geometry).area > 0.9 * first.geometry.area
        )
        SegmentationSession(live.segmenter, 0).add_point(*on_map(1200, 1200))
        assert len(encoded(live.root)) == len(tiles) + 1
        assert not [problem for _, problem in live.reader.problems() if problem not in ("", "missing")]
        live.close()
        assert not [path for path in raster.parent.rglob("*") if path.name.startswith(".")]

    def test_a_running_encoding_goes_on_where_the_store_is(self, raster: Path, options: LiveOptions) -> None:
        live = self.open(raster, options)

        former, user = live.root, live.share()

        def move(done: int, _total: int) -> None:
            if done == 2:
                live.keep_beside()
                # As if this tile had been written to the former place only now.
                next(path for path in sorted(live.root.rglob("c/**/*")) if path.is_file()).unlink()

        user.encode(user.tiles_in(), move)
        assert live.root == raster.with_name("ortho.embeddings.zarr") and former.exists()
        assert sum(count.missing for count in live.reader.counts()) == 0
        user.close()
        live.close()
        assert not former.exists()

    def test_if_it_cannot_move_it_stays(
        self, raster: Path, options: LiveOptions, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        live = self.open(raster, options)

        def refuse(*_: Any) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("geosam_es.store.files.shutil.copyfile", refuse)
        with pytest.raises(OutputError, match=r"cannot be written \(No space left"):
            live.keep_beside()
        monkeypatch.undo()
        assert list(raster.parent.iterdir()) == [raster]
        assert live.ensure_tile(Tile(0, 0, 0)) is TileState.ENCODED
        assert live.root.parent == options.cache_folder
        live.close()

    @pytest.mark.parametrize("is_taken", [False, True])
    def test_where_no_store_can_be_none_is_offered(
        self, raster: Path, options: LiveOptions, monkeypatch: pytest.MonkeyPatch, is_taken: bool
    ) -> None:
        if is_taken:
            raster.with_name("ortho.embeddings.zarr").mkdir()
        else:

            def refuse(dir: Path) -> Any:
                raise PermissionError(13, "Permission denied")

            monkeypatch.setattr(live_encoding.tempfile, "TemporaryFile", refuse)
        live = self.open(raster, options)
        assert live.root.parent == options.cache_folder and live.beside is None
        live.close()


def test_black_corners_are_skipped(tmp_path: Path, options: LiveOptions) -> None:
    pixels = picture(2500)
    pixels[:, 1400:] = 0
    live = LiveStore.open(LayerSource(write(tmp_path / "a.tif", pixels), "", "a"), options)
    assert live.ensure_tile(Tile(0, 2, 0)) is TileState.SKIPPED
    assert live.ensure_tile(Tile(0, 2, 0)) is TileState.SKIPPED
    with pytest.raises(PromptError, match="There is no data at"):
        SegmentationSession(live.segmenter).add_point(*on_map(500, 2400))
    live.close()


def test_a_box_over_tiles_is_answered_from_a_coarser_level(live: LiveStore) -> None:
    box = Bounds(100, 100, 1200, 1200)
    assert tiles_of(live.segmenter.propose(Prompts(box=box))) == [Tile(1, 0, 0)]
    assert encoded(live.root) == [Tile(1, 0, 0)]


def test_slow_levels_are_only_encoded_by_the_task(
    tmp_path: Path, options: LiveOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_encoding, "_MOST_PIXELS", 1024 * 1024)
    path = write(tmp_path / "a.tif", picture(), tiled=True)
    live = LiveStore.open(LayerSource(path, "", "a"), options)
    segmenter = live.segmenter
    assert [live.can_encode(Tile(level, 0, 0)) for level in (0, 1)] == [True, False]
    assert tiles_of(segmenter.propose(click(400, 400), level=1)) == [Tile(0, 0, 0)]
    assert live.ensure_tile(Tile(1, 0, 0)) is TileState.ENCODED
    assert tiles_of(segmenter.propose(click(400, 400), level=1)) == [Tile(1, 0, 0)]
    with rasterio.open(path, "r+") as dataset:
        dataset.build_overviews([2], Resampling.average)
    assert LiveStore.open(LayerSource(path, "", "a"), options).can_encode(Tile(1, 0, 0))
    live.close()


def test_prompts_without_a_positive_point_encode_nothing(live: LiveStore) -> None:
    for prompts in (Prompts(), Prompts((Point(5, 5, False),))):
        with pytest.raises(PromptError, match="no positive point"):
            live.segmenter.propose(prompts)
    assert encoded(live.root) == []


def test_queries_encode_nothing(live: LiveStore) -> None:
    segmenter = live.segmenter
    assert segmenter.tile_for(click(400, 400)) == Tile(0, 0, 0) and segmenter.can_provide(Tile(0, 0, 0))
    assert not segmenter.reader.is_encoded(Tile(0, 0, 0)) and encoded(live.root) == []


def test_looking_ahead_encodes_the_tile_in_view(live: LiveStore) -> None:
    prepare_tile(live.segmenter, *on_map(400, 400), level=1)
    assert encoded(live.root) == [Tile(1, 0, 0)]


def test_a_click_on_a_black_corner_is_an_error(tmp_path: Path, options: LiveOptions) -> None:
    pixels = picture(2500)
    pixels[:, 1400:] = 0
    live = LiveStore.open(LayerSource(write(tmp_path / "a.tif", pixels), "", "a"), options)
    for _ in range(2):
        with pytest.raises(PromptError, match="There is no data at"):
            live.segmenter.propose(click(500, 2400))
    live.close()


def test_a_deleted_store_is_not_partly_recreated(live: LiveStore) -> None:
    shutil.rmtree(live.root)
    with pytest.raises(StoreError, match="is no longer there: click again"):
        live.ensure_tile(Tile(0, 0, 0))
    with pytest.raises(StoreError, match="is no longer there"):
        live.encode([Tile(0, 0, 0)])
    assert not live.root.exists()


def test_a_deleted_raster_is_an_error(live: LiveStore, raster: Path) -> None:
    live.close()
    raster.unlink()
    with pytest.raises(RasterError, match=r"ortho\.tif does not exist"):
        live.ensure_tile(Tile(0, 0, 0))


def test_a_folder_without_a_model_is_an_error(raster: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is not a model folder: it has no decoder"):
        LiveStore.open(LayerSource(raster, "", "ortho"), LiveOptions(tmp_path))
    (tmp_path / "decoder.onnx").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="is not a model folder: its model"):
        LiveStore.open(LayerSource(raster, "", "ortho"), LiveOptions(tmp_path))


def test_several_threads_at_once(live: LiveStore) -> None:
    errors: list[GeoSamError] = []

    def work(tile: Tile) -> None:
        try:
            live.ensure_tile(tile)
        except GeoSamError as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(tile,)) for tile in [*live.reader.pyramid] * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert not [problem for _, problem in live.reader.problems() if problem]


def test_tiles_in_an_area(live: LiveStore) -> None:
    assert live.tiles_in() == [Tile(1, 0, 0), *(Tile(0, row, col) for row in (0, 1) for col in (0, 1))]
    corner = shapely.box(*on_map(0, 100), *on_map(100, 0))
    assert live.tiles_in(corner) == [Tile(1, 0, 0), Tile(0, 0, 0)]
    assert live.tiles_in(corner, finest_level=1) == live.tiles_in(corner, finest_level=9) == [Tile(1, 0, 0)]
    live.ensure_tile(Tile(0, 0, 0))
    assert live.tiles_in(corner) == [Tile(1, 0, 0)]
    assert live.tiles_in(shapely.box(0, 0, 1, 1)) == []


def test_enlarged_tiles_in_an_area(live: LiveStore) -> None:
    view = shapely.box(*on_map(1000, 400), *on_map(1100, 300))
    found = live.tiles_in(view, finest_level=-2)
    pyramid = live.reader.pyramid
    rectangle = shapely.box(1000, 300, 1100, 400)
    wanted = [
        tile
        for grid in reversed(pyramid.grids_from(-2))
        for tile in grid
        if shapely.intersects(shapely.box(*pyramid.tile_bounds(tile)), rectangle)
    ]
    assert found == wanted and {tile.level for tile in found} == {1, 0, -1, -2}


def run_task(task: EncodeTask) -> str:
    """Run a task in QGIS, and process the events that deliver its signals."""
    ends: list[str] = []
    task.taskCompleted.connect(lambda: ends.append("completed"))
    task.taskTerminated.connect(lambda: ends.append("terminated"))
    task.start()
    wait_until(lambda: ends, 60)
    QCoreApplication.processEvents()
    return ends[0]


def test_task_encodes_the_layer(live: LiveStore) -> None:
    seen: list[tuple[int, int, float]] = []
    task = EncodeTask(live, "Encoding ortho")
    task.progressed.connect(lambda *values: seen.append(values))
    assert run_task(task) == "completed" and task.error is None
    assert len(encoded(live.root)) == len(live.reader.pyramid) == 5
    assert seen[0][:2] == (0, 5) and seen[-1] == (5, 5, 0.0)
    assert any(left > 0 for *_, left in seen[1:-1])
    assert live.tiles_in() == []


def test_task_encodes_the_view(live: LiveStore) -> None:
    task = EncodeTask(live, "Encoding the view", shapely.box(*on_map(0, 100), *on_map(100, 0)))
    assert run_task(task) == "completed"
    assert set(encoded(live.root)) == {Tile(1, 0, 0), Tile(0, 0, 0)}


def test_task_encodes_an_enlarged_view(live: LiveStore) -> None:
    view = shapely.box(*on_map(390, 410), *on_map(410, 390))
    wanted = live.tiles_in(view, finest_level=-1)
    assert run_task(EncodeTask(live, "Encoding the view", view, -1)) == "completed"
    assert {tile.level for tile in wanted} == {1, 0, -1} and all(live.reader.is_encoded(tile) for tile in wanted)
    assert live.tiles_in(view, finest_level=-1) == []


def test_a_cancelled_task_leaves_a_usable_store(live: LiveStore) -> None:
    task = EncodeTask(live, "Encoding ortho")
    encode = live._encoder.encode

    class Slow:
        info, default_batch_size, tiles = live._encoder.info, 1, 0

        def encode(self, images: Any) -> Any:
            self.tiles += 1
            if self.tiles == 2:
                task.cancel()
            return encode(images)

    live._encoder = Slow()
    assert run_task(task) == "terminated" and task.error is None
    assert 1 <= len(encoded(live.root)) < 5
    assert not [problem for _, problem in live.reader.problems() if problem not in ("", "missing")]
    assert not list(live.root.rglob(".*"))
    second = EncodeTask(live, "Encoding the rest")
    assert run_task(second) == "completed"
    assert len(encoded(live.root)) == 5


def test_a_store_that_is_being_encoded_stays_in_the_cache(raster: Path, options: LiveOptions) -> None:
    raster.with_name("ortho.embeddings.zarr").mkdir()
    assert options.cache_folder is not None
    cache = StoreCache(options.cache_folder, 0)
    live = LiveStore.open(LayerSource(raster, "", "ortho"), options)
    task = EncodeTask(live, "Encoding ortho")
    live.close()
    with pytest.raises(OutputError, match="is full"):
        cache.trim()
    assert run_task(task) == "completed"
    assert len(encoded(live.root)) == 5
    cache.trim()
    assert cache.stores() == []


def test_a_task_cancelled_before_it_begins_closes_the_store(raster: Path, options: LiveOptions) -> None:
    raster.with_name("ortho.embeddings.zarr").mkdir()
    assert options.cache_folder is not None
    live = LiveStore.open(LayerSource(raster, "", "ortho"), options)
    task = EncodeTask(live, "Encoding ortho")
    live.close()
    task.hold()
    ends: list[str] = []
    task.taskTerminated.connect(lambda: ends.append("terminated"))
    task.start()
    task.cancel()
    wait_until(lambda: ends)
    StoreCache(options.cache_folder, 0).trim()
    assert not live.root.exists()


def test_a_failed_task_reports_the_reason(live: LiveStore) -> None:
    shutil.rmtree(live.root)
    task = EncodeTask(live, "Encoding ortho")
    assert run_task(task) == "terminated"
    assert task.error is not None and "is no longer there" in task.error.user_message


def test_a_task_reports_unexpected_exceptions(live: LiveStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise MemoryError("no more")

    monkeypatch.setattr(live, "encode", fail)
    task = EncodeTask(live, "Encoding ortho")
    assert run_task(task) == "terminated"
    assert task.error is not None and "Encoding ortho: MemoryError('no more')" in task.error.user_message


def test_source_of_a_layer(raster: Path) -> None:
    layer = QgsRasterLayer(str(raster), "Ortho", "gdal")
    assert layer.isValid()
    source = source_of(layer)
    assert (source.path, source.name) == (raster, "Ortho") and "25830" in source.crs_wkt


def test_layers_that_are_no_images_are_refused(raster: Path, tmp_path: Path) -> None:
    with pytest.raises(RasterError, match="Fields is not a raster layer: choose an orthophoto"):
        source_of(QgsVectorLayer("Polygon?crs=EPSG:4326", "Fields", "memory"))
    uri = "url=http://127.0.0.1:9/wcs&identifier=a"
    with pytest.raises(
        RasterError, match=r"Heights comes from a service \(wcs\) that cannot be read here: add it by WMS"
    ):
        source_of(QgsRasterLayer(uri, "Heights", "wcs"))
    with pytest.raises(RasterError, match=r"gone\.tif does not exist: check the path"):
        source_of(QgsRasterLayer(str(tmp_path / "gone.tif"), "Gone", "gdal"))


def test_a_raster_inside_a_file(raster: Path, options: LiveOptions, tmp_path: Path) -> None:
    shutil.make_archive(str(tmp_path / "maps"), "zip", raster.parent)
    layer = QgsRasterLayer(f"/vsizip/{tmp_path / 'maps.zip'}/ortho.tif", "Zipped", "gdal")
    assert layer.isValid()
    live = LiveStore.open(source_of(layer), options)
    assert live.root == tmp_path / "maps_ortho.embeddings.zarr"
    assert live.ensure_tile(Tile(0, 0, 0)) is TileState.ENCODED
    live.close()


def test_jpeg_2000(options: LiveOptions, tmp_path: Path) -> None:
    pixels = (picture(600).astype(np.uint16) * 40)[[0, 1, 2, 0]]
    path = write(tmp_path / "a.jp2", pixels, driver="JP2OpenJPEG", QUALITY=100, REVERSIBLE="YES")
    layer = QgsRasterLayer(str(path), "JPEG 2000", "gdal")
    assert layer.isValid()
    live = LiveStore.open(source_of(layer), options)
    assert live.root == tmp_path / "a.embeddings.zarr"
    assert live.ensure_tile(Tile(0, 0, 0)) is TileState.ENCODED
    live.close()


def test_an_image_on_a_web_server(options: LiveOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gdal.Translate(
        str(tmp_path / "cog.tif"), str(write(tmp_path / "a.tif", picture())), format="COG",
        creationOptions=["COMPRESS=JPEG"],
    )  # fmt: skip
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    # A process of its own: QGIS keeps Python waiting while it opens a layer.
    with subprocess.Popen(
        [sys.executable, str(RANGE_SERVER)], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        address = f"http://127.0.0.1:{server.stdout.readline().strip()}/cog.tif"
        layer = QgsRasterLayer(f"/vsicurl/{address}", "COG", "gdal")
        assert layer.isValid()
        live = LiveStore.open(source_of(layer), options)
        assert live.root.is_relative_to(tmp_path / "cache") and live.beside is None
        assert live.ensure_tile(Tile(0, 0, 0)) is TileState.ENCODED
        live.close()
        server.terminate()


@pytest.mark.parametrize(("name", "head"), [("a.ecw", b"e\x02\x01\x02\x00"), ("a.sid", b"msid\x01\x00")])
def test_a_format_that_gdal_cannot_read(options: LiveOptions, tmp_path: Path, name: str, head: bytes) -> None:
    (tmp_path / name).write_bytes(head)
    layer = QgsRasterLayer(str(tmp_path / name), "Photo", "gdal")
    with pytest.raises(RasterError, match=f"gdal_translate -of COG .*{name} .*a_cog.tif"):
        LiveStore.open(source_of(layer), options)


def test_ground_control_points_as_qgis_shows_them(raster: Path, options: LiveOptions, tmp_path: Path) -> None:
    path = write(tmp_path / "points.tif", picture(600), crs=None, transform=None)
    skewed = Affine(0.5, 0.1, 700000, 0.05, -0.5, 4400000)
    with rasterio.open(path, "r+") as dataset:
        corners = [(0, 0), (600, 0), (0, 600), (600, 600)]
        points = [rasterio.control.GroundControlPoint(row, col, *(skewed @ (col, row))) for col, row in corners]
        dataset.gcps = points, rasterio.crs.CRS.from_epsg(25830)
    layer = QgsRasterLayer(str(path), "Points", "gdal")
    live = LiveStore.open(source_of(layer), options)
    info = live.reader.metadata.raster
    assert (info.width, info.height) == (layer.width(), layer.height())
    assert "25830" in info.crs_wkt
    left, top = info.transform.apply(0, 0)
    right, bottom = info.transform.apply(info.width, info.height)
    extent = layer.extent()
    shown = (extent.xMinimum(), extent.yMinimum(), extent.xMaximum(), extent.yMaximum())
    assert (left, bottom, right, top) == pytest.approx(shown)
    live.close()


def test_the_crs_of_the_layer_is_used_if_the_file_has_none(tmp_path: Path, options: LiveOptions) -> None:
    path = write(tmp_path / "bare.tif", picture(600), crs=None)
    layer = QgsRasterLayer(str(path), "Bare", "gdal")
    layer.setCrs(QgsProject.instance().crs().fromEpsgId(25830))
    live = LiveStore.open(source_of(layer), options)
    assert "25830" in live.reader.metadata.raster.crs_wkt
    live.close()

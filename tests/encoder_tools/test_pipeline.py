"""Read | encode | write: what is done, what is kept when it goes wrong, and that nothing piles up."""

from __future__ import annotations

import threading
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.env
import shapely
from numpy.typing import NDArray

from encoder_tools.pipeline import DecoderFiles, EncodeOptions, EncodePlan, EncodeReport, encode, estimate, make_plan
from encoder_tools.raster import Raster
from geosam_es.core.grid import Tile
from geosam_es.core.window import Window
from geosam_es.encoding import encode as encoding
from geosam_es.encoding.enlarge import enlarge
from geosam_es.encoding.raster_source import RasterTile
from geosam_es.errors import ModelError, OutputError, RasterError, StoreError
from geosam_es.inference.encoder import FILL_RGB, ModelInfo
from geosam_es.store import StoreReader, StoreWriter
from geosam_es.store.files import folder_bytes
from geosam_es.store.reader import TileState
from tests.encoder_tools.scenes import ramp, write_raster
from tests.helpers import make_metadata

INFO = ModelInfo("samples", "c" * 64, "CC0-1.0", {"image_embeddings": (3, 4, 4)})


class Meter:
    """Counts what is in progress, and the largest number so far."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self._lock = threading.Lock()

    def add(self, step: int) -> None:
        with self._lock:
            self.now += step
            self.most = max(self.most, self.now)


@dataclass
class SampleEncoder:
    """Features are every 256th pixel."""

    batch_size: int = 1
    seconds: float = 0.0
    on_tile: Callable[[int], None] = lambda count: None
    info: ModelInfo = INFO
    encoded: int = 0
    batches: list[int] = field(default_factory=list)

    @property
    def default_batch_size(self) -> int:
        return self.batch_size

    def encode(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        self.batches.append(len(images))
        for _ in images:
            self.encoded += 1
            self.on_tile(self.encoded)
        time.sleep(self.seconds)
        return {"image_embeddings": np.moveaxis(images[:, 128::256, 128::256], -1, 1).astype(np.float32)}


class CountingRaster:
    """Stands for a raster of any size; tells its tiles apart by their place."""

    path = Path("counted.tif")

    def __init__(self, on_read: Callable[[Window], None] = lambda window: None) -> None:
        self.on_read = on_read
        self.reading = Meter()

    def read_tile(self, window: Window, scale: int, stretch: Any) -> RasterTile:
        self.reading.add(1)
        self.on_read(window)
        value = (window.col_off // 7 + window.row_off // 3 + scale) % 255
        return RasterTile(np.full((1024, 1024, 3), value, np.uint8), has_data=True)


def plan_of(raster: Any, size: tuple[int, int] = (6000, 4200), batch_size: int = 1) -> EncodePlan:
    metadata = replace(make_metadata(*size), model=INFO.to_json(), dtype="float16")
    return EncodePlan(raster, metadata, None, batch_size)


@pytest.fixture
def decoder(tmp_path: Path) -> DecoderFiles:
    path = tmp_path / "decoder.onnx"
    path.write_bytes(b"any decoder")
    return lambda: {"decoder.onnx": path}


def chunks(store: Path) -> dict[str, bytes]:
    files = [path for path in store.rglob("*") if path.is_file() and path.parent != store]
    return {path.relative_to(store).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_every_tile_is_encoded_once(tmp_path: Path, decoder: DecoderFiles, batch_size: int) -> None:
    encoder = SampleEncoder()
    plan = plan_of(CountingRaster(), batch_size=batch_size)
    seen: list[tuple[int, int]] = []
    report = encode(plan, encoder, tmp_path / "s.zarr", decoder, progress=lambda *at: seen.append(at))
    total = len(plan.pyramid)
    assert (report.encoded, report.skipped, report.resumed) == (total, 0, 0)
    assert sum(encoder.batches) == total and max(encoder.batches) == min(batch_size, total)
    assert seen[0] == (0, total) and seen[-1] == (total, total) and seen == sorted(seen)
    reader = StoreReader(tmp_path / "s.zarr")
    assert not [problem for _, problem in reader.problems() if problem]
    for tile in plan.pyramid:
        window = plan.pyramid.window(tile)
        value = (window.col_off // 7 + window.row_off // 3 + (1 << tile.level)) % 255
        assert (reader.read(tile)["image_embeddings"] == value).all()


@pytest.mark.parametrize("batch_size", [1, 3])
def test_tiles_do_not_pile_up_before_a_slow_encoder(tmp_path: Path, decoder: DecoderFiles, batch_size: int) -> None:
    raster = CountingRaster()
    encoder = SampleEncoder(seconds=0.01, on_tile=lambda count: raster.reading.add(-1))
    plan = plan_of(raster, batch_size=batch_size)
    encode(plan, encoder, tmp_path / "s.zarr", decoder)
    assert raster.reading.most <= 2 * batch_size + encoding.READERS + 1 + batch_size
    assert raster.reading.most < len(plan.pyramid) / 2


@pytest.mark.parametrize("batch_size", [1, 3])
def test_features_do_not_pile_up_before_a_slow_disk(
    tmp_path: Path, decoder: DecoderFiles, batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    meter = Meter()
    write = StoreWriter.write

    def slow_write(self: StoreWriter, tile: Tile, features: Any) -> None:
        time.sleep(0.02)
        write(self, tile, features)
        meter.add(-1)

    monkeypatch.setattr(StoreWriter, "write", slow_write)
    plan = plan_of(CountingRaster(), batch_size=batch_size)
    encode(plan, SampleEncoder(on_tile=lambda count: meter.add(1)), tmp_path / "s.zarr", decoder)
    assert meter.now == 0
    assert meter.most <= 2 * batch_size + encoding.WRITERS + batch_size
    assert meter.most < len(plan.pyramid) / 2


def test_blocks_of_the_raster_do_not_pile_up(
    tmp_path: Path, decoder: DecoderFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GDAL would keep them in a twentieth of the machine's memory."""
    sizes: list[Any] = []

    def look(count: int) -> None:
        sizes.append(rasterio.env.get_gdal_config("GDAL_CACHEMAX"))

    monkeypatch.delenv("GDAL_CACHEMAX", raising=False)
    plan = plan_of(CountingRaster(), size=(800, 600))
    encode(plan, SampleEncoder(on_tile=look), tmp_path / "ours.zarr", decoder)
    monkeypatch.setenv("GDAL_CACHEMAX", "77")
    with rasterio.Env(GDAL_CACHEMAX=77):
        encode(plan, SampleEncoder(on_tile=look), tmp_path / "theirs.zarr", decoder)
    assert sizes == [256 << 20, 77]


def test_skipped_tiles_do_not_pile_up_either(
    tmp_path: Path, decoder: DecoderFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    meter = Meter()
    skip = StoreWriter.skip

    def slow_skip(self: StoreWriter, tile: Tile) -> None:
        time.sleep(0.01)
        skip(self, tile)
        meter.add(-1)

    monkeypatch.setattr(StoreWriter, "skip", slow_skip)
    plan = replace(plan_of(CountingRaster()), aoi=shapely.box(1e7, 1e7, 2e7, 2e7))
    with pytest.raises(RasterError, match="has no tile to encode"):
        encode(plan, SampleEncoder(), tmp_path / "s.zarr", decoder, progress=lambda done, total: meter.add(bool(done)))
    assert not (tmp_path / "s.zarr").exists()
    assert meter.most <= 2 + encoding.WRITERS + 1


def test_reading_encoding_and_writing_overlap(
    tmp_path: Path, decoder: DecoderFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first tile is not encoded before later ones are read, nor written before the next one is encoded."""
    read_ahead, encoded_ahead = threading.Semaphore(0), threading.Event()
    waits: list[bool] = []
    write = StoreWriter.write

    def on_tile(count: int) -> None:
        if count == 1:
            waits.append(all(read_ahead.acquire(timeout=10) for _ in range(3)))
        else:
            encoded_ahead.set()

    def late_write(self: StoreWriter, tile: Tile, features: Any) -> None:
        waits.append(encoded_ahead.wait(timeout=10))
        write(self, tile, features)

    monkeypatch.setattr(StoreWriter, "write", late_write)
    raster = CountingRaster(on_read=lambda window: read_ahead.release())
    encode(plan_of(raster), SampleEncoder(on_tile=on_tile), tmp_path / "s.zarr", decoder)
    assert all(waits) and len(waits) > 2


class SplitEncoder(SampleEncoder):
    """Counts how many of it run at a time, and waits until so many have."""

    def __init__(self, parts: int, meter: Meter, together: int = 1) -> None:
        super().__init__(seconds=0.005)
        self.parts, self.meter, self.together = parts, meter, together

    def split(self) -> list[SplitEncoder]:
        return [SplitEncoder(1, self.meter, self.parts) for _ in range(self.parts)]

    def encode(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        self.meter.add(1)
        end = time.monotonic() + 10
        while self.meter.most < self.together and time.monotonic() < end:
            time.sleep(0.001)
        try:
            return super().encode(images)
        finally:
            self.meter.add(-1)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_parts_of_an_encoder_run_side_by_side_and_give_the_same(
    tmp_path: Path, decoder: DecoderFiles, batch_size: int
) -> None:
    raster, meter = CountingRaster(), Meter()
    plan = plan_of(raster, batch_size=batch_size)
    report = encode(plan, SplitEncoder(3, meter), tmp_path / "split.zarr", decoder)
    assert report.encoded == len(plan.pyramid) and (meter.now, meter.most) == (0, 3)
    encode(plan, SampleEncoder(), tmp_path / "whole.zarr", decoder)
    assert chunks(tmp_path / "split.zarr") == chunks(tmp_path / "whole.zarr")


def test_tiles_do_not_pile_up_before_parts_of_an_encoder(tmp_path: Path, decoder: DecoderFiles) -> None:
    raster = CountingRaster()

    class Slow(SplitEncoder):
        def split(self) -> list[SplitEncoder]:
            return [Slow(1, self.meter) for _ in range(2)]

        def encode(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
            raster.reading.add(-1)
            return super().encode(images)

    plan = plan_of(raster)
    encode(plan, Slow(2, Meter()), tmp_path / "s.zarr", decoder)
    assert raster.reading.most <= 3 + encoding.READERS + 3 < len(plan.pyramid) / 2


def test_an_error_in_one_part_stops_the_run(tmp_path: Path, decoder: DecoderFiles) -> None:
    class Failing(SplitEncoder):
        def split(self) -> list[SplitEncoder]:
            return [Failing(1, self.meter) for _ in range(2)]

        def encode(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
            raise ModelError("the model is damaged", "copy it again")

    before = threading.active_count()
    with pytest.raises(ModelError, match="the model is damaged"):
        encode(plan_of(CountingRaster()), Failing(2, Meter()), tmp_path / "s.zarr", decoder)
    assert threading.active_count() == before and not (tmp_path / "s.zarr").exists()


@pytest.mark.parametrize(("reading_s", "encoding_s", "readers"), [(0.0, 0.03, 1), (0.01, 0.0, encoding.READERS)])
def test_a_second_reader_helps_where_the_encoder_waits(
    tmp_path: Path, decoder: DecoderFiles, reading_s: float, encoding_s: float, readers: int
) -> None:
    """A single reader that keeps up decodes the blocks that neighbouring tiles share only once."""
    threads: set[str] = set()

    def on_read(window: Window) -> None:
        threads.add(threading.current_thread().name + str(threading.get_ident()))
        time.sleep(reading_s)

    plan = plan_of(CountingRaster(on_read), size=(4000, 3000))
    encode(plan, SampleEncoder(seconds=encoding_s), tmp_path / "s.zarr", decoder)
    assert len(threads) == readers


def failing_after(reads: int) -> CountingRaster:
    """Return a raster whose later reads fail."""
    left = iter(range(reads))

    def fail(window: Window) -> None:
        if next(left, None) is None:
            raise RasterError("a.tif is damaged", "copy it again")

    return CountingRaster(fail)


def encoded_in(store: Path) -> int:
    return sum(count.encoded for count in StoreReader(store).counts())


def test_a_damaged_raster_stops_the_run_and_keeps_what_can_be_resumed(tmp_path: Path, decoder: DecoderFiles) -> None:
    encoder, store = SampleEncoder(), tmp_path / "s.zarr"
    before = threading.active_count()
    with pytest.raises(RasterError, match=r"a\.tif is damaged: copy it again, and continue with --resume"):
        encode(plan_of(failing_after(10)), encoder, store, decoder)
    assert 0 < encoder.encoded <= 10 and threading.active_count() == before
    assert encoded_in(store) > 0
    plan = plan_of(CountingRaster())
    encode(plan, SampleEncoder(), store, decoder, resume=True)
    assert encoded_in(store) == len(plan.pyramid)


def test_a_raster_that_is_damaged_from_the_start_leaves_nothing(tmp_path: Path, decoder: DecoderFiles) -> None:
    with pytest.raises(RasterError, match=r"copy it again$"):
        encode(plan_of(failing_after(0)), SampleEncoder(), tmp_path / "out" / "s.zarr", decoder)
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("is_interrupted", [True, False])
def test_a_store_is_replaced_once_the_new_one_has_a_tile(
    tmp_path: Path, decoder: DecoderFiles, is_interrupted: bool
) -> None:
    plan, store = plan_of(CountingRaster()), tmp_path / "s.zarr"
    encode(plan, SampleEncoder(), store, decoder)
    before = chunks(store)
    encoder = SampleEncoder(on_tile=interrupt_at(1)) if is_interrupted else SampleEncoder()
    failing = plan_of(CountingRaster() if is_interrupted else failing_after(0))
    with pytest.raises(KeyboardInterrupt if is_interrupted else RasterError):
        encode(failing, encoder, store, decoder, overwrite=True)
    assert chunks(store) == before
    others: list[int] = []

    def look(done: int, total: int) -> None:
        others.append(len(list(tmp_path.glob(".*"))))

    with pytest.raises(RasterError, match="--resume"):
        encode(plan_of(failing_after(20)), SampleEncoder(), store, decoder, overwrite=True, progress=look)
    assert 0 < encoded_in(store) < len(plan.pyramid)
    # It takes no space for longer than that.
    assert others[0] == 1 and others[-1] == 0
    encode(plan, SampleEncoder(), store, decoder, overwrite=True)
    assert chunks(store) == before and not list(tmp_path.glob(".*"))


def test_tiles_of_another_run_survive_the_failure_of_the_one_that_began(tmp_path: Path, decoder: DecoderFiles) -> None:
    store, failing = tmp_path / "s.zarr", failing_after(0)

    def other_run(window: Window) -> None:
        with pytest.raises(KeyboardInterrupt):
            encode(plan_of(CountingRaster()), SampleEncoder(on_tile=interrupt_at(3)), store, decoder, resume=True)
        raise RasterError("the network drive does not answer", "try again")

    failing.on_read = other_run
    with pytest.raises(RasterError, match="try again, and continue with --resume"):
        encode(plan_of(failing), SampleEncoder(), store, decoder)
    assert encoded_in(store) >= 2


def full_disk_after(tiles: int, monkeypatch: pytest.MonkeyPatch) -> None:
    write = StoreWriter.write
    written = iter(range(tiles))

    def write_until_full(self: StoreWriter, tile: Tile, features: Any) -> None:
        if next(written, None) is None:
            raise OutputError("s.zarr cannot be written (No space left on device)", "check the space left")
        write(self, tile, features)

    monkeypatch.setattr(StoreWriter, "write", write_until_full)


def test_a_disk_that_fills_up_keeps_what_can_be_resumed(
    tmp_path: Path, decoder: DecoderFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, encoder, store = plan_of(CountingRaster()), SampleEncoder(), tmp_path / "s.zarr"
    with monkeypatch.context() as patch:
        full_disk_after(5, patch)
        with pytest.raises(OutputError, match=r"No space left on device.*continue with --resume"):
            encode(plan, encoder, store, decoder)
    assert encoder.encoded < 5 + 2 * (2 + encoding.WRITERS)
    report = encode(plan, SampleEncoder(), store, decoder, resume=True)
    assert report.resumed == 5 and report.encoded == len(plan.pyramid) - 5


def test_a_disk_that_is_full_from_the_start_keeps_nothing(
    tmp_path: Path, decoder: DecoderFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    full_disk_after(0, monkeypatch)
    with pytest.raises(OutputError, match="check the space left"):
        encode(plan_of(CountingRaster()), SampleEncoder(), tmp_path / "s.zarr", decoder)
    assert [path.name for path in tmp_path.iterdir()] == ["decoder.onnx"]


def interrupt_at(number: int) -> Callable[[int], None]:
    def on_tile(count: int) -> None:
        if count == number:
            raise KeyboardInterrupt

    return on_tile


@pytest.mark.parametrize("at", [1, 2, 17])
def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path: Path, decoder: DecoderFiles, at: int) -> None:
    plan = plan_of(CountingRaster())
    with pytest.raises(KeyboardInterrupt):
        encode(plan, SampleEncoder(on_tile=interrupt_at(at)), tmp_path / "s.zarr", decoder)
    done = sum(StoreReader(tmp_path / "s.zarr").is_encoded(tile) for tile in plan.pyramid)
    assert done == at - 1
    again = SampleEncoder()
    report = encode(plan, again, tmp_path / "s.zarr", decoder, resume=True)
    assert (report.resumed, report.encoded, again.encoded) == (done, len(plan.pyramid) - done, report.encoded)
    encode(plan, SampleEncoder(), tmp_path / "whole.zarr", decoder)
    assert chunks(tmp_path / "s.zarr") == chunks(tmp_path / "whole.zarr")


def test_a_huge_raster_takes_no_more_memory_than_a_large_one(tmp_path: Path, decoder: DecoderFiles) -> None:
    tile = RasterTile(np.full((1024, 1024, 3), 7, np.uint8), has_data=True)
    raster = CountingRaster()
    raster.read_tile = lambda *arguments: tile  # type: ignore[method-assign]
    peaks = []
    for side in (20_000, 200_000):
        plan = replace(plan_of(raster, (side, side)), limit=5)
        tracemalloc.start()
        report = encode(plan, SampleEncoder(), tmp_path / f"{side}.zarr", decoder)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert report.encoded == 5 and [tuple(tile) for tile in plan.tiles] == [(0, 0, col) for col in range(5)]
    assert peaks[1] < peaks[0] + 100_000


def test_coarse_levels_do_not_read_the_raster_again(
    tmp_path: Path, decoder: DecoderFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_raster(tmp_path / "a.tif", ramp(3, 4100, 4300))
    plan = make_plan(Raster(path), SampleEncoder(), EncodeOptions())
    coarse: list[tuple[int, ...]] = []
    read = Raster.read_bands

    def read_bands(self: Raster, window: Window, scale: int) -> Any:
        if scale > 1:
            coarse.append(self.overviews)
        return read(self, window, scale)

    monkeypatch.setattr(Raster, "read_bands", read_bands)
    seen: list[tuple[int, int]] = []
    encode(plan, SampleEncoder(), tmp_path / "s.zarr", decoder, progress=lambda *at: seen.append(at))
    assert len(coarse) > 10 and set(coarse) == {(2, 4, 8)}
    assert seen == sorted(seen) and seen[-1] == (len(plan.tiles), len(plan.tiles))
    assert {path.name for path in tmp_path.iterdir()} == {"a.tif", "s.zarr", "decoder.onnx"}
    monkeypatch.setattr(Raster, "_copy_with_overviews", lambda *arguments: None)
    encode(plan, SampleEncoder(), tmp_path / "direct.zarr", decoder)
    assert set(coarse) == {(2, 4, 8), ()}
    readers = [StoreReader(tmp_path / name) for name in ("s.zarr", "direct.zarr")]
    for tile in plan.tiles:
        stored, direct = (reader.read(tile)["image_embeddings"] for reader in readers)
        # Each overview is rounded.
        assert np.abs(stored - direct).max() <= max(0, tile.level - 1)


def test_tiles_are_in_the_order_of_the_levels_or_in_none() -> None:
    plan = replace(plan_of(CountingRaster(), (5000, 4000)), finest=-1)
    tiles = plan.tiles
    assert list(tiles) == [*plan.pyramid, *plan.pyramid.grid(-1)]
    orders = [list(tiles.shuffled()) for _ in range(2)]
    assert orders[0] != orders[1] and sorted(orders[0]) == sorted(orders[1]) == sorted(tiles)


def test_resuming_a_whole_store_encodes_nothing(tmp_path: Path, decoder: DecoderFiles) -> None:
    plan = plan_of(CountingRaster())
    encode(plan, SampleEncoder(), tmp_path / "s.zarr", decoder)
    before = chunks(tmp_path / "s.zarr")
    encoder = SampleEncoder()
    report = encode(plan, encoder, tmp_path / "s.zarr", decoder, resume=True)
    assert encoder.encoded == report.encoded == 0 and report.resumed == len(plan.pyramid)
    assert chunks(tmp_path / "s.zarr") == before


def test_an_error_while_resuming_keeps_the_older_tiles(tmp_path: Path, decoder: DecoderFiles) -> None:
    plan, store = plan_of(CountingRaster()), tmp_path / "s.zarr"
    with pytest.raises(KeyboardInterrupt):
        encode(plan, SampleEncoder(on_tile=interrupt_at(9)), store, decoder)

    def fail(window: Window) -> None:
        raise RasterError("damaged", "copy it again")

    with pytest.raises(RasterError):
        encode(plan_of(CountingRaster(fail)), SampleEncoder(), store, decoder, resume=True)
    assert sum(count.encoded for count in StoreReader(store).counts()) == 8


def test_two_runs_at_once_share_the_tiles_of_one_store(tmp_path: Path, decoder: DecoderFiles) -> None:
    plan, store = plan_of(CountingRaster(), (12_000, 9_000)), tmp_path / "s.zarr"
    start = threading.Barrier(2)
    failures: list[BaseException] = []
    reports: list[EncodeReport] = []

    def run() -> None:
        start.wait()
        try:
            reports.append(encode(plan, SampleEncoder(seconds=0.002), store, decoder, resume=True))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert all(sum((report.encoded, report.skipped, report.resumed)) == len(plan.pyramid) for report in reports)
    assert min(report.encoded for report in reports) > len(plan.pyramid) / 4
    # Twice as many if they did not share; on a busy machine tiles lie longer between the check and the disk.
    assert sum(report.encoded for report in reports) < 1.4 * len(plan.pyramid)
    encode(plan, SampleEncoder(), tmp_path / "alone.zarr", decoder)
    assert chunks(store) == chunks(tmp_path / "alone.zarr")
    assert {path.name for path in tmp_path.iterdir()} == {"s.zarr", "alone.zarr", "decoder.onnx"}


def test_a_store_made_meanwhile_is_joined_not_replaced(
    tmp_path: Path, decoder: DecoderFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, store = plan_of(CountingRaster()), tmp_path / "s.zarr"
    write_skeleton = StoreWriter._write_skeleton

    def overtaken(self: StoreWriter, folder: Path, files: Any) -> None:
        monkeypatch.setattr(StoreWriter, "_write_skeleton", write_skeleton)
        with pytest.raises(KeyboardInterrupt):
            encode(plan, SampleEncoder(on_tile=interrupt_at(4)), store, decoder)
        write_skeleton(self, folder, files)

    monkeypatch.setattr(StoreWriter, "_write_skeleton", overtaken)
    report = encode(plan, SampleEncoder(), store, decoder, resume=True)
    assert report.resumed == 3


def test_a_store_made_meanwhile_is_an_error_without_resume(
    tmp_path: Path, decoder: DecoderFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, store = plan_of(CountingRaster()), tmp_path / "s.zarr"
    write_skeleton = StoreWriter._write_skeleton

    def overtaken(self: StoreWriter, folder: Path, files: Any) -> None:
        monkeypatch.setattr(StoreWriter, "_write_skeleton", write_skeleton)
        encode(plan, SampleEncoder(), store, decoder)
        write_skeleton(self, folder, files)

    monkeypatch.setattr(StoreWriter, "_write_skeleton", overtaken)
    with pytest.raises(StoreError, match="already exists"):
        encode(plan, SampleEncoder(), store, decoder)
    assert not [problem for _, problem in StoreReader(store).problems() if problem]


@pytest.mark.parametrize("missing", ["decoder.onnx", "level1/image_embeddings/zarr.json"])
def test_half_a_store_is_not_resumed(tmp_path: Path, decoder: DecoderFiles, missing: str) -> None:
    plan, store = plan_of(CountingRaster()), tmp_path / "s.zarr"
    encode(plan, SampleEncoder(), store, decoder)
    (store / missing).unlink()
    with pytest.raises(StoreError, match=missing):
        encode(plan, SampleEncoder(), store, decoder, resume=True)


def test_area_of_interest(tmp_path: Path, decoder: DecoderFiles) -> None:
    raster = Raster(write_raster(tmp_path / "a.tif", ramp(1, 2000, 2500)))
    corner = raster.transform.apply_geometry(shapely.box(2400, 1900, 2450, 1950))
    plan = make_plan(raster, SampleEncoder(), EncodeOptions(aoi=corner))
    report = encode(plan, SampleEncoder(), tmp_path / "s.zarr", decoder)
    reader = StoreReader(tmp_path / "s.zarr")
    done = {tile for tile in plan.pyramid if reader.is_encoded(tile)}
    assert done == {Tile(0, 2, 2), Tile(1, 0, 1), Tile(2, 0, 0)}
    assert report.skipped == len(plan.pyramid) - len(done)
    assert all(reader.state(tile) is not TileState.MISSING for tile in plan.pyramid)


def test_tiles_without_data_are_skipped(tmp_path: Path, decoder: DecoderFiles) -> None:
    pixels = ramp(3, 700, 2500)
    pixels[:, :, 900:] = 0
    plan = make_plan(Raster(write_raster(tmp_path / "a.tif", pixels)), SampleEncoder(), EncodeOptions(levels=1))
    report = encode(plan, SampleEncoder(), tmp_path / "s.zarr", decoder)
    assert (report.encoded, report.skipped) == (2, 1)


def test_plan_keeps_what_was_chosen(tmp_path: Path) -> None:
    raster = Raster(write_raster(tmp_path / "a.tif", ramp(4, 1100, 1300, "uint16"), nodata=0), (4, 1, 2))
    plan = make_plan(raster, SampleEncoder(batch_size=7), EncodeOptions(stretch="0:300", overlap=100, levels=9))
    metadata = plan.metadata
    assert metadata.bands == (4, 1, 2) and metadata.stretch.limits == ((0.0, 300.0),) * 3
    assert metadata.nodata == 0 and metadata.tiling.overlap == 100 and metadata.levels == 2
    assert metadata.aoi_sha256 is None and plan.batch_size == 7
    assert make_plan(raster, SampleEncoder(), EncodeOptions(batch_size=3)).batch_size == 3


@pytest.mark.parametrize("overlap", [-1, 1024])
def test_overlap_out_of_range(tmp_path: Path, overlap: int) -> None:
    raster = Raster(write_raster(tmp_path / "a.tif", ramp(3)))
    with pytest.raises(StoreError, match=f"--overlap {overlap} is out of range"):
        make_plan(raster, SampleEncoder(), EncodeOptions(overlap=overlap))


def test_estimate_agrees_with_the_run(tmp_path: Path, decoder: DecoderFiles) -> None:
    plan = plan_of(CountingRaster())
    found = estimate(plan, SampleEncoder(seconds=0.02), 11)
    assert found.tiles == len(plan.pyramid)
    assert found.seconds > 0.02 * found.tiles
    encode(plan, SampleEncoder(), tmp_path / "s.zarr", decoder)
    actual = folder_bytes(tmp_path / "s.zarr")
    assert actual <= found.store_bytes < actual + 40_000


def test_estimate_of_an_area_without_tiles() -> None:
    plan = replace(plan_of(CountingRaster()), aoi=shapely.box(1e7, 1e7, 2e7, 2e7))
    found = estimate(plan, SampleEncoder(), 11)
    assert (found.tiles, found.seconds) == (0, 0.0)


def test_enlarged_levels_are_added_to_a_store(tmp_path: Path, decoder: DecoderFiles) -> None:
    raster = CountingRaster()
    plan = plan_of(raster, (1500, 1100))
    store = tmp_path / "s.embeddings.zarr"
    encode(plan, SampleEncoder(), store, decoder)
    assert [grid.level for grid in StoreReader(store).grids] == [0, 1]
    report = encode(replace(plan, finest=-1), SampleEncoder(), store, decoder, resume=True)
    enlarged = StoreReader(store).grids[0]
    assert enlarged.level == -1 and (enlarged.width, enlarged.height) == (3000, 2200)
    assert (report.resumed, report.encoded) == (len(plan.pyramid), len(enlarged))
    assert estimate(replace(plan, finest=-1), SampleEncoder(), 0).tiles == len(plan.pyramid) + len(enlarged)


def test_enlarged_tiles_outside_the_area_of_interest_can_be_added_later(tmp_path: Path, decoder: DecoderFiles) -> None:
    store = tmp_path / "s.embeddings.zarr"
    plan = plan_of(CountingRaster(), (1500, 1100))
    encode(plan, SampleEncoder(), store, decoder)

    def of_area(*bounds: float) -> EncodePlan:
        metadata = replace(plan.metadata, aoi_sha256=f"{int(sum(bounds)):064x}")
        return replace(plan, metadata=metadata, aoi=shapely.box(*bounds), finest=-2)

    first = of_area(10, 10, 90, 90)
    report = encode(first, SampleEncoder(), store, decoder, resume=True)
    assert report.encoded == len(first.tiles) - len(plan.pyramid) == 2 and report.skipped == report.resumed == 0
    second = encode(of_area(0, 0, 1500, 1100), SampleEncoder(), store, decoder, resume=True)
    assert second.resumed == 2 and second.encoded == sum(map(len, plan.pyramid.enlarged)) - 2
    with pytest.raises(StoreError, match="area of interest"):
        encode(replace(first, finest=0), SampleEncoder(), store, decoder, resume=True)


@pytest.mark.parametrize("size", [(1100, 400), (100, 60)])
def test_a_tile_of_an_enlarged_level_shows_the_image_enlarged(tmp_path: Path, size: tuple[int, int]) -> None:
    width, height = size
    rng = np.random.default_rng(1)
    image = rng.integers(0, 255, (3, height, width)).astype(np.uint8)
    path = tmp_path / "a.tif"
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=width,
        height=height,
        count=3,
        dtype="uint8",
        crs="EPSG:25830",
        transform=rasterio.Affine(0.5, 0, 5e5, 0, -0.5, 42e5),
    ) as dataset:
        dataset.write(image)
    plan = make_plan(Raster(path), SampleEncoder(), EncodeOptions(finest=-2))
    whole = {
        level: enlarge(np.moveaxis(image, 0, -1), np.ones((height, width), np.bool_), 2**-level) for level in (-1, -2)
    }
    for tile in (tile for tile in plan.tiles if tile.level < 0):
        col, row, tile_width, tile_height = plan.pyramid.window(tile)
        shown = plan.read(tile).image
        np.testing.assert_array_equal(
            shown[:tile_height, :tile_width], whole[tile.level][row : row + tile_height, col : col + tile_width]
        )
        assert (shown[tile_height:] == FILL_RGB).all() and (shown[:, tile_width:] == FILL_RGB).all()

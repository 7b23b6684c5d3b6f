"""Writer and reader together, and what each refuses."""

from __future__ import annotations

import errno
import json
import os
import shutil
import threading
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from operator import eq
from pathlib import Path

import numpy as np
import pytest

from geosam_es.core.grid import Tile
from geosam_es.errors import OutputError, SignatureMismatchError, StoreError
from geosam_es.store import StoreMetadata, StoreReader, StoreWriter, set_crs
from geosam_es.store.reader import TileState, _fill
from tests.helpers import make_metadata

SHAPE = (2, 8, 8)
MODEL = {"name": "m", "encoder_sha256": "1" * 64, "licence": "CC0-1.0", "features": {"image_embeddings": SHAPE}}


def metadata(dtype: str = "float16") -> StoreMetadata:
    return replace(make_metadata(3000, 2000), model=MODEL, dtype=dtype)


@pytest.fixture
def decoder(tmp_path: Path) -> Path:
    path = tmp_path / "decoder"
    path.write_bytes(b"decoder")
    return path


def create(root: Path, decoder: Path, dtype: str = "float16", **options: bool) -> StoreWriter:
    return StoreWriter.create(root, metadata(dtype), {"decoder.onnx": decoder}, **options)


def features(seed: int) -> dict[str, np.ndarray]:
    return {"image_embeddings": np.random.default_rng(seed).normal(size=SHAPE).astype(np.float32)}


@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 2e-3), ("float32", 0.0)])
def test_what_is_written_is_read(tmp_path: Path, decoder: Path, dtype: str, tolerance: float) -> None:
    root = tmp_path / "deep" / "er" / "a.embeddings.zarr"
    writer = create(root, decoder, dtype)
    values = features(1)
    writer.write(Tile(0, 1, 2), values)
    writer.skip(Tile(1, 0, 0))
    reader = StoreReader(root)
    got = reader.read(Tile(0, 1, 2))["image_embeddings"]
    assert got.dtype == np.float32 and got.shape == (1, *SHAPE)
    np.testing.assert_allclose(got[0], values["image_embeddings"], atol=tolerance)
    stored = reader.read_stored(Tile(0, 1, 2))["image_embeddings"]
    assert stored.dtype == dtype
    np.testing.assert_array_equal(stored, got)
    assert reader.state(Tile(0, 1, 2)) is TileState.ENCODED
    assert reader.state(Tile(1, 0, 0)) is TileState.SKIPPED
    assert reader.state(Tile(0, 0, 0)) is TileState.MISSING
    assert writer.is_done(Tile(0, 1, 2)) and writer.is_done(Tile(1, 0, 0)) and not writer.is_done(Tile(0, 0, 0))
    counts = reader.counts()
    assert (counts[0].encoded, counts[1].skipped) == (1, 1)
    assert sum(c.encoded + c.skipped + c.missing for c in counts) == len(reader.pyramid)
    assert reader.decoder.decoder_path.read_bytes() == b"decoder" and reader.decoder.prepare_path is None


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_feature_maps_of_different_sizes_come_back_as_written(tmp_path: Path, decoder: Path, dtype: str) -> None:
    """SAM 2 has three, of SAM 3 with sides that are no powers of two."""
    shapes = {"image_embeddings": (4, 9, 9), "high_res_feats_1": (3, 18, 18), "high_res_feats_0": (2, 36, 36)}
    described = replace(metadata(dtype), model={**MODEL, "features": shapes})
    writer = StoreWriter.create(tmp_path / "a.zarr", described, {"decoder.onnx": decoder})
    random = np.random.default_rng(0)
    written = {
        tile: {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
        for tile in (Tile(0, 0, 0), Tile(0, 1, 2), Tile(1, 0, 0))
    }
    for tile, maps in written.items():
        writer.write(tile, maps)
    reader = StoreReader(tmp_path / "a.zarr")
    for tile, maps in written.items():
        got = reader.read(tile)
        assert {name: one.shape[1:] for name, one in got.items()} == shapes
        for name, wanted in maps.items():
            if dtype == "int8":
                limit = np.abs(wanted).max(axis=(1, 2), keepdims=True) / 127 * 0.5001
                assert (np.abs(got[name][0] - wanted) <= limit).all()
            else:
                np.testing.assert_array_equal(got[name][0], wanted.astype(dtype))


def test_an_enlarged_level_is_added_with_its_first_tile(tmp_path: Path, decoder: Path) -> None:
    root = tmp_path / "a.embeddings.zarr"
    writer, tile = create(root, decoder), Tile(-1, 1, 0)
    before = StoreReader(root)
    assert before.grids[0].level == 0 and before.state(tile) is TileState.MISSING
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: writer.write(tile, features(number)), range(8)))
    writer.skip(Tile(-1, 0, 0))
    reader = StoreReader(root)
    assert [grid.level for grid in reader.grids][:2] == [-1, 0]
    assert reader.state(tile) is before.state(tile) is TileState.ENCODED
    assert reader.state(Tile(-1, 0, 0)) is TileState.SKIPPED and reader.state(Tile(-2, 0, 0)) is TileState.MISSING
    count = reader.counts()[0]
    assert (count.level, count.encoded, count.skipped) == (-1, 1, 1) and count.missing > 0
    # Enlarged levels need not be complete.
    assert {problem for tile, problem in reader.problems() if tile.level == -1} == {""}
    assert not list(root.rglob(".*"))


def test_a_damaged_enlarged_level_is_refused(tmp_path: Path, decoder: Path) -> None:
    writer = create(tmp_path / "a.embeddings.zarr", decoder)
    writer.write(Tile(-2, 0, 0), features(1))
    (writer.root / "level-2" / "image_embeddings" / "zarr.json").write_text("{}", encoding="utf-8")
    with pytest.raises(StoreError, match=r"level-2.*does not match"):
        StoreReader(writer.root)


def test_folders_that_may_not_be_read_are_named(tmp_path: Path, decoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = create(tmp_path / "a.embeddings.zarr", decoder)
    writer.write(Tile(0, 1, 2), features(1))
    reader = StoreReader(writer.root)
    is_file = Path.is_file

    def refuse(path: Path) -> bool:
        if "c" in path.parts:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return is_file(path)

    monkeypatch.setattr(Path, "is_file", refuse)
    with pytest.raises(StoreError, match=r"image_embeddings.*cannot be read \(Permission denied\): check the f"):
        reader.counts()
    with pytest.raises(OutputError, match=r"a\.embeddings\.zarr cannot be written \(Permission denied\)"):
        writer.is_done(Tile(0, 1, 2))


def test_store_can_be_moved(tmp_path: Path, decoder: Path) -> None:
    root = tmp_path / "a.embeddings.zarr"
    create(root, decoder).write(Tile(0, 0, 0), features(2))
    moved = root.rename(tmp_path / "elsewhere with ñ.zarr")
    assert str(tmp_path) not in (moved / "zarr.json").read_text(encoding="utf-8")
    assert StoreReader(moved).is_encoded(Tile(0, 0, 0))


def test_many_threads_may_write(tmp_path: Path, decoder: Path) -> None:
    writer = create(tmp_path / "a.zarr", decoder)
    tiles = list(metadata().pyramid) * 4
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda tile: writer.write(tile, features(tile.col)), tiles))
    reader = StoreReader(tmp_path / "a.zarr")
    assert [problem for _, problem in reader.problems() if problem] == []
    assert not list((tmp_path / "a.zarr").rglob(".*"))


def test_an_existing_store_is_kept_by_default(tmp_path: Path, decoder: Path) -> None:
    root = tmp_path / "a.embeddings.zarr"
    create(root, decoder).write(Tile(0, 0, 0), features(3))
    with pytest.raises(StoreError, match=r"--resume.*--overwrite"):
        create(root, decoder)
    assert StoreReader(root).is_encoded(Tile(0, 0, 0))
    create(root, decoder, overwrite=True)
    assert not StoreReader(root).is_encoded(Tile(0, 0, 0))
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_store_that_cannot_be_replaced_is_kept(
    tmp_path: Path, decoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a virus scanner holds a file of the new one."""
    root = tmp_path / "a.embeddings.zarr"
    create(root, decoder).write(Tile(0, 0, 0), features(3))
    rename = Path.replace

    def refuse(made: Path, target: Path) -> Path:
        if target == root and not StoreReader(made).is_encoded(Tile(0, 0, 0)):
            raise PermissionError(13, "Access is denied")
        return rename(made, target)

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OutputError, match="Access is denied"):
        create(root, decoder, overwrite=True)
    assert StoreReader(root).is_encoded(Tile(0, 0, 0))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.embeddings.zarr", "decoder"]


def test_overwrite_removes_stores_only(tmp_path: Path, decoder: Path) -> None:
    mine = tmp_path / "thesis"
    mine.mkdir()
    (mine / "chapter1.odt").touch()
    with pytest.raises(StoreError, match="is not an embedding store"):
        create(mine, decoder, overwrite=True)
    assert (mine / "chapter1.odt").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["decoder", "thesis"]


def test_resume_compares_signatures(tmp_path: Path, decoder: Path) -> None:
    root = tmp_path / "a.embeddings.zarr"
    create(root, decoder)
    assert StoreWriter.resume(root, replace(metadata(), created="later"), eq).metadata.created == "2026-01-01"
    with pytest.raises(SignatureMismatchError, match=r"bands = \[1, 2, 3\], not \[4, 1, 2\]") as caught:
        StoreWriter.resume(root, replace(metadata(), bands=(4, 1, 2)), eq)
    assert caught.value.key == "bands"
    other = {**MODEL, "encoder_sha256": "2" * 64}
    with pytest.raises(SignatureMismatchError, match="model sha256"):
        StoreWriter.resume(root, replace(metadata(), model=other), eq)


def test_values_that_do_not_fit_are_refused(tmp_path: Path, decoder: Path) -> None:
    writer = create(tmp_path / "a.zarr", decoder)
    for bad in (np.nan, np.inf, 1e6):
        values = features(4)
        values["image_embeddings"][0, 0, 0] = bad
        with pytest.raises(StoreError, match="not finite"):
            writer.write(Tile(0, 0, 0), values)
    with pytest.raises(StoreError, match="shape"):
        writer.write(Tile(0, 0, 0), {"image_embeddings": np.zeros((1, 8, 8), np.float32)})
    assert not writer.is_done(Tile(0, 0, 0))


def test_unwritable_folder_is_one_sentence(tmp_path: Path, decoder: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"cannot be written.*check the free disk space"):
        create(tmp_path / "file" / "a.zarr", decoder)


def test_failed_creation_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OutputError):
        StoreWriter.create(tmp_path / "a.zarr", metadata(), {"decoder.onnx": tmp_path / "missing"})
    assert list(tmp_path.iterdir()) == []


def test_half_a_store_is_refused(tmp_path: Path, decoder: Path) -> None:
    for number, lost in enumerate(
        ["decoder.onnx", "level1/image_embeddings/zarr.json", "level0/image_embeddings/zarr.json"]
    ):
        root = tmp_path / f"{number}.zarr"
        create(root, decoder)
        (root / lost).unlink()
        with pytest.raises(StoreError, match=lost.split("/")[-1].replace(".", r"\.")):
            StoreReader(root)


def test_truncated_and_missing_tiles_are_found(tmp_path: Path, decoder: Path) -> None:
    root = tmp_path / "a.zarr"
    writer = create(root, decoder)
    for tile in metadata().pyramid:
        writer.write(tile, features(5))
    cut, lost, bad = Tile(0, 0, 1), Tile(0, 1, 1), Tile(1, 0, 0)
    chunk = "level{}/image_embeddings/c/{}/{}/0/0/0"
    (root / chunk.format(*cut)).write_bytes(b"\0" * 10)
    (root / chunk.format(*lost)).unlink()
    np.full(SHAPE, np.nan, np.float16).tofile(root / chunk.format(*bad))
    reader = StoreReader(root)
    problems = {tile: problem for tile, problem in reader.problems() if problem}
    assert set(problems) == {cut, lost, bad}
    assert "instead of 128" in problems[cut] and problems[lost] == "missing" and "finite" in problems[bad]
    with pytest.raises(StoreError, match="instead of"):
        reader.read(cut)
    with pytest.raises(StoreError, match="cannot be read"):
        reader.read(lost)


@pytest.mark.parametrize("missing", [0, 2, -1, -3, 200_000])
def test_a_file_that_comes_in_pieces_is_read_whole(missing: int) -> None:
    wanted = np.arange(100_000, dtype=np.float16)
    content = (wanted.tobytes() + b"more")[: wanted.nbytes - missing]
    got = np.zeros_like(wanted)
    reading, writing = os.pipe()

    def write() -> None:
        with os.fdopen(writing, "wb", buffering=0) as stream:
            stream.write(content)

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(write)
        assert _fill(reading, got) == min(len(content), wanted.nbytes + 1)
        done.result()
    os.close(reading)
    there = len(content) // 2
    np.testing.assert_array_equal(got[:there], wanted[:there])


def fill(root: Path, decoder: Path, dtype: str = "float16") -> StoreWriter:
    writer = create(root, decoder, dtype)
    for number, tile in enumerate(metadata().pyramid):
        writer.write(tile, features(number))
    return writer


CHUNK = "level0/image_embeddings/c/1/2/0/0/0"
CHECKSUM = "level0/image_embeddings_crc32/c/1/2"


def zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def one_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[3] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [zeros, one_bit])
@pytest.mark.parametrize("dtype", ["float16", "float32", "int8"])
def test_a_chunk_with_other_values_is_found(
    tmp_path: Path, decoder: Path, damage: Callable[[Path], None], dtype: str
) -> None:
    root = tmp_path / "a.zarr"
    fill(root, decoder, dtype)
    damage(root / CHUNK)
    reader = StoreReader(root)
    assert {tile for tile, problem in reader.problems() if "its checksum differs" in problem} == {Tile(0, 1, 2)}
    # Reading does not compare.
    assert reader.read(Tile(0, 1, 2))["image_embeddings"].shape == (1, *SHAPE)


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_the_checksum_is_that_of_the_chunks(tmp_path: Path, decoder: Path, dtype: str) -> None:
    root = tmp_path / "a.zarr"
    fill(root, decoder, dtype)
    content = (root / CHUNK).read_bytes()
    if dtype == "int8":
        content = (root / "level0/image_embeddings_scale/c/1/2/0").read_bytes() + content
    assert int.from_bytes((root / CHECKSUM).read_bytes(), "little") == zlib.crc32(content)


@pytest.mark.parametrize(
    "lose", [Path.unlink, lambda path: path.write_bytes(b""), lambda path: shutil.rmtree(path.parents[2])]
)
def test_a_tile_without_checksum_is_no_problem(tmp_path: Path, decoder: Path, lose: Callable[[Path], None]) -> None:
    """As in stores of older versions, and where a power cut lost the checksum."""
    root = tmp_path / "a.zarr"
    writer = fill(root, decoder)
    lose(root / CHECKSUM)
    reader = StoreReader(root)
    assert not [problem for _, problem in reader.problems() if problem]
    assert not reader.has_checksums(Tile(0, 1, 2)) and reader.has_checksums(Tile(1, 0, 0))
    writer.write(Tile(0, 1, 2), features(9))
    assert reader.has_checksums(Tile(0, 1, 2)) == (root / CHECKSUM).parents[1].is_dir()
    assert not [problem for _, problem in reader.problems() if problem]


@pytest.mark.parametrize("lose", [Path.unlink, lambda path: path.write_bytes(b""), zeros])
def test_a_tile_that_lost_its_checksum_is_not_done(tmp_path: Path, decoder: Path, lose: Callable[[Path], None]) -> None:
    root = tmp_path / "a.zarr"
    writer = fill(root, decoder)
    assert all(map(writer.is_done, metadata().pyramid)) and StoreReader(root).keeps_checksums()
    lose(root / CHECKSUM)
    assert [tile for tile in metadata().pyramid if not writer.is_done(tile)] == [Tile(0, 1, 2)]
    shutil.rmtree(root / "level0" / "image_embeddings_crc32")
    # As in stores of older versions, which have no checksums.
    assert all(map(writer.is_done, metadata().pyramid)) and not StoreReader(root).keeps_checksums()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no such files")
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_is_no_file_is_an_error_and_does_not_block(tmp_path: Path, decoder: Path, kind: str) -> None:
    root = tmp_path / "a.zarr"
    fill(root, decoder)

    def replace_by_another(name: str) -> None:
        (root / name).unlink()
        os.mkfifo(root / name) if kind == "pipe" else (root / name).symlink_to("/dev/zero")

    replace_by_another(CHUNK)
    with pytest.raises(StoreError, match="has 0 values instead of"):
        StoreReader(root).read(Tile(0, 1, 2))
    assert dict(StoreReader(root).problems())[Tile(0, 1, 2)] == "missing"
    replace_by_another(CHECKSUM.replace("1/2", "0/0"))
    assert not StoreReader(root).has_checksums(Tile(0, 0, 0))
    replace_by_another("decoder.onnx")
    with pytest.raises(StoreError, match=r"decoder\.onnx cannot be read \(it is not a regular file\)"):
        StoreReader(root)
    replace_by_another("zarr.json")
    with pytest.raises(StoreError, match=r"zarr\.json cannot be read \(it is not a regular file\)"):
        StoreReader(root)


def test_resume_removes_what_killed_writers_left(tmp_path: Path, decoder: Path) -> None:
    root = tmp_path / "a.zarr"
    fill(root, decoder)
    (root / "decoders" / ".0123abcd").mkdir(parents=True)
    for name in (".0123abcd", ".89abcdef"):
        (root / name).touch()
    for path in (root / ".0123abcd", root / "decoders" / ".0123abcd"):
        os.utime(path, (0, 0))
    StoreWriter.resume(root, metadata(), eq)
    # The fresh one may be of a writer at work.
    assert {path.relative_to(root).as_posix() for path in root.rglob(".*")} == {".89abcdef"}


def test_an_old_store_that_cannot_be_removed_is_named(
    tmp_path: Path, decoder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "a.zarr"
    fill(root, decoder)
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
    create(root, decoder, overwrite=True)
    (left,) = tmp_path.glob(".*")
    assert f"{root} could not be removed: delete {left}" in caplog.text
    assert not list((root / "level0" / "image_embeddings").glob("c"))


def test_writers_of_the_same_tile_leave_one_with_its_checksum(tmp_path: Path, decoder: Path) -> None:
    root = tmp_path / "a.zarr"
    writers = [create(root, decoder), StoreWriter.resume(root, metadata(), eq)]
    tiles = list(metadata().pyramid)

    def write(number: int) -> None:
        writers[number % 2].write(tiles[number % len(tiles)], features(number))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(3 * len(tiles))))
    reader = StoreReader(root)
    assert not [problem for _, problem in reader.problems() if problem]
    assert all(reader.has_checksums(tile) for tile in tiles)


def test_two_writers_of_one_process_do_not_mix_their_files(
    tmp_path: Path, decoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "a.zarr"
    writers = [create(root, decoder), StoreWriter.resume(root, metadata(), eq)]
    rename, begun, between = Path.replace, threading.Event(), threading.Event()

    def let_the_other_in(made: Path, target: Path) -> Path:
        result = rename(made, target)
        if not begun.is_set():
            begun.set()
            between.wait(0.2)
        elif target == root / CHUNK:
            between.set()
        return result

    monkeypatch.setattr(Path, "replace", let_the_other_in)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(writers[0].write, Tile(0, 1, 2), features(1))
        assert begun.wait(20)
        writers[1].write(Tile(0, 1, 2), features(2))
        first.result()
    assert not [problem for _, problem in StoreReader(root).problems() if "checksum" in problem]


def test_a_chunk_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, decoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "a.zarr"
    writer = create(root, decoder)
    flushed: list[int] = []

    def fsync(descriptor: int) -> None:
        assert not (root / CHUNK).exists()
        flushed.append(os.fstat(descriptor).st_size)

    monkeypatch.setattr(os, "fsync", fsync)
    writer.write(Tile(0, 1, 2), features(1))
    assert flushed == [2 * np.prod(SHAPE)] == [(root / CHUNK).stat().st_size]


@pytest.mark.parametrize("gone", [shutil.rmtree, lambda root: (root / "zarr.json").unlink()])
def test_a_removed_store_is_not_rebuilt(tmp_path: Path, decoder: Path, gone: Callable[[Path], None]) -> None:
    root = tmp_path / "a.embeddings.zarr"
    writer = create(root, decoder)
    gone(root)
    before = sorted(root.rglob("*"))
    for act in (lambda: writer.write(Tile(0, 0, 0), features(1)), lambda: writer.skip(Tile(0, 0, 0))):
        with pytest.raises(StoreError, match=r"a\.embeddings\.zarr was removed or replaced while it was being written"):
            act()
    assert sorted(root.rglob("*")) == before
    writer.discard()


def test_no_tile_of_another_model_comes_into_a_store_that_replaced_this_one(tmp_path: Path, decoder: Path) -> None:
    root = tmp_path / "a.embeddings.zarr"
    writer = create(root, decoder)
    other = replace(writer.metadata, model={**writer.metadata.model, "encoder_sha256": "e" * 64})
    StoreWriter.create(root, other, {"decoder.onnx": decoder}, overwrite=True)
    with pytest.raises(StoreError, match=r"a\.embeddings\.zarr was removed or replaced while it was being written"):
        writer.write(Tile(0, 0, 0), features(1))
    assert not writer.has_tiles()


def test_a_store_made_again_alike_or_with_another_crs_is_still_that_store(tmp_path: Path, decoder: Path) -> None:
    root = tmp_path / "a.embeddings.zarr"
    writer = create(root, decoder)
    StoreWriter.create(root, replace(writer.metadata, created="2030-01-01"), {"decoder.onnx": decoder}, overwrite=True)
    set_crs(root, UTM)
    writer.write(Tile(0, 0, 0), features(1))
    assert writer.has_tiles()


def test_a_store_removed_between_two_steps_is_not_rebuilt(
    tmp_path: Path, decoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "a.embeddings.zarr"
    writer = create(root, decoder)
    rename = Path.replace

    def remove_first(made: Path, target: Path) -> Path:
        shutil.rmtree(root, ignore_errors=True)
        return rename(made, target)

    monkeypatch.setattr(Path, "replace", remove_first)
    with pytest.raises(StoreError, match="was removed"):
        writer.write(Tile(0, 0, 0), features(1))
    assert not root.exists()


def test_no_path_is_longer_than_those_of_the_store(
    tmp_path: Path, decoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows takes paths of 260 characters."""
    lengths: list[int] = []
    rename = Path.replace

    def measure(made: Path, target: Path) -> Path:
        lengths.append(max(len(str(path)) for path in (made, *made.rglob("*"))))
        return rename(made, target)

    monkeypatch.setattr(Path, "replace", measure)
    root = tmp_path / "a.embeddings.zarr"
    fill(root, decoder)
    assert max(lengths) <= max(len(str(path)) for path in root.rglob("*"))


UTM = 'PROJCS["UTM 30N",GEOGCS["ETRS89"]]'


def test_resume_compares_the_crs(tmp_path: Path, decoder: Path) -> None:
    root = tmp_path / "a.embeddings.zarr"
    create(root, decoder)
    set_crs(root, UTM)
    other = replace(metadata(), raster=replace(metadata().raster, crs_wkt='GEOGCS["WGS 84"]'))
    asked: list[tuple[str, str]] = []

    def same(*texts: str) -> bool:
        asked.append(texts)
        return len(asked) > 1

    with pytest.raises(SignatureMismatchError, match=r"CRS = 'UTM 30N', not 'WGS 84': .*--set-crs") as caught:
        StoreWriter.resume(root, other, same)
    assert caught.value.key == "CRS"
    # What the caller takes for the same CRS is the same; the store keeps its own text.
    assert StoreWriter.resume(root, other, same).metadata.raster.crs_wkt == UTM
    assert asked == [(UTM, 'GEOGCS["WGS 84"]')] * 2


def test_set_crs_changes_the_crs_alone(tmp_path: Path, decoder: Path) -> None:
    root = tmp_path / "a.embeddings.zarr"
    fill(root, decoder)
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    document = json.loads((root / "zarr.json").read_text())
    document["consolidated_metadata"] = None
    (root / "zarr.json").write_text(json.dumps(document))
    assert set_crs(root, UTM).raster.crs_wkt == UTM == StoreReader(root).metadata.raster.crs_wkt
    document["attributes"]["geosam_es"]["raster"]["crs_wkt"] = UTM
    assert json.loads((root / "zarr.json").read_text()) == document
    changed = {path for path, content in before.items() if path.read_bytes() != content}
    assert changed == {root / "zarr.json"} and set(root.rglob("*")) >= set(before)


@pytest.mark.parametrize("damaged", [3, None, "EPSG:25830", "PROJCS["])
def test_set_crs_mends_a_damaged_crs(tmp_path: Path, decoder: Path, damaged: object) -> None:
    root = tmp_path / "a.embeddings.zarr"
    create(root, decoder)
    path = root / "zarr.json"
    document = json.loads(path.read_text())
    document["attributes"]["geosam_es"]["raster"]["crs_wkt"] = damaged
    path.write_text(json.dumps(document))
    with pytest.raises(StoreError, match="crs_wkt"):
        StoreReader(root)
    set_crs(root, UTM)
    assert StoreReader(root).metadata.raster.crs_wkt == UTM


def test_set_crs_refuses_invalid_wkt_and_other_folders(tmp_path: Path, decoder: Path) -> None:
    root = tmp_path / "a.embeddings.zarr"
    create(root, decoder)
    before = (root / "zarr.json").read_bytes()
    with pytest.raises(StoreError, match="not a CRS as WKT"):
        set_crs(root, "EPSG:25830")
    assert (root / "zarr.json").read_bytes() == before
    with pytest.raises(StoreError, match="is not an embedding store"):
        set_crs(tmp_path, UTM)

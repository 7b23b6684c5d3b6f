"""Writer and reader together, and what each refuses."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from geosam_es.core.grid import Tile
from geosam_es.errors import OutputError, SignatureMismatchError, StoreError
from geosam_es.store import StoreMetadata, StoreReader, StoreWriter
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
    assert reader.decoder_path.read_bytes() == b"decoder" and reader.prepare_path is None


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


def test_existing_is_kept_unless_told(tmp_path: Path, decoder: Path) -> None:
    root = tmp_path / "a.embeddings.zarr"
    create(root, decoder).write(Tile(0, 0, 0), features(3))
    with pytest.raises(StoreError, match=r"--resume.*--overwrite"):
        create(root, decoder)
    assert StoreReader(root).is_encoded(Tile(0, 0, 0))
    create(root, decoder, overwrite=True)
    assert not StoreReader(root).is_encoded(Tile(0, 0, 0))
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_overwrite_never_removes_what_is_no_store(tmp_path: Path, decoder: Path) -> None:
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
    assert StoreWriter.resume(root, replace(metadata(), created="later")).metadata.created == "2026-01-01"
    with pytest.raises(SignatureMismatchError, match=r"bands = \[1, 2, 3\], not \[4, 1, 2\]") as caught:
        StoreWriter.resume(root, replace(metadata(), bands=(4, 1, 2)))
    assert caught.value.key == "bands"
    other = {**MODEL, "encoder_sha256": "2" * 64}
    with pytest.raises(SignatureMismatchError, match="model sha256"):
        StoreWriter.resume(root, replace(metadata(), model=other))


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
    with pytest.raises(OutputError, match=r"cannot be written.*check the space"):
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
    assert "in place of 128" in problems[cut] and problems[lost] == "missing" and "finite" in problems[bad]
    with pytest.raises(StoreError, match="in place of"):
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

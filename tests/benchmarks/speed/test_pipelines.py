"""The rows about the pipeline, with a model that takes no time."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.speed.images import write_raster
from benchmarks.speed.measure import Bench
from benchmarks.speed.pipelines import PipelineTimes, measure_pipeline
from encoder_tools.models.loading import load_model


def test_pipeline_and_bare_model_encode_the_same_tiles(model: Path, tmp_path: Path) -> None:
    bench = Bench(tmp_path, threads=1, quick=True)
    loaded = load_model(str(model), None, "cpu", tmp_path, threads=1)
    image = write_raster(tmp_path / "image.tif", 1500, 1100, compress="JPEG", photometric="YCBCR")
    rows = list(
        measure_pipeline(bench, "bright", loaded.encoder, loaded.export_decoder(), image, image, tiles=3, runs=(2, 2))
    )
    assert [row.key for row in rows] == ["pipeline_bright", "reading_bright"]
    pipeline, reading = rows
    assert pipeline.value is not None and reading.value is not None
    assert pipeline.ours and pipeline.reference and reading.ours and reading.reference
    assert abs(pipeline.value - pipeline.reference.median_ms / pipeline.ours.median_ms) < 1e-9
    assert abs(reading.value - reading.ours.median_ms / reading.reference.median_ms) < 1e-9
    assert not (tmp_path / "pipeline.embeddings.zarr").exists()


def test_runs_are_compared_with_their_neighbours() -> None:
    # The machine slows down between two runs of a turn: the medians, 14 and 16, would say more than any turn.
    bare, whole = [10.0, 14.0, 18.0], [10.2, 16.0, 18.0]
    assert PipelineTimes(bare, [], whole, []).slowdown == pytest.approx(1.02)

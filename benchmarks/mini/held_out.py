"""The held-out imagery that `mini` is measured on, and the options of every measurement."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path

from encoder_tools.mini.labelled_tiles import LabelledScene, evaluation_scenes
from encoder_tools.mini.sources import data_folder

from .exported_model import MODEL_FOLDER

__all__ = ["held_out", "measurement_parser", "thinned"]


def held_out(data: Path | None, limit: int | None = None) -> list[LabelledScene]:
    """Read the held-out sets.

    Parameters
    ----------
    data : Path or None
        Folder of labelled imagery; None takes ``GEOSAM_ES_DATA``.
    limit : int, optional
        Approximate number of objects of each set, evenly spread.

    Raises
    ------
    RasterError
        If a folder is missing.
    """
    return thinned(list(evaluation_scenes(data_folder(data))), limit)


def measurement_parser(module: str, description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options of every measurement on held-out imagery."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.mini.{module}", description=description)
    parser.add_argument("--data", type=Path, help="folder of labelled imagery (default: GEOSAM_ES_DATA)")
    parser.add_argument("--models", type=Path, default=MODEL_FOLDER, help="folder of the ONNX files")
    parser.add_argument("--limit", type=int, help="approximate number of objects of each set, for a quick run")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="default: one for each core")
    return parser


def thinned(scenes: list[LabelledScene], limit: int | None) -> list[LabelledScene]:
    """Keep every n-th object so that about `limit` remain of each set."""
    if limit is None:
        return scenes
    totals: dict[str, int] = {}
    for scene in scenes:
        totals[scene.dataset] = totals.get(scene.dataset, 0) + len(scene.polygons)
    steps = {dataset: max(1, round(total / limit)) for dataset, total in totals.items()}
    return [replace(scene, polygons=scene.polygons[:: steps[scene.dataset]]) for scene in scenes]

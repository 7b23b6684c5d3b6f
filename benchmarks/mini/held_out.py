"""The held-out imagery that `mini` is measured on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from encoder_tools.mini.labelled_tiles import LabelledScene, evaluation_scenes
from encoder_tools.mini.sources import data_folder

__all__ = ["held_out", "thinned"]


def held_out(data: Path | None, limit: int | None = None) -> list[LabelledScene]:
    """Read the held-out sets.

    Parameters
    ----------
    data : Path or None
        Folder of labelled imagery; None takes ``GEOSAM_ES_DATA``.
    limit : int, optional
        About how many objects of each set to take, evenly spread.

    Raises
    ------
    RasterError
        Where a folder is missing.
    """
    return thinned(list(evaluation_scenes(data_folder(data))), limit)


def thinned(scenes: list[LabelledScene], limit: int | None) -> list[LabelledScene]:
    """Keep every n-th object so that about `limit` remain of each set."""
    if limit is None:
        return scenes
    totals: dict[str, int] = {}
    for scene in scenes:
        totals[scene.dataset] = totals.get(scene.dataset, 0) + len(scene.polygons)
    steps = {dataset: max(1, round(total / limit)) for dataset, total in totals.items()}
    return [replace(scene, polygons=scene.polygons[:: steps[scene.dataset]]) for scene in scenes]

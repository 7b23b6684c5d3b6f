"""What each part of the training data brings: ``python -m benchmarks.mini.ablation --data DIR --out DIR``.

Short trainings of the same length, one with everything and one without each source, all with the same few seeds,
measured on the held-out sets. A source is compared with everything seed by seed: what those differences have in common
is the source, and what they have not is chance. A run that is there already is not made again, and one that was
interrupted goes on.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from encoder_tools.mini.config import TrainConfig
from encoder_tools.mini.train import run_training
from geosam_es.errors import GeoSamError, ModelError, OutputError
from geosam_es.inference.encoder import MODEL_FILE

from ..markdown import markdown_table, replace_sections
from .evaluate import evaluate

__all__ = ["ablation_table", "runs", "without"]

EVERYTHING = "everything"
RESULT_FILE = "ablation.json"
METRICS = ("click", "box", "5 clicks")


def without(config: TrainConfig, source: str) -> TrainConfig:
    """Return the settings with a source left out, the others sharing its part.

    Raises
    ------
    ModelError
        If there is no such source.
    """
    if source not in config.source_shares:
        raise ModelError(f"'{source}' is no source of training data", f"choose of {', '.join(config.source_shares)}")
    shares = {name: share for name, share in config.source_shares.items() if name != source}
    return dataclasses.replace(config, source_shares=shares)


def short_config(steps: int) -> TrainConfig:
    """Return the settings of a short run; it is not stopped early, so that all runs are as long."""
    config = TrainConfig()
    warm_up = min(config.warm_up_steps, max(1, steps // 10))
    return dataclasses.replace(config, steps=steps, warm_up_steps=warm_up, validate_every=steps + 1)


def runs(config: TrainConfig, seeds: int) -> dict[tuple[str, int], TrainConfig]:
    """Return the settings of every run by what it is trained on and its seed, all runs of a seed together."""
    found = {}
    for seed in range(config.seed, config.seed + seeds):
        seeded = dataclasses.replace(config, seed=seed)
        found[EVERYTHING, seed] = seeded
        found |= {(f"without {source}", seed): without(seeded, source) for source in config.source_shares}
    return found


def run_one(options: argparse.Namespace, name: str, config: TrainConfig) -> dict[str, Any]:
    """Train and measure, or read what an earlier call measured.

    Returns
    -------
    dict
        ``steps`` that were made, ``settings``, and the ``results`` of the evaluation.

    Raises
    ------
    ModelError
        If an earlier call had other settings.
    """
    folder = options.out / f"{name.replace(' ', '_')}_{config.seed}"
    settings = {"minutes": options.minutes, "limit": options.limit, "config": config.to_json()}
    settings = json.loads(json.dumps(settings))
    path = folder / RESULT_FILE
    if path.is_file():
        known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if known["settings"] != settings:
            raise ModelError(f"'{folder}' was made with other settings", "choose another --out")
        return known
    model = run_training(options.data, folder, options.minutes, config, scores=False)
    steps = json.loads((model / MODEL_FILE).read_text(encoding="utf-8"))["training"]["steps"]
    results = evaluate(options.data, model, options.limit, processes=options.processes)
    found = {"steps": steps, "settings": settings, "results": results}
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)
    return found


def ablation_table(found: Mapping[tuple[str, int], Mapping[str, Any]]) -> str:
    """Return a Markdown table: mean IoU with everything, and by how much each source left out changes it.

    Parameters
    ----------
    found : mapping of (str, int) to dict
        From `run_one`, by what it was trained on and its seed.

    Returns
    -------
    str
        Means over seeds; in brackets the smallest and the largest, of the IoU or of the difference of the two runs of
        a seed.
    """
    seeds = sorted({seed for _, seed in found})
    datasets = list(found[EVERYTHING, seeds[0]]["results"])
    rows = []
    for name in dict.fromkeys(name for name, _ in found):
        steps = " ".join(sorted({str(found[name, seed]["steps"]) for seed in seeds}))
        for metric in METRICS:
            cells = [_cell(found, name, metric, dataset, seeds) for dataset in datasets]
            rows.append([name, steps, metric, *cells])
    return markdown_table(["trained on", "steps", "prompt", *datasets], rows)


def _cell(
    found: Mapping[tuple[str, int], Mapping[str, Any]], name: str, metric: str, dataset: str, seeds: Sequence[int]
) -> str:
    def reached(trained_on: str, seed: int) -> float:
        return float(found[trained_on, seed]["results"][dataset][metric][0])

    if name == EVERYTHING:
        values = [reached(name, seed) for seed in seeds]
        return f"{fmean(values):.3f} ({min(values):.3f} to {max(values):.3f})"
    values = [reached(name, seed) - reached(EVERYTHING, seed) for seed in seeds]
    return f"{fmean(values):+.3f} ({min(values):+.3f} to {max(values):+.3f})"


def main() -> None:
    """Parse the command line, train and measure every run, print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mini.ablation", description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of labelled imagery (default: GEOSAM_ES_DATA)")
    parser.add_argument("--out", type=Path, default=Path("runs") / "ablation", help="folder of the runs")
    parser.add_argument("--steps", type=int, default=800, help="length of each run")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each kind, each with a seed of its own")
    parser.add_argument("--minutes", type=float, help="end each run after so long, whatever its steps")
    parser.add_argument("--limit", type=int, help="about how many objects of each set to measure")
    parser.add_argument("--page", type=Path, help="page whose table of ablation is replaced")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="of the evaluation")
    options = parser.parse_args()
    try:
        wanted = runs(short_config(options.steps), max(1, options.seeds))
        found = {key: run_one(options, key[0], config) for key, config in wanted.items()}
        text = ablation_table(found)
        print(text)
        if options.page is not None:
            replace_sections(options.page, {"ablation": text})
    except GeoSamError as error:
        parser.exit(2, f"error: {error.user_message}\n")
    except OSError as error:
        parser.exit(2, f"error: {OutputError(f'cannot write to {options.out} ({error})', 'choose another --out')}\n")


if __name__ == "__main__":
    main()

"""Ablation of the training data: ``python -m benchmarks.mini.ablation --data DIR --out DIR``.

Short trainings of equal length, with all sources and without each of them, with the same few seeds, are measured on the
held-out sets. They begin with nothing, or with the model of ``--from``. The effect of a source is the mean difference
of the two runs of each seed; its spread shows chance. Finished runs are reused, and interrupted ones resume.
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

from encoder_tools.mini.config import Continuation, TrainConfig
from encoder_tools.mini.train import run_training
from geosam_es.errors import GeoSamError, ModelError, OutputError
from geosam_es.inference.encoder import MODEL_FILE
from geosam_es.store.files import write_text

from ..markdown import markdown_table, replace_sections
from .evaluate import evaluate

__all__ = ["ablation_table", "runs", "without"]

EVERYTHING = "everything"
RESULT_FILE = "ablation.json"
METRICS = ("click", "box", "5 clicks")


def without(config: TrainConfig, source: str) -> TrainConfig:
    """Return the settings without a source; the others divide its share.

    Raises
    ------
    ModelError
        If the source is unknown.
    """
    if source not in config.source_shares:
        raise ModelError(f"unknown source '{source}'", f"choose one of {', '.join(config.source_shares)}")
    shares = {name: share for name, share in config.source_shares.items() if name != source}
    return dataclasses.replace(config, source_shares=shares)


def short_config(steps: int, rate: float | None = None) -> TrainConfig:
    """Return the settings of a short run without early stopping, so that all runs have the same length.

    With a learning rate, a run has a continuation of so many steps too, for runs that begin with a model.
    """
    config = TrainConfig()
    warm_up = min(config.warm_up_steps, max(1, steps // 10))
    further = () if rate is None else (Continuation(steps, rate),)
    return dataclasses.replace(
        config, continuations=further, steps=steps, warm_up_steps=warm_up, validate_every=steps + 1
    )


def runs(config: TrainConfig, seeds: int, left_out: Sequence[str] | None = None) -> dict[tuple[str, int], TrainConfig]:
    """Return the settings of every run by its training data and seed, grouped by seed; None leaves out each source."""
    found = {}
    for seed in range(config.seed, config.seed + seeds):
        seeded = dataclasses.replace(config, seed=seed)
        found[EVERYTHING, seed] = seeded
        found |= {(f"without {source}", seed): without(seeded, source) for source in left_out or config.source_shares}
    return found


def run_one(options: argparse.Namespace, name: str, config: TrainConfig) -> dict[str, Any]:
    """Train and measure, or read the results of an earlier call.

    Returns
    -------
    dict
        Number of ``steps``, ``settings``, and the ``results`` of the evaluation.

    Raises
    ------
    ModelError
        If an earlier call had other settings.
    """
    folder = options.out / f"{name.replace(' ', '_')}_{config.seed}"
    settings = {"minutes": options.minutes, "limit": options.limit, "config": config.to_json()}
    settings["begin_with"] = None if options.begin_with is None else str(options.begin_with)
    settings = json.loads(json.dumps(settings))
    path = folder / RESULT_FILE
    if path.is_file():
        known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if known["settings"] != settings:
            raise ModelError(f"'{folder}' was made with other settings", "choose another --out")
        return known
    model = run_training(options.data, folder, options.minutes, config, options.begin_with, scores=False)
    steps = json.loads((model / MODEL_FILE).read_text(encoding="utf-8"))["training"]["steps"]
    results = evaluate(options.data, model, options.limit, processes=options.processes)
    found = {"steps": steps, "settings": settings, "results": results}
    write_text(path, json.dumps(found, indent=1) + "\n")
    return found


def ablation_table(found: Mapping[tuple[str, int], Mapping[str, Any]]) -> str:
    """Return a Markdown table: mean IoU with all sources, and the change without each of them.

    Parameters
    ----------
    found : mapping of (str, int) to dict
        From `run_one`, by training data and seed.

    Returns
    -------
    str
        Means over seeds; in brackets the smallest and the largest value.
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
    parser.add_argument(
        "--from", dest="begin_with", type=Path, help="model folder or checkpoint that each run begins with"
    )
    parser.add_argument("--learning-rate", type=float, default=3e-4, help="highest learning rate with --from")
    parser.add_argument("--leave-out", nargs="+", help="sources to leave out in turn (default: each of them)")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds, with a run of each kind")
    parser.add_argument("--minutes", type=float, help="time limit of each run")
    parser.add_argument("--limit", type=int, help="approximate number of objects of each set")
    parser.add_argument("--page", type=Path, help="page whose ablation table is replaced")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="processes of the evaluation")
    options = parser.parse_args()
    try:
        config = short_config(options.steps, options.learning_rate if options.begin_with else None)
        wanted = runs(config, max(1, options.seeds), options.leave_out)
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

"""Running the cases, each in its own process, so that memory and threads of one do not affect the next."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from encoder_tools.models.malloc import tune_malloc
from geosam_es.errors import GeoSamError

from .measure import Bench, machine
from .model import Item, Row, item_from_json
from .report import Results

__all__ = ["CASES", "run_benchmark"]

CASES = {
    "decode": "decode",
    "polygon": "polygon",
    "hover": "hover",
    "store": "storing",
    "encode": "encoders",
    "pipeline": "pipelines",
    "import": "startup",
    "families": "families",
    "gpu": "gpu",
}
"""Cases and their modules."""

_LAST_LINES = 3


def run_benchmark(cases: Sequence[str], threads: int, quick: bool) -> Results:
    """Run cases one after another.

    Parameters
    ----------
    cases : sequence of str
        Names of `CASES`.
    threads : int
    quick : bool
        Whether to make only a few runs.

    Returns
    -------
    Results
        A case that fails becomes a row that says so, and the others run.
    """
    items: list[Item] = []
    with TemporaryDirectory(prefix="geosam-es-bench-") as folder:
        for name in cases:
            started = time.perf_counter()
            items += _in_process(name, Path(folder), threads, quick)
            click.echo(f"{name}: {time.perf_counter() - started:.0f} s", err=True)
    date = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return Results(machine(threads), date, tuple(items))


def _in_process(name: str, work: Path, threads: int, quick: bool) -> list[Item]:
    output = work / f"{name}.json"
    command = [sys.executable, "-m", __name__, name, str(work), str(output), "--threads", str(threads)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
    done = subprocess.run(
        [*command, *(["--quick"] if quick else [])], stderr=subprocess.PIPE, text=True, env=environment, check=False
    )
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        click.echo("\n".join(lines[-_LAST_LINES:]), err=True)
        reason = lines[-1] if lines else f"exit code {done.returncode}"
        return [Row(name, name, "", None, note=f"failed: {reason}")]
    return [item_from_json(value) for value in json.loads(output.read_text(encoding="utf-8"))]


def main() -> None:
    """Run one case and write its items as JSON; for `run_benchmark`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("case", choices=CASES)
    parser.add_argument("work", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    # Before the case imports PyTorch, and for the references too, because it is a setting of the C library.
    tune_malloc()
    try:
        case = importlib.import_module(f".{CASES[options.case]}", __package__)
        items = list(case.run(Bench(options.work, options.threads, options.quick)))
    except GeoSamError as error:
        sys.exit(error.user_message)
    options.output.write_text(json.dumps([item.to_json() for item in items]), encoding="utf-8")


if __name__ == "__main__":
    main()

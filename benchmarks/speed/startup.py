"""Importing the part of the plugin that answers prompts, in a fresh process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

from .measure import Bench, timing_of
from .model import Goal, Item, Row

__all__ = ["run"]

_CODE = """
import sys, time
import numpy
started = time.perf_counter()
import geosam_es.inference.session
import onnxruntime
print(time.perf_counter() - started)
"""


def run(bench: Bench) -> Iterator[Item]:
    """Time the imports; the first of them fills the file cache and is not counted."""
    seconds = []
    for _ in range(1 + bench.runs(9)):
        done = subprocess.run([sys.executable, "-c", _CODE], capture_output=True, text=True, check=True)
        seconds.append(float(done.stdout))
    timing = timing_of(seconds[1:])
    yield Row(
        "import",
        "first import of the plugin's inference code, with onnxruntime, shapely and contourpy",
        "",
        timing.median_ms / 1e3,
        unit="s",
        goal=Goal(0.5),
        ours=timing,
        note="without numpy, which QGIS has already imported; files in the cache",
    )

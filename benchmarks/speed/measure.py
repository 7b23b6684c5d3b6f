"""Time, taken in turns; how alike masks are; what the machine can do at most."""

from __future__ import annotations

import os
import platform
import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .model import Agreement, Timing

__all__ = [
    "Bench",
    "Call",
    "machine",
    "mask_agreement",
    "mask_iou",
    "mask_iou_but_one",
    "matrix_gflops",
    "take_turns",
    "timing_of",
]

_ROUNDING = 1e-4
"""Logits that differ by less may have been summed in another order."""

LEAST_IOU = 0.999
_REST_S = 0.004
_PACKAGES = ("numpy", "onnxruntime", "torch", "segment-anything", "rasterio", "shapely", "contourpy")
_MATRIX_SIDE = 2048


@dataclass(frozen=True)
class Bench:
    """What every case gets.

    Attributes
    ----------
    work : Path
        A folder for files, shared by the cases of a run.
    threads : int
    quick : bool
        Whether a few runs are enough.
    """

    work: Path
    threads: int
    quick: bool

    def runs(self, many: int, few: int = 2) -> int:
        """Return how often to measure."""
        return few if self.quick else many


def timing_of(seconds: Sequence[float]) -> Timing:
    """Summarise times in seconds."""
    return Timing(float(np.median(seconds)) * 1e3, float(np.percentile(seconds, 95)) * 1e3, len(seconds))


Call = Callable[[int], Any]
"""Something to be timed; gets the number of the run, from which it takes its prompt."""


def take_turns(cases: Mapping[str, Call], runs: int, warm_up: int = 2) -> dict[str, Timing]:
    """Time several things in turns, so that what else the machine does meets all of them alike.

    Parameters
    ----------
    cases : mapping of str to Call
    runs : int
    warm_up : int
        Runs that are not counted.

    Returns
    -------
    dict of str to Timing
    """
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    order = list(cases)
    chance = random.Random(0)
    for run in range(warm_up + runs):
        # In another order each time, so that none always comes after the same other one, and none right after itself:
        # it would find its own data in the caches.
        before = order[-1]
        chance.shuffle(order)
        if order[0] == before:
            order.append(order.pop(0))
        for name in order:
            # Threads of the library before may spin for a while.
            time.sleep(_REST_S)
            started = time.perf_counter()
            cases[name](run)
            seconds[name].append(time.perf_counter() - started)
    return {name: timing_of(values[warm_up:]) for name, values in seconds.items()}


def mask_iou(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Return the IoU of two masks, given as logits; two empty ones are equal."""
    a, b = first > 0, second > 0
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 1.0


def mask_iou_but_one(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Return the IoU of two masks, given as logits, as if one pixel that differs by rounding alone were equal.

    A logit that is zero but for rounding falls on either side; in a mask of less than 1000 pixels that one is more than
    0.001.
    """
    a, b = first > 0, second > 0
    union = int((a | b).sum())
    by_rounding = bool(((a ^ b) & (np.abs(first - second) < _ROUNDING)).any())
    return 1.0 - (int((a ^ b).sum()) - by_rounding) / union if union else 1.0


def mask_agreement(ious: Sequence[float], least: float = LEAST_IOU) -> Agreement:
    """Put the IoUs of pairs of masks together: the smallest counts."""
    return Agreement(f"smallest IoU of {len(ious)} masks", min(ious), least)


def matrix_gflops(runs: int) -> float:
    """Return the float32 matrix products' speed of this machine, 10^9 operations a second, on torch's threads."""
    # Imported here, because torch is not installed everywhere and takes seconds to import.
    import torch

    matrix = torch.ones(_MATRIX_SIDE, _MATRIX_SIDE)
    best = min(take_turns({"product": lambda _: torch.mm(matrix, matrix)}, 1)["product"].median_ms for _ in range(runs))
    return 2 * _MATRIX_SIDE**3 / best / 1e6


def machine(threads: int) -> dict[str, Any]:
    """Return what the figures depend on: processor, threads, versions."""
    installed = {distribution.metadata["Name"]: distribution.version for distribution in metadata.distributions()}
    versions = {name: installed[name] for name in _PACKAGES if name in installed}
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "memory_gib": _memory_gib(),
        "system": f"{platform.system()} {platform.release()}",
        "python": sys.version.split()[0],
        "versions": versions,
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    found = dict(line.split(":", 1) for line in lines if ":" in line)
    names = {key.strip(): value.strip() for key, value in found.items()}
    wide = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in names.get("flags", "").split()]
    return f"{names.get('model name') or platform.processor() or platform.machine()} ({', '.join(wide) or 'no AVX'})"


def _memory_gib() -> float | None:
    if not hasattr(os, "sysconf"):
        return None
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)

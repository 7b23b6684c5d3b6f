"""Timing in turns, agreement of masks, and the speed of the machine."""

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

from encoder_tools.evaluation.metrics import intersection_over_union

from .model import Agreement, Timing

__all__ = [
    "Bench",
    "Call",
    "machine",
    "mask_agreement",
    "mask_iou",
    "mask_iou_but_one",
    "matrix_gflops",
    "processor_name",
    "take_turns",
    "timing_of",
]

_ROUNDING = 1e-4
"""Differences of logits below this may come from another order of summation."""

LEAST_IOU = 0.999
_REST_S = 0.004
_PACKAGES = ("numpy", "onnxruntime", "torch", "segment-anything", "rasterio", "shapely", "contourpy")
_MATRIX_SIDE = 2048


@dataclass(frozen=True)
class Bench:
    """Settings of a run, the same for every case.

    Attributes
    ----------
    work : Path
        Folder for temporary files, shared by all cases.
    threads : int
    quick : bool
        Whether a few runs are enough.
    """

    work: Path
    threads: int
    quick: bool

    def runs(self, many: int, few: int = 2) -> int:
        """Return the number of runs."""
        return few if self.quick else many


def timing_of(seconds: Sequence[float]) -> Timing:
    """Summarise times in seconds."""
    return Timing(float(np.median(seconds)) * 1e3, float(np.percentile(seconds, 95)) * 1e3, len(seconds))


Call = Callable[[int], Any]
"""A function to be timed; it takes the number of the run, from which it chooses its prompt."""


def take_turns(cases: Mapping[str, Call], runs: int, warm_up: int = 2) -> dict[str, Timing]:
    """Time several cases in turns, so that other load on the machine affects all of them alike.

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
        # In a different order each time, so that no case always follows the same other one, and none follows itself and
        # finds its own data in the caches.
        before = order[-1]
        chance.shuffle(order)
        if order[0] == before:
            order.append(order.pop(0))
        for name in order:
            # Threads of the previous library may spin for a while.
            time.sleep(_REST_S)
            started = time.perf_counter()
            cases[name](run)
            seconds[name].append(time.perf_counter() - started)
    return {name: timing_of(values[warm_up:]) for name, values in seconds.items()}


def mask_iou(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Return the IoU of two masks given as logits, 1 if both are empty."""
    return intersection_over_union(first > 0, second > 0)


def mask_iou_but_one(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Return the IoU of two masks given as logits, not counting one pixel that differs only by rounding.

    A logit close to zero may get either sign. In a mask of fewer than 1000 pixels one pixel changes the IoU by more
    than 0.001.
    """
    a, b = first > 0, second > 0
    union = int((a | b).sum())
    by_rounding = bool(((a ^ b) & (np.abs(first - second) < _ROUNDING)).any())
    return 1.0 - (int((a ^ b).sum()) - by_rounding) / union if union else 1.0


def mask_agreement(ious: Sequence[float]) -> Agreement:
    """Return the agreement of pairs of masks, which is their smallest IoU."""
    return Agreement(f"smallest IoU of {len(ious)} masks", min(ious), LEAST_IOU)


def matrix_gflops(runs: int) -> float:
    """Return the speed of float32 matrix products on PyTorch's threads, in 10^9 operations per second."""
    # Imported here, because torch is not installed everywhere and takes seconds to import.
    import torch

    matrix = torch.ones(_MATRIX_SIDE, _MATRIX_SIDE)
    best = min(take_turns({"product": lambda _: torch.mm(matrix, matrix)}, 1)["product"].median_ms for _ in range(runs))
    return 2 * _MATRIX_SIDE**3 / best / 1e6


def machine(threads: int) -> dict[str, Any]:
    """Return what the results depend on: processor, threads, versions."""
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


def processor_name() -> str:
    """Return the name of the processor."""
    return _cpu_info().get("model name") or platform.processor() or platform.machine()


def _processor() -> str:
    flags = _cpu_info().get("flags", "").split()
    wide = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags]
    return f"{processor_name()} ({', '.join(wide) or 'no AVX'})"


def _cpu_info() -> dict[str, str]:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    found = dict(line.split(":", 1) for line in lines if ":" in line)
    return {key.strip(): value.strip() for key, value in found.items()}


def _memory_gib() -> float | None:
    if not hasattr(os, "sysconf"):
        return None
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)

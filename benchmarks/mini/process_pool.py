"""Applying a function of a model to many tiles, in several processes of one thread each."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from .exported_model import OnnxMini

__all__ = ["map_with_model"]

Item = TypeVar("Item")
Result = TypeVar("Result")

_models: list[OnnxMini] = []
"""The model of a worker process."""


def map_with_model(
    function: Callable[[OnnxMini, Item], Result], items: Sequence[Item], models: Path, processes: int
) -> Iterator[Result]:
    """Yield the function's results for the model and each item, in order.

    Parameters
    ----------
    function : callable
        At the top level of a module, so that it can be pickled.
    items : sequence
    models : Path
        Folder of the ONNX files.
    processes : int
        With 1, everything runs in this process.

    Raises
    ------
    ModelError
        If the model is missing or damaged.
    """
    # Loaded here too, because errors of worker processes are hard to read.
    model = OnnxMini(models)
    if processes <= 1:
        for item in items:
            yield function(model, item)
        return
    # Spawned, because a forked process would wait for the threads of onnxruntime, which it does not have.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, _load, (models,)) as pool:
        yield from pool.map(partial(_apply, function), items)


def _load(models: Path) -> None:
    _models.append(OnnxMini(models, threads=1))


def _apply(function: Callable[[OnnxMini, Item], Result], item: Item) -> Result:
    return function(_models[-1], item)

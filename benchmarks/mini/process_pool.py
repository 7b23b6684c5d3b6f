"""One function of a model over many tiles, in several processes of one thread each."""

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
    """Yield what the function makes of the model and each item, in their order.

    Parameters
    ----------
    function : callable
        At the top of a module, so that other processes find it.
    items : sequence
    models : Path
        Folder of the ONNX files.
    processes : int
        With one, everything happens here.

    Raises
    ------
    ModelError
        Where the model is missing or damaged.
    """
    # Also with many processes, whose own complaints would not be read.
    model = OnnxMini(models)
    if processes <= 1:
        for item in items:
            yield function(model, item)
        return
    # Started afresh, because a copy of a process with sessions in it would wait for threads it does not have.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, _load, (models,)) as pool:
        yield from pool.map(partial(_apply, function), items)


def _load(models: Path) -> None:
    _models.append(OnnxMini(models, threads=1))


def _apply(function: Callable[[OnnxMini, Item], Result], item: Item) -> Result:
    return function(_models[-1], item)

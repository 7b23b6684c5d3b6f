"""Import of segment_anything where torchvision is missing or does not fit the installed PyTorch.

segment_anything 1.0 imports torchvision without declaring it, for four small functions. A torchvision that
works is used. Where there is none, or it fails on import (a build for another PyTorch does, with ``operator
torchvision::nms does not exist``), the four functions below take its place, but only while segment_anything
is being imported: left in `sys.modules` they would pass for the real library with everything else that
looks for it, the ONNX exporters for one.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any

from geosam_es.errors import ModelError

from ..libraries import INSTALL_REMEDY, torch

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def to_pil_image(image: NDArray[np.uint8]) -> Any:
    """Return a uint8 (H, W, 3) array as a PIL image."""
    from PIL import Image

    return Image.fromarray(image)


def resize(image: Any, size: tuple[int, int]) -> Any:
    """Return a PIL image resized to (height, width), bilinear with antialiasing, as torchvision does."""
    from PIL import Image

    height, width = size
    return image.resize((width, height), Image.Resampling.BILINEAR)


def box_area(boxes: torch.Tensor) -> torch.Tensor:
    """Return the areas (N,) of boxes (N, 4) given as x0, y0, x1, y1."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def batched_nms(boxes: torch.Tensor, scores: torch.Tensor, idxs: torch.Tensor, iou_threshold: float) -> torch.Tensor:
    """Suppress boxes that overlap a better one of their own category.

    Parameters
    ----------
    boxes : float (N, 4)
        Corners x0, y0, x1, y1.
    scores : float (N,)
        The higher, the better.
    idxs : int (N,)
        Category of each box; boxes of different categories never suppress each other.
    iou_threshold : float
        A box is dropped when its IoU with a better one is above this.

    Returns
    -------
    int64 (M,)
        Indices of the boxes kept, best first.
    """
    areas = box_area(boxes)
    order = torch.argsort(scores, descending=True, stable=True)
    kept: list[torch.Tensor] = []
    while order.numel():
        best, rest = order[0], order[1:]
        kept.append(best)
        corner_low = torch.maximum(boxes[best, :2], boxes[rest, :2])
        corner_high = torch.minimum(boxes[best, 2:], boxes[rest, 2:])
        common = (corner_high - corner_low).clamp(min=0).prod(dim=1)
        iou = common / (areas[best] + areas[rest] - common)
        order = rest[~(iou > iou_threshold) | (idxs[rest] != idxs[best])]
    return torch.stack(kept) if kept else torch.empty(0, dtype=torch.int64, device=boxes.device)


_FUNCTIONS: dict[str, tuple[Callable[..., Any], ...]] = {
    "torchvision": (),
    "torchvision.transforms": (),
    "torchvision.transforms.functional": (resize, to_pil_image),
    "torchvision.ops": (),
    "torchvision.ops.boxes": (batched_nms, box_area),
}


def _is_torchvision(module: str) -> bool:
    return module == "torchvision" or module.startswith("torchvision.")


def _torchvision_works() -> bool:
    try:
        for name in _FUNCTIONS:
            importlib.import_module(name)
    except Exception:  # a build for another PyTorch fails in many ways: RuntimeError, OSError, AttributeError
        return False
    return True


@contextmanager
def torchvision_or_standin() -> Iterator[bool]:
    """Make ``import torchvision`` work inside the block, with the stand-in if need be.

    Yields
    ------
    bool
        Whether the stand-in is in place. It is gone from `sys.modules` after the block, and so are the parts
        of a torchvision that failed half-way through its import.
    """
    if _torchvision_works():
        yield False
        return
    for name in filter(_is_torchvision, list(sys.modules)):
        del sys.modules[name]
    for name, functions in _FUNCTIONS.items():
        module = ModuleType(name)
        module.__path__ = []  # a package, so that its submodules are looked up in sys.modules
        for function in functions:
            setattr(module, function.__name__, function)
        sys.modules[name] = module
    try:
        yield True
    finally:
        for name in _FUNCTIONS:
            sys.modules.pop(name, None)


def import_segment_anything() -> ModuleType:
    """Import segment_anything, with or without torchvision.

    Returns
    -------
    module
        ``segment_anything``.

    Raises
    ------
    ModelError
        When segment_anything is not installed.
    """
    if "segment_anything" in sys.modules:
        return sys.modules["segment_anything"]
    try:
        with torchvision_or_standin():
            return importlib.import_module("segment_anything")
    except ImportError as error:
        raise ModelError(f"segment_anything cannot be imported ({error})", INSTALL_REMEDY) from error

"""Classes of polygons by words alone, with a CLIP model of the transformers library; nothing is learned.

Any model that compares images with texts serves: CLIP, AltCLIP, SigLIP. The default one knows Spanish.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from geosam_es.errors import ModelError, RasterError, VectorError

from .classification import Classified
from .ground_truth import TruthObject
from .pictures import RasterWindows

__all__ = ["DEFAULT_MODEL", "classify_by_words"]

DEFAULT_MODEL = "BAAI/AltCLIP-m9"
"""Knows English, Spanish, French, Russian, Arabic, Chinese, Japanese, Korean and Italian."""

_MARGIN = 0.15
"""Surroundings shown with a polygon, in sides of it."""

_BATCH = 16


def classify_by_words(
    objects: Sequence[TruthObject], windows: RasterWindows, words: Sequence[str], model: str = DEFAULT_MODEL
) -> Classified:
    """Give polygons on the first raster of ``windows`` the class whose name fits the image of each best.

    The model is a folder, or a name on the Hugging Face Hub, from where it is downloaded at first use.

    Raises
    ------
    VectorError
        If there are fewer than two words.
    RasterError
        If there is no raster.
    ModelError
        If transformers is not installed, or the model cannot be loaded.
    """
    words = list(dict.fromkeys(words))
    if len(words) < 2:
        raise VectorError("--words needs at least two classes", 'write them as in --words "robledal,encinar,agua"')
    if not windows.any_found:
        raise RasterError("The raster is not next to the store, and --words needs its pixels", "give it with --raster")
    torch, network, processor = _load(model)
    bounds = np.array([item.geometry.bounds for item in objects]).reshape(-1, 2, 2)
    margins = _MARGIN * np.ptp(bounds, axis=1).max(axis=1)
    probabilities = []
    texts = processor(text=list(words), return_tensors="pt", padding=True)
    with torch.inference_mode():
        # Not all pictures at once, as there may be thousands.
        for start in range(0, len(objects), _BATCH):
            part = zip(bounds[start : start + _BATCH], margins[start : start + _BATCH])
            pictures = [windows.square(0, low - margin, high + margin)[0] for (low, high), margin in part]
            if any(picture is None for picture in pictures):
                raise RasterError(
                    "The raster cannot be read under some polygons", "check the file, or give another --raster"
                )
            images = processor(images=pictures, return_tensors="pt")
            answer = network(**texts, pixel_values=images["pixel_values"])
            probabilities.append(answer.logits_per_image.softmax(dim=1).double().numpy())
    return Classified(tuple(words), np.concatenate(probabilities))


def _load(model: str) -> tuple[Any, Any, Any]:
    try:
        import torch
        from transformers import AutoModel, AutoProcessor
    except Exception as error:  # builds for another system or NumPy fail in many ways
        raise ModelError(
            f"transformers cannot be imported ({error})", 'install it with: pip install "geosam-es[words]"'
        ) from error
    try:
        return torch, AutoModel.from_pretrained(model).eval(), AutoProcessor.from_pretrained(model)
    except (ImportError, OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else repr(error)
        raise ModelError(
            f"The model {model} cannot be loaded ({reason})",
            "give the folder of a CLIP model with --words-model, or connect to the internet for the download",
        ) from error

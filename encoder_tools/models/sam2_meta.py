"""The four sizes of SAM 2.1, and Meta's own checkpoints of them (``.pt``) by the names of transformers."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from geosam_es.errors import ModelError

from .libraries import torch
from .sam.weights import State, read_state

__all__ = ["SIZES", "meta_config", "read_meta_state", "size_of_state"]

SIZES: dict[str, tuple[int, int, list[int], list[int], int, int]] = {
    "sam2.1_tiny": (96, 1, [1, 2, 7, 2], [5, 7, 9], 14, 7),
    "sam2.1_small": (96, 1, [1, 2, 11, 2], [7, 10, 13], 14, 7),
    "sam2.1_base_plus": (112, 2, [2, 3, 16, 3], [12, 16, 20], 14, 14),
    "sam2.1_large": (144, 2, [2, 6, 36, 4], [23, 33, 43], 16, 7),
}
"""Width and heads of the first stage, blocks of each stage, blocks with global attention, window of the third stage
(that of the last is half of it), and size of the position embedding."""

_MASK_LAYERS = {0: "conv1", 1: "layer_norm1", 3: "conv2", 4: "layer_norm2", 6: "conv3"}
_UPSCALING_LAYERS = {0: "conv1", 1: "layer_norm", 3: "conv2"}
_RENAMED = (
    (r"^image_encoder\.trunk\.", "vision_encoder.backbone."),
    (r"^image_encoder\.neck\.convs\.(\d+)\.conv\.", r"vision_encoder.neck.convs.\1."),
    (r"^sam_(prompt_encoder|mask_decoder)\.", r"\1."),
    (r"^no_mem_embed$", "no_memory_embedding"),
    (r"patch_embed\.proj\.", "patch_embed.projection."),
    (r"pe_layer\.positional_encoding_gaussian_matrix", "shared_embedding.positional_embedding"),
    (r"\.norm(\d|_final_attn)\.", r".layer_norm\1."),
    (r"\.out_proj\.", ".o_proj."),
    # Perceptrons of three layers, and those of two.
    (r"(mlps\.\d+|_head)\.layers\.2\.", r"\1.proj_out."),
    (r"(mlps\.\d+|_head)\.layers\.1\.", r"\1.inner.0."),
    (r"(mlps\.\d+|_head|mlp)\.layers\.0\.", r"\1.proj_in."),
    (r"mlp\.layers\.1\.", "mlp.proj_out."),
    (r"\.inner\.0\.", ".layers.0."),
    *((rf"mask_downscaling\.{index}\.", f"mask_embed.{name}.") for index, name in _MASK_LAYERS.items()),
    *((rf"output_upscaling\.{index}\.", f"upscale_{name}.") for index, name in _UPSCALING_LAYERS.items()),
)
_PATCHES = "vision_encoder.backbone.patch_embed.projection.weight"
_POINTS = "prompt_encoder.point_embeddings."
_POSITIONS = "shared_image_embedding.positional_embedding", "prompt_encoder.shared_embedding.positional_embedding"
"""Two names of the same weights; a file may have one of them or both."""


def meta_config(name: str) -> Any:
    """Return the configuration of a size, a ``transformers.Sam2Config``."""
    import transformers

    width, heads, blocks, whole, window, ground = SIZES[name]
    widths = [width * times for times in (1, 2, 4, 8)]
    backbone = transformers.Sam2HieraDetConfig(
        hidden_size=width,
        num_attention_heads=heads,
        embed_dim_per_stage=widths,
        num_attention_heads_per_stage=[heads * times for times in (1, 2, 4, 8)],
        blocks_per_stage=blocks,
        global_attention_blocks=whole,
        window_size_per_stage=[8, 4, window, window // 2],
        window_positional_embedding_background_size=[ground, ground],
    )
    vision = transformers.Sam2VisionConfig(backbone_config=backbone, backbone_channel_list=widths[::-1])
    return transformers.Sam2Config(vision_config=vision)


def size_of_state(state: dict[str, torch.Tensor]) -> str | None:
    """Return which of `SIZES` weights belong to, or None."""
    patches = state.get(_PATCHES)
    count = sum(bool(re.fullmatch(r"vision_encoder\.backbone\.blocks\.\d+\.layer_norm1\.weight", key)) for key in state)
    found = [
        name
        for name, (width, _, blocks, *_) in SIZES.items()
        if patches is not None and width == len(patches) and sum(blocks) == count
    ]
    return found[0] if found else None


def read_meta_state(
    path: Path,
    change: Callable[[State], dict[str, torch.Tensor]] = dict,
    needed: str = _PATCHES,
    family: str = "SAM 2",
) -> dict[str, torch.Tensor]:
    """Read a checkpoint of Meta, or one with the names of transformers.

    Parameters
    ----------
    path : Path
    change : callable
        Applied to the weights after their names are those of transformers.
    needed : str
        The weight that tells the family.
    family : str

    Raises
    ------
    ModelError
        If the file is not a checkpoint of the family. Only tensors are unpickled.
    """
    state: State = read_state(path)
    if any(key.startswith("image_encoder.") for key in state):
        state = {_renamed(key): value for key, value in state.items()}
    not_it = ModelError(f"{path} is not a checkpoint of {family}", "give the .pt file or the folder of the model")
    points = sorted(key for key in state if key.startswith(_POINTS))
    positions = [state[key] for key in _POSITIONS if key in state]
    try:
        changed = change(state)
        if points:
            changed["prompt_encoder.point_embed.weight"] = torch.cat([changed.pop(key) for key in points])
    except RuntimeError as error:  # shapes that do not fit together
        raise not_it from error
    if not positions or needed not in changed:
        raise not_it
    return {**dict.fromkeys(_POSITIONS, positions[0]), **changed}


def _renamed(key: str) -> str:
    for pattern, new in _RENAMED:
        key = re.sub(pattern, new, key)
    return key

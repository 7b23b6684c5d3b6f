"""A small image encoder of SAM's architecture."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from encoder_tools.models.sam.segment_anything_import import import_segment_anything


def make_encoder(side: int, heads: int = 3) -> Any:
    """Make an encoder of two windowed blocks and a global one, every parameter far from zero."""
    import_segment_anything()
    from segment_anything.modeling import ImageEncoderViT

    torch.manual_seed(0)
    encoder = ImageEncoderViT(
        img_size=16 * side,
        depth=3,
        embed_dim=60,
        num_heads=heads,
        out_chans=16,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=7,
        global_attn_indexes=(1,),
    )
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if "pos" in name or "bias" in name:  # zero in a new encoder
                parameter.normal_(0, 0.3)
            elif "qkv" in name:  # so that attention is not the same everywhere
                parameter.mul_(3)
    return encoder.eval()

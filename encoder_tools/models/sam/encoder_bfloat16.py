"""SAM's image encoder as a CPU likes it, in bfloat16: the same network and weights, with less work and less memory.

Three things differ from segment_anything's own `ImageEncoderViT`, and the first two change nothing of the result:

- Windows are padded after the projection to queries, keys and values, where a padded place is known to be the bias,
  and the padding is dropped before the projection of the result: it is never multiplied.
- The global attention goes through pieces of 512 queries of one head, whose scores stay in the cache. Whole, the maps
  of one block are 12 x 4096 x 4096.
- The matrix products of the blocks are made in bfloat16, from weights converted once. The sums that run through all
  blocks, and their normalisations, stay float32. That is fast where the CPU has instructions for it (AMX, avx512_bf16,
  ARM's bf16), and slower than float32 where not.

In float32 `vit_onnx` is faster; it is here to be compared with.
"""

from __future__ import annotations

import copy
from typing import Any

from ..libraries import torch
from .torchvision_standin import import_segment_anything

__all__ = ["CpuImageEncoder"]

_QUERIES = 512


class CpuImageEncoder(torch.nn.Module):
    """A stand-in for ``sam.image_encoder``.

    Parameters
    ----------
    image_encoder : segment_anything.modeling.ImageEncoderViT
        Its weights are shared, not copied, but for those that are converted to ``dtype``.
    dtype : torch.dtype
        Of the matrix products in the blocks: float32 or bfloat16.
    """

    patch_embed: Any
    neck: Any
    pos_embed: torch.Tensor

    def __init__(self, image_encoder: Any, dtype: torch.dtype) -> None:
        super().__init__()
        self.patch_embed = image_encoder.patch_embed
        self.pos_embed = image_encoder.pos_embed
        side = int(self.pos_embed.shape[1])
        self.blocks = torch.nn.ModuleList(_Block(block, side, dtype) for block in image_encoder.blocks)
        self.neck = image_encoder.neck

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Map normalised float32 (B, 3, 1024, 1024) to float32 (B, 256, 64, 64)."""
        x: torch.Tensor = self.patch_embed(pixels) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        features: torch.Tensor = self.neck(x.permute(0, 3, 1, 2))
        return features


class _Block(torch.nn.Module):
    """One transformer block, windowed or global."""

    relative_rows: torch.Tensor
    relative_columns: torch.Tensor

    def __init__(self, block: Any, side: int, dtype: torch.dtype) -> None:
        super().__init__()
        import_segment_anything()
        from segment_anything.modeling.image_encoder import get_rel_pos

        self.window: int = block.window_size
        self.norm1, self.norm2 = block.norm1, block.norm2
        is_shared = dtype is torch.float32
        self.attn = block.attn if is_shared else copy.deepcopy(block.attn).to(dtype)
        self.mlp = block.mlp if is_shared else copy.deepcopy(block.mlp).to(dtype)
        self.dtype = dtype
        extent = self.window or side
        # (queries' rows, keys' rows, width of a head), and the same for columns
        self.register_buffer("relative_rows", get_rel_pos(extent, extent, self.attn.rel_pos_h).detach())
        self.register_buffer("relative_columns", get_rel_pos(extent, extent, self.attn.rel_pos_w).detach())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map float32 (B, H, W, C) to the same."""
        attend = self._windowed if self.window else self._global
        x = x + self.attn.proj(attend(self.attn.qkv(self.norm1(x).to(self.dtype))))
        thought: torch.Tensor = self.mlp(self.norm2(x).to(self.dtype))
        return x + thought

    def _windowed(self, qkv: torch.Tensor) -> torch.Tensor:
        """Attend within windows; (B, H, W, 3 C) to (B, H, W, C)."""
        batch, height, width, channels = qkv.shape
        window = self.window
        rows, columns = -(-height // window), -(-width // window)
        padded = self.attn.qkv.bias.expand(batch, rows * window, columns * window, channels).clone()
        padded[:, :height, :width] = qkv
        windows = padded.view(batch, rows, window, columns, window, channels).transpose(2, 3)
        q, k, v = self._heads(windows.reshape(-1, window * window, channels))
        by_row, by_column = self._relative(q, window)
        bias = (by_row.unsqueeze(-1) + by_column.unsqueeze(-2)).flatten(-2)
        merged = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias).transpose(1, 2)
        joined = merged.reshape(batch, rows, columns, window, window, channels // 3).transpose(2, 3)
        return joined.reshape(batch, rows * window, columns * window, -1)[:, :height, :width]

    def _global(self, qkv: torch.Tensor) -> torch.Tensor:
        """Attend over the whole tile; (B, H, W, 3 C) to (B, H, W, C)."""
        batch, height, width, channels = qkv.shape
        q, k, v = self._heads(qkv.reshape(batch, height * width, channels))
        by_row, by_column = self._relative(q, height)
        keys = (k * self.attn.scale).transpose(2, 3)
        merged = torch.empty(batch, height * width, q.shape[1], q.shape[3], dtype=q.dtype)
        for item in range(batch):
            for head in range(q.shape[1]):
                for start in range(0, height * width, _QUERIES):
                    places = slice(start, start + _QUERIES)
                    scores = (q[item, head, places] @ keys[item, head]).view(-1, height, width)
                    scores += by_row[item, head, places].unsqueeze(2)
                    scores += by_column[item, head, places].unsqueeze(1)
                    merged[item, places, head] = torch.softmax(scores.flatten(1), dim=1) @ v[item, head]
        return merged.reshape(batch, height, width, -1)

    def _heads(self, qkv: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(B, T, 3 C) -> three of (B, heads, T, width)."""
        split = qkv.reshape(*qkv.shape[:2], 3, self.attn.num_heads, -1)
        q, k, v = split.permute(2, 0, 3, 1, 4).contiguous()
        return q, k, v

    def _relative(self, q: torch.Tensor, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what the distance in rows and in columns adds to the scores: (B, heads, T, rows or columns)."""
        placed = q.reshape(*q.shape[:2], rows, -1, q.shape[3])
        by_row = torch.einsum("bnhwc,hkc->bnhwk", placed, self.relative_rows)
        by_column = torch.einsum("bnhwc,wkc->bnhwk", placed, self.relative_columns)
        return by_row.flatten(2, 3), by_column.flatten(2, 3)

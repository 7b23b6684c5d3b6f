"""SAM's image encoder in bfloat16 on a CPU: the same network with less work and less memory.

It differs from segment_anything's `ImageEncoderViT` in three ways. The first two do not change the result.

- Windows are padded after the projection to queries, keys and values, where padding is known to be the bias. It is
  dropped again before the output projection, so no product is spent on it.
- Global attention runs over 512 queries of one head at a time, so that their scores stay in the cache. For the whole
  tile the scores of one block are 12 x 4096 x 4096.
- The matrix products of the blocks are computed in bfloat16, with weights converted once. Residual sums and
  normalisations stay in float32. This is fast on CPUs with instructions for it (AMX, avx512_bf16, ARM bf16) and slower
  than float32 on others.
"""

from __future__ import annotations

import copy
from typing import Any

from ..libraries import torch
from .segment_anything_import import import_segment_anything

__all__ = ["Bfloat16ImageEncoder"]

_QUERIES = 512


class Bfloat16ImageEncoder(torch.nn.Module):
    """A replacement for ``sam.image_encoder``, without gradients.

    Parameters
    ----------
    image_encoder : segment_anything.modeling.ImageEncoderViT
        Weights that stay float32 are shared with it; those of the matrix products are copied.
    """

    patch_embed: Any
    neck: Any
    pos_embed: torch.Tensor

    def __init__(self, image_encoder: Any) -> None:
        super().__init__()
        self.patch_embed = image_encoder.patch_embed
        self.pos_embed = image_encoder.pos_embed
        side = int(self.pos_embed.shape[1])
        self.blocks = torch.nn.ModuleList(_Block(block, side) for block in image_encoder.blocks)
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

    def __init__(self, block: Any, side: int) -> None:
        super().__init__()
        import_segment_anything()
        from segment_anything.modeling.image_encoder import get_rel_pos

        self.window: int = block.window_size
        self.norm1, self.norm2 = block.norm1, block.norm2
        self.attn = copy.deepcopy(block.attn).to(torch.bfloat16)
        self.mlp = copy.deepcopy(block.mlp).to(torch.bfloat16)
        extent = self.window or side
        # (queries' rows, keys' rows, width of a head), and the same for columns
        self.register_buffer("relative_rows", get_rel_pos(extent, extent, self.attn.rel_pos_h).detach())
        self.register_buffer("relative_columns", get_rel_pos(extent, extent, self.attn.rel_pos_w).detach())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map float32 (B, H, W, C) to the same."""
        attend = self._windowed if self.window else self._global
        x = x + self.attn.proj(attend(self.attn.qkv(self.norm1(x).to(torch.bfloat16))))
        thought: torch.Tensor = self.mlp(self.norm2(x).to(torch.bfloat16))
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
        """Return the relative positions' part of the scores, by row and by column: (B, heads, T, rows or columns)."""
        placed = q.reshape(*q.shape[:2], rows, -1, q.shape[3])
        by_row = torch.einsum("bnhwc,hkc->bnhwk", placed, self.relative_rows)
        by_column = torch.einsum("bnhwc,wkc->bnhwk", placed, self.relative_columns)
        return by_row.flatten(2, 3), by_column.flatten(2, 3)

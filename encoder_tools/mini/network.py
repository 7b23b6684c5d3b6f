"""The network of `mini`: a residual convolutional encoder with a feature pyramid.

It has no global pooling, no normalisation over space and no absolute positions, so that an object has the same
features wherever it lies in a tile. Batch normalisation is folded into the convolutions on export.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from geosam_es.inference.encoder import FILL_RGB

from .blocks import ConvNorm, Residual, ShuffleUp
from .decoder import PromptDecoder

RGB_SCALE = 58.0


def _stage(inputs: int, width: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(ConvNorm(inputs, width, stride=2), *(Residual(width) for _ in range(blocks)))


class ImageEncoder(nn.Module):
    """RGB to a packed feature map at 1/16 of the resolution.

    Three maps (16 channels at 1/4, 32 at 1/8, 128 at 1/16) are packed into 512 channels at 1/16.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNorm(3, 16, stride=2)
        self.stage4 = _stage(16, 32, 2)
        self.stage8 = _stage(32, 64, 3)
        self.stage16 = _stage(64, 128, 4)
        self.stage32 = _stage(128, 192, 3)
        self.up16 = ShuffleUp(192, 128)
        self.fuse16 = Residual(128)
        self.up8 = ShuffleUp(128, 64)
        self.fuse8 = Residual(64)
        self.up4 = ShuffleUp(64, 32)
        self.fuse4 = Residual(32)
        self.out16 = ConvNorm(128, 128, kernel=1, relu=False)
        self.out8 = ConvNorm(64, 32, kernel=1, relu=False)
        self.out4 = ConvNorm(32, 16, kernel=1, relu=False)
        self.edge = nn.Conv2d(16, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Encode normalised images.

        Parameters
        ----------
        images : float (B, 3, H, W)
            From `normalise`; H and W are multiples of 32.

        Returns
        -------
        float (B, 512, H / 16, W / 16)
        """
        s4 = self.stage4(self.stem(images))
        s8 = self.stage8(s4)
        s16 = self.stage16(s8)
        s32 = self.stage32(s16)
        p16 = self.fuse16(s16 + self.up16(s32))
        p8 = self.fuse8(s8 + self.up8(p16))
        p4 = self.fuse4(s4 + self.up4(p8))
        f4, f8, f16 = self.out4(p4), self.out8(p8), self.out16(p16)
        packed = (functional.pixel_unshuffle(f4, 4), functional.pixel_unshuffle(f8, 2), f16)
        return torch.cat(packed, dim=1)

    def edge_logits(self, embeddings: Tensor) -> Tensor:
        """Return boundary logits (B, 1, H / 4, W / 4) from packed features; only training uses them."""
        logits: Tensor = self.edge(functional.pixel_shuffle(embeddings[:, :256], 4))
        return logits


def normalise(images: Tensor) -> Tensor:
    """Map RGB (B, H, W, 3) of 0 to 255 to float32 (B, 3, H, W).

    The colour of padding becomes zero, which is also what the convolutions pad with.
    """
    shift = torch.tensor(FILL_RGB, dtype=torch.float32, device=images.device)
    return ((images.to(torch.float32) - shift) / RGB_SCALE).permute(0, 3, 1, 2)


class MiniNet(nn.Module):
    """Encoder and decoder, which are trained together."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = ImageEncoder()
        self.decoder = PromptDecoder()

    def parameter_count(self) -> int:
        """Return the number of weights."""
        return sum(p.numel() for p in self.parameters())

"""The decoder of `mini`: packed features and prompts to four masks and their scores.

`ImageContext` computes once per tile what does not depend on the prompt: the image's part of the first convolution at
each scale, keys for similarity, and the soft assignment of every place to 32 learnt appearances. For a prompt the
decoder compares the histograms of appearances inside and outside the prompted region (a learnt GrabCut) and makes a
coarse mask at 1/16. With the appearance of that mask it refines at 1/8 and 1/4.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from .blocks import ConvNorm, Residual, ShuffleUp
from .prompt_maps import SEED_SIGMA, PromptMaps, Prompts, geodesic_maps, geodesic_side_maps, split_prompts

MASKS = 4
"""Masks of an answer: the single mask, then three candidates for an ambiguous click."""

LOGIT_LIMIT = 20.0
WIDTH4, WIDTH8, WIDTH16, WIDTH32 = 16, 32, 64, 96
APPEARANCES = 32
KEY_WIDTH = 32
CONTEXT_NAMES = ("context4", "context8", "context16", "keys", "appearances", "cost8", "cost16")
STEPS16, STEPS8 = 32, 12
"""Largest number of cells of a geodesic path: 512 px at 1/16, 96 px at 1/8."""

Context = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


class ImageContext(nn.Module):
    """The part that depends on the image only; exported as ``prepare.onnx``."""

    def __init__(self) -> None:
        super().__init__()
        self.to4 = ConvNorm(16, WIDTH4, relu=False)
        self.to8 = ConvNorm(32, WIDTH8, relu=False)
        self.to16 = ConvNorm(128, WIDTH16, relu=False)
        self.keys = nn.Conv2d(128, KEY_WIDTH, 1)
        self.mix = nn.Sequential(ConvNorm(32, 48), nn.Conv2d(48, APPEARANCES, 1))
        self.cost8 = nn.Sequential(ConvNorm(32, 16), nn.Conv2d(16, 1, 1))
        self.cost16 = nn.Sequential(ConvNorm(128, 16), nn.Conv2d(16, 1, 1))

    def forward(self, embeddings: Tensor) -> Context:
        """Unpack and transform features.

        Parameters
        ----------
        embeddings : float (B, 512, h, w)
            Packed features at 1/16.

        Returns
        -------
        tuple of float tensors
            (B, 16, 4h, 4w), (B, 32, 2h, 2w), (B, 64, h, w), normalised keys (B, 32, h * w), appearance
            probabilities (B, 32, 4 * h * w), and the costs of entering a cell (B, 1, 2h, 2w), (B, 1, h, w).
        """
        f4 = functional.pixel_shuffle(embeddings[:, :256], 4)
        f8 = functional.pixel_shuffle(embeddings[:, 256:384], 2)
        f16 = embeddings[:, 384:]
        keys = self.keys(f16).float().flatten(2)
        keys = keys / (keys.square().sum(1, keepdim=True) + 1e-6).sqrt()
        appearances = torch.softmax(self.mix(f8).float().flatten(2), dim=1)
        costs = (functional.softplus(head(f).float() - 1.5) for head, f in ((self.cost8, f8), (self.cost16, f16)))
        return (self.to4(f4), self.to8(f8), self.to16(f16), keys, appearances, *costs)


def _log_histograms(windows: Tensor, appearances: Tensor) -> Tensor:
    """Return the log probability of each appearance under each window: (B, J, K)."""
    weights = windows.flatten(2)
    counts = torch.matmul(weights, appearances.transpose(1, 2))
    total = weights.sum(2, keepdim=True)
    return torch.log((counts + 0.5 / APPEARANCES) / (total + 0.5))


def _spread(ratios: Tensor, appearances: Tensor, like: Tensor) -> Tensor:
    """Map ratios (B, J, K) to maps (B, J, H, W) with values of the same magnitude as the other maps."""
    return torch.unflatten(torch.matmul(ratios, appearances) * 0.5, 2, _size(like))


def _size(x: Tensor) -> tuple[int, int]:
    return x.shape[2], x.shape[3]


def _twice(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


class _Maps16(PromptMaps):
    """Prompt maps of the coarse level.

    Attributes
    ----------
    seeds, clicks : float (B, 2, H, W), (B, 6, H, W)
        Narrow Gaussians of clicks, at which paths begin, and wider ones.
    window, core : float (B, 1, H, W)
        The box and its middle.
    frame, sides : float (B, 4, H, W)
    spots : tuple of float (B, N, H) and (B, N, W)
        Profiles of all points, under which keys are pooled.
    """

    def __init__(self, prompts: Prompts, shape: tuple[int, int]) -> None:
        super().__init__(prompts, shape, 16)
        maps = self.clicks_of((SEED_SIGMA * 16, 12.0, 48.0, 160.0))
        self.seeds, self.clicks = maps[:, :2], maps[:, 2:]
        windows = self.windows(((1.0, 0.0), (0.6, 0.0)))
        self.window, self.core = windows[:, 0:1], windows[:, 1:2]
        self.frame, self.sides = self.frame_of_box(), self.sides_of_box()
        self.spots = self.profiles(8.0)


class _Maps8(PromptMaps):
    """Prompt maps of the middle level.

    Attributes
    ----------
    seeds, at_click, clicks, near_click : float (B, 2 or 4, H, W)
        Gaussians of clicks: at which paths begin, of the clicked place, wider ones, and the neighbourhood.
    window, core, around, ring : float (B, 1, H, W)
        The box, its middle, the box and its surroundings, the surroundings alone.
    frame : float (B, 4, H, W)
    """

    def __init__(self, prompts: Prompts, shape: tuple[int, int]) -> None:
        super().__init__(prompts, shape, 8)
        maps = self.clicks_of((SEED_SIGMA * 8, 6.0, 8.0, 24.0, 96.0))
        self.seeds, self.at_click, self.clicks, self.near_click = (
            maps[:, a:b] for a, b in ((0, 2), (2, 4), (4, 8), (8, 10))
        )
        windows = self.windows(((1.0, 0.0), (0.75, 0.0), (1.5, 16.0), (1.05, 2.0)))
        self.window, self.core, self.around, inner = (windows[:, a : a + 1] for a in range(4))
        self.ring = self.around - torch.minimum(self.around, inner)
        self.frame = self.frame_of_box()


class PromptDecoder(nn.Module):
    """Context and prompts to mask logits at 1/4 and predicted IoU."""

    def __init__(self) -> None:
        super().__init__()
        self.context = ImageContext()
        self.in16 = ConvNorm(32, WIDTH16, kernel=1, relu=False)
        self.down = ConvNorm(WIDTH16, WIDTH32, stride=2)
        self.body32 = nn.Sequential(Residual(WIDTH32), Residual(WIDTH32))
        self.up16 = ShuffleUp(WIDTH32, WIDTH16)
        self.out16 = Residual(WIDTH16)
        self.head16 = nn.Conv2d(WIDTH16, MASKS + 1, 1)
        self.in8 = ConvNorm(24, WIDTH8, kernel=1, relu=False)
        self.up8 = ShuffleUp(WIDTH16, WIDTH8)
        self.body8 = Residual(WIDTH8)
        self.head8 = nn.Conv2d(WIDTH8, MASKS, 1)
        self.in4 = ConvNorm(5, WIDTH4, kernel=1, relu=False)
        self.up4 = ShuffleUp(WIDTH8, WIDTH4)
        self.body4 = Residual(WIDTH4)
        self.head4 = nn.Conv2d(WIDTH4, MASKS + 1, 3, padding=1)
        self.score = nn.Sequential(nn.Linear(3 * WIDTH8 + 8 + MASKS, 64), nn.ReLU(), nn.Linear(64, 1))
        gate_bias = self.head4.bias
        if gate_bias is not None:
            # Starts by keeping the previous mask: sigmoid(2) = 0.88.
            gate_bias.data[MASKS] = 2.0

    def forward(
        self, context: Context, coords: Tensor, labels: Tensor, mask_input: Tensor, has_mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Answer prompts.

        Parameters
        ----------
        context : tuple of float tensors
            From `ImageContext`, batch 1 or B.
        coords, labels : float (B, N, 2), (B, N)
            Prompts as SAM takes them.
        mask_input : float (B, 1, H, W)
            Previous logits at 1/4.
        has_mask : float (M,)
            1 where `mask_input` counts; M is 1 or B.

        Returns
        -------
        masks : float (B, 4, H, W)
        scores : float (B, 4)
            Predicted IoU.
        coarse : float (B, 1, H / 4, W / 4)
            The coarse mask's logits, for training.
        """
        c4, c8, c16, keys, appearances, cost8, cost16 = context
        prompts = split_prompts(coords, labels)
        has = has_mask[:, None, None, None] + torch.zeros_like(prompts.has_box)
        previous = mask_input.clamp(-LOGIT_LIMIT, LOGIT_LIMIT) * has
        belief4 = torch.tanh(previous * 0.5)
        belief8 = functional.avg_pool2d(belief4, 2)
        maps16, maps8 = _Maps16(prompts, _size(c16)), _Maps8(prompts, _size(c8))
        near, ratios = self._ratios(maps8, appearances, belief8, has)
        evidence = _spread(ratios, appearances, belief8)

        paths, sides = geodesic_side_maps(prompts, maps16.seeds, maps16.window, maps16.sides, cost16, STEPS16)
        clues16 = torch.cat([paths, functional.avg_pool2d(evidence, 2), sides], dim=1)
        x16 = self._coarse_level(maps16, c16, keys, has, belief8, clues16)
        logits16 = self.head16(x16)
        coarse = logits16[:, MASKS:].float()
        guess = functional.interpolate(torch.sigmoid(coarse), scale_factor=2.0, mode="nearest")
        evidence = torch.cat([geodesic_maps(prompts, maps8.seeds, maps8.window, cost8, STEPS8), evidence], dim=1)
        x8 = self._middle_level(maps8, c8 + self.up8(x16), has, appearances, (belief8, near, guess, evidence))
        x4 = self._fine_level(prompts, c4 + self.up4(x8), belief4)

        logits4 = self.head4(x4).float().contiguous()
        below = self.head8(x8).float() + _twice(logits16[:, :MASKS].float())
        masks = logits4[:, :MASKS] + _twice(below) + previous * torch.sigmoid(logits4[:, MASKS:])
        masks = masks.clamp(-LOGIT_LIMIT, LOGIT_LIMIT)
        return masks, self._scores(masks, x8, prompts, maps8.window), coarse

    def _coarse_level(
        self, known: _Maps16, base: Tensor, keys: Tensor, has: Tensor, belief8: Tensor, evidence: Tensor
    ) -> Tensor:
        """Return the features (B, 64, h, w) at 1/16, whose receptive field covers whole objects."""
        shape = _size(base)
        maps = torch.cat(
            [
                self._similarities(known, keys),
                known.clicks,
                known.window,
                known.frame,
                known.prompts.has_box.expand(-1, 1, shape[0], shape[1]),
                has.expand(-1, 1, shape[0], shape[1]),
                functional.avg_pool2d(belief8, 2),
                evidence,
            ],
            dim=1,
        )
        x = functional.relu(base + self.in16(maps))
        result: Tensor = self.out16(x + self.up16(self.body32(self.down(x))))
        return result

    def _middle_level(
        self,
        prompted: _Maps8,
        base: Tensor,
        has: Tensor,
        appearances: Tensor,
        known: tuple[Tensor, Tensor, Tensor, Tensor],
    ) -> Tensor:
        """Return the features (B, 32, 2h, 2w) at 1/8, given the appearance of the coarse mask."""
        belief8, near, guess, evidence = known
        shape = _size(base)
        logs = _log_histograms(torch.cat([guess, (1.0 - guess) * near], dim=1), appearances)
        maps = torch.cat(
            [
                prompted.clicks,
                prompted.window,
                prompted.frame,
                has.expand(-1, 1, shape[0], shape[1]),
                belief8,
                near,
                guess,
                evidence,
                _spread(logs[:, 0:1] - logs[:, 1:2], appearances, base),
            ],
            dim=1,
        )
        result: Tensor = self.body8(functional.relu(base + self.in8(maps)))
        return result

    def _fine_level(self, prompts: Prompts, base: Tensor, belief4: Tensor) -> Tensor:
        """Return the features (B, 16, 4h, 4w) at 1/4, which place the border."""
        known = PromptMaps(prompts, _size(base), 4)
        maps = torch.cat(
            [known.clicks_of((6.0,)), known.windows(((1.0, 0.0),)), known.distance_to_box(), belief4], dim=1
        )
        result: Tensor = self.body4(functional.relu(base + self.in4(maps)))
        return result

    def _ratios(self, known: _Maps8, appearances: Tensor, belief8: Tensor, has: Tensor) -> tuple[Tensor, Tensor]:
        """Compare appearances inside and outside of the prompted region.

        Returns
        -------
        near : float (B, 1, H, W)
            Neighbourhood of the prompts.
        ratios : float (B, 4, K)
            Log ratios for the box, the positive clicks, the negative clicks and the previous mask.
        """
        near = torch.maximum(known.around, known.near_click[:, 0:1])
        inside = (belief8 * 0.5 + 0.5) * has
        outside = (0.5 - belief8 * 0.5) * has * near
        windows = torch.cat([known.core, known.at_click, inside, known.ring, near, outside], dim=1)
        logs = _log_histograms(windows, appearances)
        there = torch.cat([known.prompts.has_box, known.prompts.has_click, has], dim=1)[..., 0]
        ratios = (logs[:, :4] - logs[:, [4, 5, 5, 6]]) * there
        return near, ratios

    @staticmethod
    def _similarities(known: _Maps16, keys: Tensor) -> Tensor:
        """Return the similarity of every place to positive clicks, negative clicks and the core of the box.

        Returns
        -------
        float (B, 3, H, W)
        """
        along_y, along_x = known.spots
        spots = (along_y[..., :, None] * along_x[..., None, :]).flatten(2)
        pooled = torch.matmul(torch.cat([spots, known.core.flatten(2)], dim=1), keys.transpose(1, 2))
        pooled = pooled / (pooled.square().sum(2, keepdim=True) + 1e-6).sqrt()
        cosine = torch.matmul(pooled, keys)
        points, box = cosine[:, None, :-1], cosine[:, -1:]
        masked = points - 4.0 * (1.0 - known.prompts.kinds[..., None])
        clicked = masked.amax(2).clamp(min=-1.0) * known.prompts.has_click[..., 0]
        return torch.unflatten(torch.cat([clicked, box], dim=1), 2, known.shape)

    def _scores(self, masks: Tensor, features: Tensor, prompts: Prompts, window: Tensor) -> Tensor:
        """Predict the IoU (B, 4) of each mask from the features under, on and around its border."""
        small = functional.avg_pool2d(masks.detach(), 2)
        certain = torch.sigmoid(small)
        ring = functional.avg_pool2d(certain, 9, 1, 4) * (1.0 - certain)
        inside, ring, doubt = certain.flatten(2), ring.flatten(2), (certain * (1.0 - certain)).flatten(2)
        area = inside.sum(2, keepdim=True) + 1.0
        around, unsure = ring.sum(2, keepdim=True) + 1.0, doubt.sum(2, keepdim=True) + 1.0
        flat = features.float().flatten(2).transpose(1, 2)
        pooled = torch.cat([torch.matmul(w, flat) / t for w, t in ((inside, area), (ring, around), (doubt, unsure))], 2)
        window = window.flatten(2)
        in_box = torch.matmul(inside, window.transpose(1, 2)) / area
        box_area = window.sum(2, keepdim=True)
        fill = (area * in_box) / (box_area + 1.0)
        has_box = prompts.has_box[:, :, :, 0] + torch.zeros_like(area)
        count = prompts.kinds.sum((1, 2), keepdim=True) * 0.2 + torch.zeros_like(area)
        others = torch.matmul(inside, inside.transpose(1, 2)).sum(2, keepdim=True) / (area * MASKS)
        channel = torch.eye(MASKS, device=masks.device)[None] + torch.zeros_like(area)
        shape = [doubt.sum(2, keepdim=True) * 4.0 / area, unsure / around, torch.log(area) * 0.2, others]
        stats = torch.cat([pooled, *shape, in_box, fill, has_box, count, channel], dim=2)
        return torch.sigmoid(self.score(stats))[:, :, 0]

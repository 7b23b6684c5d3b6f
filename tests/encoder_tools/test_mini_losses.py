"""Losses of `mini`."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from encoder_tools.mini.losses import answer_loss, attention, mask_losses, regret, widen  # noqa: E402


def test_regret_is_the_iou_lost_by_the_choice_of_the_score() -> None:
    reached = torch.tensor([[0.2, 0.9, 0.5]])
    assert float(regret(torch.tensor([[0.1, 0.9, 0.3]]), reached)) == pytest.approx(0.0, abs=1e-3)
    assert float(regret(torch.tensor([[0.9, 0.1, 0.3]]), reached)) == pytest.approx(0.7, abs=1e-3)


def test_losses_prefer_the_truth() -> None:
    truth = torch.zeros(1, 1, 32, 32)
    truth[..., 8:20, 8:24] = 1.0
    right, wrong = (truth * 2 - 1) * 8, (1 - truth * 2) * 8
    masks = torch.cat([wrong, wrong, right, wrong], dim=1)
    losses = mask_losses(masks, truth, *attention(truth))[0]
    assert losses[2] < 0.05
    assert losses[0] > 1.0
    scores, coarse = torch.tensor([[0.0, 0.0, 1.0, 0.0]]), torch.zeros(1, 1, 8, 8)
    better = torch.cat([right, wrong, right, wrong], dim=1)
    unsure = torch.ones(1)
    assert answer_loss(better, scores, coarse, truth, unsure) < answer_loss(masks, scores, coarse, truth, unsure)


def test_widen_grows_a_mask_by_a_square() -> None:
    mask = torch.zeros(1, 1, 20, 20)
    mask[..., 8, 9] = 1.0
    grown = widen(mask, 3)[0, 0]
    assert int(grown.sum()) == 49
    assert grown[5:12, 6:13].all()

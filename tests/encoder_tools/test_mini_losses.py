"""Losses of `mini`."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from encoder_tools.mini.losses import (  # noqa: E402
    answer_loss,
    change_loss,
    mask_losses,
    regret,
    score_loss,
    target_of,
    widen,
)
from encoder_tools.training.answers import mask_iou  # noqa: E402


def test_regret_is_the_iou_lost_by_the_choice_of_the_score() -> None:
    reached = torch.tensor([[0.2, 0.9, 0.5]])
    assert float(regret(torch.tensor([[0.1, 0.9, 0.3]]), reached)) == pytest.approx(0.0, abs=1e-3)
    assert float(regret(torch.tensor([[0.9, 0.1, 0.3]]), reached)) == pytest.approx(0.7, abs=1e-3)


def test_losses_prefer_the_truth() -> None:
    truth = torch.zeros(1, 1, 32, 32)
    truth[..., 8:20, 8:24] = 1.0
    right, wrong = (truth * 2 - 1) * 8, (1 - truth * 2) * 8
    masks = torch.cat([wrong, wrong, right, wrong], dim=1)
    losses = mask_losses(masks, target_of(truth))[0]
    assert losses[2] < 0.05
    assert losses[0] > 1.0
    scores, coarse = torch.tensor([[0.0, 0.0, 1.0, 0.0]]), torch.zeros(1, 1, 8, 8)
    better = torch.cat([right, wrong, right, wrong], dim=1)
    target, unsure = target_of(truth), torch.ones(1)
    assert answer_loss(better, scores, coarse, target, unsure) < answer_loss(masks, scores, coarse, target, unsure)


def test_widen_grows_a_mask_by_a_square() -> None:
    mask = torch.zeros(1, 1, 20, 20)
    mask[..., 8, 9] = 1.0
    grown = widen(mask, 3)[0, 0]
    assert int(grown.sum()) == 49
    assert grown[5:12, 6:13].all()


def test_every_meaning_of_a_click_wants_a_candidate_of_its_own() -> None:
    tree, row = torch.zeros(1, 1, 32, 32), torch.zeros(1, 1, 32, 32)
    tree[..., 12:18, 12:18] = 1.0
    row[..., 10:20, 2:30] = 1.0
    logits = [(mask * 2 - 1) * 8 for mask in (tree, row)]
    single, scores, coarse = logits[0], torch.zeros(1, 4), torch.zeros(1, 1, 8, 8)
    both = torch.cat([single, logits[0], logits[1], logits[0]], dim=1)
    one = torch.cat([single, logits[0], logits[0], logits[0]], dim=1)
    others = torch.zeros(1, dtype=torch.long), row

    def loss(masks: torch.Tensor, others: tuple[torch.Tensor, torch.Tensor] | None) -> torch.Tensor:
        # Scores have a loss of their own.
        return answer_loss(masks, scores, coarse, target_of(tree), torch.ones(1), others) - 2 * score_loss(
            scores, mask_iou(masks, tree), torch.ones(1)
        )

    assert loss(both, others) < 0.5 * loss(one, others)
    assert loss(one, None) < loss(both, None), "with one meaning the row is an error"
    none = torch.zeros(0, dtype=torch.long), row[:0]
    torch.testing.assert_close(loss(one, none), loss(one, None))


def test_a_change_of_what_is_shown_costs() -> None:
    torch.manual_seed(0)
    known = torch.randn(2, 4, 32, 32) * 4
    click_and_box = torch.tensor([1.0, 0.0])
    torch.testing.assert_close(change_loss(known, known, click_and_box), torch.zeros(2))
    candidate, single = known.clone(), known.clone()
    candidate[:, 2], single[:, 0] = -known[:, 2], -known[:, 0]
    cost = change_loss(candidate, known, click_and_box)
    assert cost[0] > 0.1 and cost[1] == 0, "a box shows no candidates"
    assert (change_loss(single, known, click_and_box) > 0.1).all()
    assert (change_loss(known * 0.5, known, click_and_box) > 0).all()

"""What all trainings share: the simulated user, losses, and answers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays
from scipy import ndimage

torch = pytest.importorskip("torch")

from encoder_tools.training.answers import continued_with, first_answer_ious, mask_iou, shown_first  # noqa: E402
from encoder_tools.training.losses import best_candidate_loss, dice_loss, focal_loss  # noqa: E402
from encoder_tools.training.simulated_user import (  # noqa: E402
    BOX_LOW,
    SimulatedUser,
    bounding_box,
    corrective_click,
    depth,
    jitter_box,
    middle_cell,
    random_cell,
)


def test_depth_is_the_distance_to_the_border_and_the_array_ends_the_object() -> None:
    mask = np.ones((9, 31), dtype=bool)
    mask[:, 0] = False
    depths = depth(mask)
    assert (depths[:, 0] == 0).all()
    assert depths[0].max() == depths[-1].max() == depths[:, -1].max() == 1
    assert depths[4, 15] == 5


@given(arrays(bool, (9, 11)))
def test_depth_is_the_euclidean_distance_to_the_nearest_cell_outside(mask: np.ndarray) -> None:
    outside = np.argwhere(~np.pad(mask, 1))
    for cell in np.argwhere(mask):
        nearest = np.hypot(*(outside - cell - 1).T).min()
        assert depth(mask)[tuple(cell)] == pytest.approx(nearest)
    assert not depth(mask)[~mask].any()


@given(arrays(bool, (9, 11)).filter(np.any))
def test_the_middle_is_inside_and_deepest(mask: np.ndarray) -> None:
    cell = middle_cell(mask)
    assert mask[cell]
    assert depth(mask)[cell] == pytest.approx(depth(mask).max())


def test_the_middle_is_in_the_widest_part() -> None:
    mask = np.zeros((40, 60), bool)
    mask[10:21, 20:51] = True
    assert middle_cell(mask) == (15, 35)
    mask[:] = False
    mask[5:8, 0:50] = True
    mask[0:13, 40:53] = True
    assert middle_cell(mask) == (6, 46)


@given(arrays(bool, (9, 11)).filter(np.any))
def test_random_cells_are_as_deep_as_asked_for(mask: np.ndarray) -> None:
    depths, rng = depth(mask), np.random.default_rng(0)
    assert depths[random_cell(depths, rng, 1.0)] == pytest.approx(depths.max())
    assert mask[random_cell(depths, rng, 0.0)]


def test_a_correction_goes_to_the_middle_of_the_largest_error() -> None:
    truth, found = np.zeros((2, 40, 40), bool)
    truth[5:15, 5:15] = True
    found[5:15, 5:10] = True
    assert corrective_click(truth, found) == ((9, 12), True)
    found[21:40, 21:40] = True
    assert corrective_click(truth, found) == ((30, 30), False)
    assert corrective_click(truth, truth) is None


@given(arrays(bool, (2, 12, 13)))
def test_a_correction_lies_in_an_error_and_knows_its_side(masks: np.ndarray) -> None:
    truth, found = masks
    click = corrective_click(truth, found)
    assert (click is None) == np.array_equal(truth, found)
    if click is not None:
        cell, is_positive = click
        assert truth[cell] != found[cell] and truth[cell] == is_positive
        regions, _ = ndimage.label(truth != found)
        assert (regions == regions[cell]).sum() == np.bincount(regions.ravel())[1:].max()


def test_sides_of_jittered_boxes_move_by_at_most_the_amount() -> None:
    mask = np.zeros((64, 64), dtype=bool)
    mask[10:30, 40:60] = True
    box = bounding_box(mask)
    assert box.tolist() == [160.0, 40.0, 240.0, 120.0]
    boxes = np.array([jitter_box(box, np.random.default_rng(seed), 0.15) for seed in range(50)])
    outwards = (boxes - box) * [-1, -1, 1, 1]
    assert outwards.max() <= 12 and outwards.min() >= -6 and outwards.mean() > 1
    assert len(np.unique(boxes)) == boxes.size


@pytest.fixture
def masks() -> np.ndarray:
    masks = np.zeros((400, 40, 40), dtype=bool)
    masks[:, 10:30, 12:28] = True
    return masks


def test_first_prompts_are_clicks_inside_and_boxes_around(masks: np.ndarray) -> None:
    user = SimulatedUser(masks, np.random.default_rng(3))
    coords, labels = user.points()
    assert coords.shape == (400, 3, 2) and labels.shape == (400, 3)
    assert 0.3 < user.single_click.mean() < 0.5
    for number in np.flatnonzero(user.single_click):
        x, y = coords[number, 0]
        assert masks[number, int(y // 4), int(x // 4)]
        assert labels[number].tolist() == [1, -1, -1]
    boxes = [
        (*low[:2], *high[:2]) for low, high in (prompts[:2] for prompts in user.prompts if prompts[0][2] == BOX_LOW)
    ]
    tight = sum(box == (48.0, 40.0, 112.0, 120.0) for box in boxes)
    assert 0.15 < tight / len(boxes) < 0.35
    assert all(0 <= x0 < x1 <= 160 and 0 <= y0 < y1 <= 160 for x0, y0, x1, y1 in boxes)


def test_corrections_lie_in_the_error_and_confirm_where_there_is_none(masks: np.ndarray) -> None:
    user = SimulatedUser(masks, np.random.default_rng(3), click_share=1.0)
    assert user.single_click.all()
    answers = masks.copy()
    answers[:100] = False
    answers[100:200, 32:38, 12:28] = True
    user.correct(answers)
    assert not user.single_click.any()
    for number, prompts in enumerate(user.prompts):
        x, y, label = prompts[-1]
        if 100 <= number < 200:
            assert label == 0 and 48 <= x <= 112 and 128 <= y <= 152
        else:
            assert label == 1 and 48 <= x <= 112 and 40 <= y <= 120


def test_the_same_seed_gives_the_same_prompts(masks: np.ndarray) -> None:
    first, second = (SimulatedUser(masks[:9], np.random.default_rng(5)) for _ in range(2))
    assert first.prompts == second.prompts


def test_losses_fall_as_masks_get_better() -> None:
    truth = torch.zeros(1, 1, 32, 32)
    truth[..., 8:20, 8:24] = 1.0
    shifted = truth.roll(4, 3)
    logits = torch.cat([(truth * 2 - 1) * 9, (shifted * 2 - 1) * 9, (1 - truth * 2) * 9], dim=1)
    for losses in (focal_loss(logits, truth, 2.0)[0], dice_loss(logits, truth, 1.0)[0]):
        assert losses[0] < 1e-3 < losses[1] < losses[2]
    assert mask_iou(logits, truth)[0].tolist() == pytest.approx([1.0, 0.6, 0.0])


def test_focal_loss_is_the_weighted_cross_entropy_of_what_is_missed() -> None:
    truth, logits = torch.ones(1, 1, 1, 2), torch.tensor([[[[0.0, 1.0]]]])
    probability = torch.sigmoid(logits)
    cells = -torch.log(probability) * (1 - probability) ** 2
    assert float(focal_loss(logits, truth, 2.0)) == pytest.approx(float(cells.sum()))
    weight = torch.tensor([[[[3.0, 0.0]]]])
    assert float(focal_loss(logits, truth, 2.0, weight)) == pytest.approx(float(3 * cells[0, 0, 0, 0]))


def test_the_best_candidate_counts_for_a_click_and_the_single_mask_for_a_box() -> None:
    each = torch.tensor([[4.0, 0.0, 9.0, 9.0], [0.0, 4.0, 9.0, 9.0]])
    click, box = torch.ones(2), torch.zeros(2)
    assert best_candidate_loss(each, click)[0] < best_candidate_loss(each, click)[1]
    assert best_candidate_loss(each, box)[1] < best_candidate_loss(each, box)[0]


def test_a_user_sees_the_best_candidate_of_a_click_and_goes_on_with_it_or_a_better_one() -> None:
    truth = torch.zeros(200, 1, 4, 4)
    truth[..., :2] = 1.0
    right, wrong = 2 * truth - 1, 1 - 2 * truth
    masks = torch.cat([wrong, wrong, right, wrong], dim=1)
    scores = torch.tensor([0.9, 0.1, 0.2, 0.8]).expand(200, -1)
    click = torch.ones(200)
    assert shown_first(scores, click).unique().tolist() == [3]
    assert shown_first(scores, 1 - click).unique().tolist() == [0]
    rng = np.random.default_rng(0)
    taken = mask_iou(continued_with(masks, scores, truth, click, rng), truth)[:, 0]
    assert 0.3 < float(taken.mean()) < 0.5
    assert not mask_iou(continued_with(masks, scores, truth, 1 - click, rng), truth).any()


def test_first_answers_are_to_a_click_in_the_middle_and_to_the_box() -> None:
    masks = np.zeros((2, 64, 64), dtype=bool)
    masks[0, 8:20, 8:24], masks[1, 30:60, 40:50] = True, True
    asked: list[list[list[float]]] = []

    def decode(coords: torch.Tensor, labels: torch.Tensor, *_: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        asked.append(torch.cat([coords, labels[..., None]], 2)[0].tolist())
        right = torch.from_numpy(masks).float()[:, None] * 2 - 1
        single, second = (right, -right) if labels.shape[1] == 2 else (-right, right)
        return torch.cat([single, -right, second, -right], 1), torch.tensor([[0.9, 0.1, 0.8, 0.2]]).expand(2, -1)

    click, box = first_answer_ious(decode, masks)
    assert click.tolist() == box.tolist() == [1.0, 1.0]
    assert asked[1] == [[32.0, 32.0, 2.0], [96.0, 80.0, 3.0]]
    x, y, label = asked[0][0]
    assert label == 1 and 52 <= x <= 76 and 52 <= y <= 60

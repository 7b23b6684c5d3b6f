"""Prompts as maps: clicks, boxes, and the cheapest paths from them."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor  # noqa: E402

from encoder_tools.mini.prompt_maps import (  # noqa: E402
    SEED_SIGMA,
    PromptMaps,
    Prompts,
    geodesic_maps,
    geodesic_side_maps,
    split_prompts,
)

STRIDE = 16


def boxed(x0: float, y0: float, x1: float, y1: float) -> Prompts:
    return split_prompts(torch.tensor([[[x0, y0], [x1, y1]]]), torch.tensor([[2.0, 3.0]]))


def paths(prompts: Prompts, cost: Tensor, steps: int) -> Tensor:
    maps = PromptMaps(prompts, (24, 24), STRIDE)
    return geodesic_maps(prompts, maps.clicks_of((SEED_SIGMA * STRIDE,)), maps.windows(((1.0, 0.0),)), cost, steps)


def side_paths(prompts: Prompts, cost: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    maps = PromptMaps(prompts, (24, 24), STRIDE)
    clicks, window = maps.clicks_of((SEED_SIGMA * STRIDE,)), maps.windows(((1.0, 0.0),))
    return geodesic_side_maps(prompts, clicks, window, maps.sides_of_box(), cost, steps)


def walled() -> Tensor:
    """A frame two cells wide, a wall, and a block within: cells 4 to 19 of 24."""
    cost = torch.full((1, 1, 24, 24), 3.0)
    cost[..., 4:20, 4:20] = 0.01
    cost[..., 6:18, 6:18] = 6.0
    cost[..., 7:17, 7:17] = 0.01
    return cost


def test_prompt_maps_peak_at_clicks_and_fill_boxes() -> None:
    coords = torch.tensor([[[26.0, 18.0], [58.0, 50.0], [50.0, 30.0]]])
    prompts = split_prompts(coords, torch.tensor([[2.0, 3.0, 1.0]]))
    maps = PromptMaps(prompts, (16, 16), 4)
    windows = maps.windows(((1.0, 0.0), (0.5, 0.0), (1.0, 4.0)))
    for window, side in zip(windows[0], (32, 16, 40)):
        assert float(window.sum()) * 16 == pytest.approx(side * side, rel=1e-4)
    clicks = maps.clicks_of((6.0, 24.0))
    assert clicks.shape == (1, 4, 16, 16)
    assert int(clicks[0, 0].argmax()) == 7 * 16 + 12
    assert clicks[0, 2].sum() > 4 * clicks[0, 0].sum()
    assert float(clicks[0, 1].max()) == 0.0


def test_the_frame_of_a_box_is_one_on_its_border() -> None:
    maps = PromptMaps(boxed(80.0, 80.0, 304.0, 240.0), (24, 24), STRIDE)
    u, v, most, distance = maps.frame_of_box()[0]
    assert float(u[10, 4]) == pytest.approx(120 / 112)
    assert float(v[9, 12]) == pytest.approx(8 / 80)
    torch.testing.assert_close(most, torch.maximum(u, v))
    assert ((distance > 0) == (most < 1)).all()
    torch.testing.assert_close(maps.distance_to_box()[0, 0], distance)
    left, right, upper, lower = maps.sides_of_box()[0]
    assert [float(side.sum()) for side in (left, right)] == [48.0, 48.0]
    assert int(left[0].argmax()) in (4, 5)
    assert int(lower[:, 0].argmax()) in (14, 15)
    assert upper[:, 0].argmax() < lower[:, 0].argmax()
    assert right[0].argmax() > left[0].argmax()


def test_paths_from_a_click_do_not_cross_walls() -> None:
    prompts = split_prompts(torch.tensor([[[12.5 * STRIDE, 12.5 * STRIDE]]]), torch.tensor([[1.0]]))
    near = paths(prompts, walled(), 24)[0, 0]
    assert near[8, 15] > 0.8
    assert near[4:6, 4:20].max() < 0.05


def test_a_region_touching_all_sides_of_a_box_is_near_all_of_them() -> None:
    prompts = boxed(4 * STRIDE, 4 * STRIDE, 20 * STRIDE, 20 * STRIDE)
    _, sides = side_paths(prompts, walled(), 32)
    frame, block = sides[0, 4, 4:6, 4:20], sides[0, 4, 8:16, 8:16]
    assert frame.min() > 0.5
    assert block.max() < 0.1
    left, right = sides[0, 0], sides[0, 1]
    assert left[12, 4] > left[12, 19]
    assert right[12, 19] > right[12, 4]


def test_paths_between_sides_stay_inside_of_the_box() -> None:
    cost = torch.full((1, 1, 24, 24), 0.01)
    cost[..., 4:20, 8:10] = 6.0  # a wall across the box, which a path outside the box could go around
    _, sides = side_paths(boxed(4 * STRIDE, 4 * STRIDE, 20 * STRIDE, 20 * STRIDE), cost, 40)
    assert sides[0, 0, 12, 5] > 0.9
    assert sides[0, 0, 12, 15] < 0.3


def test_sides_do_not_change_other_paths_and_need_a_box() -> None:
    coords = torch.tensor([[[80.0, 80.0], [240.0, 200.0], [150.0, 120.0]]])
    for labels in ([2.0, 3.0, 1.0], [1.0, 0.0, -1.0]):
        prompts = split_prompts(coords, torch.tensor([labels]))
        maps, sides = side_paths(prompts, walled(), 9)
        torch.testing.assert_close(maps, paths(prompts, walled(), 9))
        assert (sides.max() > 0) == (labels[0] == 2.0)


def test_the_gradient_of_paths_is_that_of_finite_differences() -> None:
    coords = torch.tensor([[[83.0, 90.0], [251.0, 213.0], [150.0, 121.0]]], dtype=torch.float64)
    prompts = split_prompts(coords, torch.tensor([[2.0, 3.0, 1.0]], dtype=torch.float64))
    generator = torch.Generator().manual_seed(3)
    cost = torch.rand((1, 1, 24, 24), generator=generator, dtype=torch.float64, requires_grad=True)
    assert float(torch.autograd.grad(paths(prompts, cost, 9).sum(), cost)[0].abs().max()) > 1
    assert torch.autograd.gradcheck(
        lambda cost: (paths(prompts, cost, 9), *side_paths(prompts, cost, 9)), (cost,), fast_mode=True
    )

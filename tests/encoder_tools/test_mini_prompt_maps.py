"""Prompts as maps: clicks, boxes, and the cheapest paths from them."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor  # noqa: E402

from encoder_tools.mini.prompt_maps import (  # noqa: E402
    Prompts,
    box_window,
    click_maps,
    geodesic_maps,
    geodesic_side_maps,
    split_prompts,
)

STRIDE = 16


def boxed(x0: float, y0: float, x1: float, y1: float) -> Prompts:
    return split_prompts(torch.tensor([[[x0, y0], [x1, y1]]]), torch.tensor([[2.0, 3.0]]))


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
    window = box_window(prompts, (16, 16), 4, 1.0)
    assert float(window.sum()) * 16 == pytest.approx(32 * 32, rel=1e-4)
    clicks = click_maps(prompts, (16, 16), 4, (6.0,))
    assert int(clicks[0, 0].argmax()) == 7 * 16 + 12
    assert float(clicks[0, 1].max()) == 0.0


def test_a_click_floods_what_no_wall_divides_from_it() -> None:
    prompts = split_prompts(torch.tensor([[[12.5 * STRIDE, 12.5 * STRIDE]]]), torch.tensor([[1.0]]))
    near = geodesic_maps(prompts, walled(), STRIDE, 24)[0, 0]
    assert near[8, 15] > 0.8
    assert near[4:6, 4:20].max() < 0.05


def test_what_touches_all_sides_of_a_box_is_near_to_all() -> None:
    prompts = boxed(4 * STRIDE, 4 * STRIDE, 20 * STRIDE, 20 * STRIDE)
    _, sides = geodesic_side_maps(prompts, walled(), STRIDE, 32)
    frame, block = sides[0, 4, 4:6, 4:20], sides[0, 4, 8:16, 8:16]
    assert frame.min() > 0.5
    assert block.max() < 0.1
    left, right = sides[0, 0], sides[0, 1]
    assert left[12, 4] > left[12, 19]
    assert right[12, 19] > right[12, 4]


def test_paths_between_sides_stay_inside_of_the_box() -> None:
    cost = torch.full((1, 1, 24, 24), 0.01)
    cost[..., 4:20, 8:10] = 6.0  # a wall across the box, which could be gone around outside of it
    _, sides = geodesic_side_maps(boxed(4 * STRIDE, 4 * STRIDE, 20 * STRIDE, 20 * STRIDE), cost, STRIDE, 40)
    assert sides[0, 0, 12, 5] > 0.9
    assert sides[0, 0, 12, 15] < 0.3


def test_sides_go_along_with_the_other_paths_and_need_a_box() -> None:
    coords = torch.tensor([[[80.0, 80.0], [240.0, 200.0], [150.0, 120.0]]])
    for labels in ([2.0, 3.0, 1.0], [1.0, 0.0, -1.0]):
        prompts = split_prompts(coords, torch.tensor([labels]))
        maps, sides = geodesic_side_maps(prompts, walled(), STRIDE, 9)
        torch.testing.assert_close(maps, geodesic_maps(prompts, walled(), STRIDE, 9))
        assert (sides.max() > 0) == (labels[0] == 2.0)

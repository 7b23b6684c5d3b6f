"""Curves of a training run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.mini.training_curves import draw, read_log, smooth
from geosam_es.errors import ModelError


def test_curves_are_drawn_from_the_log(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    with pytest.raises(ModelError, match="no training log"):
        read_log(tmp_path / "log.csv")
    lines = ["step,seconds,learning_rate,size,loss,edge,iou_first,iou_last"]
    lines += [f"{n},{10 * n},0.001,320,{1 / (n + 1)},0.5,0.5,0.6" for n in range(100)]
    (tmp_path / "log.csv").write_text("\n".join(lines), encoding="utf-8")
    log = read_log(tmp_path / "log.csv")
    np.testing.assert_allclose(smooth(log["loss"], 1), log["loss"])
    assert smooth(np.array([1.0, 3.0, 5.0]), 2).tolist() == [1.0, 2.0, 4.0]
    draw(tmp_path, tmp_path / "curves.png")
    plain = (tmp_path / "curves.png").read_bytes()
    assert len(plain) > 1000
    (tmp_path / "validation.csv").write_text("step,seconds,fields box\n50,500,0.5\n100,1000,0.6\n", encoding="utf-8")
    draw(tmp_path, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes() != plain

"""The mean of trained weights of `mini`."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from encoder_tools.mini.export import load_checkpoint, save_checkpoint  # noqa: E402
from encoder_tools.mini.network import MiniNet  # noqa: E402
from encoder_tools.mini.weight_average import average_checkpoints  # noqa: E402
from geosam_es.errors import ModelError, OutputError  # noqa: E402


def checkpoint(path: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    torch.save({"average": MiniNet().state_dict(), "step": seed, "seconds": 10.0 * seed}, path)
    return path


def test_every_weight_is_the_mean(tmp_path: Path) -> None:
    paths = [checkpoint(tmp_path / f"{seed}.pt", seed) for seed in (1, 2)]
    written = average_checkpoints(paths, tmp_path / "mean")
    assert written == tmp_path / "mean" / "best.pt"
    net, trained = load_checkpoint(written)
    first, second = (load_checkpoint(path)[0].state_dict() for path in paths)
    for name, value in net.state_dict().items():
        assert torch.allclose(value.double(), (first[name].double() + second[name].double()) / 2), name
    assert trained == {"step": 2.0, "seconds": 20.0}
    assert any(not torch.equal(first[name], second[name]) for name in first)


def test_bad_checkpoints_and_folders_are_clear_errors(tmp_path: Path) -> None:
    good = checkpoint(tmp_path / "good.pt", 1)
    with pytest.raises(ModelError, match=r"missing\.pt"):
        average_checkpoints([good, tmp_path / "missing.pt"], tmp_path / "mean")
    torch.save({"average": {"weight": torch.zeros(2)}, "step": 1, "seconds": 1.0}, tmp_path / "other.pt")
    with pytest.raises(ModelError, match=r"other\.pt"):
        average_checkpoints([tmp_path / "other.pt"], tmp_path / "mean")
    assert not (tmp_path / "mean").exists()
    with pytest.raises(OutputError, match=r"good\.pt"):
        average_checkpoints([good], good)


def test_weights_are_written_completely_or_not_at_all(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "best.pt", 1)
    net, trained = load_checkpoint(path)
    before = path.read_bytes()
    (tmp_path / "best.pt.part").mkdir()
    with pytest.raises(OutputError, match="cannot write to") as refused:
        save_checkpoint(net.state_dict(), trained, path)
    assert str(tmp_path) in str(refused.value)
    assert path.read_bytes() == before

"""segment_anything with a torchvision that is absent, broken, or fine."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
if importlib.util.find_spec("segment_anything") is None:  # importing it takes the stand-in for torchvision
    pytest.skip("segment_anything is not installed", allow_module_level=True)

from encoder_tools.models.sam.weights import torchvision_standin as standin  # noqa: E402

ROOT = Path(__file__).parents[2]

IMPORT = """
import sys
{before}
from encoder_tools.models.sam.torchvision_standin import import_segment_anything
segment_anything = import_segment_anything()
from segment_anything.utils import transforms
print(transforms.resize.__module__, segment_anything.automatic_mask_generator.batched_nms.__module__)
print(sorted(name for name in sys.modules if name.split(".")[0] == "torchvision"))
print(import_segment_anything() is segment_anything)
"""

BLOCK = """
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == {name!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Block())
"""


def run(before: str) -> subprocess.CompletedProcess[str]:
    code = IMPORT.format(before=before)
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)


def printed(before: str) -> list[str]:
    done = run(before)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def write_torchvision(folder: Path, first_line: str) -> None:
    package = folder / "torchvision"
    for name, text in {
        "_meta.py": "",
        "__init__.py": f"from . import _meta\n{first_line}\n",
        "transforms/__init__.py": "",
        "transforms/functional.py": "def resize(): pass\ndef to_pil_image(): pass\n",
        "ops/__init__.py": "",
        "ops/boxes.py": "def batched_nms(): pass\ndef box_area(): pass\n",
    }.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_absent() -> None:
    functions, left, again = printed(BLOCK.format(name="torchvision"))
    assert functions == "encoder_tools.models.sam.torchvision_standin encoder_tools.models.sam.torchvision_standin"
    assert (left, again) == ("[]", "True")


def test_broken(tmp_path: Path) -> None:
    write_torchvision(tmp_path, 'raise RuntimeError("operator torchvision::nms does not exist")')
    functions, left, _ = printed(f"sys.path.insert(0, {str(tmp_path)!r})")
    assert functions == "encoder_tools.models.sam.torchvision_standin encoder_tools.models.sam.torchvision_standin"
    assert left == "[]"


def test_present_takes_precedence(tmp_path: Path) -> None:
    write_torchvision(tmp_path, "")
    functions, left, _ = printed(f"sys.path.insert(0, {str(tmp_path)!r})")
    assert functions == "torchvision.transforms.functional torchvision.ops.boxes"
    assert "'torchvision.ops.boxes'" in left


@pytest.mark.parametrize("name", ["torch", "segment_anything"])
def test_missing_libraries_name_the_remedy(name: str) -> None:
    last = run(BLOCK.format(name=name)).stderr.splitlines()[-1]
    assert last.startswith("geosam_es.errors.ModelError")
    assert 'pip install "geosam-es[encode]"' in last


def test_nms_keeps_the_best_of_each_heap_within_categories() -> None:
    boxes = torch.tensor([[0, 0, 10, 10], [1, 0, 11, 10], [0, 0, 10, 10], [50, 50, 60, 60.0]])
    scores = torch.tensor([0.5, 0.9, 0.7, 0.1])
    one_category = standin.batched_nms(boxes, scores, torch.zeros(4), 0.5)
    assert one_category.tolist() == [1, 3]
    two_categories = standin.batched_nms(boxes, scores, torch.tensor([0, 0, 1, 0]), 0.5)
    assert two_categories.tolist() == [1, 2, 3]
    assert standin.batched_nms(boxes, scores, torch.zeros(4), 0.99).tolist() == [1, 2, 3]
    assert standin.batched_nms(boxes[:0], scores[:0], torch.zeros(0), 0.5).tolist() == []


def test_nms_agrees_with_a_plain_search() -> None:
    generator = torch.Generator().manual_seed(0)
    low = torch.rand(60, 2, generator=generator) * 50
    boxes = torch.cat([low, low + 1 + torch.rand(60, 2, generator=generator) * 40], dim=1)
    scores = torch.rand(60, generator=generator)

    def iou(a: list[float], b: list[float]) -> float:
        width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
        height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
        area = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
        return width * height / (area - width * height)

    kept: list[int] = []
    for index in scores.argsort(descending=True).tolist():
        if all(iou(boxes[index].tolist(), boxes[other].tolist()) <= 0.4 for other in kept):
            kept.append(index)
    assert standin.batched_nms(boxes, scores, torch.zeros(60), 0.4).tolist() == kept


def test_box_area() -> None:
    assert standin.box_area(torch.tensor([[1, 2, 4, 8], [0, 0, 0, 5.0]])).tolist() == [18, 0]


def test_resize_takes_height_and_width() -> None:
    pytest.importorskip("PIL")
    image = np.zeros((4, 8, 3), np.uint8)
    image[:, 4:] = 200
    resized = np.asarray(standin.resize(standin.to_pil_image(image), (2, 4)))
    assert resized.shape == (2, 4, 3)
    assert resized[0, 0, 0] < 20
    assert resized[0, 3, 0] > 180

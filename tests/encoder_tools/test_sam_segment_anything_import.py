"""Import of segment_anything with torchvision missing, broken, or working."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
if importlib.util.find_spec("segment_anything") is None:
    pytest.skip("segment_anything is not installed", allow_module_level=True)

ROOT = Path(__file__).parents[2]

IMPORT = """
import sys
{before}
from encoder_tools.models.sam.segment_anything_import import import_segment_anything
segment_anything = import_segment_anything()
from segment_anything.utils import transforms
try:
    print(transforms.resize(None, None))
except Exception as error:
    print(error.problem)
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
        "transforms/functional.py": "def resize(image, size): return 'resized'\ndef to_pil_image(): pass\n",
        "ops/__init__.py": "",
        "ops/boxes.py": "def batched_nms(): pass\ndef box_area(): pass\n",
    }.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.mark.parametrize("is_installed", [False, True])
def test_without_a_torchvision_that_imports(tmp_path: Path, is_installed: bool) -> None:
    before = BLOCK.format(name="torchvision")
    if is_installed:
        write_torchvision(tmp_path, 'raise RuntimeError("operator torchvision::nms does not exist")')
        before = f"sys.path.insert(0, {str(tmp_path)!r})"
    error, left, again = printed(before)
    assert error == "torchvision.transforms.functional.resize needs torchvision"
    assert (left, again) == ("[]", "True")


def test_an_installed_torchvision_takes_precedence(tmp_path: Path) -> None:
    write_torchvision(tmp_path, "")
    resized, left, _ = printed(f"sys.path.insert(0, {str(tmp_path)!r})")
    assert resized == "resized"
    assert "'torchvision.ops.boxes'" in left


@pytest.mark.parametrize("name", ["torch", "segment_anything"])
def test_missing_libraries_name_the_remedy(name: str) -> None:
    last = run(BLOCK.format(name=name)).stderr.splitlines()[-1]
    assert last.startswith("geosam_es.errors.ModelError")
    assert 'pip install "geosam-es[encode]"' in last

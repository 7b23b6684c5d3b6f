"""Nothing that comes from outside is unpickled or run, proven on the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXCEPTIONS = ("encoder_tools/torch_file.py",)
"""Reads the files of another program with an unpickler that allows a fixed list of names."""

MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "jsonpickle"}
HARMLESS = {"UnpicklingError", "PickleError", "PicklingError"}
BUILTINS = {"eval", "exec", "compile", "__import__"}


def faults(source: str) -> Iterator[str]:
    """Yield what in a source could unpickle or run what it reads."""
    tree = ast.parse(source)
    names = {
        alias.asname or alias.name: alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in MODULES:
            yield from (f"from {node.module} import {a.name}" for a in node.names if a.name not in HARMLESS)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module = names.get(node.value.id, "").split(".")[0]
            if module in MODULES and node.attr not in HARMLESS:
                yield f"{module}.{node.attr}"
            elif node.attr == "read_pickle":
                yield node.attr
        elif isinstance(node, ast.Call):
            yield from _calls(node)


def _calls(node: ast.Call) -> Iterator[str]:
    given = {keyword.arg: keyword.value for keyword in node.keywords}
    name = ast.unparse(node.func)
    if name in BUILTINS:
        yield name
    elif name == "torch.load":
        safe = given.get("weights_only")
        if not (isinstance(safe, ast.Constant) and safe.value is True):
            yield "torch.load without weights_only=True"
    elif name.split(".")[-1] in ("load", "load_all", "unsafe_load") and name.split(".")[0] == "yaml":
        yield name
    if "allow_pickle" in given and not (
        isinstance(given["allow_pickle"], ast.Constant) and given["allow_pickle"].value is False
    ):
        yield f"{name} with allow_pickle"


@pytest.mark.parametrize("package", ["geosam_es", "encoder_tools", "benchmarks"])
def test_nothing_is_unpickled(package: str) -> None:
    found = {
        f"{name}: {fault}"
        for path in (ROOT / package).rglob("*.py")
        if not (name := path.relative_to(ROOT).as_posix()).startswith(EXCEPTIONS)
        for fault in faults(path.read_text(encoding="utf-8"))
    }
    assert found == set()


@pytest.mark.parametrize(
    "source",
    [
        "import pickle\npickle.load(file)",
        "import pickle as p\np.Unpickler(file)",
        "from pickle import loads",
        "import torch\ntorch.load(path)",
        "import torch\ntorch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=wanted)",
        "pandas.read_pickle(path)",
        "eval(text)",
        "yaml.load(text)",
    ],
)
def test_the_proof_finds_what_it_looks_for(source: str) -> None:
    assert list(faults(source))

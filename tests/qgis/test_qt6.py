"""Everything the plugin uses of Qt exists in Qt 6: names in their modules, enums with their scope.

Debian has no QGIS built on Qt 6 yet, so the tests read the sources and look up every name in PyQt6.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "geosam_es"
MODULES = sorted(path for room in ("gui", "processing", "qgis_support") for path in (PACKAGE / room).rglob("*.py"))
GONE = {"exec_", "print_", "sip.SIP_VERSION"}
LOOK_UP = """
import importlib, json, sys
missing = []
for place, module, chain in json.load(sys.stdin):
    found = importlib.import_module("PyQt6." + module)
    try:
        for name in chain:
            found = getattr(found, name)
    except AttributeError:
        missing.append(f"{place}: {'.'.join(chain)} is not in PyQt6.{module}")
print(json.dumps(missing))
"""


def qt_uses(path: Path) -> Iterator[tuple[str, str, list[str]]]:
    """Yield the place, the Qt module and the chain of names for every use of an import from Qt."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    fallbacks = {id(node) for branch in _branches_for_qt5(tree) for node in ast.walk(branch)}
    origin: dict[str, str] = {}
    for node in ast.walk(tree):
        is_qt = isinstance(node, ast.ImportFrom) and (node.module or "").startswith("qgis.PyQt.")
        if is_qt and id(node) not in fallbacks:
            for alias in node.names:  # type: ignore[attr-defined]
                origin[alias.asname or alias.name] = node.module.rsplit(".", 1)[1]  # type: ignore[attr-defined]
                yield f"{path.name}:{node.lineno}", origin[alias.asname or alias.name], [alias.name]  # type: ignore[attr-defined]
    for node in ast.walk(tree):
        chain = _chain(node)
        if len(chain) > 1 and chain[0] in origin:
            yield f"{path.name}:{node.lineno}", origin[chain[0]], chain  # type: ignore[attr-defined]


def _branches_for_qt5(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield the code for older versions of QGIS: handlers of import errors, and branches for lower versions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Try):
            yield from node.handlers
        elif isinstance(node, ast.If) and "QGIS_VERSION_INT >=" in ast.unparse(node.test):
            yield from node.orelse


def _chain(node: ast.AST) -> list[str]:
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.insert(0, node.attr)
        node = node.value
    return [node.id, *names] if isinstance(node, ast.Name) else []


def test_names_and_enums_are_in_qt6() -> None:
    uses = [use for path in MODULES for use in qt_uses(path)]
    assert len(uses) > 100
    result = subprocess.run(
        [sys.executable, "-c", LOOK_UP], input=json.dumps(uses), capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == []


def test_the_look_up_would_find_what_is_missing() -> None:
    uses = [("here", "QtCore", ["Qt", "LeftButton"]), ("here", "QtCore", ["Qt", "MouseButton", "LeftButton"])]
    result = subprocess.run(
        [sys.executable, "-c", LOOK_UP], input=json.dumps(uses), capture_output=True, text=True, check=True
    )
    assert json.loads(result.stdout) == ["here: Qt.LeftButton is not in PyQt6.QtCore"]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_nothing_is_imported_past_qgis(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    modules = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    modules += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    assert [name for name in modules if name.startswith(("PyQt", "PySide", "sip"))] == []
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert attributes & GONE == set()

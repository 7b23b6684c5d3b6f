"""The examples in the docstrings hold."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NEED_QGIS = {"gui", "processing", "qgis_support"}
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for package in ("geosam_es", "encoder_tools")
    for path in sorted((ROOT / package).rglob("*.py"))
    if ">>>" in path.read_text(encoding="utf-8") and not NEED_QGIS & set(path.parts)
]


def test_there_are_examples() -> None:
    assert len(MODULES) >= 5


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0 and result.failed == 0

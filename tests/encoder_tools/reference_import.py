"""Import of packages that need torchvision and timm for parts that the tests do not use."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType
from typing import Any

import pytest
import torch

from encoder_tools.models.sam.segment_anything_import import _MODULES, _Placeholder

_TIMM = {
    "layers": {
        "DropPath": torch.nn.Identity,
        "to_2tuple": lambda side: (side, side),
        "trunc_normal_": torch.nn.init.trunc_normal_,
    },
    "registry": {"register_model": lambda function: function},
}


def import_reference(name: str) -> Any:
    """Import a package with stand-ins for torchvision and timm, or skip the test if it is not installed."""
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    stubs: dict[str, ModuleType] = {module: _Placeholder(module) for module in _MODULES}
    stubs.update({module: ModuleType(module) for module in ("timm", "timm.models")})
    for part, functions in _TIMM.items():
        stubs[f"timm.models.{part}"] = ModuleType(f"timm.models.{part}")
        stubs[f"timm.models.{part}"].__dict__.update(functions)
    before = {module: sys.modules.get(module) for module in stubs}
    sys.modules.update(stubs)
    try:
        return importlib.import_module(name)
    finally:
        for module, former in before.items():
            sys.modules.pop(module)
            if former is not None:
                sys.modules[module] = former

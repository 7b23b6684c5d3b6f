"""What the rows share: a folder of their own, and stores."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.encoder_tools.sweep.commands import shared, spotlight
from tests.encoder_tools.sweep.scene import tif


@pytest.fixture(autouse=True)
def _in_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store that rows on prompts and outputs share; a.tif is beside it."""
    return shared(tmp_path_factory.mktemp("shared"), tif, "mini")[1]


@pytest.fixture(scope="session")
def fast_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with the fast model, for rows on names."""
    return shared(tmp_path_factory.mktemp("fast"), tif, spotlight())[1]

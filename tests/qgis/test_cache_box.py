"""The size of the cache, and emptying it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from qgis.PyQt.QtWidgets import QLabel, QPushButton

from geosam_es.gui.panel.cache_box import CacheBox, size_text
from geosam_es.store.cache import StoreCache
from tests.qgis.support import wait_until


def shown(box: CacheBox) -> str:
    return box.findChild(QLabel).text()


def add(cache: StoreCache, name: str, count: int) -> Path:
    root = cache.path_for(Path(f"{name}.tif"), {})
    root.mkdir(parents=True)
    (root / "zarr.json").write_text("{}")
    (root / "tile").write_bytes(bytes(count))
    return root


def test_it_counts_in_the_background_and_clears_what_is_not_in_use(own_cache: Path) -> None:
    cache = StoreCache(own_cache, 0)
    used, unused = add(cache, "used", 1_999_998), add(cache, "unused", 3_999_998)
    cache.acquire(used)
    box = CacheBox()
    button = box.findChild(QPushButton)
    assert not button.isEnabled()
    wait_until(button.isEnabled)
    assert shown(box) == "6 MB"
    button.click()
    wait_until(button.isEnabled)
    # Otherwise it seems that the button does nothing.
    assert shown(box) == "2 MB kept: images in use, and model variants"
    assert used.exists() and not unused.exists()
    cache.release(used)


def test_an_empty_cache(own_cache: Path) -> None:
    box = CacheBox()
    wait_until(lambda: shown(box).startswith("0 "))
    assert not box.findChild(QPushButton).isEnabled()


def test_a_dialog_that_is_closed_meanwhile(own_cache: Path) -> None:
    add(StoreCache(own_cache, 0), "a", 1000)
    box = CacheBox()
    box.deleteLater()
    del box
    other = CacheBox()
    wait_until(lambda: shown(other) == "1 kB")


def test_without_the_packages_nothing_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "shapely")
    box = CacheBox()
    assert shown(box) == "" and not box.findChild(QPushButton).isEnabled()


@pytest.mark.parametrize(("count", "text"), [(0, "0 bytes"), (132_000_000, "132 MB"), (2_770_000_000, "2.8 GB")])
def test_sizes(count: int, text: str) -> None:
    assert size_text(count) == text

"""A folder of stores with a size limit, for rasters beside which nothing can be written."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import OutputError
from .layout import GROUP_FILE, SUFFIX
from .writer import remove_store

__all__ = ["StoreCache"]

_NAME_DIGITS = 16

# Of all the caches in this process, so that none removes what another layer is using.
_open_stores: set[Path] = set()
_open_lock = threading.Lock()


class StoreCache:
    """Stores in one folder; those that were used least recently go first.

    Parameters
    ----------
    folder : Path
        Made when it is needed.
    max_bytes : int
        Of all the stores together.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder = folder
        self.max_bytes = max_bytes

    def path_for(self, raster: Path, signature: Mapping[str, Any]) -> Path:
        """Return where the store with a signature belongs; other rasters of the same name have another place."""
        text = json.dumps([raster.name, {key: str(value) for key, value in signature.items()}], sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:_NAME_DIGITS]
        return self.folder / f"{raster.stem}-{digest}{SUFFIX}"

    def acquire(self, store: Path) -> None:
        """Note that a store is used now, and until `release` is not to be removed."""
        with _open_lock:
            _open_stores.add(store)
        os.utime(store / GROUP_FILE)

    def release(self, store: Path) -> None:
        """Note that a store is no longer used."""
        with _open_lock:
            _open_stores.discard(store)

    def stores(self) -> list[Path]:
        """Return the stores, the one used least recently first."""
        found = [path for path in self.folder.glob(f"*{SUFFIX}") if (path / GROUP_FILE).is_file()]
        return sorted(found, key=lambda path: (path / GROUP_FILE).stat().st_mtime)

    def trim(self) -> None:
        """Remove stores until the limit is held.

        Raises
        ------
        OutputError
            If those in use alone are beyond it.
        """
        sizes = {store: _size(store) for store in self.stores()}
        total = sum(sizes.values())
        for store, size in sizes.items():
            if total <= self.max_bytes:
                return
            with _open_lock:
                is_open = store in _open_stores
            if not is_open:
                remove_store(store)
                total -= size
        if total > self.max_bytes:
            raise OutputError(
                "The cache {folder} is full ({size:.3g} GiB)",
                "allow it more in the options, or copy the raster to a folder that can be written",
                folder=self.folder,
                size=self.max_bytes / 2**30,
            )


def _size(store: Path) -> int:
    total = 0
    for folder, _, names in os.walk(store):
        for name in names:
            # Another QGIS may remove it just now.
            with suppress(FileNotFoundError):
                total += (Path(folder) / name).stat().st_size
    return total

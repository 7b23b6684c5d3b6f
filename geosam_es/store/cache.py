"""A folder of stores with a size limit."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import shutil
import threading
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import OutputError, StoreError
from .decoders import has_added_decoders
from .files import folder_bytes
from .layout import GROUP_FILE, REMOTE_FILE, SUFFIX
from .raster_name import RasterPath
from .writer import remove_tiles, set_aside

__all__ = ["StoreCache"]

_NAME_DIGITS = 16
_MOST_STEM = 40
"""Characters of the name of the raster in that of its store; a file name has at most 255 bytes."""

# How many users each store has, in all the caches of this process.
_users: Counter[Path] = Counter()
_lock = threading.Lock()


class StoreCache:
    """Stores in one folder. When it is full, those used least recently are removed, unless they are in use.

    Parameters
    ----------
    folder : Path
        Created when the first store is written.
    max_bytes : int
        Size limit of all the stores together.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder = folder
        self.max_bytes = max_bytes

    def path_for(self, raster: RasterPath, signature: Mapping[str, Any]) -> Path:
        """Return the path of the store with a signature; rasters of the same name get different paths."""
        text = json.dumps([raster.name, {key: str(value) for key, value in signature.items()}], sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:_NAME_DIGITS]
        return self.folder / f"{raster.stem[:_MOST_STEM]}-{digest}{SUFFIX}"

    def may_have(self, raster: RasterPath) -> bool:
        """Tell, without reading the raster, whether there is a store of a raster of this name."""
        name = glob.escape(raster.stem[:_MOST_STEM])
        return any(self.folder.glob(f"{name}-{'?' * _NAME_DIGITS}{SUFFIX}"))

    def acquire(self, store: Path) -> None:
        """Add a user of a store. The store is not removed until `release` has been called as often.

        Raises
        ------
        StoreError
            If another program has removed it.
        """
        with _lock:
            try:
                os.utime(store / GROUP_FILE)
            except OSError as error:
                raise StoreError("{root} is no longer there", "choose the raster again", root=store) from error
            _users[store] += 1

    def release(self, store: Path) -> None:
        """Remove a user of a store."""
        with _lock:
            _users[store] -= 1
            if _users[store] <= 0:
                del _users[store]

    def stores(self) -> list[Path]:
        """Return the stores, the one used least recently first."""
        times = {}
        for path in self.folder.glob(f"*{SUFFIX}"):
            # Another QGIS may remove it at this moment.
            with suppress(OSError):
                group = path / GROUP_FILE
                # A copy that was removed while it was being read has none.
                times[path] = (group if group.is_file() else path).stat().st_mtime
        return sorted(times, key=times.__getitem__)

    def size(self) -> int:
        """Add up the sizes of the stores in bytes; may take seconds."""
        return sum(map(folder_bytes, self.stores()))

    def clear(self) -> None:
        """Remove all stores that are not in use, except the decoders that were added to them."""
        for store in self.stores():
            self._empty(store)

    def _empty(self, store: Path) -> None:
        # A decoder was trained by the user. Tiles can be encoded again, and what a server has can be fetched again.
        if (store / REMOTE_FILE).is_file() or not has_added_decoders(store):
            self.remove(store)
            return
        with _lock:
            if not _users[store]:
                remove_tiles(store)

    def remove(self, store: Path) -> bool:
        """Remove a store unless it is in use, and tell whether it is gone."""
        with _lock:
            if _users[store]:
                return False
            try:
                aside = set_aside(store)
            except StoreError:
                # Another QGIS was faster.
                return True
            except OSError:
                return False
        shutil.rmtree(aside, ignore_errors=True)
        return True

    def trim(self) -> None:
        """Remove unused stores, the one used least recently first, until the others are within the limit.

        As `clear`, it keeps the decoders that were added to them.

        Raises
        ------
        OutputError
            If what is kept exceeds the limit.
        """
        sizes = {store: folder_bytes(store) for store in self.stores()}
        total = sum(sizes.values())
        for store, size in sizes.items():
            if total <= self.max_bytes:
                return
            self._empty(store)
            total -= size - folder_bytes(store)
        if total > self.max_bytes:
            raise OutputError(
                "The cache {folder} is full ({size:.3g} GiB)",
                "raise its limit in the options, or keep new prepared images beside their images",
                folder=self.folder,
                size=self.max_bytes / 2**30,
            )

"""Files and folders that appear whole under their name or not at all, on every system and after a power cut."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

__all__ = [
    "flush",
    "flush_tree",
    "folder_bytes",
    "is_portable_name",
    "put_in_place",
    "replace_files",
    "temporary_name",
    "write_text",
]

_PAUSES_S = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32)
"""Between attempts. A virus scanner or a reader on Windows holds a file for a fraction of a second."""

_FLUSHES = 8
_CANNOT_FLUSH = (errno.EINVAL, errno.EBADF, errno.ENOTSUP)

_DEVICES = {"aux", "con", "conin$", "conout$", "nul", "prn"} | {
    f"{port}{number}" for port in ("com", "lpt") for number in "0123456789¹²³"
}
"""Names that Windows reserves for devices, with any suffix."""

_NOT_IN_NAMES = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f-\x9f\ud800-\udfff]')
_MOST_BYTES_IN_A_NAME = 255


def put_in_place(made: Path, target: Path) -> None:
    """Rename a file or folder to its final name, replacing a file there.

    Windows refuses while another program or thread has the target or anything in the folder open. The rename is
    then repeated for about half a second.

    Parameters
    ----------
    made : Path
        A finished file or folder on the same file system.
    target : Path
        A file or a free name; a folder only where it is empty and the system allows it.

    Raises
    ------
    OSError
        If the last attempt fails as well.
    """
    for pause in _PAUSES_S:
        with suppress(PermissionError):
            made.replace(target)
            return
        time.sleep(pause)
    made.replace(target)


def replace_files(made: Sequence[Path], folder: Path, obsolete: Sequence[Path] = ()) -> None:
    """Move files that belong together into a folder, as the parts of a Shapefile: all of them or none.

    Parameters
    ----------
    made : sequence of Path
        Finished files on the same file system.
    folder : Path
        Files of the same names in it are replaced.
    obsolete : sequence of Path
        Files that may exist and do not fit the new ones; they are removed.

    Raises
    ------
    OSError
        If one of the files cannot be replaced. The older files are then unchanged.
    """
    targets = [folder / path.name for path in made]
    older = [path for path in dict.fromkeys([*targets, *obsolete]) if path.exists()]
    if len(made) == 1 and set(older) <= set(targets):
        put_in_place(made[0], targets[0])
        return
    aside = temporary_name(folder)
    aside.mkdir()
    moved: list[tuple[Path, Path]] = []
    try:
        for source, target in [(path, aside / path.name) for path in older] + list(zip(made, targets)):
            put_in_place(source, target)
            moved.append((source, target))
    except BaseException:
        for source, target in reversed(moved):
            put_in_place(target, source)
        aside.rmdir()
        raise
    shutil.rmtree(aside, ignore_errors=True)


def temporary_name(folder: Path) -> Path:
    """Return a free, hidden name of nine characters in a folder; Windows limits a path to 260 characters."""
    return folder / f".{secrets.token_hex(4)}"


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file that replaces an older one only when it is on the disk.

    Raises
    ------
    OSError
        If it cannot be written; an older file is then unchanged.
    """
    temporary = temporary_name(path.parent)
    try:
        temporary.write_text(text, encoding="utf-8")
        flush(temporary)
        put_in_place(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    flush(path.parent)


def flush_tree(folder: Path) -> None:
    """Write everything in a folder to the disk. Flushes that run side by side share one write of the journal."""
    paths = [folder, *folder.rglob("*")]
    with ThreadPoolExecutor(_FLUSHES) as pool:
        list(pool.map(flush, paths))


def flush(path: Path) -> None:
    """Write a file to the disk, or the names in a folder; Windows and some network drives cannot do the latter."""
    is_windows, is_folder = os.name == "nt", path.is_dir()
    if is_windows and is_folder:
        return
    descriptor = os.open(path, os.O_RDWR if is_windows else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not (is_folder and error.errno in _CANNOT_FLUSH):
            raise
    finally:
        os.close(descriptor)


def folder_bytes(folder: Path) -> int:
    """Add up the sizes of the files in a folder, except those that another process removes meanwhile."""
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                total += (Path(path) / name).stat().st_size
    return total


def is_portable_name(name: str) -> bool:
    """Tell whether a text can name a file or folder on Windows, macOS and Linux.

    Examples
    --------
    >>> [is_portable_name(name) for name in ("fields 2026", "nul.v2", "fields.", "a/b", "..")]
    [True, False, False, False, False]
    """
    device = name.split(".")[0].rstrip(" ").casefold()
    return (
        0 < len(name.encode("utf-8", "surrogatepass")) <= _MOST_BYTES_IN_A_NAME
        and not _NOT_IN_NAMES.search(name)
        and name[-1] not in " ."
        and device not in _DEVICES
    )

"""Writing files and folders completely or not at all, on every system and even if the power fails."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

__all__ = [
    "check_regular",
    "copy_missing",
    "flush",
    "flush_tree",
    "folder_bytes",
    "is_portable_name",
    "put_in_place",
    "remove_stale",
    "remove_tree",
    "replace_files",
    "temporary_name",
    "write_text",
]

_PAUSES_S = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32)
"""Pauses between attempts. On Windows, a virus scanner or a reader may hold a file for a fraction of a second."""

_FLUSHES = 8
_CANNOT_FLUSH = (errno.EINVAL, errno.EBADF, errno.ENOTSUP)

_DEVICES = {"aux", "con", "conin$", "conout$", "nul", "prn"} | {
    f"{port}{number}" for port in ("com", "lpt") for number in "0123456789¹²³"
}
"""Names that Windows reserves for devices, with any suffix."""

_NOT_IN_NAMES = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f-\x9f\ud800-\udfff]')
_MOST_BYTES_IN_A_NAME = 255

_TEMPORARY = re.compile(r"\.[0-9a-f]{8}")
_STALE_S = 24 * 3600
"""Age at which a temporary file belongs to no running program: they live for seconds."""


def put_in_place(made: Path, target: Path) -> None:
    """Rename a file or folder to its final name, replacing a file there.

    Windows refuses to rename while another program or thread has the target, or anything in the folder, open. The
    rename is then retried for about half a second.

    Parameters
    ----------
    made : Path
        A finished file or folder on the same file system.
    target : Path
        An existing file or a free name. An existing folder is replaced only if it is empty and the system allows it.

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
    """Move files that belong together, such as the parts of a Shapefile, into a folder: all of them or none.

    Parameters
    ----------
    made : sequence of Path
        Finished files on the same file system.
    folder : Path
        Files in it with the same names are replaced.
    obsolete : sequence of Path
        Files that would not match the new ones, such as an old spatial index; removed if they exist.

    Raises
    ------
    OSError
        If one of the files cannot be replaced. The old files are unchanged then.
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


def check_regular(path: Path) -> None:
    """Make sure that a path is a regular file, or a link to one. Reading a pipe or a device may never end.

    Raises
    ------
    OSError
        If it is anything else, or does not exist.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file", os.fspath(path))


def is_temporary(name: str) -> bool:
    """Tell whether a name is a `temporary_name`."""
    return bool(_TEMPORARY.fullmatch(name))


def copy_missing(source: Path, target: Path) -> None:
    """Copy the files of a folder that another one lacks, and flush them; files under a `temporary_name` are left out.

    Others may read and write in both folders meanwhile.

    Raises
    ------
    OSError
        If a file cannot be copied.
    """
    for folder, folders, names in os.walk(source):
        folders[:] = [name for name in folders if not is_temporary(name)]
        place = target / Path(folder).relative_to(source)
        place.mkdir(parents=True, exist_ok=True)
        for name in names:
            if is_temporary(name) or (place / name).exists():
                continue
            temporary = temporary_name(target)
            try:
                shutil.copyfile(Path(folder, name), temporary)
                put_in_place(temporary, place / name)
            finally:
                temporary.unlink(missing_ok=True)
    flush_tree(target)


def remove_tree(folder: Path) -> bool:
    """Remove a folder, also its read-only files and folders, and tell whether nothing of it is left."""
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        # Windows removes no read-only file, and other systems remove nothing from a read-only folder.
        with suppress(OSError):
            folder.chmod(stat.S_IRWXU)
        for path, folders, names in os.walk(folder):
            for name in (*folders, *(names if os.name == "nt" else ())):
                inner = Path(path, name)
                with suppress(OSError):
                    # A link may lead out of the folder.
                    if not inner.is_symlink():
                        inner.chmod(stat.S_IRWXU)
        shutil.rmtree(folder, ignore_errors=True)
    return not folder.exists()


def remove_stale(folder: Path) -> None:
    """Remove what a program that was killed more than a day ago left under a `temporary_name`."""
    oldest = time.time() - _STALE_S
    with suppress(OSError):
        for path in folder.iterdir():
            if is_temporary(path.name) and path.lstat().st_mtime < oldest:
                if path.is_dir() and not path.is_symlink():
                    remove_tree(path)
                else:
                    path.unlink()


def temporary_name(folder: Path) -> Path:
    """Return a free, hidden name in a folder. It has nine characters, since Windows limits paths to 260."""
    return folder / f".{secrets.token_hex(4)}"


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file. An older one is replaced only when the new one is on the disk.

    Raises
    ------
    OSError
        If it cannot be written. An older file is unchanged then.
    """
    temporary = temporary_name(path.parent)
    try:
        temporary.write_text(text, encoding="utf-8")
        flush(temporary)
        put_in_place(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        # What fails while an open file is written or flushed, such as on a full disk, names none.
        if isinstance(error, OSError) and error.filename is None:
            error.filename = os.fspath(path)
        raise
    flush(path.parent)


def flush_tree(folder: Path) -> None:
    """Flush everything in a folder to the disk, in parallel, so that flushes share a write of the journal."""
    paths = [folder, *folder.rglob("*")]
    with ThreadPoolExecutor(_FLUSHES) as pool:
        list(pool.map(flush, paths))


def flush(path: Path) -> None:
    """Flush a file, or the names in a folder, to the disk. Windows and some network drives cannot flush folders."""
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
    """Add up the sizes of the files in a folder, except links to nowhere and files that another process removes."""
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
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

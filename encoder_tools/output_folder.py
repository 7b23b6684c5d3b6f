"""A folder of results, with a list of the files that geosam-es wrote into it.

Only files on that list are ever replaced or removed. Whatever else lies in the folder belongs to the user.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from types import TracebackType

from geosam_es import __version__
from geosam_es.errors import ModelError, OutputError
from geosam_es.inference.encoder import MODEL_FILE, read_model_info
from geosam_es.store.decoder_files import read_info
from geosam_es.store.files import put_in_place, temporary_name, write_text
from geosam_es.store.layout import DECODER_INFO_FILE, is_store

__all__ = ["MANIFEST_FILE", "OutputFolder", "check_output_folder"]

MANIFEST_FILE = "geosam-es.json"
_KEY = "files"


def check_output_folder(path: Path, files: Container[str]) -> None:
    """Make sure that a command may write into a folder: not into a store, nor among the files of another kind.

    Parameters
    ----------
    path : Path
        May not exist yet.
    files : container of str
        Files that the command writes; they tell its own kind of folder.

    Raises
    ------
    OutputError
        If it is not a folder, is a store or lies in one, or is the folder of a model or a tuned decoder.
    """
    if os.path.lexists(path) and not path.is_dir():
        raise OutputError(f"{path} is {'a file' if path.is_file() else 'not a folder'}", "choose a folder with -o")
    resolved = Path(os.path.realpath(path))
    store = next(filter(is_store, (resolved, *resolved.parents)), None)
    if store is not None:
        raise OutputError(f"{path} is in the embedding store {store}", "choose a folder outside the store with -o")
    for name, kind, read in (
        (MODEL_FILE, "a model", read_model_info),
        (DECODER_INFO_FILE, "a tuned decoder", read_info),
    ):
        if name not in files and _is_readable(path, read):
            raise OutputError(f"{path} is the folder of {kind}", "choose another folder with -o")


def _is_readable(folder: Path, read: Callable[[Path], object]) -> bool:
    try:
        read(folder)
    except ModelError:
        return False
    return True


class OutputFolder:
    """A folder for the files of one command.

    Within the ``with`` block, the folder exists and its manifest lists the files. At the end of the block, the manifest
    lists those that were written; an empty folder that the block made is removed.

    Parameters
    ----------
    path : Path
        Its parent must exist.
    files : sequence of str
        Every file that the command may write, as POSIX paths relative to the folder.

    Attributes
    ----------
    path : Path
    written : frozenset of str
        Files of an earlier run of the command.

    Raises
    ------
    OutputError
        If the folder cannot be used, is of another kind (see `check_output_folder`), or holds a file of one of these
        names that is not in its manifest.
    """

    def __init__(self, path: Path, files: Sequence[str]) -> None:
        self.path = path
        self._files = tuple(files)
        with _output_errors(path):
            check_output_folder(path, files)
            if not path.resolve().parent.is_dir():
                raise OutputError(f"The folder of {path} does not exist", "create it, or choose another one with -o")
            self._is_new = not path.exists()
            self._listed = _read_manifest(path)
            self._earlier = frozenset(name for name in self._listed if _is_inside(path, name))
            # The folder may also hold the results of another command.
            self.written = self._earlier.intersection(self._files)
            foreign = next(filter(None, map(self._foreign, (MANIFEST_FILE, *self._files))), None)
        if foreign is not None:
            raise OutputError(
                f"{path} contains {foreign}, which geosam-es did not write there",
                "choose another folder with -o, or move that file away",
            )

    def _foreign(self, name: str) -> str | None:
        """Return the part of a path that exists already and was not written by a command."""
        if name in self.written or (name == MANIFEST_FILE and self._listed):
            return None
        for parent in list(PurePosixPath(name).parents)[-2::-1]:
            # A link would lead to files outside the folder.
            if (self.path / parent).is_symlink() or (self.path / parent).is_file():
                return str(parent)
        path = self.path / name
        return name if path.is_symlink() or path.exists() else None

    def __enter__(self) -> OutputFolder:
        with _output_errors(self.path):
            self.path.mkdir(exist_ok=True)
            self._write_manifest((*self._earlier, *self._files))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # An error on the way out would hide the one that led here.
        with suppress(OSError) if error is not None else _output_errors(self.path):
            left = {name for name in (*self._earlier, *self._files) if _is_inside(self.path, name)}
            if left:
                self._write_manifest(left)
            else:
                (self.path / MANIFEST_FILE).unlink(missing_ok=True)
            if self._is_new and not any(self.path.iterdir()):
                self.path.rmdir()

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """Yield a temporary folder beside the results; it is removed at the end.

        Raises
        ------
        OutputError
            For every error of the file system inside the block.
        """
        with _output_errors(self.path):
            folder = temporary_name(self.path)
            folder.mkdir()
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    def publish(self, staged: Path, last: str | None = None) -> None:
        """Move the staged files into place, and remove those of an earlier run of the command that have no successor.

        Parameters
        ----------
        staged : Path
            Files in it that the command did not announce are left there.
        last : str, optional
            The file that marks the results as complete: it is removed first and moved last.

        Raises
        ------
        OutputError
            If the folder cannot be written.
        """
        fresh = [name for name in self._files if (staged / name).is_file()]
        with _output_errors(self.path):
            for name in sorted(self.written, key=lambda name: name != last):
                if name == last or name not in fresh:
                    (self.path / name).unlink(missing_ok=True)
            for name in sorted(fresh, key=lambda name: name == last):
                (self.path / name).parent.mkdir(exist_ok=True)
                put_in_place(staged / name, self.path / name)

    def remove(self, name: str) -> None:
        """Remove one of the files of the command, if it exists.

        Raises
        ------
        OutputError
            If it cannot be removed.
        """
        with _output_errors(self.path):
            (self.path / name).unlink(missing_ok=True)

    def _write_manifest(self, names: Sequence[str] | set[str]) -> None:
        document = {"software": f"GeoSAM-ES {__version__}", _KEY: sorted(set(names))}
        write_text(self.path / MANIFEST_FILE, json.dumps(document, indent=1) + "\n")


def _read_manifest(folder: Path) -> tuple[str, ...]:
    """Return the listed files; none where there is no manifest, or another file of its name."""
    path = folder / MANIFEST_FILE
    if path.is_symlink() or not path.is_file():
        return ()
    try:
        names = json.loads(path.read_text(encoding="utf-8"))[_KEY]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ()
    is_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return tuple(names) if is_list else ()


def _is_inside(folder: Path, name: str) -> bool:
    """Tell whether a listed file exists in the folder itself, not behind a link or ``..``."""
    path, home = folder / name, folder.resolve()
    is_own = path.is_file() and not path.is_symlink() and home in path.resolve().parents
    return is_own and path.resolve() == home / name


@contextmanager
def _output_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"{path} cannot be written ({reason})", "check the free space and the permissions") from error
    except UnicodeError as error:
        raise OutputError(
            f"{path} cannot be written (a name contains bytes that are not UTF-8)", "rename the file or folder"
        ) from error

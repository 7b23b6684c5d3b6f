"""Files and folders that appear whole under their name or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from geosam_es.store import files
from geosam_es.store.files import (
    check_regular,
    copy_missing,
    flush,
    flush_tree,
    folder_bytes,
    is_portable_name,
    put_in_place,
    remove_stale,
    remove_tree,
    replace_files,
    temporary_name,
    write_text,
)


class Refusals:
    """Refuses renames as Windows does while another program holds a file, and records the pauses."""

    def __init__(self, patch: pytest.MonkeyPatch, times: int) -> None:
        self.left = times
        self.pauses: list[float] = []
        self._replace = Path.replace
        patch.setattr(Path, "replace", lambda made, target: self.replace(made, target))
        patch.setattr(files.time, "sleep", self.pauses.append)

    def replace(self, made: Path, target: Path) -> Path:
        if self.left > 0:
            self.left -= 1
            raise PermissionError(13, "The process cannot access the file")
        return self._replace(made, target)


@pytest.mark.parametrize("times", [0, 1, 6])
def test_a_refused_rename_is_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    made, target = tmp_path / "made", tmp_path / "target"
    made.write_text("new")
    target.write_text("old")
    refusals = Refusals(monkeypatch, times)
    put_in_place(made, target)
    assert target.read_text() == "new" and not made.exists()
    assert len(refusals.pauses) == times and sum(refusals.pauses) < 1


def test_a_rename_that_stays_refused_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = tmp_path / "made"
    made.mkdir()
    Refusals(monkeypatch, 1000)
    with pytest.raises(PermissionError):
        put_in_place(made, tmp_path / "target")
    assert made.is_dir()


def test_other_errors_are_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refusals = Refusals(monkeypatch, 0)
    with pytest.raises(FileNotFoundError):
        put_in_place(tmp_path / "missing", tmp_path / "target")
    assert refusals.pauses == []


def test_text_that_cannot_be_put_in_place_leaves_the_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    write_text(path, "old")
    Refusals(monkeypatch, 1000)
    with pytest.raises(PermissionError):
        write_text(path, "new")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_text_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[bytes] = []

    def flush(path: Path) -> None:
        if path.is_file():
            assert not (tmp_path / "a.json").exists()
            flushed.append(path.read_bytes())

    monkeypatch.setattr(files, "flush", flush)
    write_text(tmp_path / "a.json", "ñ\n")
    assert flushed == ["ñ\n".encode()] and (tmp_path / "a.json").read_bytes() == flushed[0]


def fail_to_flush(patch: pytest.MonkeyPatch, folders: int | None = None, files: int | None = None) -> None:
    """Let flushing a folder or a file fail with this error number."""

    def fsync(descriptor: int) -> None:
        number = folders if stat.S_ISDIR(os.fstat(descriptor).st_mode) else files
        if number is not None:
            raise OSError(number, os.strerror(number))

    patch.setattr(os, "fsync", fsync)


def test_a_full_disk_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_to_flush(monkeypatch, files=errno.ENOSPC)
    with pytest.raises(OSError, match=r"a\.json") as caught:
        write_text(tmp_path / "a.json", "new")
    assert caught.value.filename == str(tmp_path / "a.json") and not list(tmp_path.iterdir())


def test_a_network_drive_that_cannot_flush_folders_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some file systems, among them shared folders of virtual machines, answer EINVAL."""
    fail_to_flush(monkeypatch, folders=errno.EINVAL)
    write_text(tmp_path / "a.json", "new")
    flush_tree(tmp_path)
    assert (tmp_path / "a.json").read_text() == "new"


def test_a_flush_that_fails_otherwise_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_to_flush(monkeypatch, folders=errno.EIO, files=errno.EINVAL)
    (tmp_path / "a").write_text("")
    for path in (tmp_path, tmp_path / "a"):
        with pytest.raises(OSError, match=r"error|argument"):
            flush(path)


SUFFIXES = (".dbf", ".prj", ".shp", ".shx")


@pytest.fixture
def shapefile(tmp_path: Path) -> list[Path]:
    """New parts of a Shapefile in a folder beside the old ones."""
    (tmp_path / "new").mkdir()
    made = [tmp_path / "new" / f"a{suffix}" for suffix in SUFFIXES]
    for path in made:
        path.write_text(f"new {path.name}")
        (tmp_path / path.name).write_text(f"old {path.name}")
    (tmp_path / "a.sbn").write_text("old index")
    return made


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}


def test_files_that_belong_together_are_replaced(tmp_path: Path, shapefile: list[Path]) -> None:
    (tmp_path / "a.prj").unlink()
    replace_files(shapefile, tmp_path, [tmp_path / "a.sbn", tmp_path / "a.qix"])
    assert contents(tmp_path) == {f"a{suffix}": f"new a{suffix}" for suffix in SUFFIXES}
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["new"]


@pytest.mark.parametrize("locked", [*(f"a{suffix}" for suffix in SUFFIXES), "a.sbn"])
@pytest.mark.parametrize("is_moved_first", [True, False])
def test_a_locked_file_leaves_all_the_old_ones(
    tmp_path: Path, shapefile: list[Path], monkeypatch: pytest.MonkeyPatch, locked: str, is_moved_first: bool
) -> None:
    """Never a new .dbf beside old geometries, whether the old file cannot be moved or the new one cannot come in."""
    path = tmp_path / locked
    if not is_moved_first:
        path.unlink()
    before = contents(tmp_path)
    rename = Path.replace

    def refuse(made: Path, target: Path) -> Path:
        if path in (made, target):
            raise PermissionError(13, "The process cannot access the file")
        return rename(made, target)

    monkeypatch.setattr(Path, "replace", refuse)
    monkeypatch.setattr(files.time, "sleep", lambda seconds: None)
    if is_moved_first or locked != "a.sbn":
        with pytest.raises(PermissionError):
            replace_files(shapefile, tmp_path, [tmp_path / "a.sbn"])
        assert contents(tmp_path) == before
        assert contents(tmp_path / "new") == {f"a{suffix}": f"new a{suffix}" for suffix in SUFFIXES}
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["new"]


def test_files_removed_while_they_are_counted_have_no_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_bytes(b"123")
    assert folder_bytes(tmp_path) == 3
    monkeypatch.setattr(os, "walk", lambda folder: [(folder, [], ["gone"]), (tmp_path / "a", [], ["b"])])
    assert folder_bytes(tmp_path) == 3


def test_temporary_names_are_short_and_hidden(tmp_path: Path) -> None:
    names = {temporary_name(tmp_path).name for _ in range(50)}
    assert len(names) == 50 and all(name.startswith(".") and len(name) == 9 for name in names)


@pytest.mark.parametrize(
    "name",
    [
        *("CON", "nul", "AUX.txt", "com1", "COM9.embeddings.zarr", "lpt1.a.b", "COM¹", "con .txt"),
        *("", ".", "..", "a.", "a ", "a/b", "a\\b", "a:b", "a\n", "\ud800", "x" * 256, "ñ" * 128),
    ],
)
def test_names_that_some_system_refuses(name: str) -> None:
    assert not is_portable_name(name)


@pytest.mark.parametrize("name", ["console", "comma", "com10", "Parcelas año 2026 (v1)", ".hidden", "a.con"])
def test_names_that_every_system_takes(name: str) -> None:
    assert is_portable_name(name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no such files")
def test_only_regular_files_are_accepted(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    check_regular(tmp_path / "file")
    check_regular(tmp_path / "link")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    for name in ("pipe", "device", "."):
        with pytest.raises(OSError, match="it is not a regular file"):
            check_regular(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        check_regular(tmp_path / "none")


@pytest.fixture
def user_folder() -> Iterator[Path]:
    """A folder of a user whom permissions bind, which they do not for root."""
    folder = Path(tempfile.mkdtemp())
    user = os.geteuid()
    if user == 0:
        os.chown(folder, 65534, 65534)
        os.seteuid(65534)
    try:
        yield folder
    finally:
        os.seteuid(user)
        shutil.rmtree(folder)


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="Windows has other permissions")
def test_a_tree_is_removed_with_its_read_only_folders(user_folder: Path) -> None:
    outside = user_folder / "outside"
    outside.mkdir(mode=0o500)
    tree = user_folder / "tree"
    (tree / "a" / "b").mkdir(parents=True)
    (tree / "a" / "b" / "file").touch(mode=0o400)
    (tree / "a" / "link").symlink_to(outside)
    for path in (tree / "a" / "b", tree / "a", tree):
        path.chmod(0)
    assert remove_tree(tree)
    assert not tree.exists() and stat.S_IMODE(outside.stat().st_mode) == 0o500
    (tree / "a").mkdir(parents=True)
    user_folder.chmod(0o500)
    assert not remove_tree(tree)
    user_folder.chmod(0o700)


def test_only_old_temporary_files_are_stale(tmp_path: Path) -> None:
    names = {".0123abcd", ".aaaaaaaa", ".fresh000", ".0123abcde", "0123abcd", ".ffffffff"}
    for name in names - {".aaaaaaaa"}:
        (tmp_path / name).touch()
    (tmp_path / ".aaaaaaaa").mkdir()
    (tmp_path / ".aaaaaaaa" / "file").touch()
    for name in names - {".ffffffff"}:
        os.utime(tmp_path / name, (0, 0))
    remove_stale(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == names - {".0123abcd", ".aaaaaaaa"}
    remove_stale(tmp_path / "none")


def test_only_what_is_missing_is_copied(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "level0").mkdir(parents=True)
    for name in ("zarr.json", "level0/a", ".0123abcd"):
        (source / name).write_text("new")
    (target / "level0").mkdir(parents=True)
    (target / "level0" / "a").write_text("kept")
    copy_missing(source, target)
    assert {path.name: path.read_text() for path in target.rglob("*") if path.is_file()} == {
        "zarr.json": "new",
        "a": "kept",
    }

"""Files and folders that appear whole under their name or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from geosam_es.store import files
from geosam_es.store.files import is_portable_name, put_in_place, temporary_name, write_text


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

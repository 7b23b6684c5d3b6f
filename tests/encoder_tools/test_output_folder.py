"""Folders of results: only files that the manifest lists are replaced or removed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from encoder_tools.models.checkpoints import mini_folder
from encoder_tools.output_folder import MANIFEST_FILE, OutputFolder, check_output_folder
from geosam_es.errors import OutputError
from geosam_es.store import StoreWriter
from tests.helpers import make_decoder, make_metadata

FILES = ("decoder.onnx", "prepare.onnx", "report/page.html", "done.json")


def contents(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in folder.rglob("*")
        if path.is_file() and path.name != MANIFEST_FILE
    }


def listed(folder: Path) -> list[str]:
    names: list[str] = json.loads((folder / MANIFEST_FILE).read_text())["files"]
    return names


def publish(path: Path, text: str, names: tuple[str, ...] = FILES) -> None:
    with OutputFolder(path, FILES) as folder, folder.staging() as staged:
        for name in names:
            (staged / name).parent.mkdir(exist_ok=True)
            (staged / name).write_text(text)
        folder.publish(staged, last="done.json")


def test_a_second_run_replaces_the_first_and_keeps_other_files(tmp_path: Path) -> None:
    out = tmp_path / "out"
    publish(out, "first")
    assert contents(out) == dict.fromkeys(FILES, "first") and listed(out) == sorted(FILES)
    (out / "notes.txt").write_text("mine")
    (out / "report" / "notes.txt").write_text("mine")
    assert OutputFolder(out, FILES).written == set(FILES)
    publish(out, "second", ("decoder.onnx", "done.json"))
    mine = {"notes.txt": "mine", "report/notes.txt": "mine"}
    assert contents(out) == {"decoder.onnx": "second", "done.json": "second", **mine}
    assert listed(out) == ["decoder.onnx", "done.json"]


def test_the_results_of_another_command_are_kept(tmp_path: Path) -> None:
    """As of an evaluation whose report replaces an earlier one in the folder of a tuned decoder."""
    out = tmp_path / "out"
    publish(out, "decoder")
    for text in ("first", "second"):
        with OutputFolder(out, ("report.html",)) as folder, folder.staging() as staged:
            assert folder.written == (set() if text == "first" else {"report.html"})
            (staged / "report.html").write_text(text)
            folder.publish(staged)
    assert contents(out) == {**dict.fromkeys(FILES, "decoder"), "report.html": "second"}
    assert listed(out) == sorted((*FILES, "report.html"))
    publish(out, "again", ("done.json",))
    assert contents(out) == {"done.json": "again", "report.html": "second"}


def test_files_that_were_not_announced_are_not_published(tmp_path: Path) -> None:
    with OutputFolder(tmp_path / "out", FILES) as folder, folder.staging() as staged:
        (staged / "model.json").write_text("by the way")
        (staged / "done.json").write_text("done")
        folder.publish(staged)
    assert contents(tmp_path / "out") == {"done.json": "done"}


@pytest.mark.parametrize("name", ["decoder.onnx", "report", "report/page.html", MANIFEST_FILE])
@pytest.mark.parametrize("kind", ["file", "link", "broken link"])
def test_a_name_that_is_taken_by_another_file_is_refused(tmp_path: Path, name: str, kind: str) -> None:
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    (out / name).parent.mkdir(parents=True, exist_ok=True)
    if kind == "file":
        (out / name).write_text("mine")
    else:
        (out / name).symlink_to(elsewhere)
    if kind == "link":
        elsewhere.mkdir()
    with pytest.raises(OutputError, match=rf"out contains {name}, which geosam-es did not write there: choose another"):
        OutputFolder(out, FILES)


@pytest.mark.parametrize("name", ["../precious.txt", "{root}/precious.txt", "link/precious.txt", "report/../../x"])
def test_a_manifest_cannot_name_files_elsewhere(tmp_path: Path, name: str) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    out = tmp_path / "out"
    out.mkdir()
    (out / "link").symlink_to(tmp_path)
    (out / "done.json").write_text("first")
    names = ["done.json", name.format(root=tmp_path)]
    (out / MANIFEST_FILE).write_text(json.dumps({"files": names}))
    assert OutputFolder(out, FILES).written == {"done.json"}
    publish(out, "second")
    assert (tmp_path / "precious.txt").read_text() == "mine" and (out / "link").is_symlink()
    assert (out / "done.json").read_text() == "second"


@pytest.mark.parametrize("text", ["", "[]", '{"files": 3}', '{"files": [3]}', '{"other": []}', '{"files": []}'])
def test_another_file_of_the_manifests_name_is_kept(tmp_path: Path, text: str) -> None:
    (tmp_path / MANIFEST_FILE).write_text(text)
    with pytest.raises(OutputError, match=f"contains {MANIFEST_FILE}, which geosam-es did not write"):
        OutputFolder(tmp_path, FILES)
    assert (tmp_path / MANIFEST_FILE).read_text() == text


def test_nothing_is_left_of_a_run_without_results(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for error in (KeyboardInterrupt(), ValueError("wrong")):
        with pytest.raises(type(error)), OutputFolder(out, FILES) as folder, folder.staging() as staged:
            (staged / "done.json").write_text("half")
            raise error
        assert not out.exists()
    out.mkdir()
    with pytest.raises(ValueError, match="wrong"), OutputFolder(out, FILES):
        raise ValueError("wrong")
    assert not list(out.iterdir())


def test_what_an_interrupted_run_wrote_is_listed(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), OutputFolder(tmp_path / "out", FILES) as folder:
        (folder.path / "decoder.onnx").write_text("half")
        raise KeyboardInterrupt
    assert listed(tmp_path / "out") == ["decoder.onnx"]
    again = OutputFolder(tmp_path / "out", FILES)
    assert again.written == {"decoder.onnx"}
    with again:
        again.remove("decoder.onnx")
        again.remove("prepare.onnx")
    assert not list((tmp_path / "out").iterdir())


def test_errors_of_the_file_system_are_output_errors(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file is a file: choose a folder"):
        OutputFolder(tmp_path / "file", FILES)
    with pytest.raises(OutputError, match=r"The folder of .* does not exist: create it"):
        OutputFolder(tmp_path / "none" / "out", FILES)
    with pytest.raises(OutputError, match=r"cannot be written \(File name too long\)"):
        OutputFolder(tmp_path / ("x" * 300), FILES)
    with (
        pytest.raises(OutputError, match=r"out cannot be written \(No such file or directory\)"),
        OutputFolder(tmp_path / "out", FILES) as folder,
        folder.staging() as staged,
    ):
        (staged / "none" / "page.html").write_text("x")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("folder", ["a.zarr", "a.zarr/report", "a.zarr/level0", "link"])
def test_a_store_is_no_folder_for_results(tmp_path: Path, folder: str) -> None:
    StoreWriter.create(tmp_path / "a.zarr", make_metadata(100, 100), {"decoder.onnx": mini_folder() / "decoder.onnx"})
    (tmp_path / "link").symlink_to("a.zarr")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(OutputError, match=r"is in the embedding store .*a\.zarr: choose a folder outside the store"):
        OutputFolder(tmp_path / folder, FILES)
    assert sorted(tmp_path.rglob("*")) == before


def test_folders_of_models_and_decoders_are_for_their_own_kind(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    shutil.copy(mini_folder() / "model.json", model)
    decoder = make_decoder(tmp_path / "tuned", "fields", dict.fromkeys(("prepare.onnx", "decoder.onnx"), b"graph"))
    for folder, own, kind in ((model, "model.json", "a model"), (decoder, "decoder.json", "a tuned decoder")):
        check_output_folder(folder, (own,))
        with pytest.raises(OutputError, match=f"is the folder of {kind}: choose another folder with -o"):
            OutputFolder(folder, ("report.html",))
    # Another file of that name says nothing.
    (model / "model.json").write_text("{}")
    OutputFolder(model, ("report.html",))


def test_links_in_a_circle_and_to_nowhere_are_no_folders(tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "nowhere").symlink_to("none")
    for name in ("circle", "nowhere"):
        with pytest.raises(OutputError, match=f"{name} is not a folder: choose a folder"):
            OutputFolder(tmp_path / name, FILES)

"""Several decoders in one store: added whole or not at all, one in use, the others kept."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from geosam_es.errors import ModelError, OutputError, StoreError
from geosam_es.store import StoreReader
from geosam_es.store.decoders import (
    ORIGINAL,
    active_decoder,
    active_name,
    find_decoder,
    install_decoder,
    list_decoders,
    read_info,
    remove_decoder,
    use_decoder,
)
from tests.helpers import add_decoder, disc, make_decoder, make_store


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return make_store(tmp_path, disc((300, 300), 150, 150, 60))


@pytest.fixture
def tuned(tmp_path: Path) -> Path:
    return make_decoder(tmp_path / "tuned", "fields")


def names(store: Path) -> list[str]:
    return [decoder.name for decoder in list_decoders(store)]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_store_has_the_decoder_it_was_made_with(store: Path) -> None:
    assert names(store) == [ORIGINAL]
    assert active_decoder(store).decoder_path == store / "decoder.onnx"
    assert active_decoder(store).prepare_path is None


def test_an_added_decoder_answers_once_it_is_used(store: Path, tuned: Path) -> None:
    before = files(store)
    added = add_decoder(store, tuned)
    assert (added.name, active_name(store)) == ("fields", ORIGINAL)
    assert use_decoder(store, "fields") == added
    reader = StoreReader(store)
    assert reader.decoder == added
    assert reader.decoder.decoder_path.read_bytes() == (tuned / "decoder.onnx").read_bytes()
    assert reader.decoder.prepare_path == reader.decoder.decoder_path.with_name("prepare.onnx")
    assert reader.decoder.info is not None and reader.decoder.info.objects == 12
    # An older reader finds what it found before.
    assert before.items() <= files(store).items()


def test_a_decoder_is_loaded_before_it_is_installed(store: Path, tuned: Path) -> None:
    loaded: list[tuple[object, ...]] = []

    def refuse(*paths: object) -> None:
        raise ModelError("no runtime loads it", "")

    before = files(store)
    with pytest.raises(ModelError, match="no runtime loads it"):
        install_decoder(store, tuned, refuse)
    assert files(store) == before
    added = install_decoder(store, tuned, lambda *paths: loaded.append(paths), "trees", use=False)
    assert (added.name, active_name(store)) == ("trees", ORIGINAL)
    assert install_decoder(store, tuned, lambda *paths: loaded.append(paths)).name == active_name(store) == "fields"
    assert loaded == [(tuned / "prepare.onnx", tuned / "decoder.onnx", 1)] * 2


def test_the_original_can_be_used_again(store: Path, tuned: Path) -> None:
    use_decoder(store, add_decoder(store, tuned).name)
    use_decoder(store, ORIGINAL)
    assert StoreReader(store).decoder.name == ORIGINAL
    assert names(store) == [ORIGINAL, "fields"]


def test_decoders_move_with_the_store(store: Path, tuned: Path, tmp_path: Path) -> None:
    use_decoder(store, add_decoder(store, tuned).name)
    moved = store.rename(tmp_path / "elsewhere.embeddings.zarr")
    assert StoreReader(moved).decoder.decoder_path.is_relative_to(moved)


def test_hashes_with_and_without_their_prefix_agree(store: Path, tmp_path: Path) -> None:
    folder = make_decoder(tmp_path / "plain", "fields", prefix="")
    assert active_decoder(store).name == ORIGINAL
    assert use_decoder(store, add_decoder(store, folder).name).name == "fields"


def test_the_same_decoder_is_kept_once_and_another_of_its_name_gets_a_number(store: Path, tmp_path: Path) -> None:
    first = make_decoder(tmp_path / "first", "fields")
    second = make_decoder(tmp_path / "second", "fields", weights=b"trained longer")
    assert [add_decoder(store, folder).name for folder in (first, first, second)] == ["fields", "fields", "fields-2"]
    assert names(store) == [ORIGINAL, "fields", "fields-2"]
    assert find_decoder(store, "fields").decoder_path.read_bytes() == (first / "decoder.onnx").read_bytes()
    # Not told apart by case on every system.
    third = make_decoder(tmp_path / "third", "Fields", weights=b"trained on more")
    assert add_decoder(store, third).name == "Fields-3"


def test_a_decoder_of_another_encoder_is_refused(store: Path, tmp_path: Path) -> None:
    other = make_decoder(tmp_path / "other", "fields", model="vit_b", encoder_sha256="1" * 64)
    before = files(store)
    with pytest.raises(ModelError, match=r"encoder vit_b, but .* made with the encoder blobs"):
        add_decoder(store, other)
    assert files(store) == before
    same_name = make_decoder(tmp_path / "same name", "fields", encoder_sha256="2" * 64)
    with pytest.raises(ModelError, match=r"blobs \(222222222222\)"):
        add_decoder(store, same_name)


def cut(folder: Path) -> None:
    path = folder / "prepare.onnx"
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut, r"prepare.onnx does not have the hash in decoder.json"),
        (lambda folder: (folder / "decoder.onnx").unlink(), "decoder.onnx does not exist"),
        (lambda folder: (folder / "decoder.json").unlink(), "is not a decoder: it has no decoder.json"),
        (lambda folder: (folder / "decoder.json").write_text('{"name": '), "decoder.json is damaged"),
        (lambda folder: (folder / "decoder.json").write_text("[]"), "decoder.json is damaged"),
        (lambda folder: (folder / "decoder.json").write_text('{"name": "a"}'), "damaged .*prepare_sha256 is missing"),
    ],
)
def test_half_a_decoder_is_refused(store: Path, tuned: Path, damage: Callable[[Path], Any], message: str) -> None:
    damage(tuned)
    before = files(store)
    with pytest.raises(ModelError, match=message):
        add_decoder(store, tuned)
    assert files(store) == before


@pytest.mark.parametrize(
    "name", ["", "..", "a/b", "a\\b", ".hidden", "original", "Original", "a ", "a" * 65, "a:b", "CON", "nul.v2"]
)
def test_names_that_cannot_be_folders_are_refused(store: Path, tuned: Path, name: str) -> None:
    with pytest.raises(ModelError, match="--name"):
        add_decoder(store, tuned, name)
    assert names(store) == [ORIGINAL]


def test_a_name_can_be_given(store: Path, tuned: Path) -> None:
    assert add_decoder(store, tuned, "Parcelas año 2026 (v1)").name == "Parcelas año 2026 (v1)"
    assert use_decoder(store, "Parcelas año 2026 (v1)").info is not None


@pytest.mark.parametrize("name", ["none", "../decoders/fields", ""])
def test_a_missing_decoder_is_refused_and_the_others_are_named(store: Path, tuned: Path, name: str) -> None:
    add_decoder(store, tuned)
    for act in (use_decoder, remove_decoder, find_decoder):
        with pytest.raises(ModelError, match="choose one of: original, fields"):
            act(store, name)


def test_removing_the_one_in_use_brings_the_original_back(store: Path, tuned: Path) -> None:
    use_decoder(store, add_decoder(store, tuned).name)
    remove_decoder(store, "fields")
    assert StoreReader(store).decoder.name == ORIGINAL
    assert [path.name for path in (store / "decoders").iterdir()] == ["active.json"]
    with pytest.raises(ModelError, match="cannot be removed"):
        remove_decoder(store, ORIGINAL)


@pytest.mark.parametrize(
    "damage",
    [cut, lambda folder: (folder / "decoder.onnx").unlink(), shutil.rmtree],
)
def test_a_damaged_decoder_in_use_is_one_sentence_and_can_be_left(
    store: Path, tuned: Path, damage: Callable[[Path], Any]
) -> None:
    use_decoder(store, add_decoder(store, tuned).name)
    damage(store / "decoders" / "fields")
    with pytest.raises(
        StoreError, match=r"The decoder fields of .* is damaged or incomplete: .* decoder use STORE original"
    ):
        StoreReader(store)
    use_decoder(store, ORIGINAL)
    assert StoreReader(store).decoder.name == ORIGINAL


def test_a_damaged_active_json_is_reported(store: Path, tuned: Path) -> None:
    use_decoder(store, add_decoder(store, tuned).name)
    (store / "decoders" / "active.json").write_text("{")
    with pytest.raises(StoreError, match=r"active.json is damaged"):
        StoreReader(store)


def test_a_copy_that_ends_early_leaves_nothing(store: Path, tuned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill_the_disk(source: Path, target: Path) -> None:
        Path(target).write_bytes(Path(source).read_bytes()[:3])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("geosam_es.store.decoders.shutil.copyfile", fill_the_disk)
    with pytest.raises(OutputError, match="No space left"):
        add_decoder(store, tuned)
    assert not list((store / "decoders").iterdir()) and names(store) == [ORIGINAL]


def test_a_read_only_store_is_reported(store: Path, tuned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_decoder(store, tuned)

    def refuse(*_args: object, **_options: object) -> None:
        raise PermissionError(13, "Permission denied")

    for name in ("mkdir", "write_text", "replace"):
        monkeypatch.setattr(Path, name, refuse)
    for act in (use_decoder, remove_decoder):
        with pytest.raises(OutputError, match="Permission denied"):
            act(store, "fields")
    with pytest.raises(OutputError, match="Permission denied"):
        add_decoder(store, tuned, "other")
    assert names(store) == [ORIGINAL, "fields"]


def test_a_folder_that_is_not_a_store_is_refused(tuned: Path, tmp_path: Path) -> None:
    for act in (lambda: add_decoder(tmp_path, tuned), lambda: use_decoder(tmp_path, ORIGINAL)):
        with pytest.raises(StoreError, match="not an embedding store"):
            act()
    assert not (tmp_path / "decoders").exists()


def test_a_single_graph_needs_no_prepare(store: Path, tuned: Path) -> None:
    document = json.loads((tuned / "decoder.json").read_text())
    (tuned / "decoder.json").write_text(json.dumps({**document, "prepare_sha256": None}))
    (tuned / "prepare.onnx").unlink()
    assert read_info(tuned).prepare_sha256 is None
    use_decoder(store, add_decoder(store, tuned).name)
    assert StoreReader(store).decoder.prepare_path is None


def test_zarr_python_still_reads_the_store(store: Path, tuned: Path) -> None:
    zarr = pytest.importorskip("zarr", minversion="3")
    use_decoder(store, add_decoder(store, tuned).name)
    group = zarr.open_group(store, mode="r")
    assert sorted(name for name, _ in group.groups()) == ["level0"]
    assert group["level0/image_embeddings"].shape[:2] == (1, 1)

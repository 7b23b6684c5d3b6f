"""Depth ``all``: a `mini` with random weights is trained from pixels, and its stores are encoded again in place."""

from __future__ import annotations

import json
import shutil
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
import torch
from rasterio.transform import Affine

from encoder_tools.evaluation.ground_truth import locate, read_truth
from encoder_tools.finetune import encode_again, finetuning, mini_model, training
from encoder_tools.finetune.base_decoder import load_base
from encoder_tools.finetune.encode_again import encode_in_place, raster_of
from encoder_tools.finetune.finetuning import DataSplit
from encoder_tools.finetune.mini_model import PixelLearner, Tiles, load_encoder
from encoder_tools.finetune.training import Choice, Fit
from encoder_tools.finetune.training_samples import Place, Sample, make_samples
from encoder_tools.mini.config import CropPlan
from encoder_tools.mini.export import write_model
from encoder_tools.mini.network import normalise
from encoder_tools.mini.sources import Scene
from geosam_es.inference.encoder import MODEL_FILE, OnnxEncoder, read_model_info
from geosam_es.inference.session import open_segmenter
from geosam_es.store import StoreReader
from geosam_es.store.decoders import list_decoders
from tests.encoder_tools.conftest import Run
from tests.encoder_tools.tuning_scenes import object_boxes, random_mini, write_layer
from tests.helpers import add_decoder, make_decoder

SIDE = 512
CRS = "EPSG:25830"
LEFT, TOP = 700_000.0, 4_400_000.0


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    write_model(random_mini(0), folder, {"step": 1, "seconds": 1})
    return folder


@pytest.fixture
def place(run: Run, model: Path, tmp_path: Path) -> tuple[Path, Path, Path]:
    """Return a store in another folder than its image, the image, and a layer of bright boxes on it."""
    boxes = [tuple(edge // 2 for edge in box) for box in object_boxes(12, 0)]
    pixels = np.full((SIDE, SIDE, 3), 60, np.uint8)
    for left, top, right, bottom in boxes:
        pixels[top:bottom, left:right] = (200, 180, 150)
    image = tmp_path / "images" / "town.tif"
    image.parent.mkdir()
    shape = {"count": 3, "height": SIDE, "width": SIDE, "dtype": "uint8"}
    transform = Affine(1, 0, LEFT, 0, -1, TOP)
    with rasterio.open(image, "w", driver="GTiff", crs=CRS, transform=transform, **shape) as dataset:
        dataset.write(np.moveaxis(pixels, -1, 0))
    layer = write_layer(
        tmp_path / "boxes.gpkg", [shapely.box(LEFT + a, TOP - d, LEFT + c, TOP - b) for a, b, c, d in boxes]
    )
    stores = tmp_path / "stores"
    stores.mkdir()
    done = run("encode", image, "-o", stores, "--model", model)
    assert done.exit_code == 0, done.stderr
    return stores / "town.embeddings.zarr", image, layer


def test_the_encoder_in_pytorch_equals_its_onnx_file(model: Path) -> None:
    tile = np.random.default_rng(0).integers(0, 255, (1, 1024, 1024, 3), dtype=np.uint8)
    wanted = OnnxEncoder(model, 1).encode(tile)["image_embeddings"]
    with torch.no_grad():
        found = load_encoder(model)(normalise(torch.from_numpy(tile))).numpy()
    assert np.abs(found - wanted).max() < 1e-3 * np.abs(wanted).max()


def test_a_store_remembers_the_way_to_its_image(place: tuple[Path, Path, Path]) -> None:
    assert StoreReader(place[0]).metadata.raster.path == "../images/town.tif"


def test_few_tiles_are_in_memory_at_once(
    model: Path, place: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mini_model, "_PLAN", CropPlan(96, 1, 2, 1.0))
    monkeypatch.setattr(mini_model, "_TILES_AT_ONCE", 2)
    store, image, layer = place
    reader = StoreReader(store)
    found, _ = make_samples([reader], locate(read_truth(layer), [reader]))
    # The same tile in five stores.
    samples = [replace(sample, place=Place(number, sample.place.tile)) for number in range(5) for sample in found]
    made: list[weakref.ref[Scene]] = []
    seen: set[int] = set()

    class Watched(Tiles):
        def scene(self, place: Place, samples: Sequence[Sample]) -> Scene:
            seen.add(place.store)
            scene = super().scene(place, samples)
            made.append(weakref.ref(scene))
            return scene

    tiles = Watched([reader] * 5, [raster_of(reader, image)] * 5)
    decoder = load_base(reader, None, model, False).decoder
    learner = PixelLearner(load_encoder(model), decoder, tiles)
    steps = 0
    for _ in learner.steps(samples, np.random.default_rng(0)):
        steps += 1
        assert len([scene for scene in made if scene() is not None]) <= 2
    assert steps == 6 and len(seen) > 2


def test_renamed_images_of_several_stores_are_known_by_their_pixels(
    run: Run, model: Path, place: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, image, layer = place
    other = image.with_name("village.tif")
    shutil.copy(image, other)
    with rasterio.open(other, "r+") as dataset:
        dataset.write(dataset.read() + 5)
    assert run("encode", other, "-o", store.parent, "--model", model).exit_code == 0
    renamed = [path.rename(path.with_name(f"2026 {path.name}")) for path in (other, image)]
    rasters = [part for path in renamed for part in ("--raster", path)]
    stores = [store, store.with_name("village.embeddings.zarr")]
    command = ["finetune", *stores, layer, "-o", tmp_path / "out", "--checkpoint", model, "--depth", "all", *rasters]

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    # It begins to train only if every image is found.
    monkeypatch.setattr(finetuning, "_train", stop)
    assert run(*command).exit_code == 130
    foreign = shutil.copy(image.with_name("2026 town.tif"), tmp_path / "foreign.tif")
    with rasterio.open(foreign, "r+") as dataset:
        dataset.write(dataset.read() + 40)
    refused = run(*command, "--raster", foreign)
    assert refused.exit_code == 2 and "foreign.tif is the image of none of the stores: " in refused.stderr


def test_images_of_one_name_are_told_apart_by_their_pixels(
    run: Run, model: Path, place: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, image, layer = place
    folder = tmp_path / "other"
    folder.mkdir()
    other = Path(shutil.copy(image, folder))
    with rasterio.open(other, "r+") as dataset:
        dataset.write(dataset.read() + 5)
    assert run("encode", other, "--model", model).exit_code == 0
    command = ["finetune", store, folder / store.name, layer, "-o", tmp_path / "out", "--checkpoint", model]

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    # It begins to train only if every image is found.
    monkeypatch.setattr(finetuning, "_train", stop)
    for rasters in ((other, image), (folder, image.parent)):
        given = [part for path in rasters for part in ("--raster", path)]
        result = run(*command, "--depth", "all", *given)
        assert result.exit_code == 130, result.stderr


def test_objects_too_small_for_the_pixels_are_noticed_before_the_training(
    run: Run, model: Path, place: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _, _ = place
    corners = [(LEFT + 40 * (n % 4), TOP - 40 * (n // 4)) for n in range(12)]
    small = write_layer(tmp_path / "small.gpkg", [shapely.box(x + 8, y - 15, x + 15, y - 8) for x, y in corners])
    begun: list[tuple[list[str], list[str]]] = []

    def stop(learners: Mapping[str, object], split: DataSplit, *_: object) -> None:
        begun.append((list(learners), split.notes))
        raise KeyboardInterrupt

    monkeypatch.setattr(finetuning, "_train", stop)
    command = ["finetune", store, small, "-o", tmp_path / "out", "--checkpoint", model, "--holdout", 0]
    refused = run(*command, "--depth", "all")
    assert refused.exit_code == 2 and "small.gpkg has too few objects of 75 pixels" in refused.stderr and not begun
    assert run(*command).exit_code == 130
    ((depths, notes),) = begun
    assert depths == ["adapter"] and notes[-1].startswith("The encoder was not trained. ")
    # As the message says, enlarged tiles help.
    assert run("encode", place[1], "-o", store.parent, "--model", model, "--resume", "--finest", -1).exit_code == 0
    assert run(*command, "--depth", "all").exit_code == 130 and begun[-1][0] == ["all"]


def test_few_large_objects_are_learned_from_in_halves(
    run: Run, model: Path, place: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _, _ = place
    sides = [30 if number in (0, 11) else 7 for number in range(12)]
    boxes = [shapely.box(LEFT + 40 * n, TOP - 8 - side, LEFT + 40 * n + side, TOP - 8) for n, side in enumerate(sides)]
    layer = write_layer(tmp_path / "few.gpkg", boxes)
    counts: list[int] = []

    def stop(learner: object, parts: Sequence[Sequence[Sample]], *_: object) -> None:
        counts.append(len(parts))
        raise KeyboardInterrupt

    monkeypatch.setattr(finetuning, "cross_fit", stop)
    command = ["finetune", store, layer, "-o", tmp_path / "out", "--checkpoint", model, "--holdout", 0]
    assert run(*command, "--depth", "all").exit_code == 130
    assert run(*command, "--depth", "decoder").exit_code == 130
    assert counts == [2, 4]


def test_a_model_that_may_have_learned_the_held_out_objects(
    run: Run, model: Path, place: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _, layer = place
    tuned = Path(shutil.copytree(model, tmp_path / "tuned"))
    shutil.copy(make_decoder(tmp_path / "decoder", "fields") / "decoder.json", tuned)
    notes: list[str] = []

    def stop(learners: object, split: DataSplit, *_: object) -> None:
        notes[:] = split.notes
        raise KeyboardInterrupt

    monkeypatch.setattr(finetuning, "_train", stop)
    for folder, is_noted in ((tuned, True), (model, False)):
        command = ("finetune", store, layer, "-o", tmp_path / "out", "--checkpoint", folder, "--depth", "adapter")
        assert run(*command).exit_code == 130
        assert any(f"model in {folder} had learned from 12 objects" in note for note in notes) == is_noted


def take_trained(fits: dict[str, Fit]) -> Choice:
    return Choice("all", 1.0, fits)


def train_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep a training and its report short, and take what was trained."""
    monkeypatch.setattr(finetuning, "REPORT_PROMPTS", "point")
    monkeypatch.setattr(finetuning, "_MOST_COMPARED", 2)
    monkeypatch.setattr(finetuning, "choose", take_trained)
    monkeypatch.setattr(training, "_MOST_CHECKED", 1)
    monkeypatch.setattr(mini_model, "_PLAN", CropPlan(96, 1, 2, 1.0))


def test_the_whole_network_is_trained_and_the_store_encoded_again(
    run: Run, model: Path, place: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_little(monkeypatch)
    store, image, layer = place
    out = tmp_path / "town_model"
    command = ["finetune", store, layer, "--checkpoint", model, "--depth", "all", "--epochs", 1, "--holdout", 0]
    tuned = make_decoder(tmp_path / "tuned", "fields", encoder_sha256=read_model_info(model).encoder_sha256)
    add_decoder(store, tuned)
    before = StoreReader(store)
    old = before.read(next(iter(before.pyramid)))["image_embeddings"]

    done = run(*command, "-o", out, "--threads", 1)
    assert done.exit_code == 0, done.stderr
    info = read_model_info(out)
    after = StoreReader(store)
    assert info.name == "town_model" and after.metadata.model["encoder_sha256"] == info.encoder_sha256
    assert after.metadata.raster == before.metadata.raster
    kept = store.parent / "town.old-decoders"
    assert sorted(store.parent.iterdir()) == [store, kept]
    assert f"{store}: its decoders belong to the old encoder and are now in {kept}" in done.stderr.splitlines()
    new = after.read(next(iter(after.pyramid)))["image_embeddings"]
    assert new.shape == old.shape and np.abs(new - old).max() > 0
    assert open_segmenter(store) is not None
    page = (out / "report" / "report.html").read_text(encoding="utf-8")
    assert "not next to the store" not in page

    # It has the model already.
    assert f"decoder {out.name} is in use" in run("decoder", "set", store, out).stdout

    # Another store of the image gets the model later, and the model is tuned again.
    other = tmp_path / "other.embeddings.zarr"
    assert run("encode", image, "-o", other, "--model", model).exit_code == 0
    used = run("decoder", "set", other, out)
    assert used.exit_code == 0 and used.stdout == f"{other}: encoded again with the model in {out}\n", used.stderr
    assert not list(tmp_path.glob("*.old-decoders"))
    assert StoreReader(other).metadata.model["encoder_sha256"] == info.encoder_sha256


def test_a_store_that_cannot_be_replaced_does_not_stop_the_others(
    run: Run, model: Path, place: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_little(monkeypatch)
    store, _, layer = place
    stores = [store, store.with_name("copy.embeddings.zarr")]
    shutil.copytree(*stores)
    replace_store = encode_again.replace_store

    def refuse_first(old: Path, fresh: Path) -> None:
        if old == store:
            raise PermissionError(13, "it is open")
        replace_store(old, fresh)

    monkeypatch.setattr(encode_again, "replace_store", refuse_first)
    few = write_layer(tmp_path / "few.gpkg", list(read_truth(layer).geometries[:5]))
    out = tmp_path / "tuned"
    options = ("--checkpoint", model, "--depth", "all", "--epochs", 1, "--holdout", 0)
    done = run("finetune", *stores, few, "-o", out, *options, "--threads", 1)
    message = f"Error: {store} cannot be replaced (it is open): close the programs that use it, then run: "
    assert done.exit_code == 2 and f"{message}geosam-es decoder set {store} {out}\n" in done.stderr
    tuned = read_model_info(out).encoder_sha256
    found = [StoreReader(root).metadata.model["encoder_sha256"] for root in stores]
    assert found == [read_model_info(model).encoder_sha256, tuned]
    monkeypatch.undo()
    used = run("decoder", "set", store, out)
    assert used.exit_code == 0 and StoreReader(store).metadata.model["encoder_sha256"] == tuned


def test_decoders_of_the_old_encoder_are_kept_beside_the_store(
    run: Run, model: Path, place: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = place[0]
    digest = read_model_info(model).encoder_sha256
    fields = add_decoder(store, make_decoder(tmp_path / "tuned", "fields of 2026", encoder_sha256=digest)).folder
    before = {path.name: path.read_bytes() for path in fields.iterdir()}
    other = tmp_path / "other"
    write_model(random_mini(1), other, {"step": 1, "seconds": 1})
    kept = store.parent / "town.old-decoders"

    def refuse(*_: object) -> None:
        raise PermissionError(13, "it is open")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(encode_again, "replace_store", refuse)
    refused = run("decoder", "set", store, other)
    assert refused.exit_code == 2 and "cannot be replaced (it is open)" in refused.stderr
    assert fields.is_dir() and not kept.exists()
    monkeypatch.setattr(encode_again, "replace_store", interrupt)
    assert run("decoder", "set", store, other).exit_code != 0
    assert fields.is_dir() and kept.is_dir()
    monkeypatch.undo()

    done = run("decoder", "set", store, other)
    second = kept.with_name("town.old-decoders-2")
    assert done.stdout.splitlines()[1:] == [f"{store}: its decoders belong to the old encoder and are now in {second}"]
    assert [decoder.name for decoder in list_decoders(store)] == ["original"]
    assert {path.name: path.read_bytes() for path in (second / "fields of 2026").iterdir()} == before
    assert sorted(store.parent.iterdir()) == [store, kept, second]


def test_the_old_store_stays_if_encoding_fails(
    run: Run, model: Path, place: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, image, _ = place
    before = {path: path.stat().st_mtime_ns for path in sorted(store.rglob("*"))}

    def broken(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(OnnxEncoder, "encode", broken)
    with pytest.raises(KeyboardInterrupt):
        encode_in_place(store, model)
    monkeypatch.undo()
    assert {path: path.stat().st_mtime_ns for path in sorted(store.rglob("*"))} == before
    assert [path.name for path in store.parent.iterdir()] == [store.name]

    # Another image of the same name and size is not taken for it.
    with rasterio.open(image, "r+") as dataset:
        dataset.write(np.zeros((3, SIDE, SIDE), np.uint8))
    other = tmp_path / "other"
    shutil.copytree(model, other)
    facts = json.loads((other / MODEL_FILE).read_text(encoding="utf-8"))
    digest = facts["encoder_sha256"]
    facts["encoder_sha256"] = digest[:-4] + ("1111" if digest[-4:] == "0000" else "0000")
    (other / MODEL_FILE).write_text(json.dumps(facts), encoding="utf-8")
    refused = run("decoder", "set", store, other)
    assert refused.exit_code == 2 and "is not the image that" in refused.stderr
    shutil.move(image, tmp_path / "gone.tif")
    lost = run("decoder", "set", store, other)
    assert (
        lost.exit_code == 2 and "is missing or another image: give the file or its folder with --raster" in lost.stderr
    )
    assert {path: path.stat().st_mtime_ns for path in sorted(store.rglob("*"))} == before

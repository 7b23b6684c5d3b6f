"""Folders of Geo-SAM, written here from the description of the format, become stores that answer at the right place."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import shapely
from click.testing import CliRunner
from numpy.typing import NDArray
from rasterio.transform import Affine, from_bounds

torch = pytest.importorskip("torch")
if importlib.util.find_spec("segment_anything") is None:  # it imports only with torchvision or its placeholders
    pytest.skip("segment_anything is not installed", allow_module_level=True)

from encoder_tools.cli.app import cli  # noqa: E402
from encoder_tools.crs import same_crs  # noqa: E402
from encoder_tools.geosam_folder import ImportReport, import_folder, read_folder  # noqa: E402
from encoder_tools.models.checkpoints import load_registry  # noqa: E402
from encoder_tools.models.sam.weights import LoadedSam, random_sam  # noqa: E402
from encoder_tools.raster import Raster  # noqa: E402
from encoder_tools.torch_file import read_tensor  # noqa: E402
from geosam_es.core.prompts import Bounds, Point, Prompts  # noqa: E402
from geosam_es.errors import GeoSamError, PromptError, RasterError, StoreError  # noqa: E402
from geosam_es.inference.decoder import DecodedMasks  # noqa: E402
from geosam_es.inference.encoder import ModelInfo  # noqa: E402
from geosam_es.inference.segmenter import Segmenter  # noqa: E402
from geosam_es.inference.session import SegmentationSession, open_segmenter  # noqa: E402
from geosam_es.store import StoreMetadata, StoreReader, StoreWriter  # noqa: E402
from geosam_es.store.metadata import read_metadata  # noqa: E402
from geosam_es.store.schema import SchemaError  # noqa: E402
from tests.encoder_tools.scenes import Block, scene, write_raster  # noqa: E402
from tests.encoder_tools.test_sam_parity import liven  # noqa: E402

MODEL = ModelInfo("cells", "0" * 64, "GPL-3.0-or-later", {"image_embeddings": (256, 64, 64)})
FEATURES = (256, 64, 64)
PIXEL = 0.5
LEFT, TOP = 700000.0, 4400000.0


class CellDecoder:
    """Answers with the bright cells, which the first channel of the features shows."""

    def prepare(self, features: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        return {name: values.astype(np.float32) for name, values in features.items()}

    def decode(
        self, context: Mapping[str, NDArray[np.float32]], prompts: Prompts, mask_input: Any = None
    ) -> DecodedMasks:
        mask = (context["image_embeddings"][0, 0] - 0.5).repeat(4, 0).repeat(4, 1) * 20
        return DecodedMasks(mask[None].astype(np.float32), np.ones(1, np.float32))


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("harm_was_done",)


def features_of(chip: NDArray[np.uint8]) -> tuple[NDArray[np.float32], tuple[int, int]]:
    """Resize a chip as Geo-SAM does, pad it, and average its cells; return also its size before padding."""
    height, width = chip.shape
    scale = 1024 / max(height, width)
    new = int(height * scale + 0.5), int(width * scale + 0.5)
    rows, cols = (
        np.minimum((np.arange(size) + 0.5) * old / size, old - 1).astype(int) for size, old in zip(new, chip.shape)
    )
    padded = np.zeros((1024, 1024), np.float32)
    padded[: new[0], : new[1]] = chip[rows][:, cols] / 255
    features = np.zeros(FEATURES, np.float32)
    features[0] = padded.reshape(64, 16, 64, 16).mean(axis=(1, 3))
    return features, new


def chip_starts(size: int, stride: int) -> list[int]:
    """Return where Geo-SAM's chips start; the last one is moved inwards."""
    return [*range(0, max(size - 1024, 0), stride), max(size - 1024, 0)]


def write_chip(
    path: Path, features: NDArray[np.float32], left: int, top: int, shape: tuple[int, int], new: Any
) -> None:
    """Write a file of version 1, with the transform that is wrong for padded chips."""
    height, width = shape
    west, north = LEFT + left * PIXEL, TOP - top * PIXEL
    transform = from_bounds(west, north - height * PIXEL, west + width * PIXEL, north, 64, 64)
    profile = {"count": 256, "height": 64, "width": 64, "dtype": "float32", "crs": "EPSG:25830", "transform": transform}
    with rasterio.open(path, "w", driver="GTiff", **profile) as dataset:
        dataset.write(features)
        dataset.update_tags(img_shape=str((3, *shape)), input_shape=str((3, *new)), model_type="vit_b")


def write_v1(folder: Path, image: NDArray[np.uint8], stride: int = 512) -> Path:
    """Write a folder of version 1: rows from the bottom, and a CSV file that a killed run has not finished."""
    inner = folder / "ortho" / "sam_feat_vit_b_bands_4_1_2_00112233aabbccdd"
    inner.mkdir(parents=True)
    height, width = image.shape
    rows = [max(height - 1024, 0) - start for start in chip_starts(height, stride)]
    lines = [
        ",minx,maxx,miny,maxy,mint,maxt,filepath,crs,res,model_type",
        "0,0,1,0,1,0,9e18,gone.tif,EPSG:25830,0.5,vit_b",
    ]
    for row in rows:
        for col in chip_starts(width, stride):
            chip = image[row : row + 1024, col : col + 1024]
            name = f"sam_feat_vit_b_{abs(hash((row, col))):064x}.tif"
            write_chip(inner / name, *features_of(chip)[:1], col, row, chip.shape, features_of(chip)[1])
    (inner / f"{inner.name}.csv").write_text("\n".join(lines))
    return inner


def imported(folder: Path, store: Path, **options: Any) -> ImportReport:
    decoder = store.parent / "decoder.bin"
    decoder.write_bytes(b"not an ONNX file: these stores are read with CellDecoder")
    return import_folder(read_folder(folder), store, MODEL, {"decoder.onnx": decoder}, **options)


def click(store: Path, block: Block) -> shapely.Geometry:
    session = SegmentationSession(Segmenter(StoreReader(store), CellDecoder()))
    session.add_point(*block.centre(Affine(PIXEL, 0, LEFT, 0, -PIXEL, TOP)), True)
    assert session.current is not None
    return session.current.geometry


def iou(first: shapely.Geometry, second: shapely.Geometry) -> float:
    return float(first.intersection(second).area / first.union(second).area)


def on_map(block: Block) -> shapely.Geometry:
    return block.on_map(Affine(PIXEL, 0, LEFT, 0, -PIXEL, TOP))


BLOCKS = (Block(80, 96, 200, 160), Block(640, 900, 240, 200), Block(1200, 1500, 220, 180))
"""In the moved chips at the top, in chips that overlap, and in the chip at the bottom on the right."""


def gray(width: int, height: int, blocks: tuple[Block, ...]) -> NDArray[np.uint8]:
    return scene(width, height, blocks, bands=1)[0]


def test_chips_from_the_bottom_whose_last_ones_are_moved(tmp_path: Path) -> None:
    folder = write_v1(tmp_path, gray(1500, 1800, BLOCKS))
    store = tmp_path / "s.embeddings.zarr"
    report = imported(folder, store)
    assert (report.encoded, report.skipped, report.damaged, report.moved_px) == (6, 0, [], 0.0)
    metadata = read_metadata(store)
    assert metadata.bands == (4, 1, 2)
    assert metadata.tiling.starts == ((0, 476), (0, 264, 776))
    assert tuple(metadata.raster.transform) == (PIXEL, 0, LEFT, 0, -PIXEL, TOP)
    assert [iou(click(store, block), on_map(block)) > 0.9 for block in BLOCKS] == [True] * 3


@pytest.mark.parametrize("size", [(300, 200), (512, 1500), (1024, 700)])
def test_padded_and_enlarged_chips_answer_at_the_right_place(size: tuple[int, int], tmp_path: Path) -> None:
    block = Block(96, 64, 128, 80)
    folder = write_v1(tmp_path, gray(*size, (block,)))
    imported(folder, tmp_path / "s.embeddings.zarr")
    assert iou(click(tmp_path / "s.embeddings.zarr", block), on_map(block)) > 0.88


def test_what_a_killed_run_has_left_is_no_data(tmp_path: Path) -> None:
    folder = write_v1(tmp_path, gray(1500, 1800, BLOCKS))
    files = sorted(folder.glob("*.tif"))
    # The chips at the top left, one cut in the data and one in the header.
    cut = [file for file in files if rasterio.open(file).bounds[::3] == (LEFT, TOP)]
    header = next(file for file in files if rasterio.open(file).bounds.right == LEFT + 1500 * PIXEL)
    cut[0].write_bytes(cut[0].read_bytes()[: -(1 << 20)])
    header.write_bytes(b"II*")
    report = imported(folder.parent, tmp_path / "s.embeddings.zarr")
    assert (report.encoded, report.skipped) == (4, 2)
    assert sorted(reason.split(": ")[0] for reason in report.damaged) == sorted(map(str, (cut[0], header)))
    with pytest.raises(PromptError, match="no data"):
        click(tmp_path / "s.embeddings.zarr", BLOCKS[0])
    assert iou(click(tmp_path / "s.embeddings.zarr", BLOCKS[1]), on_map(BLOCKS[1])) > 0.9


def test_no_tile_can_be_added_and_older_versions_do_not_read_it(tmp_path: Path) -> None:
    store = tmp_path / "s.embeddings.zarr"
    imported(write_v1(tmp_path, gray(300, 200, BLOCKS[:1])), store)
    metadata = read_metadata(store)
    with pytest.raises(StoreError, match="contrast stretch is not known"):
        StoreWriter.resume(store, metadata, same_crs)
    document = metadata.to_json()
    assert "overlap" not in document["tiling"]
    assert StoreMetadata.from_json(json.loads(json.dumps(document))) == metadata
    for wrong in ([[0, 0], [0]], [[3, 2], [0]], [[0], [1]], [[], [0]], [[0.5], [0]], [[0]]):
        document["tiling"]["starts"] = wrong
        with pytest.raises(SchemaError):
            StoreMetadata.from_json(document)
    (store / "level0" / "image_embeddings" / "c" / "0" / "0" / "0" / "0" / "0").unlink()
    for command, remedy in {
        "verify": "make the store again with: geosam-es import-geosam",
        "repair": "is not known",
    }.items():
        result = CliRunner().invoke(cli, [command, str(store)])
        assert result.exit_code == 2 and remedy in result.stderr, result.stderr


def test_a_raster_with_the_pixels_of_the_chips_and_others(tmp_path: Path) -> None:
    image = gray(1500, 1100, BLOCKS[:1])
    folder = write_v1(tmp_path, image[20:, :1400])
    raster = write_raster(tmp_path / "ortho.tif", np.repeat(image[None], 3, axis=0))
    shifted = Affine(PIXEL, 0, LEFT, 0, -PIXEL, TOP + 20 * PIXEL)
    write_raster(raster, np.repeat(image[None], 3, axis=0), transform=shifted)
    imported(folder, tmp_path / "s.embeddings.zarr", raster=Raster(raster))
    assert read_metadata(tmp_path / "s.embeddings.zarr").raster == Raster(raster).info()
    moved = Block(80, 76, 200, 160)
    assert iou(click(tmp_path / "s.embeddings.zarr", moved), on_map(moved)) > 0.9
    with rasterio.open(raster, "r+") as dataset:
        dataset.crs = "EPSG:25829"
    with pytest.raises(RasterError, match="not in the CRS of the chips"):
        imported(folder, tmp_path / "t.embeddings.zarr", raster=Raster(raster))
    for wrong in (
        Affine(PIXEL, 0, LEFT, 0, -PIXEL, TOP + 20.3 * PIXEL),  # between pixels
        Affine(PIXEL * 2, 0, LEFT, 0, -PIXEL * 2, TOP + 20 * PIXEL),  # other pixels
        Affine(PIXEL, 0, LEFT + 10 * PIXEL, 0, -PIXEL, TOP + 20 * PIXEL),  # too small
    ):
        write_raster(raster, np.repeat(image[None], 3, axis=0), transform=wrong)
        with pytest.raises(RasterError, match="do not lie on the pixels") as error:
            imported(folder, tmp_path / "t.embeddings.zarr", raster=Raster(raster))
    wanted = f"-te {LEFT} {TOP - 1080 * PIXEL} {LEFT + 1400 * PIXEL} {TOP} -tr 0.5 0.5"
    assert wanted in str(error.value.user_message)
    assert not (tmp_path / "t.embeddings.zarr").exists()


def test_chips_of_a_part_of_the_raster(tmp_path: Path) -> None:
    block = Block(1400, 600, 160, 120)
    image = gray(3000, 1400, (block,))
    folder, store = write_v1(tmp_path, image[:, :1500]), tmp_path / "s.embeddings.zarr"
    raster = write_raster(tmp_path / "ortho.tif", np.repeat(image[None], 3, axis=0))
    imported(folder, store, raster=Raster(raster))
    assert iou(click(store, Block(1410, 600, 80, 120)), on_map(Block(1400, 600, 100, 120))) > 0.9
    with pytest.raises(PromptError, match="encode the whole image into another store"):
        click(store, Block(2400, 600, 160, 120))


def _no_folder(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()


def _pickle(folder: Path) -> None:
    _no_folder(folder)
    (folder / "manifest.pkl").touch()


def _code(folder: Path) -> None:
    with rasterio.open(next(folder.glob("*.tif")), "r+") as dataset:
        dataset.update_tags(input_shape="__import__('os').mkdir('harm_was_done')")


def _two_sizes(folder: Path) -> None:
    with rasterio.open(next(folder.glob("*.tif")), "r+") as dataset:
        dataset.update_tags(input_shape="(3, 512, 512)")


def _two_models(folder: Path) -> None:
    file = next(folder.glob("*.tif"))
    file.rename(file.with_name(file.name.replace("vit_b", "vit_h")))


def _two_crs(folder: Path) -> None:
    with rasterio.open(next(folder.glob("*.tif")), "r+") as dataset:
        dataset.crs = "EPSG:25829"


def _twice(folder: Path) -> None:
    file = next(folder.glob("*.tif"))
    shutil.copy(file, file.with_suffix(".copy.tif"))


def _no_rows(folder: Path) -> None:
    with rasterio.open(next(folder.glob("*.tif")), "r+") as dataset:
        dataset.update_tags(input_shape="(3, -1, 1024)")


def _not_finite(folder: Path) -> None:
    for file in folder.glob("*.tif"):
        with rasterio.open(file, "r+") as dataset:
            dataset.write(np.full(FEATURES, np.nan, np.float32))


def _all_cut(folder: Path) -> None:
    for file in folder.glob("*.tif"):
        file.write_bytes(file.read_bytes()[:50000])


@pytest.mark.parametrize(
    "damage, problem",
    [
        (_no_folder, "not a folder of Geo-SAM"),
        (_pickle, "may contain code"),
        (_code, "tag input_shape"),
        (_two_sizes, "differ in size"),
        (_all_cut, "No features"),
        (_two_models, "mixes features of vit_b and vit_h"),
        (_two_crs, "mixes features of EPSG:25829 and EPSG:25830"),
        (_twice, "are features of one place"),
        (_no_rows, "tag input_shape"),
        (_not_finite, r"\.tif: its features are not finite"),
    ],
)
def test_wrong_folders(damage: Any, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = write_v1(tmp_path, gray(1500, 200, ()), stride=1024)
    damage(folder)
    with pytest.raises(GeoSamError, match=problem):
        imported(folder, tmp_path / "s.embeddings.zarr")
    assert not (tmp_path / "s.embeddings.zarr").exists()
    assert not (tmp_path / "harm_was_done").exists()


def test_bands_that_no_image_has(tmp_path: Path) -> None:
    folder = write_v1(tmp_path, gray(200, 200, ()))
    with pytest.raises(RasterError, match="bands that no image has"):
        read_folder(folder.rename(tmp_path / "sam_feat_vit_b_bands_0_1_2_x"))


def test_a_store_that_exists_is_not_replaced(tmp_path: Path) -> None:
    folder = write_v1(tmp_path, gray(200, 200, ()))
    imported(folder, tmp_path / "s.embeddings.zarr")
    with pytest.raises(StoreError, match="already exists: choose another name with -o"):
        imported(folder, tmp_path / "s.embeddings.zarr")
    imported(folder, tmp_path / "s.embeddings.zarr", overwrite=True)
    _not_finite(folder)
    with pytest.raises(RasterError, match="No features can be read"):
        imported(folder, tmp_path / "s.embeddings.zarr", overwrite=True)
    assert StoreReader(tmp_path / "s.embeddings.zarr").counts()[0].encoded == 1


@pytest.fixture(scope="module")
def sam() -> LoadedSam:
    made = random_sam("vit_b", seed=1)
    liven(made)
    made.drop_image_encoder()
    return made


def test_clicks_are_those_of_our_own_store_of_the_same_chips(sam: LoadedSam, tmp_path: Path) -> None:
    image = write_raster(tmp_path / "ortho.tif", scene(1792, 1024, BLOCKS[:1]))
    generator = np.random.default_rng(0)
    folder = tmp_path / "ortho" / "sam_feat_vit_b_bands_1_2_3_0"
    folder.mkdir(parents=True)
    # Places of an image are like those beside them; masks of noise have thousands of parts.
    maps = generator.normal(0, 1, (2, 256, 8, 8)).astype(np.float32).repeat(8, 2).repeat(8, 3)
    for index, features in enumerate(maps):
        write_chip(folder / f"sam_feat_vit_b_{index}.tif", features, 768 * index, 0, (1024, 1024), (1024, 1024))
    weights = tmp_path / "sam_vit_b_no_img_encoder.pth"
    state = {key: value for key, value in sam.network.state_dict().items() if "pixel" not in key}
    torch.save(state, weights)
    theirs = tmp_path / "theirs.embeddings.zarr"
    line = ["import-geosam", str(folder), "-o", str(theirs), "--raster", str(image), "--dtype", "float32"]
    without = CliRunner().invoke(cli, line, env={"GEOSAM_ES_MODELS": str(tmp_path)})
    assert without.exit_code == 2
    assert "geosam-es models download vit_b" in without.stderr
    done = CliRunner().invoke(cli, [*line, "--checkpoint", str(weights)])
    assert done.exit_code == 0, done.stderr

    ours = tmp_path / "ours.embeddings.zarr"
    encoded = read_metadata(theirs)
    tiling = type(encoded.tiling)()
    metadata = StoreMetadata(**{**encoded.__dict__, "tiling": tiling})
    files = {name: theirs / name for name in ("prepare.onnx", "decoder.onnx")}
    writer = StoreWriter.create(ours, metadata, files)
    for tile, features in zip(metadata.pyramid, maps):
        writer.write(tile, {"image_embeddings": features})
    first, second = (open_segmenter(store, threads=1) for store in (theirs, ours))
    for x, y in generator.uniform((0, 0), (1792, 1024), (8, 2)):
        prompts = Prompts((Point(x, y, True), Point(1792 - x, y, False)))
        masks = [segmenter.propose(prompts).masks[0] for segmenter in (first, second)]
        assert all(np.array_equal(one.logits, two.logits) for one, two in zip(*masks))
    box = Prompts(box=Bounds(900, 200, 1300, 700))
    boxes = [segmenter.resolve(segmenter.propose(box)) for segmenter in (first, second)]
    assert boxes[0].polygons == boxes[1].polygons != ()
    resumed = CliRunner().invoke(cli, ["encode", str(image), "-o", str(theirs), "--resume"])
    assert resumed.exit_code == 2
    assert "no tile can be added" in resumed.stderr


def write_pt(path: Path, features: Any, **other: Any) -> None:
    content = {"model_type": "sam", "src_shape": (512, 512), "dst_shape": (1024, 1024), "feature_kind": "sam"}
    torch.save({**content, "features": features, **other}, path)


def test_a_file_of_tensors_is_read_without_pytorch(tmp_path: Path) -> None:
    tensor = torch.randn(1, 3, 4, 5)
    write_pt(tmp_path / "chip.pt", tensor)
    assert np.array_equal(read_tensor(tmp_path / "chip.pt", "features"), tensor.numpy())
    for wrong in (torch.zeros(2, dtype=torch.float64), torch.randn(3, 4).T, torch.randn(4)[1:], [1.0], "x"):
        write_pt(tmp_path / "chip.pt", wrong)
        with pytest.raises(ValueError):
            read_tensor(tmp_path / "chip.pt", "features")


def test_a_harmful_file_is_refused_and_nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_pt(tmp_path / "chip.pt", torch.zeros(1), checkpoint_path=Harmful())
    with pytest.raises(ValueError, match="mkdir, which is not run"):
        read_tensor(tmp_path / "chip.pt", "features")
    assert not Path("harm_was_done").exists()
    torch.load(tmp_path / "chip.pt", weights_only=False)
    assert Path("harm_was_done").exists()  # the file is harmful indeed


def test_version_2_with_chips_of_512_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    image, block = gray(900, 512, BLOCKS[:1]), BLOCKS[0]
    (tmp_path / "ortho" / "features").mkdir(parents=True)
    rows = []
    for index, col in enumerate((0, 388)):
        features, _ = features_of(image[:, col : col + 512])
        name = f"chip_{index:06d}.pt"
        write_pt(tmp_path / "ortho" / "features" / name, torch.from_numpy(features)[None])
        rows.append({
            "feature_path": f"C:\\Users\\eva\\ortho\\features\\{name}",
            "chip_id": index,
            "source_path": "C:\\Users\\eva\\ortho.tif",
            "checkpoint_path": "C:\\models\\sam_b.pt",
            "model_type": "sam",
            "transform": json.dumps([PIXEL, 0.0, LEFT + col * PIXEL, 0.0, -PIXEL, TOP]),
            "shape": json.dumps([512, 512]),
            "crs": "EPSG:25830",
        })  # fmt: skip
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "ortho" / "manifest.parquet")
    found = read_folder(tmp_path / "ortho")
    assert (found.version, found.model, found.image) == (2, "vit_b", "ortho.tif")
    report = imported(tmp_path / "ortho", tmp_path / "s.embeddings.zarr")
    assert (report.encoded, report.moved_px) == (2, 0.0)
    assert iou(click(tmp_path / "s.embeddings.zarr", block), on_map(block)) > 0.9
    rows[0]["model_type"] = "sam3"
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "ortho" / "manifest.parquet")
    with pytest.raises(RasterError, match="sam, sam3"):
        read_folder(tmp_path / "ortho")
    for column, value, problem in (
        ("transform", "[0, 0, 0, 0, 0, 0]", "no place on the map"),
        ("transform", "[0.5, 0, Infinity, 0, -0.5, 3]", "no place on the map"),
        ("shape", "[-512, 512]", "no size"),
        ("crs", "EPSG:25829", "mixes features of EPSG:25829 and EPSG:25830"),
        ("checkpoint_path", "/models/sam_l.pt", "mixes features of sam_b.pt and sam_l.pt"),
    ):
        wrong = [{**rows[1], column: value}, rows[1]]
        parquet.write_table(pyarrow.Table.from_pylist(wrong), tmp_path / "ortho" / "manifest.parquet")
        with pytest.raises(RasterError, match=problem):
            read_folder(tmp_path / "ortho")


def test_features_of_sam_2_answer_as_our_own_store_of_the_same_chips(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    from encoder_tools.models.sam2 import load, random_sam2
    from tests.encoder_tools.test_sam2 import liven as liven_sam2
    from tests.encoder_tools.test_sam2 import sam2_config

    image = write_raster(tmp_path / "ortho.tif", scene(1792, 1024, BLOCKS[:1]))
    weights, folder = tmp_path / "my-sam2", tmp_path / "ortho" / "features"
    liven_sam2(random_sam2(0, sam2_config(256))).model.save_pretrained(weights)
    sam2 = load(load_registry()["sam2.1_tiny"], weights)
    folder.mkdir(parents=True)
    generator, rows, maps = np.random.default_rng(0), [], []
    for index in range(2):
        shapes = sam2.info.features
        maps.append({name: generator.normal(0, 1, shape).astype(np.float32) for name, shape in shapes.items()})
        coarse, finer, finest = (torch.from_numpy(one)[None] for one in maps[-1].values())
        write_pt(folder / f"chip_{index:06d}.pt", {"image_embed": coarse, "high_res_feats": [finest, finer]})
        rows.append({
            "feature_path": f"/home/eva/ortho/features/chip_{index:06d}.pt",
            "source_path": "/home/eva/ortho.tif",
            "checkpoint_path": "/home/eva/sam2.1_t.pt",
            "model_type": "sam2",
            "transform": json.dumps([PIXEL, 0.0, LEFT + 768 * index * PIXEL, 0.0, -PIXEL, TOP]),
            "shape": json.dumps([1024, 1024]),
            "crs": "EPSG:25830",
        })  # fmt: skip
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "ortho" / "manifest.parquet")
    assert read_folder(tmp_path / "ortho").model == "sam2.1_tiny"
    theirs, ours = tmp_path / "theirs.embeddings.zarr", tmp_path / "ours.embeddings.zarr"
    line = ["import-geosam", str(tmp_path / "ortho"), "-o", str(theirs), "--raster", str(image), "--dtype", "float32"]
    done = CliRunner().invoke(cli, [*line, "--checkpoint", str(weights)])
    assert done.exit_code == 0, done.stderr
    assert "red and blue swapped" in done.stderr

    # `encode` records the same of this model, see ``test_sam2.py``.
    metadata = read_metadata(theirs)
    assert metadata.model == sam2.info.to_json() and metadata.features == dict(sam2.info.features)
    files = {name: theirs / name for name in ("prepare.onnx", "decoder.onnx")}
    same = StoreMetadata(**{**metadata.__dict__, "tiling": type(metadata.tiling)()})
    writer = StoreWriter.create(ours, same, files)
    for tile, features in zip(same.pyramid, maps):
        writer.write(tile, features)
    segmenters = [open_segmenter(store, threads=1) for store in (theirs, ours)]
    for x, y in generator.uniform((0, 0), (1792, 1024), (8, 2)):
        for prompts in (Prompts((Point(x, y),)), Prompts((Point(x, y), Point(1792 - x, y, False)))):
            masks = [segmenter.propose(prompts).masks[0] for segmenter in segmenters]
            assert all(np.array_equal(one.logits, two.logits) for one, two in zip(*masks))
    torch.save({"features": torch.zeros(1, *FEATURES)}, folder / "chip_000000.pt")
    files = {name: ours / name for name in files}
    report = import_folder(read_folder(tmp_path / "ortho"), theirs, sam2.info, files, overwrite=True)
    assert (report.encoded, report.skipped, len(report.damaged)) == (1, 1, 1)

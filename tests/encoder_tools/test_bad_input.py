"""Everything that can be wrong with what a user gives: one sentence, exit code 2, and nothing left behind."""

from __future__ import annotations

import json
import os
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from click.testing import Result

from tests.encoder_tools.conftest import Ortho, Run, Spawn
from tests.encoder_tools.scenes import Block, scene, write_layer, write_raster

FULL_DISK = pytest.mark.skipif(os.name != "posix", reason="a small disk is made with POSIX's file size limit")


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


@pytest.fixture
def fails(run: Run, tmp_path: Path) -> Callable[..., str]:
    """Run a command that must fail properly, and return its message."""

    def run_and_check(*arguments: object) -> str:
        before = files(tmp_path)
        result: Result = run(*arguments)
        assert files(tmp_path) == before
        assert result.exit_code == 2 and result.stdout == ""
        lines = result.stderr.splitlines()
        assert len(lines) == 1 and lines[0].startswith("Error: "), result.stderr
        return lines[0]

    return run_and_check


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return write_raster(tmp_path / "good.tif", scene(300, 200, [Block(100, 80, 60, 40)]))


def bad_rasters(folder: Path) -> dict[str, str]:
    """Make files that cannot be encoded, and say what the message must name."""
    noise = np.random.default_rng(0).integers(0, 255, (3, 600, 600), dtype=np.uint8)
    plain = write_raster(folder / "truncated.tif", noise)
    plain.write_bytes(plain.read_bytes()[: noise.size // 2])
    packed = write_raster(folder / "cut at the end.tif", noise, compress="deflate", tiled=True)
    packed.write_bytes(packed.read_bytes()[:-2000])
    (folder / "text.tif").write_text("hello")
    (folder / "empty.tif").touch()
    (folder / "page.tif").write_text("<!DOCTYPE html><html>404</html>")
    (folder / "photo.ecw").write_bytes(b"e\x02\x01\x02\x00")
    (folder / "mosaic.vrt").write_text(
        '<VRTDataset rasterXSize="9" rasterYSize="9"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
        '<SourceFilename relativeToVRT="1">lost.tif</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>'
    )
    write_raster(folder / "nowhere.tif", scene(30, 20, []), crs=None)
    write_raster(folder / "unplaced.tif", scene(30, 20, []), transform=None)
    write_raster(folder / "void.tif", np.zeros((3, 20, 30), np.uint8), nodata=0)
    write_raster(folder / "nan.tif", np.full((1, 20, 30), np.nan, np.float32))
    write_raster(folder / "radar.tif", np.zeros((1, 20, 30), np.complex64))
    return {
        "truncated.tif": "is truncated or damaged",
        "cut at the end.tif": "is truncated or damaged",
        "text.tif": "is not a raster that GDAL can read: it is a text file",
        "empty.tif": "is not a raster that GDAL can read: it is empty",
        "page.tif": "is not a raster that GDAL can read: it is a web page",
        "photo.ecw": "is in the format ECW, and this GDAL has no driver for it: convert it with a GDAL that has one",
        "mosaic.vrt": "refers to ",
        "nowhere.tif": "has no coordinate reference system: set it with --crs",
        "unplaced.tif": "has no geotransform",
        "void.tif": "has no pixels with data",
        "nan.tif": "has no pixels with data",
        "radar.tif": "has complex values",
    }


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_bad_rasters_one_by_one(tmp_path: Path, fails: Callable[..., str], model: Path) -> None:
    for name, message in bad_rasters(tmp_path).items():
        found = fails("encode", tmp_path / name, "--model", model)
        assert f"{tmp_path / name} {message}" in found and ": " in found.removeprefix("Error: ")
    assert f"{tmp_path / 'missing.tif'} does not exist" in fails("encode", tmp_path / "missing.tif", "--model", model)


def test_a_raster_of_one_colour_leaves_no_store(tmp_path: Path, run: Run, model: Path) -> None:
    black = write_raster(tmp_path / "black.tif", np.zeros((3, 20, 30), np.uint8))
    result = run("encode", black, "--model", model)
    assert result.exit_code == 2
    assert f"Error: {black} has no tile to encode" in result.stderr
    assert files(tmp_path) == {"black.tif"}


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_bad_rasters_do_not_stop_the_good_ones(tmp_path: Path, spawn: Spawn, model: Path) -> None:
    """As a process, so that nothing else can write to standard error unseen: warnings, logs, GDAL, tracebacks."""
    folder = tmp_path / "flight"
    folder.mkdir()
    expected = bad_rasters(folder)
    write_raster(folder / "good.tif", scene(300, 200, [Block(100, 80, 60, 40)]))
    (folder / "notes.txt").write_text("no image")
    done = spawn("encode", folder, "-o", tmp_path / "stores", "--model", model)
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if not line.startswith("good.tif: 1/1 tiles")]
    errors, report = lines[: len(expected)], lines[len(expected) :]
    assert report == [
        f"{len(expected)} of {len(expected) + 1} images could not be encoded:",
        *(line.replace("Error: ", "  ", 1) for line in errors),
    ]
    for line in errors:
        assert line.startswith("Error: ")
        assert any(f"{name} {message}" in line for name, message in expected.items())
    assert [path.name for path in (tmp_path / "stores").iterdir()] == ["good.embeddings.zarr"]
    assert len(done.stdout.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--bands", "1,2,9"], "good.tif, which has 3 band(s): correct --bands"),
        (["--bands", "0"], "no band 0"),
        (["--bands", "1,2"], "--bands needs one band or three, not 2: write them as in 4,1,2"),
        (["--stretch", "bright"], "--stretch bright is not valid: use auto"),
        (["--stretch", "98,2"], "--stretch 98,2 is not valid"),
        (["--nodata", "-9999"], "--nodata -9999 is not a valid value of"),
        (["--overlap", "1024"], "--overlap 1024 is out of range"),
        (["--aoi", "missing.gpkg"], "missing.gpkg does not exist"),
        (["--device", "cuda"], "runs on the CPU only, not on cuda: leave out --device"),
        (["--device", "quantum"], "not on quantum"),
        (["--checkpoint", "sam.pth"], "does not take --checkpoint: leave out --checkpoint"),
    ],
)
def test_options(fails: Callable[..., str], image: Path, model: Path, options: list[str], message: str) -> None:
    assert message in fails("encode", image, "--model", model, *options)


def test_unknown_model(fails: Callable[..., str], image: Path) -> None:
    message = fails("encode", image, "--model", "sam9000")
    assert "unknown model sam9000: use mini, vit_b, vit_l, vit_h, " in message


@pytest.mark.parametrize("name", ["model.json", "encoder.onnx", "decoder.onnx", "prepare.onnx"])
@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_damaged_model_folder(
    fails: Callable[..., str], image: Path, model: Path, tmp_path: Path, name: str, damage: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    file = folder / name
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:40])
    message = fails("encode", image, "--model", folder)
    assert str(folder) in message


def test_area_of_interest_elsewhere(fails: Callable[..., str], image: Path, model: Path, tmp_path: Path) -> None:
    aoi = write_layer(tmp_path / "aoi.gpkg", [shapely.box(0, 0, 10, 10)])
    assert f"{aoi} lies outside {image}: check the layer" in fails("encode", image, "--model", model, "--aoi", aoi)


def test_checkpoints(fails: Callable[..., str], image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch", reason="checkpoints are read with torch")
    monkeypatch.setenv("GEOSAM_ES_MODELS", str(tmp_path / "models"))
    large = tmp_path / "large.pth"
    torch.save({"image_encoder.patch_embed.proj.weight": torch.zeros(1024, 3, 16, 16)}, large)
    (tmp_path / "text.pth").write_text("hello")
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pth")
    encode = ("encode", image, "--model", "vit_b")
    assert "large.pth is a SAM vit_l, not vit_b: choose the model vit_l" in fails(*encode, "--checkpoint", large)
    assert "text.pth is not a file of weights" in fails(*encode, "--checkpoint", tmp_path / "text.pth")
    assert "other.pth: it has no weights of SAM" in fails(*encode, "--checkpoint", tmp_path / "other.pth")
    assert "missing.pth" in fails(*encode, "--checkpoint", tmp_path / "missing.pth")
    assert "geosam-es models download vit_b" in fails(*encode)


def test_impossible_outputs(fails: Callable[..., str], image: Path, model: Path, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for output, message in [
        (file, f"{file} is a file: give a folder"),
        (file / "stores", "cannot be written (Not a directory)"),
        (file / "a.zarr", "a.zarr cannot be written ("),
        (Path("/proc/stores"), "/proc/stores/good.embeddings.zarr cannot be written"),
    ]:
        assert message in fails("encode", image, "--model", model, "-o", output)
    twin = tmp_path / "good.vrt"
    shutil.copy(image, twin)
    assert "is one store, but there are 2 images" in fails(
        "encode", image, twin, "--model", model, "-o", tmp_path / "a.zarr"
    )
    assert "would have the same store" in fails("encode", image, twin, "--model", model)
    (tmp_path / "empty").mkdir()
    assert "empty contains no images" in fails("encode", tmp_path / "empty", "--model", model)


def limit_file_size(size: int) -> Callable[[], None]:
    # Python ignores SIGXFSZ, so that a write beyond the limit fails as one on a full disk does.
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@FULL_DISK
@pytest.mark.parametrize("size", [100, 100_000])
def test_full_disk_while_encoding(image: Path, model: Path, tmp_path: Path, spawn: Spawn, size: int) -> None:
    """At 100 bytes not even the store's skeleton fits, at 100,000 no tile does."""
    before = files(tmp_path)
    done = spawn("encode", image, "--model", model, preexec_fn=limit_file_size(size))
    assert done.returncode == 2 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "good.embeddings.zarr cannot be written (File too large): check the free disk space" in done.stderr
    assert files(tmp_path) == before


@FULL_DISK
@pytest.mark.parametrize(
    ("suffix", "size"),
    [("gpkg", 0), ("gpkg", 9000), ("shp", 0), ("shp", 110), ("shp", 230), ("geojson", 0), ("geojson", 200)],
)
def test_full_disk_while_segmenting(ortho: Ortho, tmp_path: Path, spawn: Spawn, suffix: str, size: int) -> None:
    before = files(tmp_path)
    out = tmp_path / f"out.{suffix}"
    done = spawn("segment", ortho.store, ortho.click, "-o", out, "--simplify", 0, preexec_fn=limit_file_size(size))
    assert done.returncode == 2 and done.stdout == ""
    errors = [line for line in done.stderr.splitlines() if not line.startswith(f"{out.name}: 1/1 objects")]
    assert len(errors) == 1 and errors[0].startswith(f"Error: {out} cannot be written"), done.stderr
    assert files(tmp_path) == before


def test_disk_that_fills_up(small_disk: Path, model: Path, tmp_path: Path, run: Run) -> None:
    """Tiles that fitted are kept for --resume, and the message says so."""
    image = write_raster(tmp_path / "wide.tif", scene(5000, 300, [Block(100, 80, 60, 40)]))
    result = run("encode", image, "--model", model, "-o", small_disk, "--levels", 1)
    assert result.exit_code == 2
    error = result.stderr.splitlines()[-1]
    assert "cannot be written (No space left on device): free some space and continue with --resume" in error
    store = small_disk / "wide.embeddings.zarr"
    assert not list(store.rglob(".*"))
    kept = json.loads(run("info", store, "--json").stdout)["tiles"][0]["encoded"]
    assert 1 <= kept <= 3
    shutil.move(store, tmp_path)
    again = run("encode", image, "--model", model, "-o", tmp_path, "--levels", 1, "--resume", "--json")
    assert json.loads(again.stdout)[0]["resumed"] == kept


def damage(store: Path, how: str) -> None:
    """Damage a store as happens in practice."""
    group = store / "zarr.json"
    array = store / "level0" / "image_embeddings"
    if how == "a file":
        shutil.rmtree(store)
        store.touch()
    elif how == "an empty folder":
        shutil.rmtree(store)
        store.mkdir()
    elif how == "no decoder":
        (store / "decoder.onnx").unlink()
    elif how == "no prepare":
        (store / "prepare.onnx").unlink()
    elif how == "no array":
        shutil.rmtree(array)
    elif how == "array cut":
        (array / "zarr.json").write_text((array / "zarr.json").read_text()[:100])
    elif how == "metadata cut":
        group.write_text(group.read_text()[:300])
    else:
        document = json.loads(group.read_text())
        attributes = document["attributes"]["geosam_es"]
        if how == "newer":
            attributes["format_version"] = 99
        elif how == "another Zarr":
            del document["attributes"]["geosam_es"]
        elif how == "a key missing":
            del attributes["tiling"]
        group.write_text(json.dumps(document))


DAMAGE = [
    ("a file", "is not an embedding store: make one with: geosam-es encode"),
    ("an empty folder", "is not an embedding store: it has no zarr.json"),
    ("no decoder", "has no decoder.onnx: copy the store again"),
    ("no array", "level0/image_embeddings/zarr.json is missing or damaged: copy the store again"),
    ("array cut", "level0/image_embeddings/zarr.json is missing or damaged: copy the store again"),
    ("metadata cut", "zarr.json is damaged or was not written by GeoSAM-ES: encode again"),
    ("newer", "has format version 99, and this GeoSAM-ES reads version 1: update GeoSAM-ES"),
    ("another Zarr", "zarr.json is damaged or was not written by GeoSAM-ES"),
    ("a key missing", "zarr.json is damaged"),
]


@pytest.mark.parametrize(("how", "message"), DAMAGE)
def test_stores_with_damaged_files(
    fails: Callable[..., str], ortho: Ortho, tmp_path: Path, model: Path, how: str, message: str
) -> None:
    damage(ortho.store, how)
    for command in (
        ["info", ortho.store],
        ["verify", ortho.store],
        ["segment", ortho.store, ortho.click, "-o", tmp_path / "out.gpkg"],
        ["encode", ortho.image, "--model", model, "--resume"],
    ):
        found = fails(*command)
        assert message in found and str(ortho.store) in found


def test_store_without_prepare(fails: Callable[..., str], ortho: Ortho, tmp_path: Path) -> None:
    damage(ortho.store, "no prepare")
    message = fails("segment", ortho.store, ortho.click, "-o", tmp_path / "out.gpkg")
    assert str(ortho.store) in message and "prepare.onnx" in message


def test_missing_store(fails: Callable[..., str], tmp_path: Path) -> None:
    for command in ("info", "verify"):
        assert "missing.zarr is not an embedding store" in fails(command, tmp_path / "missing.zarr")


def test_truncated_tile_under_a_click(run: Run, ortho: Ortho, tmp_path: Path) -> None:
    chunk = next(path for path in (ortho.store / "level0" / "image_embeddings" / "c").rglob("*") if path.is_file())
    chunk.write_bytes(chunk.read_bytes()[:1000])
    result = run("segment", ortho.store, ortho.click, "-o", tmp_path / "out.gpkg")
    assert result.exit_code == 2 and not (tmp_path / "out.gpkg").exists()
    assert (
        f"Error: {chunk} has 500 values instead of 196608: encode it again with: geosam-es repair STORE"
        in result.stderr
    )


def test_overwrite_replaces_damaged_stores_and_nothing_else(
    run: Run, fails: Callable[..., str], ortho: Ortho, tmp_path: Path, model: Path
) -> None:
    for how in ("an empty folder", "metadata cut", "newer"):
        damage(ortho.store, how)
        assert run("encode", ortho.image, "--model", model, "--overwrite").exit_code == 0
        assert run("verify", ortho.store).exit_code == 0
    foreign = tmp_path / "climate.zarr"
    foreign.mkdir()
    (foreign / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group", "attributes": {}}')
    message = fails("encode", ortho.image, "--model", model, "--overwrite", "-o", foreign)
    assert f"{foreign} exists and is not an embedding store" in message


def test_existing_store_with_neither_option(fails: Callable[..., str], ortho: Ortho, model: Path) -> None:
    message = fails("encode", ortho.image, "--model", model)
    assert f"{ortho.store} already exists: continue with --resume, or start again with --overwrite" in message


def test_resume_and_overwrite_together(run: Run, ortho: Ortho, model: Path) -> None:
    result = run("encode", ortho.image, "--model", model, "--resume", "--overwrite")
    assert result.exit_code == 2 and "--resume and --overwrite cannot be combined" in result.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--bands", "3,2,1"], "bands = [1, 2, 3], not [3, 2, 1]"),
        (["--stretch", "2,98"], "stretch = None, not [["),
        (["--overlap", "128"], "overlap = 256, not 128"),
        (["--nodata", "7"], "nodata = None, not '7.0'"),
    ],
)
def test_resume_with_other_options(
    fails: Callable[..., str], ortho: Ortho, model: Path, options: list[str], message: str
) -> None:
    found = fails("encode", ortho.image, "--model", model, "--resume", *options)
    assert f"{ortho.store} was made with {message}" in found and "--overwrite" in found


def test_resume_with_another_raster_or_area(
    fails: Callable[..., str], ortho: Ortho, model: Path, tmp_path: Path
) -> None:
    resume = ("--model", model, "--resume", "-o", ortho.store)
    aoi = write_layer(tmp_path / "aoi.gpkg", [ortho.truth])
    assert "area of interest = None, not " in fails("encode", ortho.image, "--aoi", aoi, *resume)
    changed = scene(300, 200, [Block(0, 0, 40, 40)])
    other = write_raster(tmp_path / "other.tif", changed)
    assert "raster fingerprint = " in fails("encode", other, *resume)
    moved = write_raster(tmp_path / "moved.tif", scene(300, 200, [ortho.block]), pixel=0.25)
    assert "raster transform = [0.5, " in fails("encode", moved, *resume)


def prompt_files(folder: Path, ortho: Ortho) -> dict[str, tuple[Path, str]]:
    x, y = ortho.centre
    point = shapely.Point(x, y)
    far = shapely.Point(x + 5000, y)
    line = shapely.LineString([(x, y), (x + 1, y)])
    empty = folder / "empty.geojson"
    empty.write_text('{"type": "FeatureCollection", "features": []}')
    return {
        "outside": (write_layer(folder / "outside.gpkg", [far]), "lies outside the raster"),
        "without CRS": (write_layer(folder / "bare.gpkg", [point], crs=None), "has no coordinate reference system"),
        "lines": (write_layer(folder / "lines.gpkg", [line]), "lines.gpkg has a LineString, which is not a valid"),
        "empty": (empty, "empty.geojson has no geometries"),
        "label 2": (write_layer(folder / "two.gpkg", [point], label=[2]), "two.gpkg has label 2: use 1 for positive"),
        "label text": (write_layer(folder / "text.gpkg", [point], label=["yes"]), "text.gpkg has label yes"),
        "negative box": (
            write_layer(folder / "box.gpkg", [point.buffer(5)], label=[0]),
            "box.gpkg has a polygon with label 0",
        ),
        "two boxes": (
            write_layer(folder / "boxes.gpkg", [point.buffer(5), point.buffer(6)], object=["a", "a"]),
            "boxes.gpkg has two boxes for object a",
        ),
        "only negative": (
            write_layer(folder / "negative.gpkg", [point], label=[0]),
            "has no positive point and no box",
        ),
        "out of reach": (
            write_layer(folder / "reach.gpkg", [shapely.Point(10, 400)], crs="EPSG:4326"),
            "which are not longitude and latitude in WGS 84",
        ),
        "text": (ortho.image, "is not a vector file"),
    }


def test_prompts_that_cannot_be_answered(run: Run, ortho: Ortho, tmp_path: Path) -> None:
    cases = prompt_files(tmp_path, ortho)
    before = files(tmp_path)
    for kind, (path, message) in cases.items():
        result = run("segment", ortho.store, path, "-o", tmp_path / "out.gpkg")
        errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
        assert result.exit_code == 2 and result.stdout == "" and len(errors) == 1, kind
        assert message in errors[0], kind
        assert files(tmp_path) == before, kind


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--point", "0,0"], "The point (0, 0) lies outside the raster"),
        (["--point", "0,0,2"], "--point has label 2"),
        (["--box", "5,5,5,9"], "The box 5,5,5,9 has no area: give XMIN,YMIN,XMAX,YMAX"),
        (["--box", "0,0,5,5"], "The box lies outside the raster"),
        (["--crs", "EPSG:0", "--point", "0,0"], "EPSG:0 is not a coordinate reference system"),
        (["--out-crs", "nonsense", "--point", "0,0"], "nonsense is not a coordinate reference system"),
        ([], "Give either a PROMPTS file or --point and --box"),
    ],
)
def test_prompts_as_options(run: Run, ortho: Ortho, tmp_path: Path, options: list[str], message: str) -> None:
    result = run("segment", ortho.store, "-o", tmp_path / "out.gpkg", *options)
    assert result.exit_code == 2 and message in result.stderr.splitlines()[-1]
    assert not (tmp_path / "out.gpkg").exists()


def test_a_local_crs_is_refused_before_decoding(run: Run, ortho: Ortho, tmp_path: Path) -> None:
    local = 'LOCAL_CS["site",UNIT["metre",1]]'
    assert run("info", ortho.store, "--set-crs", local).exit_code == 0
    output = tmp_path / "out.gpkg"
    for options in (["--out-crs", "EPSG:4326"], ["--crs", "EPSG:25830"]):
        result = run("segment", ortho.store, ortho.click, "-o", output, *options)
        assert result.exit_code == 2 and len(result.stderr.splitlines()) == 1 and not output.exists()
        assert "site is a local CRS: coordinates cannot be transformed" in result.stderr
    assert run("segment", ortho.store, ortho.click, "-o", output).exit_code == 0 and output.exists()


def test_output_of_segment(fails: Callable[..., str], ortho: Ortho, tmp_path: Path) -> None:
    segment = ("segment", ortho.store, ortho.click, "-o")
    there = tmp_path / "there.gpkg"
    there.write_text("somebody's work")
    assert f"{there} already exists: choose another name" in fails(*segment, there)
    assert "out.dxf has an unknown format: use the extension .gpkg, .shp, " in fails(*segment, tmp_path / "out.dxf")
    assert "folder of" in fails(*segment, tmp_path / "missing" / "out.gpkg")
    assert there.read_text() == "somebody's work"


@pytest.mark.parametrize(
    "arguments",
    [
        ["encode"],
        ["encode", "a.tif", "--bands", "red"],
        ["encode", "a.tif", "--levels", "0"],
        ["segment", "a.zarr"],
        ["segment", "a.zarr", "-o", "b.gpkg", "--point", "1"],
        ["segment", "a.zarr", "-o", "b.gpkg", "--point", "1,nan"],
        ["segment", "a.zarr", "-o", "b.gpkg", "--box", "1,2,3"],
        ["segment", "a.zarr", "-o", "b.gpkg", "--candidate", "4"],
        ["nonsense"],
    ],
)
def test_syntax(run: Run, arguments: list[Any]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2 and "Usage: geosam-es" in result.stderr and result.stdout == ""

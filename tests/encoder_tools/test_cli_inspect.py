"""``geosam-es info`` and ``verify`` as a user runs them."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pytest
import rasterio
import shapely
from click.testing import CliRunner

from encoder_tools.cli import inspect
from encoder_tools.cli.app import cli
from encoder_tools.raster import Raster
from geosam_es.store import set_crs
from tests.encoder_tools.conftest import Ortho, Run
from tests.encoder_tools.scenes import Block, ramp, scene, write_layer, write_raster


@pytest.fixture(scope="module")
def made_wide(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of four tiles in two levels, the last of the first level without data."""
    folder = tmp_path_factory.mktemp("wide")
    pixels = ramp(3, 60, 2048, "uint16")
    pixels[:, :, 1024:] = 0
    image = write_raster(folder / "wide.tif", pixels, nodata=0)
    done = CliRunner().invoke(cli, ["encode", str(image), "--model", str(model), "--overlap", "0"])
    assert done.exit_code == 0, done.stderr
    return folder


@pytest.fixture
def wide(made_wide: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made_wide, tmp_path / "wide")) / "wide.embeddings.zarr"


def test_info_in_words(run: Run, wide: Path) -> None:
    result = run("info", wide)
    assert result.exit_code == 0 and result.stderr == ""
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"Store:   {wide} (") and "GeoSAM-ES" in lines[0]
    assert lines[1] == "Raster:  wide.tif, 2048 x 60 px, ETRS89 / UTM zone 30N"
    assert lines[2].startswith("Bands:   1, 2, 3, stretched ") and lines[2].endswith(", nodata 0.0")
    assert lines[3] == "Model:   bright (CC0-1.0), float16"
    assert lines[4] == "Tiles:   1024 px, overlap 0 px"
    assert lines[5] == "Level 0: 2048 x 60 px, 1 x 2 tiles: 1 encoded, 1 without data, 0 missing"
    assert lines[6] == "Level 1: 1024 x 30 px, 1 x 1 tiles: 1 encoded, 0 without data, 0 missing"
    assert len(lines) == 7


def test_info_in_json(run: Run, wide: Path) -> None:
    value = json.loads(run("info", wide, "--json").stdout)
    assert value["format_version"] == 1 and value["bands"] == [1, 2, 3] and value["nodata"] == 0
    assert value["raster"]["file_name"] == "wide.tif" and value["model"]["name"] == "bright"
    assert value["tiles"][0] == {"level": 0, "encoded": 1, "skipped": 1, "missing": 0}
    assert value["bytes"] == sum(path.stat().st_size for path in wide.rglob("*") if path.is_file())


def test_info_of_nan_as_nodata(run: Run, model: Path, tmp_path: Path) -> None:
    pixels = np.where(ramp(1) > 50, ramp(1) / 255, np.nan).astype(np.float32)
    image = write_raster(tmp_path / "a.tif", pixels, nodata=float("nan"))
    assert run("encode", image, "--model", model).exit_code == 0
    assert json.loads(run("info", tmp_path / "a.embeddings.zarr", "--json").stdout)["nodata"] == "nan"
    assert run("encode", image, "--model", model, "--resume").exit_code == 0


def test_verify_a_whole_store(run: Run, wide: Path) -> None:
    alone = run("verify", wide)
    assert alone.exit_code == 0 and alone.stdout == f"{wide}: all 3 tiles are complete\n"
    image = wide.parent / "wide.tif"
    assert run("verify", wide, image).stdout == f"{wide}: all 3 tiles are complete, and it was made from {image}\n"
    assert json.loads(run("verify", wide, image, "--json").stdout) == {
        "tiles": 3,
        "problems": [],
        "without_checksum": 0,
    }


def cut(chunk: Path) -> None:
    chunk.write_bytes(chunk.read_bytes()[:-2])


def not_a_number(chunk: Path) -> None:
    values = np.fromfile(chunk, dtype="<f2")
    values[77] = np.nan
    values.tofile(chunk)


@pytest.mark.parametrize(
    ("damage", "problem"), [(Path.unlink, "missing"), (cut, "values instead of"), (not_a_number, "not finite")]
)
def test_verify_finds_damaged_tiles(run: Run, wide: Path, damage: Callable[[Path], None], problem: str) -> None:
    damage(wide / "level1" / "image_embeddings" / "c" / "0" / "0" / "0" / "0" / "0")
    result = run("verify", wide)
    assert result.exit_code == 2 and result.stdout == ""
    error = result.stderr.splitlines()[-1]
    assert error.startswith(f"Error: {wide} has 1 bad tile of 3: level 1 (0, 0) ") and problem in error
    assert f"geosam-es repair {wide}" in error
    answer = run("verify", wide, "--json")
    assert answer.exit_code == 2
    (found,) = json.loads(answer.stdout)["problems"]
    assert (found["level"], found["row"], found["col"]) == (1, 0, 0) and problem in found["problem"]


def files_of(store: Path) -> dict[str, bytes]:
    return {path.relative_to(store).as_posix(): path.read_bytes() for path in store.rglob("*") if path.is_file()}


def one_bit(chunk: Path) -> None:
    content = bytearray(chunk.read_bytes())
    content[len(content) // 3] ^= 16
    chunk.write_bytes(content)


def a_folder(chunk: Path) -> None:
    chunk.unlink()
    (chunk / "inside").mkdir(parents=True)


@pytest.mark.parametrize("damage", [Path.unlink, cut, not_a_number, one_bit, a_folder])
def test_repair_encodes_damaged_tiles_alone(run: Run, wide: Path, model: Path, damage: Callable[[Path], None]) -> None:
    whole = files_of(wide)
    damage(wide / "level0" / "image_embeddings" / "c" / "0" / "0" / "0" / "0" / "0")
    others = {path: path.stat().st_mtime_ns for path in wide.glob("level1/*/c/**/*") if path.is_file()}
    assert run("verify", wide).exit_code == 2
    result = run("repair", wide, "--model", model)
    assert result.exit_code == 0 and result.stdout == f"{wide}: 1 tile encoded again\n"
    assert files_of(wide) == whole and {path: path.stat().st_mtime_ns for path in others} == others
    assert run("verify", wide).exit_code == 0
    again = json.loads(run("repair", wide, "--model", model, "--json").stdout)
    assert again == {"repaired": [], "files": []}


def test_an_interrupted_encoding_of_an_area_is_not_made_whole(run: Run, model: Path, tmp_path: Path) -> None:
    image, store = write_raster(tmp_path / "a.tif", ramp(3, 60, 2500)), tmp_path / "a.embeddings.zarr"
    area = write_layer(tmp_path / "area.gpkg", [shapely.box(700_000, 4_399_980, 700_010, 4_400_000)])
    encode = ("encode", image, "--model", model, "--aoi", area)
    assert run(*encode, "--limit", 1).exit_code == 0
    not_one_bit = store / "level0" / "image_embeddings" / "c" / "0" / "0" / "0" / "0" / "0"
    one_bit(not_one_bit)
    advice = "geosam-es encode IMAGE --aoi AREA --resume"
    assert advice in run("verify", store).stderr
    repaired = run("repair", store, "--model", model, "--json")
    assert repaired.exit_code == 2 and advice in repaired.stderr
    assert len(json.loads(repaired.stdout)["repaired"]) == 1
    assert not list(store.glob("level*/image_embeddings/c/0/[12]/**/0"))
    assert run(*encode, "--resume").exit_code == 0
    assert run("verify", store).exit_code == 0


def test_repair_keeps_tiles_that_another_program_encodes_meanwhile(
    run: Run, wide: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = wide.with_name("wide.tif")
    shutil.rmtree(wide / "level0" / "image_embeddings" / "c")
    found = inspect.raster_of

    def other_program(*arguments: Any) -> Raster:
        assert run("encode", image, "--model", model, "--overlap", 0, "--resume").exit_code == 0
        return found(*arguments)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(inspect, "raster_of", other_program)
    monkeypatch.setattr(inspect, "encode_tiles", interrupted)
    assert run("repair", wide, "--model", model).exit_code == 130
    assert run("verify", wide).exit_code == 0


@pytest.mark.parametrize("change", ["model", "image", "place"])
def test_a_tile_of_another_store_is_found_even_with_its_checksum(
    run: Run, wide: Path, model: Path, tmp_path: Path, change: str
) -> None:
    whole = files_of(wide)
    image, key = wide.parent / "wide.tif", "level1"
    if change == "place":
        for name in ("origin", "image_embeddings_crc32", "image_embeddings"):
            shutil.rmtree(wide / "level1" / name / "c")
            shutil.copytree(wide / "level0" / name / "c", wide / "level1" / name / "c")
    else:
        other = Path(shutil.copytree(model, tmp_path / "other"))
        if change == "model":
            info = json.loads((other / "model.json").read_text())
            (other / "model.json").write_text(json.dumps({**info, "encoder_sha256": "c" * 64}))
        else:
            image = write_raster(tmp_path / "other.tif", ramp(3, 60, 2048, "uint16") + 7, nodata=0)
        made = tmp_path / "other.embeddings.zarr"
        options = ("--model", other, "--overlap", "0", "-o", made, "--stretch", "0:250")
        assert run("encode", image, *options).exit_code == 0
        shutil.rmtree(wide / key)
        shutil.copytree(made / key, wide / key)
    result = run("verify", wide)
    assert result.exit_code == 2 and "level 1 (0, 0) it comes from another store: its model" in result.stderr
    assert run("repair", wide, "--model", model, "--raster", wide.parent).exit_code == 0
    assert files_of(wide) == whole


def test_repair_replaces_a_damaged_decoder(run: Run, wide: Path, model: Path) -> None:
    whole = files_of(wide)
    one_bit(wide / "decoder.onnx")
    assert "decoder.onnx does not have the hash in zarr.json" in run("verify", wide).stderr
    assert run("repair", wide, "--model", model).stdout.endswith("encoded again, decoder.onnx replaced\n")
    assert files_of(wide) == whole


@pytest.mark.parametrize("lost", [("decoder.onnx",), ("prepare.onnx",), ("prepare.onnx", "decoder.onnx")])
def test_repair_puts_a_lost_decoder_back_without_the_image(
    run: Run, wide: Path, model: Path, lost: tuple[str, ...]
) -> None:
    whole = files_of(wide)
    (wide.parent / "wide.tif").unlink()
    for name in lost:
        (wide / name).unlink()
    refused = run("repair", wide)
    assert refused.exit_code == 2 and "unknown model bright" in refused.stderr
    result = run("repair", wide, "--model", model)
    assert result.exit_code == 0, result.stderr
    assert sorted(result.stdout.strip().split(", ")[1:]) == sorted(f"{name} replaced" for name in lost)
    assert files_of(wide) == whole
    document = json.loads((wide / "zarr.json").read_text())
    document["attributes"]["geosam_es"]["decoder_sha256"] = {}
    (wide / "zarr.json").write_text(json.dumps(document))
    (wide / "decoder.onnx").unlink()
    assert run("repair", wide, "--model", model).exit_code == 0
    assert (wide / "decoder.onnx").read_bytes() == whole["decoder.onnx"]


def test_repair_refuses_a_decoder_of_another_model(run: Run, wide: Path, model: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(model, tmp_path / "other"))
    (other / "decoder.onnx").write_bytes((model / "decoder.onnx").read_bytes() + b"\x18\x00")
    (wide / "decoder.onnx").unlink()
    before = files_of(wide)
    result = run("repair", wide, "--model", other)
    assert result.exit_code == 2 and "does not have the hash in zarr.json" in result.stderr
    assert files_of(wide) == before


def test_repair_without_what_it_needs_changes_nothing(run: Run, wide: Path, model: Path, tmp_path: Path) -> None:
    cut(wide / "level1" / "image_embeddings" / "c" / "0" / "0" / "0" / "0" / "0")
    before = files_of(wide)
    other = Path(shutil.copytree(model, tmp_path / "other"))
    info = json.loads((other / "model.json").read_text())
    (other / "model.json").write_text(json.dumps({**info, "encoder_sha256": "c" * 64}))
    result = run("repair", wide, "--model", other)
    assert result.exit_code == 2 and "was made with model sha256 = " in result.stderr and "--model" in result.stderr
    assert "unknown model bright" in run("repair", wide).stderr
    (wide.parent / "wide.tif").unlink()
    result = run("repair", wide, "--model", model)
    assert result.exit_code == 2 and "The raster wide.tif of" in result.stderr and "--raster" in result.stderr
    assert files_of(wide) == before


def test_many_bad_tiles_are_not_all_listed(run: Run, model: Path, tmp_path: Path) -> None:
    image = write_raster(tmp_path / "a.tif", ramp(1, 20, 1100))
    assert run("encode", image, "--model", model, "--overlap", 1008, "--levels", 1).exit_code == 0
    store = tmp_path / "a.embeddings.zarr"
    shutil.rmtree(store / "level0" / "image_embeddings" / "c")
    error = run("verify", store).stderr.splitlines()[-1]
    assert "has 6 bad tiles of 6: " in error and error.count("missing") == 5


def test_verify_against_another_raster(run: Run, ortho: Ortho, tmp_path: Path) -> None:
    changed = write_raster(tmp_path / "changed.tif", scene(300, 200, [Block(0, 0, 40, 40)]))
    smaller = write_raster(tmp_path / "smaller.tif", scene(299, 200, [ortho.block]))
    grey = write_raster(tmp_path / "grey.tif", scene(300, 200, [ortho.block], 1))
    moved = write_raster(tmp_path / "moved.tif", scene(300, 200, [ortho.block]), pixel=0.25)
    for image, key in [
        (changed, "raster fingerprint"),
        (smaller, "raster size = [300, 200], not [299, 200]"),
        (grey, "raster fingerprint"),
        (moved, "raster transform = [0.5, "),
    ]:
        result = run("verify", ortho.store, image)
        assert result.exit_code == 2 and f"{ortho.store} was made with {key}" in result.stderr
        assert f"encode {image}" in result.stderr


def test_verify_finds_a_tile_of_zeros(run: Run, wide: Path) -> None:
    chunk = wide / "level1" / "image_embeddings" / "c" / "0" / "0" / "0" / "0" / "0"
    chunk.write_bytes(bytes(chunk.stat().st_size))
    result = run("verify", wide)
    assert result.exit_code == 2 and "level 1 (0, 0) image_embeddings was changed" in result.stderr


def test_verify_counts_tiles_without_checksum(run: Run, wide: Path) -> None:
    """As in stores of older versions."""
    for folder in wide.glob("level*/*_crc32"):
        shutil.rmtree(folder)
    result = run("verify", wide)
    assert result.exit_code == 0
    advice = result.stdout.splitlines()[1]
    assert "in 2 tiles without checksum" in advice and advice.endswith("--overwrite makes new ones")
    assert json.loads(run("verify", wide, "--json").stdout)["without_checksum"] == 2
    image = wide.parent / "wide.tif"
    assert run("info", wide).exit_code == 0 and run("verify", wide, image).exit_code == 0


def test_resume_encodes_a_tile_again_that_lost_its_checksum(run: Run, wide: Path, model: Path) -> None:
    """As by a power cut."""
    checksum = next(wide.glob("level0/*_crc32/c/0/0"))
    whole = checksum.read_bytes()
    checksum.write_bytes(b"")
    found = run("verify", wide)
    assert found.exit_code == 0 and "in 1 tile without checksum" in found.stdout
    assert found.stdout.endswith("geosam-es encode IMAGE --resume encodes them again\n")
    resumed = run("encode", wide.parent / "wide.tif", "--model", model, "--overlap", 0, "--resume", "--json")
    assert json.loads(resumed.stdout)[0]["encoded"] == 1 and checksum.read_bytes() == whole
    assert "checksum" not in run("verify", wide).stdout


def test_info_corrects_the_crs_without_encoding_again(run: Run, wide: Path) -> None:
    tiles = {path: path.stat().st_mtime_ns for path in wide.rglob("c/**/*")}
    result = run("info", wide, "--set-crs", "EPSG:32630")
    assert result.exit_code == 0 and "WGS 84 / UTM zone 30N" in result.stdout
    assert "WGS 84 / UTM zone 30N" in run("info", wide).stdout
    assert {path: path.stat().st_mtime_ns for path in wide.rglob("c/**/*")} == tiles
    mismatch = run("verify", wide, wide.parent / "wide.tif")
    assert mismatch.exit_code == 2
    assert "CRS = 'WGS 84 / UTM zone 30N', not 'ETRS89 / UTM zone 30N'" in mismatch.stderr
    assert run("info", wide, "--set-crs", "EPSG:25830").exit_code == 0
    assert run("verify", wide, wide.parent / "wide.tif").exit_code == 0


@pytest.mark.parametrize(
    ("crs", "message"),
    [
        ("EPSG:99", "EPSG:99 is not a coordinate reference system"),
        ("EPSG:5782", r"EPSG:5782 \(Alicante height\) is not a CRS for maps"),
        ("EPSG:4978", r"EPSG:4978 \(WGS 84\) is not a CRS for maps"),
    ],
)
def test_an_invalid_crs_changes_nothing(run: Run, wide: Path, crs: str, message: str) -> None:
    before = (wide / "zarr.json").read_bytes()
    result = run("info", wide, "--set-crs", crs)
    assert result.exit_code == 2 and re.match(f"Error: {message}: use a code", result.stderr)
    assert (wide / "zarr.json").read_bytes() == before


def test_info_counts_around_files_that_are_gone_or_links_to_nowhere(run: Run, wide: Path) -> None:
    """A store that is being encoded has temporary files, which are renamed at any moment."""
    (wide / ".12345678").symlink_to(wide / "renamed")
    (wide / "level0" / "loop").symlink_to(wide / "level0" / "loop")
    assert run("info", wide).exit_code == 0


@pytest.mark.parametrize("damaged", ["", 'PROJCS["nowhere"]', 25830])
def test_a_damaged_crs_is_named_and_can_be_corrected(run: Run, wide: Path, tmp_path: Path, damaged: object) -> None:
    document = json.loads((wide / "zarr.json").read_text())
    document["attributes"]["geosam_es"]["raster"]["crs_wkt"] = damaged
    (wide / "zarr.json").write_text(json.dumps(document))
    for command in (("info",), ("verify",), ("segment", "--point", "1,1", "-o", tmp_path / "o.gpkg")):
        result = run(command[0], wide, *command[1:])
        assert result.exit_code == 2 and str(wide) in result.stderr and len(result.stderr.splitlines()) == 1
    assert run("info", wide, "--set-crs", "EPSG:25830").exit_code == 0
    assert run("verify", wide, wide.parent / "wide.tif").exit_code == 0


LOST = 'LOCAL_CS["ETRS89 / UTM zone 30N",UNIT["metre",1],AXIS["Easting",EAST],AXIS["Northing",NORTH]]'


def line_in(error: str) -> list[str]:
    """The arguments of the command that an error recommends."""
    found = re.search(r"(?:correct it|correct the store) with: geosam-es ([^;]*)", error)
    assert found is not None, error
    return shlex.split(found[1].strip())


def test_a_crs_that_lost_its_definition_is_named_with_a_line_that_corrects_it(run: Run, wide: Path) -> None:
    """As the command line wrote it with the data of another PROJ."""
    # A folder whose name has a space: the line must be ready to be copied.
    folder = wide.parent.rename(wide.parent.with_name("my maps"))
    store = folder / wide.name
    set_crs(store, LOST)
    for command in (("info",), ("verify",), ("segment", "--point", "1,1", "-o", folder / "o.gpkg")):
        result = run(command[0], store, *command[1:])
        assert result.exit_code == 2 and len(result.stderr.splitlines()) == 1
        assert "has a local CRS with the name of ETRS89 / UTM zone 30N" in result.stderr
    assert run(*line_in(result.stderr)).exit_code == 0
    assert run("verify", store, folder / "wide.tif").exit_code == 0


@pytest.mark.parametrize(
    ("stored", "difference"),
    [
        ("EPSG:25829", "CRS = 'ETRS89 / UTM zone 29N', not 'ETRS89 / UTM zone 30N'"),
        (LOST, r"30N \(no code, local CRS, no datum\)', not '.*30N \(EPSG:25830, projected CRS, datum European"),
        (pyproj.CRS("EPSG:25830").to_wkt("WKT1_GDAL").replace("500000", "500010"), "this definition.*another defin"),
    ],
)
def test_a_crs_corrected_in_the_file(run: Run, model: Path, wide: Path, stored: str, difference: str) -> None:
    set_crs(wide, pyproj.CRS(stored).to_wkt("WKT1_GDAL"))
    image = wide.parent / "wide.tif"
    resume = ("encode", image, "--model", model, "--overlap", "0", "--resume")
    refused = run(*resume)
    assert refused.exit_code == 2 and re.search(difference, refused.stderr)
    assert run(*line_in(refused.stderr)).exit_code == 0
    assert run(*resume).exit_code == 0 and run("verify", wide, image).exit_code == 0


def test_a_crs_without_a_code_is_written_out(run: Run, wide: Path) -> None:
    image = wide.parent / "wide.tif"
    with rasterio.open(image, "r+") as dataset:
        dataset.crs = "+proj=tmerc +lon_0=-3 +x_0=500000 +k=0.9996 +ellps=intl +type=crs"
    refused = run("verify", wide, image)
    assert refused.exit_code == 2
    assert run(*line_in(refused.stderr)).exit_code == 0
    assert run("verify", wide, image).exit_code == 0


@pytest.mark.parametrize(
    ("crs", "problem"),
    [
        ("EPSG:4326", "is not in degrees, but the CRS WGS 84 is: give the true CRS"),
        ("+proj=utm +zone=30 +units=km +type=crs", "is no place in the CRS unknown: give the true CRS"),
    ],
)
def test_set_crs_needs_a_crs_that_the_coordinates_may_have(run: Run, wide: Path, crs: str, problem: str) -> None:
    before = (wide / "zarr.json").read_bytes()
    result = run("info", wide, "--set-crs", crs)
    assert result.exit_code == 2 and problem in result.stderr
    assert (wide / "zarr.json").read_bytes() == before

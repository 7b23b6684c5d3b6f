"""``geosam-es encode`` as a user runs it."""

from __future__ import annotations

import fcntl
import functools
import gzip
import http.server
import json
import os
import pty
import re
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pytest
import rasterio
import rasterio.shutil
import rasterio.warp
import shapely

from encoder_tools.models.loading import LoadedModel, load_model
from encoder_tools.raster import Raster
from geosam_es.inference.encoder import FILL_RGB
from geosam_es.store import StoreReader
from geosam_es.store.files import folder_bytes
from tests.encoder_tools.conftest import Ortho, Run, Spawn
from tests.encoder_tools.scenes import Block, ramp, scene, write_layer, write_raster

BLOCK = Block(100, 80, 60, 40)


def chunks(store: Path) -> dict[str, bytes]:
    """Return the tiles of a store without their checksums."""
    found = [path for path in store.rglob("c/**/*") if path.is_file() and not re.search("_crc32|origin", str(path))]
    return {path.relative_to(store).as_posix(): path.read_bytes() for path in found}


def test_store_lies_beside_the_image(run: Run, model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "vuelo de otoño"
    folder.mkdir()
    image = write_raster(folder / "Sueca Ñ 2.tif", scene(300, 200, [BLOCK]))
    result = run("encode", image, "--model", model)
    store = folder / "Sueca Ñ 2.embeddings.zarr"
    assert result.exit_code == 0
    assert re.fullmatch(
        rf"{re.escape(str(store))}: 1 tile encoded in [\d.]+ s, 0 without data, 0 encoded before\n", result.stdout
    )
    assert {path.name for path in folder.iterdir()} == {image.name, store.name}
    features = StoreReader(store).read(next(iter(StoreReader(store).pyramid)))["image_embeddings"][0]
    np.testing.assert_allclose(features[:, 21:29, 26:39], 220 / 255, atol=1e-3)
    assert np.abs(features[:, 60:, 80:] - np.reshape(FILL_RGB, (3, 1, 1)) / 255).max() < 1e-3


def test_where_the_stores_go(run: Run, model: Path, tmp_path: Path) -> None:
    images = [write_raster(tmp_path / f"{name}.tif", scene(60, 50, [Block(8, 8, 16, 16)])) for name in "ab"]
    result = run("encode", *images, "--model", model, "-o", tmp_path / "new" / "stores", "--json")
    assert [outcome["encoded"] for outcome in json.loads(result.stdout)] == [1, 1]
    assert {path.name for path in (tmp_path / "new" / "stores").iterdir()} == {"a.embeddings.zarr", "b.embeddings.zarr"}
    assert run("encode", images[0], "--model", model, "-o", tmp_path / "mine.zarr").exit_code == 0
    assert StoreReader(tmp_path / "mine.zarr").metadata.raster.file_name == "a.tif"


def test_folder_of_images(run: Run, model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "flight"
    folder.mkdir()
    for name in ("b.TIF", "a.tiff", "c.png"):
        driver = "PNG" if name.endswith("png") else "GTiff"
        write_raster(folder / name, scene(60, 50, [Block(8, 8, 16, 16)]), driver=driver)
    (folder / "readme.txt").write_text("no image")
    result = run("encode", folder, "--model", model, "--json")
    assert [Path(outcome["raster"]).name for outcome in json.loads(result.stdout)] == ["a.tiff", "b.TIF", "c.png"]


def test_one_bad_among_several(run: Run, model: Path, tmp_path: Path) -> None:
    good = write_raster(tmp_path / "good.tif", scene(60, 50, [Block(8, 8, 16, 16)]))
    (tmp_path / "bad.tif").write_text("hello")
    result = run("encode", tmp_path / "bad.tif", good, "--model", model, "--json")
    assert result.exit_code == 1
    bad, done = json.loads(result.stdout)
    assert "is not a raster" in bad["error"] and done["encoded"] == 1
    lines = result.stderr.splitlines()
    assert f"Error: {bad['error']}" in lines
    assert lines[-2:] == ["1 of 2 images could not be encoded:", f"  {bad['error']}"]
    # Nothing was encoded.
    assert run("encode", tmp_path / "bad.tif", tmp_path / "none.tif", "--model", model).exit_code == 2


def test_images_are_named_by_patterns_lists_and_layers(
    run: Run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flight = tmp_path / "vuelo 1"
    flight.mkdir()
    images = [write_raster(flight / f"{name}.tif", scene(60, 50, [Block(8, 8, 16, 16)])) for name in "abc"]
    listed = tmp_path / "list.txt"
    listed.write_text(f"# Two of three.\r\n vuelo 1/a.tif \r\n\r\n{images[2]}\r\n", encoding="utf-8-sig")
    square = shapely.box(0, 0, 1, 1)
    index = write_layer(tmp_path / "index.gpkg", [square] * 2, location=["vuelo 1/a.tif", str(images[1])])
    monkeypatch.chdir(tmp_path)
    expected = {"vuelo*/[ab].tif": "ab", "**/*.tif": "abc", "@list.txt": "ac", "list.txt": "ac", index: "ab"}
    for name, stems in expected.items():
        result = run("encode", name, "--model", model, "-o", tmp_path / "out", "--overwrite", "--json")
        assert result.exit_code == 0, (name, result.stderr)
        assert "".join(Path(outcome["raster"]).stem for outcome in json.loads(result.stdout)) == stems, name
    again = run("encode", "@list.txt", "vuelo 1/../vuelo 1/a.tif", images[0], "--model", model, "--dry-run", "--json")
    assert len(json.loads(again.stdout)) == 2
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe")
    refused = {
        "none*.tif": "none*.tif does not exist",
        "@none.txt": "none.txt cannot be used (No such file or directory)",
        "@binary.txt": "binary.txt is not a list of images",
        write_layer(tmp_path / "other.shp", [square], name=["x"]): "give it a field location, path, raster",
    }
    for name, problem in refused.items():
        result = run("encode", name, "--model", model)
        assert result.exit_code == 2 and problem in result.stderr, (name, result.stderr)


def test_workers_need_dask(run: Run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = write_raster(tmp_path / "a.tif", scene(60, 50, [Block(8, 8, 16, 16)]))
    monkeypatch.setitem(sys.modules, "distributed", None)
    result = run("encode", image, "--model", model, "--workers", 2)
    assert result.exit_code == 2 and 'pip install "geosam-es[distributed]"' in result.stderr
    assert run("encode", image, "--model", model).exit_code == 0


def test_a_limited_run_is_continued(run: Run, model: Path, tmp_path: Path) -> None:
    image = write_raster(tmp_path / "a.tif", ramp(3, 1200, 2000))
    (first,) = json.loads(run("encode", image, "--model", model, "--limit", 2, "--json").stdout)
    (second,) = json.loads(run("encode", image, "--model", model, "--resume", "--json").stdout)
    assert first["encoded"] == second["resumed"] == 2 and second["encoded"] > 2


def subdatasets(folder: Path) -> dict[str, list[str]]:
    """Make files with two rasters each, and say which names they have."""
    pixels = scene(60, 50, [Block(8, 8, 16, 16)])
    write_raster(folder / "p.tif", pixels)
    write_raster(folder / "p.tif", pixels, append_subdataset="YES")
    write_raster(folder / "g.gpkg", pixels, driver="GPKG", raster_table="one")
    write_raster(folder / "g.gpkg", pixels, driver="GPKG", raster_table="two", append_subdataset="YES")
    rasterio.shutil.copy(write_raster(folder / "n.tif", pixels[:2]), folder / "n.nc", driver="netCDF")
    return {
        "p.tif": ["GTIFF_DIR:1:p.tif", "GTIFF_DIR:2:p.tif"],
        "g.gpkg": ["GPKG:g.gpkg:one", "GPKG:g.gpkg:two"],
        "n.nc": ['NETCDF:"n.nc":Band1', 'NETCDF:"n.nc":Band2'],
    }


def test_rasters_inside_a_file(run: Run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for file, names in subdatasets(tmp_path).items():
        refused = run("encode", file, "--model", model)
        assert refused.exit_code == 2 and not list(tmp_path.glob("*.zarr"))
        listed = refused.stderr.strip()
        assert listed.startswith(f"Error: {file} contains 2 rasters: name one of them: ")
        assert shlex.split(listed.partition("one of them: ")[2].replace(", ", " ")) == names
        # The names work as they are shown, with the path of the folder too.
        for name in (names[1], names[1].replace(file, str(tmp_path / file))):
            done = run("encode", name, "--model", model, "--json", "--overwrite")
            assert done.exit_code == 0, done.stderr
            store = tmp_path / json.loads(done.stdout)[0]["store"]
            assert store.parent == tmp_path and re.fullmatch(r"(p_2|g_two|n_Band2)\.embeddings\.zarr", store.name)
            assert run("verify", store, name).exit_code == 0
            assert run("encode", name, "--model", model, "--resume").exit_code == 0
            assert f"Raster:  {names[1]}, 60 x 50 px" in run("info", store).stdout
        shutil.rmtree(store)


def test_images_in_archives(run: Run, model: Path, tmp_path: Path) -> None:
    image = write_raster(tmp_path / "a.tif", scene(60, 50, [Block(8, 8, 16, 16)]))
    with zipfile.ZipFile(tmp_path / "one.zip", "w") as archive:
        archive.write(image, "sub/a.tif")
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.write(image, "a.tif")
        archive.write(image, "b.tif")
    with gzip.open(tmp_path / "a.tif.gz", "wb") as packed:
        packed.write(image.read_bytes())
    names = {
        tmp_path / "one.zip": "one",
        f"/vsizip/{tmp_path}/one.zip/sub/a.tif": "one_sub_a",
        f"/vsizip/{tmp_path}/two.zip/b.tif": "two_b",
        tmp_path / "a.tif.gz": "a.tif",
    }
    for name, stem in names.items():
        done = run("encode", name, "--model", model)
        assert done.exit_code == 0 and (tmp_path / f"{stem}.embeddings.zarr").is_dir(), done.stderr
        assert run("verify", tmp_path / f"{stem}.embeddings.zarr", name).exit_code == 0
    refused = run("encode", tmp_path / "two.zip", "--model", model)
    assert refused.exit_code == 2
    assert f"two.zip: name one of its files, such as /vsizip/{tmp_path}/two.zip/a.tif" in refused.stderr


class RangeHandler(http.server.SimpleHTTPRequestHandler):
    """Serves parts of files, as GDAL asks for them."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        wanted = re.match(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        path = Path(self.translate_path(self.path))
        if wanted is None or not path.is_file():
            return super().do_GET()
        content = path.read_bytes()
        first, last = int(wanted[1]), min(int(wanted[2]), len(content) - 1)
        if first > last:
            self.send_response(416)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return None
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.send_header("Content-Length", str(last - first + 1))
        self.end_headers()
        self.wfile.write(content[first : last + 1])
        return None


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Serve the temporary folder, and return its URL."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    monkeypatch.setenv("GDAL_HTTP_TIMEOUT", "10")
    handler = functools.partial(RangeHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()
        thread.join()


def test_images_of_a_server(spawn: Spawn, model: Path, tmp_path: Path, server: str) -> None:
    """As a process, because GDAL keeps Python, and so the server, waiting."""
    write_raster(tmp_path / "a.tif", scene(60, 50, [Block(8, 8, 16, 16)]))
    current = tmp_path / "current"
    current.mkdir()
    done = spawn("encode", f"{server}/a.tif", "--model", model, "--json", cwd=current)
    assert done.returncode == 0 and json.loads(done.stdout)[0]["raster"] == f"{server}/a.tif", done.stderr
    assert [path.name for path in current.iterdir()] == ["a.embeddings.zarr"]
    assert spawn("verify", "a.embeddings.zarr", f"/vsicurl/{server}/a.tif", cwd=current).returncode == 0
    refused = spawn("encode", f"{server}/none.tif", "--model", model)
    assert refused.returncode == 2 and len(refused.stderr.splitlines()) == 1
    assert "check the address and the connection" in refused.stderr


ODD_NAMES = [
    "q?.tif", "c:d.tif", "a|b.tif", "h#.tif", "p%20.tif", "x!y.tif", 'd".tif', "s'.tif", "b[1].tif", "b{1}.tif",
    "-dash.tif", "C:\\x.tif", "NETCDF:x.tif", "zip:a.tif", "http:x.tif", "GTI:x", "UP.TIF", "a b .tif", "ñ.tif",
    "<a>.tif", "&.tif", "new\nline.tif", "~.tif", "$a.tif", "*.tif", "aux.tif",
]  # fmt: skip


@pytest.mark.skipif(os.name != "posix", reason="other systems forbid some of these names")
def test_odd_names(run: Run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    image = write_raster(tmp_path / "a.tif", scene(60, 50, [Block(8, 8, 16, 16)]))
    for name in ODD_NAMES:
        shutil.copy(image, name)
        done = run("encode", "--model", model, "--json", "--", name)
        assert done.exit_code == 0, (name, done.stderr)
        assert run("verify", "--", json.loads(done.stdout)[0]["store"], name).exit_code == 0, name
    alias = Path("alias.tif")
    alias.symlink_to(image)
    assert run("encode", alias, "--model", model).exit_code == 0 and Path("alias.embeddings.zarr").is_dir()


def test_all_images_of_a_folder(run: Run, model: Path, tmp_path: Path) -> None:
    pixels = scene(60, 50, [Block(8, 8, 16, 16)])
    image = write_raster(tmp_path / "a.TIF", pixels)
    for name, driver in (("b.img", "HFA"), ("c.bil", "EHdr"), ("d.rst", "RST"), ("e", "GTiff"), ("f.jpg", "JPEG")):
        write_raster(tmp_path / name, pixels if driver != "RST" else pixels[:1], driver=driver)
    rasterio.shutil.copy(image, tmp_path / "g.Vrt", driver="VRT")
    with rasterio.Env(TIFF_USE_OVR=True), rasterio.open(image, "r+") as dataset:
        dataset.build_overviews([2])
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(image, "r+") as dataset:
        dataset.write_mask(True)
    write_layer(tmp_path / "h.gpkg", [shapely.Point(0, 0)])
    (tmp_path / "i.csv").write_text("x,y,z\n0,0,1\n1,0,1\n0,1,1\n1,1,1\n")
    shutil.copy(image, tmp_path / "._a.tif")
    assert {"a.TIF.ovr", "a.TIF.msk"} <= {path.name for path in tmp_path.iterdir()}
    for _ in range(2):
        done = run("encode", tmp_path, "--model", model, "--json", "--overwrite")
        assert done.exit_code == 0, done.stderr
        found = json.loads(done.stdout)
        names = [Path(outcome["raster"]).name for outcome in found]
        assert names == ["a.TIF", "b.img", "c.bil", "d.rst", "e", "f.jpg", "g.Vrt"]
        assert [outcome.get("error") for outcome in found] == [None] * 7


def kinds_of_raster(folder: Path) -> dict[str, tuple[Path, list[str]]]:
    """Make rasters that must simply work, with the options they need."""
    rotated = rasterio.Affine(0.4, 0.3, 700000, 0.3, -0.4, 4400000)
    floats = scene(90, 70, [Block(8, 8, 16, 16)], 1, "float64") / 255
    floats[:, :, ::9] = np.nan
    signed = scene(90, 70, [Block(8, 8, 16, 16)], 3, "int16") - 100
    signed[:, :20] = -32768
    palette = write_raster(folder / "palette.tif", scene(90, 70, [], 1))
    with rasterio.open(palette, "r+") as dataset:
        dataset.write_colormap(1, {value: (value, 255 - value, 0, 255) for value in range(256)})
    alpha = scene(90, 70, [], 4)
    alpha[3, :, :30] = 0
    bands = ramp(13, 70, 90, "uint16")
    plain = write_raster(folder / "plain.tif", scene(90, 70, []))
    virtual = folder / "virtual.vrt"
    rasterio.shutil.copy(plain, virtual, driver="VRT")
    return {
        "rotated": (write_raster(folder / "rotated.tif", scene(90, 70, []), transform=rotated), []),
        "south up": (
            write_raster(folder / "south.tif", scene(90, 70, []), transform=rasterio.Affine(1, 0, 7e5, 0, 1, 4e6)), []
        ),
        "one band": (write_raster(folder / "one.tif", scene(90, 70, [], 1)), []),
        "13 bands": (write_raster(folder / "thirteen.tif", bands), []),
        "13 bands, three chosen": (folder / "thirteen.tif", ["--bands", "4,1,2"]),
        "uint16": (write_raster(folder / "uint16.tif", bands[:3]), []),
        "uint16, values": (folder / "uint16.tif", ["--stretch", "0:200"]),
        "int16 with nodata": (write_raster(folder / "int16.tif", signed, nodata=-32768), []),
        "float with NaN": (write_raster(folder / "float.tif", floats), []),
        "palette": (palette, []),
        "alpha": (write_raster(folder / "alpha.tif", alpha, photometric="RGB", alpha="YES"), []),
        "nodata by option": (plain, ["--nodata", "40"]),
        "CRS by option": (write_raster(folder / "bare.tif", scene(90, 70, []), crs=None), ["--crs", "EPSG:25830"]),
        "degrees": (write_raster(folder / "degrees.tif", scene(90, 70, []), 1e-5, crs="EPSG:4326",
                                 transform=rasterio.Affine(1e-5, 0, -0.4, 0, -1e-5, 39.5)), []),
        "one row": (write_raster(folder / "row.tif", ramp(3, 1, 2500)), []),
        "one column": (write_raster(folder / "column.tif", ramp(3, 2500, 1)), []),
        "one pixel high, two levels": (folder / "row.tif", ["--levels", "2"]),
        "virtual": (virtual, []),
    }  # fmt: skip


def test_inputs_that_work(run: Run, model: Path, tmp_path: Path) -> None:
    for kind, (image, options) in kinds_of_raster(tmp_path).items():
        store = tmp_path / "store.zarr"
        result = run("encode", image, "--model", model, "-o", store, "--json", *options)
        assert result.exit_code == 0, (kind, result.stderr)
        (outcome,) = json.loads(result.stdout)
        assert outcome["encoded"] >= 1 and outcome["skipped"] == 0, kind
        verified = run("verify", store, image)
        assert verified.exit_code == 0, (kind, verified.stderr)
        shutil.rmtree(store)


def test_bands_and_stretch_reach_the_encoder(run: Run, model: Path, tmp_path: Path) -> None:
    pixels = np.empty((4, 64, 64), np.uint16)
    pixels[:] = np.reshape([100, 200, 300, 400], (4, 1, 1))
    pixels[:, 0, 0] = 0
    image = write_raster(tmp_path / "a.tif", pixels)
    assert run("encode", image, "--model", model, "--bands", "4,1,2", "--stretch", "0:400").exit_code == 0
    reader = StoreReader(tmp_path / "a.embeddings.zarr")
    features = reader.read(next(iter(reader.pyramid)))["image_embeddings"][0, :, 8, 8]
    np.testing.assert_allclose(features, [1.0, 64 / 255, 128 / 255], atol=1e-3)


def test_it_says_which_of_many_bands_it_takes(run: Run, model: Path, tmp_path: Path) -> None:
    note = "are used as red, green and blue; --bands chooses others"
    many = write_raster(tmp_path / "many.tif", ramp(5, 64, 64))
    assert f"{many}: the bands 1, 2, 3 {note}" in run("encode", many, "--model", model, "--dry-run").stderr
    assert note not in run("encode", many, "--model", model, "--dry-run", "--bands", "5,2,1").stderr
    tagged = write_raster(tmp_path / "tagged.tif", ramp(5, 64, 64), photometric="RGB")
    few = write_raster(tmp_path / "few.tif", ramp(4, 64, 64))
    assert note not in run("encode", tagged, few, "--model", model, "--dry-run").stderr


def test_it_says_that_a_mask_counts_and_not_a_nodata_value(run: Run, model: Path, tmp_path: Path) -> None:
    image = write_raster(tmp_path / "a.tif", ramp(1, 60, 80))
    assert "its mask" not in run("encode", image, "--model", model, "--nodata", 7).stderr
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(image, "r+") as dataset:
        dataset.write_mask(np.arange(80) < np.full((60, 1), 50))
    said = run("encode", image, "--model", model, "--nodata", 7, "--overwrite").stderr
    assert f"{image}: its mask says which pixels have data, and --nodata is not used" in said


def test_area_of_interest_in_another_crs(run: Run, model: Path, tmp_path: Path) -> None:
    image = write_raster(tmp_path / "a.tif", ramp(1, 1100, 2500))
    place = rasterio.warp.transform_geom("EPSG:25830", "EPSG:4326", shapely.box(700010, 4399900, 700020, 4399910))
    aoi = write_layer(tmp_path / "aoi.geojson", [shapely.geometry.shape(place)], crs="EPSG:4326")
    result = run("encode", image, "--model", model, "--aoi", aoi, "--levels", 1, "--json")
    (outcome,) = json.loads(result.stdout)
    assert (outcome["encoded"], outcome["skipped"]) == (2, 4)
    assert run("encode", image, "--model", model, "--aoi", aoi, "--levels", 1, "--resume").exit_code == 0
    outside = run("segment", tmp_path / "a.embeddings.zarr", "--point", "701200,4399900", "-o", tmp_path / "o.gpkg")
    assert outside.exit_code == 2 and "outside the area of interest" in outside.stderr


def test_dry_run_writes_nothing(run: Run, model: Path, tmp_path: Path) -> None:
    image = write_raster(tmp_path / "a.tif", ramp(1, 1100, 2500))
    before = list(tmp_path.rglob("*"))
    options = ("encode", image, "--model", model, "-o", tmp_path / "stores")
    text = run(*options, "--dry-run")
    assert re.fullmatch(r".*a\.tif: 9 tiles in 3 levels, at most \d+ MiB, about \d+ s\n", text.stdout)
    (estimate,) = json.loads(run(*options, "--dry-run", "--json").stdout)
    assert list(tmp_path.rglob("*")) == before
    (outcome,) = json.loads(run(*options, "--json").stdout)
    store = StoreReader(tmp_path / "stores" / "a.embeddings.zarr")
    assert estimate["tiles"] == outcome["encoded"] == 9
    assert estimate["store_bytes"] * 0.95 < folder_bytes(store.root) <= estimate["store_bytes"]
    assert estimate["store"] == outcome["store"] and estimate["levels"] == outcome["levels"] == 3


def test_it_says_from_how_many_pixels_the_stretch_comes(run: Run, model: Path, tmp_path: Path) -> None:
    pixels = ramp(1, 1300, 1300, dtype="uint16")
    pixels[:, 40:] = 0
    pixels[:, :40] += 7
    image = write_raster(tmp_path / "a.tif", pixels, nodata=0)
    (estimate,) = json.loads(run("encode", image, "--model", model, "--dry-run", "--json").stdout)
    assert estimate["stretch_pixels"] == 40 * 1300
    text = run("encode", image, "--model", model, "--dry-run").stdout
    assert text.endswith("s; stretched by the percentiles of 52,000 pixels\n")
    (outcome,) = json.loads(run("encode", image, "--model", model, "--stretch", "0:9", "--json").stdout)
    assert outcome["stretch_pixels"] is None


def test_overwrite(run: Run, model: Path, ortho: Ortho) -> None:
    result = run("encode", ortho.image, "--model", model, "--overwrite", "--bands", "3,2,1")
    assert result.exit_code == 0
    assert StoreReader(ortho.store).metadata.bands == (3, 2, 1)
    assert {path.name for path in ortho.image.parent.iterdir()} == {"ortho.tif", "ortho.embeddings.zarr"}


def test_resume_of_a_whole_store(run: Run, model: Path, ortho: Ortho) -> None:
    before = chunks(ortho.store)
    (outcome,) = json.loads(run("encode", ortho.image, "--model", model, "--resume", "--json").stdout)
    assert (outcome["encoded"], outcome["resumed"]) == (0, 1)
    assert chunks(ortho.store) == before


def test_crs_replaces_that_of_the_files(run: Run, model: Path, tmp_path: Path) -> None:
    wrong = write_raster(tmp_path / "wrong.tif", scene(90, 70, []))
    right = write_raster(tmp_path / "right.tif", scene(90, 70, []), crs="EPSG:25831")
    bare = write_raster(tmp_path / "bare.tif", scene(90, 70, []), crs=None)
    done = run("encode", wrong, right, bare, "--model", model, "--crs", "EPSG:25831")
    assert done.exit_code == 0
    replaced = [line for line in done.stderr.splitlines() if "replaces" in line]
    assert replaced == [f"{wrong}: --crs EPSG:25831 replaces the CRS of the file"]
    for name in ("wrong", "right", "bare"):
        assert "zone 31N" in StoreReader(tmp_path / f"{name}.embeddings.zarr").metadata.raster.crs_wkt
    # The file still has its own CRS, so that the store fits it only with the option.
    resume = ("encode", wrong, "--model", model, "--resume")
    refused = run(*resume)
    assert refused.exit_code == 2 and "if the store is right, encode with --crs EPSG:25831" in refused.stderr
    assert run(*resume, "--crs", "EPSG:25831").exit_code == 0
    assert run("info", tmp_path / "wrong.embeddings.zarr", "--set-crs", "EPSG:25830").exit_code == 0
    assert run(*resume).exit_code == 0


@pytest.mark.parametrize(
    ("crs", "options", "problem"),
    [
        ("EPSG:4326", [], "is not in degrees, but the CRS WGS 84 is"),
        ("EPSG:25830", ["--crs", "EPSG:4326"], "is not in degrees, but the CRS WGS 84 is"),
        ("EPSG:25830", ["--crs", "EPSG:4978"], "--crs EPSG:4978 is not a CRS for maps"),
        ("EPSG:25830", ["--crs", "nonsense"], "--crs nonsense is not a coordinate reference system"),
    ],
)
def test_nothing_is_written_with_a_crs_that_cannot_be(
    run: Run, model: Path, tmp_path: Path, crs: str, options: list[str], problem: str
) -> None:
    image = write_raster(tmp_path / "a.tif", scene(90, 70, []), crs=crs)
    refused = run("encode", image, "--model", model, *options)
    assert refused.exit_code == 2 and problem in refused.stderr and len(refused.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == [image]


def test_resume_with_another_crs_is_refused(run: Run, model: Path, tmp_path: Path) -> None:
    image = write_raster(tmp_path / "bare.tif", scene(90, 70, []), crs=None)
    options = ("encode", image, "--model", model)
    assert run(*options, "--crs", "EPSG:25830").exit_code == 0
    refused = run(*options, "--crs", "EPSG:25831", "--resume")
    assert refused.exit_code == 2
    assert "CRS = 'ETRS89 / UTM zone 30N', not 'ETRS89 / UTM zone 31N'" in refused.stderr
    store = tmp_path / "bare.embeddings.zarr"
    assert f"correct the store with: geosam-es info {store} --set-crs EPSG:25831;" in refused.stderr
    assert "zone 30N" in StoreReader(store).metadata.raster.crs_wkt
    # The same CRS, written differently.
    for version in ("WKT1_GDAL", "WKT2_2019"):
        assert run(*options, "--crs", pyproj.CRS("EPSG:25830").to_wkt(version), "--resume").exit_code == 0
    assert run("info", store, "--set-crs", "EPSG:25831").exit_code == 0
    (outcome,) = json.loads(run(*options, "--crs", "EPSG:25831", "--resume", "--json").stdout)
    assert (outcome["encoded"], outcome["resumed"]) == (0, 1)


@pytest.mark.parametrize(("argument", "exports"), [("--dry-run", 0), ("--resume", 0), ("--overwrite", 1)])
def test_the_decoder_is_exported_only_for_a_new_store(
    run: Run, model: Path, ortho: Ortho, monkeypatch: pytest.MonkeyPatch, argument: str, exports: int
) -> None:
    counted: list[str] = []

    def load(*args: Any) -> LoadedModel:
        loaded = load_model(*args)

        def export() -> Mapping[str, Path]:
            counted.append("exported")
            return loaded.export_decoder()

        return replace(loaded, export_decoder=export)

    monkeypatch.setattr("encoder_tools.cli.encode.load_model", load)
    result = run("encode", ortho.image, "--model", model, argument)
    assert len(counted) == exports and result.exit_code == 0


def test_an_unexpected_error_does_not_stop_the_other_images(
    run: Run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [write_raster(tmp_path / f"{name}.tif", scene(60, 50, [Block(8, 8, 16, 16)])) for name in "ab"]
    monkeypatch.setattr("platformdirs.user_log_path", lambda *args, **options: tmp_path / "logs")

    def fail(self: Raster, *args: object) -> None:
        raise KeyError("bands")

    monkeypatch.setattr(
        Raster, "info", lambda self, info=Raster.info: fail(self) if self.path == images[0] else info(self)
    )
    result = run("encode", *images, "--model", model)
    assert result.exit_code == 1 and "Traceback" not in result.stderr
    assert f"Error: {images[0]}: An unexpected error occurred (KeyError: 'bands'): please report it" in result.stderr
    assert "Traceback" in (tmp_path / "logs" / "geosam-es.log").read_text()
    assert StoreReader(tmp_path / "b.embeddings.zarr").metadata.raster.file_name == "b.tif"


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    return write_raster(tmp_path / "wide.tif", ramp(3, 2600, 4000))


@pytest.fixture(autouse=True)
def _own_temporary_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is killed cannot tidy up."""
    monkeypatch.setenv("TMPDIR", str(tmp_path_factory.mktemp("temporary")))


def start(*arguments: object, **options: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "encoder_tools.cli", *map(str, arguments)], **options)


def wait_for_tiles(store: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while len(chunks(store)) < 2:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.002)


@pytest.mark.skipif(os.name != "posix", reason="processes are killed with POSIX signals")
@pytest.mark.parametrize(
    ("signal_sent", "exit_code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130), (signal.SIGTERM, 130)]
)
def test_a_stopped_run_can_be_resumed(
    run: Run, model: Path, wide: Path, tmp_path: Path, signal_sent: signal.Signals, exit_code: int
) -> None:
    store = tmp_path / "wide.embeddings.zarr"
    # Where the tests run in the background the shell has them ignore SIGINT, and what they start would too.
    heed = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = start("encode", wide, "--model", model, stderr=subprocess.PIPE, preexec_fn=heed)
    wait_for_tiles(store, process)
    process.send_signal(signal_sent)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == exit_code
    assert b"Traceback" not in stderr and (b"Interrupted" in stderr) == (exit_code == 130)
    if exit_code == 130:
        assert not [path for path in Path(os.environ["TMPDIR"]).iterdir() if path.name.startswith("geosam-es-")]
    done = {name: (store / name).stat().st_mtime_ns for name in chunks(store)}
    (resumed,) = json.loads(run("encode", wide, "--model", model, "--resume", "--json").stdout)
    assert resumed["resumed"] == len(done) >= 2 and resumed["encoded"] > 0
    assert {name: (store / name).stat().st_mtime_ns for name in done} == done
    assert run("encode", wide, "--model", model, "-o", tmp_path / "whole.zarr").exit_code == 0
    assert chunks(store) == chunks(tmp_path / "whole.zarr")
    assert run("verify", store, wide).exit_code == 0


def test_two_processes_fill_one_store(model: Path, wide: Path, tmp_path: Path, run: Run) -> None:
    store = tmp_path / "wide.embeddings.zarr"
    processes = [start("encode", wide, "--model", model, "--resume", stderr=subprocess.PIPE) for _ in range(2)]
    for process in processes:
        _, stderr = process.communicate(timeout=120)
        assert process.returncode == 0, stderr
    assert run("verify", store, wide).exit_code == 0
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_progress_in_plain_lines(spawn: Spawn, model: Path, wide: Path) -> None:
    done = spawn("encode", wide, "--model", model, "--levels", 1)
    assert done.returncode == 0
    assert re.fullmatch(r"(wide\.tif: \d+/20 tiles \(.*\)\n)*wide\.tif: 20/20 tiles \([\d.]+/s\)\n", done.stderr)
    assert "\r" not in done.stderr


def test_progress_on_a_terminal(model: Path, wide: Path) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    with start("encode", wide, "--model", model, "--levels", 1, stderr=theirs, stdout=subprocess.PIPE) as process:
        os.close(theirs)
        shown = b""
        while block := _read(ours):
            shown += block
        assert process.stdout is not None and process.stdout.read().count(b"\n") == 1
    os.close(ours)
    assert b"wide.tif" in shown and b"100%" in shown and b"20/20" in shown and shown.count(b"\r") >= 3
    assert b"tiles/s" in shown


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:
        # Linux says so when the other side has gone.
        return b""


def test_embedded_model_by_default(run: Run, tmp_path: Path) -> None:
    image = write_raster(tmp_path / "a.tif", scene(300, 200, [BLOCK]))
    assert run("encode", image).exit_code == 0
    metadata = StoreReader(tmp_path / "a.embeddings.zarr").metadata
    assert metadata.model["name"] == "mini" and metadata.dtype == "float16"


def test_features_of_8_bits(run: Run, model: Path, ortho: Ortho, tmp_path: Path) -> None:
    """Every command accepts such a store, which is a quarter of the size of a float32 one."""
    stores = {dtype: tmp_path / f"{dtype}.embeddings.zarr" for dtype in ("float32", "int8")}
    for dtype, store in stores.items():
        assert run("encode", ortho.image, "-o", store, "--model", model, "--dtype", dtype).exit_code == 0
    tiles = {dtype: sum(map(len, chunks(store).values())) for dtype, store in stores.items()}
    assert 0.25 < tiles["int8"] / tiles["float32"] < 0.26
    exact, rounded = (StoreReader(store) for store in stores.values())
    for tile in exact.pyramid:
        wanted, got = (reader.read(tile)["image_embeddings"] for reader in (exact, rounded))
        assert np.abs(got - wanted).max() <= np.abs(wanted).max() / 254 * 1.001
    assert "int8" in run("info", stores["int8"]).stdout
    assert run("verify", stores["int8"], ortho.image).exit_code == 0
    mismatch = run("encode", ortho.image, "-o", stores["int8"], "--model", model, "--resume")
    assert mismatch.exit_code == 2 and "dtype" in mismatch.stderr
    estimate = json.loads(run("encode", ortho.image, "--model", model, "--dtype", "int8", "--dry-run", "--json").stdout)
    assert estimate[0]["store_bytes"] >= folder_bytes(rounded.root)


def test_the_cost_of_enlarged_levels_is_estimated(run: Run, model: Path, tmp_path: Path) -> None:
    image = write_raster(tmp_path / "a.tif", ramp(1, 1100, 1500))
    options = ("encode", image, "--model", model, "--dry-run", "--json")
    costs = [json.loads(run(*options, "--finest", level).stdout)[0] for level in (0, -1, -2)]
    # One level of 2 x 2 tiles and one tile above it; 3 x 4 tiles at twice, 6 x 8 at four times the size.
    assert [cost["tiles"] for cost in costs] == [5, 5 + 12, 5 + 12 + 48]
    assert [cost["levels"] for cost in costs] == [2, 3, 4]
    assert costs[2]["store_bytes"] > 5 * costs[0]["store_bytes"]
    text = run("encode", image, "--model", model, "--dry-run", "--finest", -2).stdout
    assert "a.tif: 65 tiles in 4 levels" in text


def test_enlarged_levels_of_an_area_are_added_to_a_store(run: Run, model: Path, tmp_path: Path) -> None:
    image = write_raster(tmp_path / "a.tif", ramp(1, 1100, 1500))
    options = ("encode", image, "--model", model)
    assert run(*options).exit_code == 0
    root = tmp_path / "a.embeddings.zarr"
    before = chunks(root)
    aois = [
        write_layer(tmp_path / f"{name}.gpkg", [shapely.box(x, 4399890, x + 20, 4399900)])
        for name, x in (("west", 700010), ("east", 700300))
    ]
    for count, aoi in enumerate(aois, start=1):
        (outcome,) = json.loads(run(*options, "--finest", -1, "--aoi", aoi, "--resume", "--json").stdout)
        assert (outcome["encoded"], outcome["skipped"], outcome["resumed"]) == (1, 0, 0)
        level = StoreReader(root).counts()[0]
        assert (level.level, level.encoded, level.missing) == (-1, count, 12 - count)
    assert {key: value for key, value in chunks(root).items() if key in before} == before
    info = run("info", root)
    assert "Level -1: 3000 x 2200 px, 3 x 4 tiles: 2 encoded, 0 without data, 10 missing" in info.stdout
    there = sum(count.encoded + count.skipped for count in StoreReader(root).counts())
    assert f"all {there} tiles are complete" in run("verify", root).stdout


def test_a_store_with_enlarged_levels_from_the_start(run: Run, model: Path, tmp_path: Path) -> None:
    image = write_raster(tmp_path / "a.tif", scene(300, 200, [BLOCK]))
    (outcome,) = json.loads(run("encode", image, "--model", model, "--finest", -2, "--json").stdout)
    assert outcome["encoded"] == 1 + 1 + 2 and outcome["levels"] == 3
    reader = StoreReader(tmp_path / "a.embeddings.zarr")
    assert [(count.level, count.encoded) for count in reader.counts()] == [(-2, 2), (-1, 1), (0, 1)]

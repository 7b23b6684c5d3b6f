"""Real orthophotos of many kinds, from the file to polygons, with the embedded model."""

from __future__ import annotations

import json
from pathlib import Path

import pyproj
import pytest
import rasterio
import shapely

from encoder_tools.crs import AreaMeter
from encoder_tools.raster import Raster
from encoder_tools.vector import read_vector
from geosam_es.core.window import Window
from geosam_es.store import StoreReader
from tests.encoder_tools.conftest import Run
from tests.encoder_tools.scenes import write_layer

# Name; a pixel with data; number of levels.
ORTHOS = [
    ("atlanta_pan_uint16_32616.tif", (450, 450), 1),
    ("drone_rgba_alpha_32750.tif", (343, 379), 1),
    ("naip_fields_rgb_4326.tif", (300, 600), 1),
    ("naip_virginia_rgbn_26917.tif", (300, 250), 1),
    ("netherlands_rgb_28992.tif", (500, 500), 1),
    ("rotterdam_4band_float_32631.tif", (150, 150), 1),
    ("sentinel2_spain_13band_int16_4326.tif", (256, 256), 1),
    ("valencia_rgb_nodata_3395.tif", (1200, 900), 2),
]


@pytest.mark.parametrize(("name", "place", "levels"), ORTHOS, ids=[name.split("_")[0] for name, _, _ in ORTHOS])
def test_real_ortho(
    run: Run, data_folder: Path, tmp_path: Path, name: str, place: tuple[int, int], levels: int
) -> None:
    image, store, out = data_folder / "ortho" / name, tmp_path / "store.zarr", tmp_path / "out.gpkg"
    (outcome,) = json.loads(run("encode", image, "-o", store, "--json").stdout)
    assert outcome["encoded"] >= 1 and outcome["levels"] == levels
    assert run("verify", store, image).exit_code == 0
    raster = Raster(image)
    box = shapely.box(place[0] - 40, place[1] - 30, place[0] + 40, place[1] + 30)
    prompts = [raster.transform.apply_geometry(shapely.Point(place)), raster.transform.apply_geometry(box)]
    clicks = write_layer(tmp_path / "clicks.gpkg", prompts, crs=raster.crs.to_wkt())
    result = run("segment", store, clicks, "-o", out, "--candidate", "all", "--json")
    assert result.exit_code == 0, result.stderr
    layer = read_vector(out)
    crs = pyproj.CRS.from_wkt(raster.crs.to_wkt())
    assert layer.crs is not None and layer.crs.equals(crs, ignore_axis_order=True)
    extent = raster.transform.apply_geometry(shapely.box(0, 0, raster.width, raster.height))
    meter = AreaMeter(crs)
    assert {1, 2} == set(layer.fields["object"])
    for geometry, area in zip(layer.geometries, layer.fields["area_m2"]):
        assert geometry.is_valid and extent.buffer(1e-9 * extent.length).covers(geometry)
        assert 0 < area == pytest.approx(meter.area_m2(geometry), rel=1e-6)


def test_transparent_margin_of_the_drone(data_folder: Path) -> None:
    raster = Raster(data_folder / "ortho" / "drone_rgba_alpha_32750.tif")
    with rasterio.open(raster.path) as dataset:
        alpha = dataset.read(4)
    _, valid = raster.read_bands(Window(0, 0, raster.width, raster.height), 1)
    assert raster.bands == (1, 2, 3) and 0.2 < valid.mean() < 0.95
    assert (valid == (alpha > 0)).all()


def test_black_margin_of_valencia(run: Run, data_folder: Path, tmp_path: Path) -> None:
    """The file has no nodata tag; tiles inside its black margin are skipped with --nodata."""
    image = data_folder / "ortho" / "valencia_rgb_nodata_3395.tif"
    with rasterio.open(image) as dataset:
        assert dataset.nodata is None
    tagged = tmp_path / "tagged.zarr"
    assert run("encode", image, "-o", tagged, "--nodata", 0, "--levels", 1).exit_code == 0
    assert StoreReader(tagged).metadata.nodata == 0
    raster = Raster(image, nodata=0)
    for scale in (1, 2):
        bands, valid = raster.read_bands(Window(0, 0, 2048 // scale, 2048 // scale), scale)
        assert 0.3 < valid.mean() < 0.999
        assert bands[:, valid].any(axis=0).all()

"""Variables of another GDAL or PROJ installation change nothing, however the tools are started."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pyproj
import pytest

from encoder_tools.environment import ignore_foreign_variables
from geosam_es.store import StoreReader
from tests.encoder_tools.conftest import Ortho, Spawn

KEPT = {
    "GDAL_CACHEMAX": "64",
    "GDAL_NUM_THREADS": "2",
    "GDAL_HTTP_PROXY": "proxy:80",
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "CPL_TMPDIR": "/tmp",
    "AWS_REGION": "eu-west-1",
    "PATH": "/bin",
    "PROJECT": "a folder of the user",
}


def foreign(folder: Path) -> dict[str, str]:
    """What OSGeo4W, conda and the shell of QGIS set, with folders that fit no library here."""
    (folder / "gdalrc").write_text("[configoptions]\nGTIFF_SRS_SOURCE=GEOKEYS\n")
    folders = ("PROJ_LIB", "PROJ_DATA", "GDAL_DATA", "GDAL_DRIVER_PATH", "PROJ_USER_WRITABLE_DIRECTORY")
    return {
        **dict.fromkeys((*folders, "PROJ_AUX_DB", "PROJ_CURL_CA_BUNDLE", "GDAL_PAM_PROXY_DIR"), str(folder)),
        "PROJ_NETWORK": "ON",
        "GDAL_SKIP": "GTiff",
        "OGR_SKIP": "GPKG",
        "GDAL_CONFIG_FILE": str(folder / "gdalrc"),
        "GDAL_PAM_ENABLED": "NO",
        "OSR_USE_NON_DEPRECATED": "NO",
        "OSR_DEFAULT_AXIS_MAPPING_STRATEGY": "AUTHORITY_COMPLIANT",
        "GTIFF_SRS_SOURCE": "EPSG",
        "GTIFF_POINT_GEO_IGNORE": "TRUE",
    }


def test_what_users_set_on_purpose_stays(tmp_path: Path) -> None:
    environment = {**foreign(tmp_path), **KEPT}
    ignore_foreign_variables(environment)
    assert environment == KEPT


def test_a_build_without_data_of_its_own_keeps_their_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As conda's, whose activation sets them.
    monkeypatch.setattr("encoder_tools.environment.find_spec", lambda _name: None)
    environment = foreign(tmp_path)
    ignore_foreign_variables(environment)
    assert set(environment) == {"PROJ_LIB", "PROJ_DATA", "GDAL_DATA"}


def test_encode_and_segment(spawn: Spawn, ortho: Ortho, model: Path, tmp_path: Path) -> None:
    environment = foreign(tmp_path)
    store = tmp_path / "new.embeddings.zarr"
    output = tmp_path / "a.gpkg"
    for arguments in (
        ("encode", ortho.image, "-o", store, "--model", model),
        ("verify", store, ortho.image),
        ("segment", store, "-o", output, ortho.click, "--out-crs", "EPSG:4326"),
    ):
        done = spawn(*arguments, env=environment)
        assert done.returncode == 0, done.stderr
    assert pyproj.CRS.from_wkt(StoreReader(store).metadata.raster.crs_wkt).to_epsg() == 25830


@pytest.mark.parametrize(
    "start",
    [
        "import encoder_tools.cli",
        "import encoder_tools.demo",
        "import encoder_tools.vector",
        "import benchmarks.speed",
        "import encoder_tools, rasterio, pyproj, pyogrio",
    ],
)
def test_every_way_in(start: str, tmp_path: Path) -> None:
    code = (
        f"{start}; import pyproj, rasterio.crs, os; "
        "print(rasterio.crs.CRS.from_epsg(25830).to_epsg(), pyproj.CRS('EPSG:25830').to_epsg(), "
        "sorted({'PROJ_LIB', 'GDAL_DATA', 'GTIFF_SRS_SOURCE', 'OSR_USE_NON_DEPRECATED'} & set(os.environ)))"
    )
    environment = {**os.environ, **foreign(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120)
    assert done.stdout == "25830 25830 []\n", done.stderr

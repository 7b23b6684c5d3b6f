"""Names of rasters: which file they stand for, and what is made from them."""

from __future__ import annotations

import zipfile
from pathlib import Path, PureWindowsPath
from typing import cast

import pytest

from geosam_es.store import store_path_for
from geosam_es.store.raster_name import GdalName, gdal_text, raster_path, shown, typed


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.nc", "a.h5", "a.gpkg", "a.tif", "a.hdf", "a.sqlite", "x y.nc"):
        (tmp_path / name).touch()
    with zipfile.ZipFile(tmp_path / "maps.zip", "w") as archive:
        archive.writestr("sub/b.tif", "")
    return tmp_path


SUBDATASETS = [
    ('NETCDF:"{}/a.nc":Band1', "a.nc", "a_Band1"),
    ("NETCDF:{}/a.nc:Band1", "a.nc", "a_Band1"),
    ('NETCDF:"{}/x y.nc":Band1', "x y.nc", "x y_Band1"),
    ('HDF5:"{}/a.h5"://Data/Grid', "a.h5", "a_Data_Grid"),
    ('HDF4_EOS:EOS_GRID:"{}/a.hdf":grid:field', "a.hdf", "a_EOS_GRID_grid_field"),
    ("GPKG:{}/a.gpkg:table", "a.gpkg", "a_table"),
    ("RASTERLITE:{}/a.sqlite,table=t", "a.sqlite", "a_table_t"),
    ("GTIFF_DIR:2:{}/a.tif", "a.tif", "a_2"),
    ("GTI:{}/a.gpkg", "a.gpkg", "a"),
    ("vrt://{}/a.tif?bands=2,1", "a.tif", "a_bands_2_1"),
    ("/vsizip/{}/maps.zip", "maps.zip", "maps"),
    ("/vsizip/{}/maps.zip/sub/b.tif", "maps.zip", "maps_sub_b"),
    ("/vsizip/{{{}/maps.zip}}/sub/b.tif", "maps.zip", "maps_sub_b"),
    ("SENTINEL2_L1C:/vsizip/{}/maps.zip/sub/MTD.xml:10m:EPSG_32630", "maps.zip", "maps_sub_MTD.xml_10m_EPSG_32630"),
]


@pytest.mark.parametrize(("text", "file", "stem"), SUBDATASETS)
def test_rasters_inside_a_file(folder: Path, text: str, file: str, stem: str) -> None:
    text = text.format(folder)
    name = raster_path(text)
    assert isinstance(name, GdalName) and not name.is_remote
    assert (name.file, name.parent, name.stem) == (folder / file, folder, stem)
    assert str(folder) not in name.name and file in name.name
    assert gdal_text(name) == str(name) == text
    assert store_path_for(name) == folder / f"{stem}.embeddings.zarr"


@pytest.mark.parametrize(
    "text",
    [
        "https://example.org/maps/ortho.tif?key=a/b",
        "/vsicurl/https://example.org/ortho.tif",
        "/vsizip/vsicurl/https://example.org/maps.zip/ortho.tif",
        "/vsizip//vsicurl/https://example.org/maps.zip/ortho.tif",
        "s3://bucket/ortho.tif",
    ],
)
def test_rasters_of_a_server(text: str) -> None:
    name = raster_path(text)
    assert isinstance(name, GdalName) and name.is_remote and name.file is None
    assert (str(name), name.name, store_path_for(name)) == (text, "ortho.tif", Path("ortho.embeddings.zarr"))


@pytest.mark.parametrize("path", ["C:/maps/a.nc", r"C:\maps\a.nc"])
def test_paths_of_windows(path: str) -> None:
    name = GdalName(f'NETCDF:"{path}":Band1', cast(Path, PureWindowsPath(path)))
    assert (name.name, name.stem) == ('NETCDF:"a.nc":Band1', "a_Band1")


def test_a_virtual_raster_as_text() -> None:
    name = raster_path('<VRTDataset rasterXSize="1">a/b</VRTDataset>')
    assert isinstance(name, GdalName) and store_path_for(name, Path("out")) == Path("out/inline.embeddings.zarr")


@pytest.mark.parametrize("text", ["a.tif", "maps/none.tif", "-a.tif", "C:\\maps\\a.tif", "C:/maps/a.tif", "x" * 5000])
def test_ordinary_paths(text: str) -> None:
    assert raster_path(text) == Path(text)


@pytest.mark.parametrize("name", ["NETCDF:a.nc", "http:a.tif", "zip:a.tif", "a?b.tif", "a|b.tif", "<a>.tif"])
def test_a_file_that_exists_is_never_taken_for_anything_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).touch()
    assert raster_path(name) == Path(name)
    assert gdal_text(Path(name)) == str(tmp_path / name)


def test_lost_files(tmp_path: Path) -> None:
    for text in ('NETCDF:"{}/none.nc":Band1', "/vsizip/{}/none.zip/a.tif", "GPKG:{}/none.gpkg:a"):
        name = raster_path(text.format(tmp_path))
        assert isinstance(name, GdalName) and name.file is None and not name.is_remote


def test_names_in_messages_and_commands() -> None:
    assert shown(Path("a\nb.tif")) == "a\\nb.tif"
    assert typed('NETCDF:"a.nc":Band1') in ("'NETCDF:\"a.nc\":Band1'", '"NETCDF:\\"a.nc\\":Band1"')
    assert typed("a.tif") in ("a.tif", '"a.tif"')

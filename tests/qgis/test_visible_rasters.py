"""The raster layer that the user sees at a place of the map."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from osgeo import gdal
from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransform,
    QgsMapSettings,
    QgsPointXY,
    QgsProject,
    QgsRasterLayer,
    QgsRasterTransparency,
    QgsRectangle,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QSize

from geosam_es.gui.canvas import visible_rasters
from geosam_es.gui.canvas.visible_rasters import VisibleRasters

CRS = "EPSG:25830"
LEFT, TOP, SIDE = 700000.0, 4400000.0, 100
EMPTY, FULL = QgsPointXY(LEFT + 10, TOP - 50), QgsPointXY(LEFT + 90, TOP - 50)
"""Places in the left and in the right half of a raster."""


def write(path: Path, bands: int = 3, crs: str = CRS, left: float = LEFT, top: float = TOP, pixel: float = 1.0) -> Any:
    """Write a raster whose left half is 0."""
    dataset = gdal.GetDriverByName("GTiff").Create(str(path), SIDE, SIDE, bands, gdal.GDT_Byte)
    dataset.SetGeoTransform((left, pixel, 0.0, top, 0.0, -pixel))
    dataset.SetProjection(QgsCoordinateReferenceSystem(crs).toWkt())
    pixels = np.full((SIDE, SIDE), 200, np.uint8)
    pixels[:, : SIDE // 2] = 0
    for band in range(1, bands + 1):
        dataset.GetRasterBand(band).WriteArray(pixels)
    return dataset


def opaque(path: Path) -> QgsRasterLayer:
    write(path)
    return QgsRasterLayer(str(path), path.stem)


def with_nodata(path: Path) -> QgsRasterLayer:
    dataset = write(path)
    for band in range(1, 4):
        dataset.GetRasterBand(band).SetNoDataValue(0)
    del dataset
    return QgsRasterLayer(str(path), path.stem)


def with_alpha(path: Path) -> QgsRasterLayer:
    dataset = write(path, bands=4)
    dataset.GetRasterBand(4).SetColorInterpretation(gdal.GCI_AlphaBand)
    del dataset
    return QgsRasterLayer(str(path), path.stem)


def with_mask(path: Path) -> QgsRasterLayer:
    dataset = write(path)
    dataset.CreateMaskBand(gdal.GMF_PER_DATASET)
    mask = np.full((SIDE, SIDE), 255, np.uint8)
    mask[:, : SIDE // 2] = 0
    dataset.GetRasterBand(1).GetMaskBand().WriteArray(mask)
    del dataset
    return QgsRasterLayer(str(path), path.stem)


def with_transparent_colour(path: Path) -> QgsRasterLayer:
    layer = opaque(path)
    pixel = QgsRasterTransparency.TransparentThreeValuePixel()
    pixel.red = pixel.green = pixel.blue = 0
    pixel.percentTransparent = 100
    transparency = QgsRasterTransparency()
    transparency.setTransparentThreeValuePixelList([pixel])
    layer.renderer().setRasterTransparency(transparency)
    return layer


@pytest.fixture
def settings(qgis_app: Any) -> QgsMapSettings:
    settings = QgsMapSettings()
    settings.setDestinationCrs(QgsCoordinateReferenceSystem(CRS))
    settings.setOutputSize(QSize(400, 400))
    settings.setExtent(QgsRectangle(LEFT, TOP - SIDE, LEFT + SIDE, TOP))
    return settings


@pytest.fixture
def below(tmp_path: Path) -> QgsRasterLayer:
    return opaque(tmp_path / "below.tif")


def at(settings: QgsMapSettings, point: QgsPointXY, *layers: Any) -> Any:
    settings.setLayers(list(layers))
    return VisibleRasters(lambda: settings).at(point)


@pytest.mark.parametrize("make", [with_nodata, with_alpha, with_mask, with_transparent_colour])
def test_the_layer_below_is_seen_where_the_upper_one_has_no_data(
    settings: QgsMapSettings, below: QgsRasterLayer, tmp_path: Path, make: Callable[[Path], QgsRasterLayer]
) -> None:
    above = make(tmp_path / "above.tif")
    assert at(settings, FULL, above, below) is above
    assert at(settings, EMPTY, above, below) is below
    assert at(settings, EMPTY, below, above) is below
    # Black without a declaration is a colour.
    assert at(settings, EMPTY, opaque(tmp_path / "black.tif"), above) is not above


def test_a_large_file_that_is_decoded_from_the_start_is_not_read(
    settings: QgsMapSettings, below: QgsRasterLayer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line of a PNG takes as long as all the lines above it."""
    with_alpha(tmp_path / "above.tif")
    gdal.Translate(
        str(tmp_path / "above.png"), str(tmp_path / "above.tif"), format="PNG", creationOptions=["WORLDFILE=YES"]
    )
    png = QgsRasterLayer(str(tmp_path / "above.png"), "png")
    png.setCrs(below.crs())
    assert at(settings, EMPTY, png, below) is below
    monkeypatch.setattr(visible_rasters, "_MOST_BLOCK_PIXELS", SIDE * SIDE - 1)
    assert at(settings, EMPTY, png, below) is png


def test_a_layer_alone_answers_where_it_has_no_data(settings: QgsMapSettings, tmp_path: Path) -> None:
    layer = with_nodata(tmp_path / "alone.tif")
    assert at(settings, EMPTY, layer) is layer
    assert at(settings, QgsPointXY(LEFT - 1, TOP), layer) is None


def test_vector_layers_and_broken_ones_hide_nothing(settings: QgsMapSettings, below: QgsRasterLayer) -> None:
    vector = QgsVectorLayer(f"Polygon?crs={CRS}", "fields", "memory")
    broken = QgsRasterLayer("/nowhere/gone.tif", "gone")
    assert at(settings, FULL, vector, broken, below) is below


def test_what_is_transparent_or_not_shown_at_the_scale_is_not_seen(
    settings: QgsMapSettings, below: QgsRasterLayer, tmp_path: Path
) -> None:
    above = opaque(tmp_path / "above.tif")
    above.renderer().setOpacity(0.0)
    assert at(settings, FULL, above, below) is below
    above.renderer().setOpacity(0.3)
    assert at(settings, FULL, above, below) is above
    above.setScaleBasedVisibility(True)
    above.setMinimumScale(settings.scale() / 2)
    assert at(settings, FULL, above, below) is below
    above.setMinimumScale(settings.scale() * 2)
    assert at(settings, FULL, above, below) is above


def test_layers_and_map_in_different_crs(settings: QgsMapSettings, tmp_path: Path) -> None:
    zone_31 = QgsCoordinateReferenceSystem("EPSG:25831")
    to_31 = QgsCoordinateTransform(QgsCoordinateReferenceSystem(CRS), zone_31, QgsProject.instance())
    corner = to_31.transform(QgsPointXY(LEFT + 200, TOP))
    west = opaque(tmp_path / "west.tif")
    write(tmp_path / "east.tif", crs="EPSG:25831", left=corner.x(), top=corner.y())
    east = QgsRasterLayer(str(tmp_path / "east.tif"), "east")
    mercator = QgsCoordinateReferenceSystem("EPSG:3857")
    settings.setDestinationCrs(mercator)
    for layer in (west, east):
        to_map = QgsCoordinateTransform(layer.crs(), mercator, QgsProject.instance())
        middle = to_map.transform(layer.extent().center())
        assert at(settings, middle, west, east) is layer
    assert at(settings, QgsPointXY(1e9, 1e9), west, east) is None


def test_a_raster_beyond_the_antimeridian(settings: QgsMapSettings, tmp_path: Path) -> None:
    write(tmp_path / "fiji.tif", crs="EPSG:4326", left=179.0, top=-16.0, pixel=0.02)
    fiji = QgsRasterLayer(str(tmp_path / "fiji.tif"), "fiji")
    settings.setDestinationCrs(QgsCoordinateReferenceSystem("EPSG:4326"))
    for longitude in (179.5, -179.5):
        assert at(settings, QgsPointXY(longitude, -17.0), fiji) is fiji
    assert at(settings, QgsPointXY(-178.5, -17.0), fiji) is None


def test_many_layers_take_little_time(settings: QgsMapSettings, tmp_path: Path) -> None:
    """A project with all sheets of a province."""
    above = with_nodata(tmp_path / "above.tif")
    sheets = []
    for number in range(50):
        path = tmp_path / f"sheet{number}.tif"
        write(path, left=LEFT + 1000 + SIDE * number)
        sheets.append(QgsRasterLayer(str(path), path.stem))
    lowest = opaque(tmp_path / "lowest.tif")
    settings.setDestinationCrs(QgsCoordinateReferenceSystem("EPSG:4326"))
    there = QgsCoordinateTransform(lowest.crs(), settings.destinationCrs(), QgsProject.instance())
    point = there.transform(EMPTY)
    assert at(settings, point, above, *sheets, lowest) is lowest
    rasters = VisibleRasters(lambda: settings)
    times = []
    for _ in range(20):
        begun = time.perf_counter()
        rasters.at(point)
        times.append(time.perf_counter() - begun)
    assert min(times) < 0.003

"""Creates target layers: GeoPackages, Shapefiles or temporary layers with fields for class and provenance."""

from __future__ import annotations

import os
from pathlib import Path

from osgeo import ogr, osr
from qgis.core import QgsCoordinateReferenceSystem, QgsPointXY, QgsProject, QgsVectorLayer

from ...errors import EditError
from ...qgis_support.classes import ClassList, apply_classes
from ...qgis_support.crs import transform_points
from ...qgis_support.messages import tr
from ...qgis_support.settings import cache_folder
from ...store.files import is_portable_name
from ...store.raster_name import RasterPath
from .provenance import PROVENANCE_FIELDS

__all__ = ["CLASS_FIELD", "create_target_layer", "create_temporary_layer", "suggested_crs", "suggested_path"]

CLASS_FIELD = "class"
_FIELDS = (CLASS_FIELD, *PROVENANCE_FIELDS)
_TEXT_WIDTH = 254
"""Maximum length of text in a Shapefile."""

_MAX_NUMBER = 1000
_FIRST_ETRS89_ZONE, _LAST_ETRS89_ZONE = 28, 38
_DRIVERS = {".gpkg": "GPKG", ".shp": "ESRI Shapefile"}


def create_target_layer(
    path: Path,
    crs: QgsCoordinateReferenceSystem,
    classes: ClassList | None = None,
) -> QgsVectorLayer:
    """Create a file with an empty layer of multipolygons, with fields for class and provenance.

    Parameters
    ----------
    path : Path
        With the suffix ``.gpkg`` or ``.shp``. An existing GeoPackage gets another layer. Nothing is overwritten.
    crs : QgsCoordinateReferenceSystem
    classes : ClassList, optional
        Classes for the value map of the field and the style of the layer.

    Returns
    -------
    QgsVectorLayer
        Not added to the project.

    Raises
    ------
    EditError
        If the file cannot be created.
    """
    driver_name = _DRIVERS.get(path.suffix.lower())
    if driver_name is None:
        problem = tr("{path} is neither a GeoPackage nor a Shapefile").format(path=path)
        raise EditError(problem, tr("use a file name that ends with .gpkg or .shp"))
    if not is_portable_name(path.name):
        problem = tr("{name} is not a valid file name on every system").format(name=path.name)
        raise EditError(problem, tr("choose another file name"))
    _check_crs(crs)
    name = path.stem
    try:
        dataset = _dataset(path, driver_name, name)
        _make_layer(dataset, path, name, crs)
    except RuntimeError as error:
        # Another plugin may have turned on GDAL's exceptions; otherwise GDAL returns None.
        raise _failed(path) from error
    # GDAL writes the file when the dataset is closed.
    del dataset
    layer = QgsVectorLayer(f"{path}|layername={name}", name, "ogr")
    if not layer.isValid():
        raise _failed(path)
    if classes is not None:
        apply_classes(layer, CLASS_FIELD, classes)
        # With the file, so that it has its classes in every project.
        if driver_name == "GPKG":
            # QGIS 3.44 deprecates the older one.
            save = getattr(layer, "saveStyleToDatabaseV2", layer.saveStyleToDatabase)
            save(name, "", True, "")
        else:
            layer.saveNamedStyle(str(path.with_suffix(".qml")))
    return layer


def create_temporary_layer(
    name: str, crs: QgsCoordinateReferenceSystem, classes: ClassList | None = None
) -> QgsVectorLayer:
    """Create a layer like `create_target_layer`, in memory.

    Raises
    ------
    EditError
        If the CRS is invalid.
    """
    _check_crs(crs)
    kinds = (f"field={field}:{'double' if field == 'score' else 'string'}" for field in _FIELDS)
    layer = QgsVectorLayer(f"MultiPolygon?{'&'.join(kinds)}", name, "memory")
    layer.setCrs(crs)
    if classes is not None:
        apply_classes(layer, CLASS_FIELD, classes)
    return layer


def suggested_path(image: RasterPath | None) -> Path:
    """Return a file for a new layer that does not exist yet: beside the image, else beside the project, else at home.

    Parameters
    ----------
    image : Path or GdalName, optional
        Gives the layer its name.
    """
    home = QgsProject.instance().homePath()
    folders = [image.parent] if image is not None else []
    folders += [Path(home)] if home else []
    folder = next((folder for folder in folders if _is_for_users(folder)), Path.home())
    return _free_path(folder, f"{image.stem}_polygons" if image is not None else "polygons")


def _is_for_users(folder: Path) -> bool:
    """Tell whether a folder can be written to, and is not the plugin's own; an image from a server has none."""
    return folder != Path() and os.access(folder, os.W_OK) and cache_folder() not in (folder, *folder.parents)


def _free_path(folder: Path, name: str) -> Path:
    names = (f"{name}{suffix}.gpkg" for suffix in ("", *(f"_{number}" for number in range(2, _MAX_NUMBER))))
    return next((folder / name for name in names if not (folder / name).exists()), folder / f"{name}.gpkg")


def suggested_crs(crs: QgsCoordinateReferenceSystem, center: QgsPointXY) -> QgsCoordinateReferenceSystem:
    """Return a projected CRS for a new layer: the project's, the image's, or the UTM zone of the image's centre.

    Parameters
    ----------
    crs : QgsCoordinateReferenceSystem
        CRS of the image.
    center : QgsPointXY
        Centre of the image in ``crs``.
    """
    for known in (QgsProject.instance().crs(), crs):
        if known.isValid() and not known.isGeographic():
            return known
    if not crs.isValid():
        return crs
    place = transform_points([center], crs, QgsCoordinateReferenceSystem("EPSG:4326"))[0]
    zone = int((place.x() + 180) // 6) % 60 + 1
    # In Europe, ETRS89 has zones of its own.
    if crs.authid() == "EPSG:4258" and _FIRST_ETRS89_ZONE <= zone <= _LAST_ETRS89_ZONE:
        return QgsCoordinateReferenceSystem(f"EPSG:{25800 + zone}")
    return QgsCoordinateReferenceSystem(f"EPSG:{(32600 if place.y() >= 0 else 32700) + zone}")


def _check_crs(crs: QgsCoordinateReferenceSystem) -> None:
    if not crs.isValid():
        raise EditError(tr("A new layer needs a CRS"), tr("set the CRS of the raster in the properties of its layer"))


def _dataset(path: Path, driver_name: str, name: str) -> ogr.DataSource:
    exists = EditError(
        tr("{path} already has a layer {name}").format(path=path, name=name), tr("choose another file name")
    )
    if not path.exists():
        dataset = ogr.GetDriverByName(driver_name).CreateDataSource(str(path))
    elif driver_name == "GPKG":
        dataset = ogr.Open(str(path), 1)
        if dataset is not None and dataset.GetLayerByName(name) is not None:
            raise exists
    else:
        raise exists
    if dataset is None:
        raise _failed(path)
    return dataset


def _make_layer(dataset: ogr.DataSource, path: Path, name: str, crs: QgsCoordinateReferenceSystem) -> None:
    reference = osr.SpatialReference()
    if reference.SetFromUserInput(crs.authid() or crs.toWkt()) != 0:
        reference.ImportFromWkt(crs.toWkt())
    shapefile = path.suffix.lower() == ".shp"
    options = ["ENCODING=UTF-8"] if shapefile else []
    layer = dataset.CreateLayer(name, reference, ogr.wkbMultiPolygon, options)
    if layer is None:
        raise _failed(path)
    for field_name in _FIELDS:
        kind = ogr.OFTReal if field_name == "score" else ogr.OFTString
        field = ogr.FieldDefn(field_name, kind)
        if shapefile and kind == ogr.OFTString:
            field.SetWidth(_TEXT_WIDTH)
        if layer.CreateField(field) != 0:
            raise _failed(path)


def _failed(path: Path) -> EditError:
    problem = tr("{path} cannot be written").format(path=path)
    return EditError(problem, tr("check the folder, its permissions and the free disk space"))

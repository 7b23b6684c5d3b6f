"""Creates target layers: GeoPackages, Shapefiles or temporary layers with fields for class and provenance."""

from __future__ import annotations

import os
from pathlib import Path

from qgis.core import QgsCoordinateReferenceSystem, QgsPointXY, QgsProject, QgsVectorFileWriter, QgsVectorLayer

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
    name = path.stem
    source = f"{path}|layername={name}"
    is_geopackage = driver_name == "GPKG"
    taken = [] if is_geopackage else [path, path.with_suffix(".dbf")]
    if any(file.exists() for file in taken) or (path.exists() and QgsVectorLayer(source, name, "ogr").isValid()):
        problem = tr("{path} already has a layer {name}").format(path=path, name=name)
        raise EditError(problem, tr("choose another file name"))
    options = QgsVectorFileWriter.SaveVectorOptions()
    options.driverName, options.layerName, options.fileEncoding = driver_name, name, "UTF-8"
    if path.exists():
        options.actionOnExistingFile = QgsVectorFileWriter.ActionOnExistingFile.CreateOrOverwriteLayer
    context = QgsProject.instance().transformContext()
    empty = create_temporary_layer(name, crs)
    done = QgsVectorFileWriter.writeAsVectorFormatV3(empty, str(path), context, options)
    layer = QgsVectorLayer(source, name, "ogr")
    if done[0] != QgsVectorFileWriter.WriterError.NoError or not layer.isValid():
        problem = tr("{path} cannot be written").format(path=path)
        raise EditError(problem, tr("check the folder, its permissions and the free disk space"))
    if classes is not None:
        apply_classes(layer, CLASS_FIELD, classes)
        # With the file, so that it has its classes in every project.
        if is_geopackage:
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
    if not crs.isValid():
        raise EditError(tr("A new layer needs a CRS"), tr("set the CRS of the raster in the properties of its layer"))
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

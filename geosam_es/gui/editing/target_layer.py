"""Creates target layers: GeoPackages or Shapefiles with fields for class and provenance."""

from __future__ import annotations

from pathlib import Path

from osgeo import ogr, osr
from qgis.core import QgsCoordinateReferenceSystem, QgsVectorLayer

from ...errors import EditError
from ...qgis_support.classes import ClassList, apply_classes
from ...qgis_support.messages import tr
from ...store.files import is_portable_name
from .provenance import PROVENANCE_FIELDS

__all__ = ["CLASS_FIELD", "create_target_layer"]

CLASS_FIELD = "class"
_TEXT_WIDTH = 254
"""Maximum length of text in a Shapefile."""

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
    if not crs.isValid():
        raise EditError(tr("A new layer needs a CRS"), tr("set the CRS of the raster in the properties of its layer"))
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
    return layer


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
    for field_name in (CLASS_FIELD, *PROVENANCE_FIELDS):
        kind = ogr.OFTReal if field_name == "score" else ogr.OFTString
        field = ogr.FieldDefn(field_name, kind)
        if shapefile and kind == ogr.OFTString:
            field.SetWidth(_TEXT_WIDTH)
        if layer.CreateField(field) != 0:
            raise _failed(path)


def _failed(path: Path) -> EditError:
    problem = tr("{path} cannot be written").format(path=path)
    return EditError(problem, tr("check the folder, its permissions and the free disk space"))

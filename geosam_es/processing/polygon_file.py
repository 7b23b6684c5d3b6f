"""Provides any polygon layer as a file that another program can read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from osgeo import ogr
from qgis.core import (
    QgsFeature,
    QgsFeatureRequest,
    QgsFeatureSink,
    QgsProcessingContext,
    QgsProcessingFeatureSource,
    QgsProcessingFeatureSourceDefinition,
    QgsProcessingFeedback,
    QgsProviderRegistry,
    QgsVectorFileWriter,
    QgsVectorLayer,
)

from ..errors import EditError
from ..qgis_support.fields import TEXT, make_fields
from ..qgis_support.messages import tr
from ..qgis_support.side_table import can_keep, find_records

__all__ = ["polygon_file"]

_KEPT = ("model", "prompts", "raster")
"""The columns of the provenance table that training uses; see docs/provenance.md."""


def polygon_file(
    value: Any,
    layer: QgsVectorLayer | None,
    source: QgsProcessingFeatureSource,
    path: Path,
    context: QgsProcessingContext,
    feedback: QgsProcessingFeedback,
) -> Path:
    """Return the file of a layer if it has the same content, or else write the layer to a GeoPackage.

    A GeoPackage is written for layers in memory or in a database, selected features, filters, joined fields, unsaved
    edits, a CRS set by the user, and files with several layers or types of geometry. It includes the prompts
    from the provenance table.

    Parameters
    ----------
    value : Any
        Value of the parameter.
    layer : QgsVectorLayer, optional
        The layer of the parameter, if it is a layer.
    source : QgsProcessingFeatureSource
        The features of the parameter.
    path : Path
        Path of the GeoPackage to write.

    Raises
    ------
    EditError
        If it cannot be written.
    """
    own = _own_file(value, layer)
    if own is not None:
        return own
    feedback.pushInfo(tr("Writing the polygons to {path}").format(path=path))
    _write(layer, source, path, context, feedback)
    return path


def _own_file(value: Any, layer: QgsVectorLayer | None) -> Path | None:
    """Return the file of a layer if the file has exactly the content of the layer."""
    if layer is None or (isinstance(value, QgsProcessingFeatureSourceDefinition) and _is_part(value)):
        return None
    provider = layer.dataProvider()
    if provider.name() != "ogr" or layer.subsetString() or layer.isModified():
        return None
    if layer.fields().names() != provider.fields().names() or layer.crs() != provider.crs():
        return None
    parts = QgsProviderRegistry.instance().decodeUri("ogr", layer.source())
    path = Path(parts.get("path") or "")
    # A layer of a file with several types of geometry shows one of them.
    is_whole = not parts.get("geometryType")
    return path.absolute() if is_whole and path.is_file() and _has_one_layer(path) else None


def _is_part(value: QgsProcessingFeatureSourceDefinition) -> bool:
    # filterExpression exists since QGIS 3.32.
    return bool(value.selectedFeaturesOnly or value.featureLimit > 0 or getattr(value, "filterExpression", ""))


def _has_one_layer(path: Path) -> bool:
    try:
        dataset = ogr.Open(str(path))
    except RuntimeError:
        # Another plugin may have turned on GDAL's exceptions; otherwise GDAL returns None.
        return False
    if dataset is None:
        return False
    layers = (dataset.GetLayer(index) for index in range(dataset.GetLayerCount()))
    return len([layer for layer in layers if layer.GetGeomType() != ogr.wkbNone]) == 1


def _write(
    layer: QgsVectorLayer | None,
    source: QgsProcessingFeatureSource,
    path: Path,
    context: QgsProcessingContext,
    feedback: QgsProcessingFeedback,
) -> None:
    fields = source.fields()
    # GeoPackage numbers its features in a column of this name.
    copied = [index for index, field in enumerate(fields) if field.name().lower() != "fid"]  # type: ignore[arg-type, var-annotated]
    written = make_fields()
    for index in copied:
        written.append(fields.at(index))
    can_have_table = fields.lookupField("prompts") < 0
    records = find_records(layer) if layer is not None and can_have_table and can_keep(layer) else {}
    kept = [name for name in _KEPT if fields.lookupField(name) < 0] if records else []
    for field in make_fields(**dict.fromkeys(kept, TEXT)):  # type: ignore[attr-defined]
        written.append(field)
    options = QgsVectorFileWriter.SaveVectorOptions()
    options.driverName = "GPKG"
    options.layerName = "polygons"
    transforms = context.transformContext()
    writer = QgsVectorFileWriter.create(str(path), written, source.wkbType(), source.sourceCrs(), transforms, options)
    flag = QgsProcessingFeatureSource.Flag.FlagSkipGeometryValidityChecks  # type: ignore[attr-defined]
    for feature in source.getFeatures(QgsFeatureRequest(), flag):
        if feedback.isCanceled():
            break
        record = records.get(feature.id(), {})
        copy = QgsFeature(written)
        copy.setGeometry(feature.geometry())
        values = feature.attributes()
        copy.setAttributes([*(values[index] for index in copied), *(record.get(name) for name in kept)])
        if not writer.addFeature(copy, QgsFeatureSink.Flag.FastInsert):
            break
    problem = writer.errorMessage()
    # Deleting the writer completes the file.
    del writer
    if problem:
        raise EditError(
            tr("{path} cannot be written: {reason}").format(path=path, reason=problem),
            tr("check the free disk space and the permissions"),
        )

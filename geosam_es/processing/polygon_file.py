"""A layer as a file that another program can read, whatever the layer is."""

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
from ..qgis_support.messages import tr
from ..qgis_support.side_table import can_keep, find_records
from .fields import TEXT, make_fields

__all__ = ["polygon_file"]

_KEPT = ("model", "prompts", "raster")
"""Of the table beside a layer what training looks at; see docs/provenance.md."""


def polygon_file(
    value: Any,
    layer: QgsVectorLayer | None,
    source: QgsProcessingFeatureSource,
    path: Path,
    context: QgsProcessingContext,
    feedback: QgsProcessingFeedback,
) -> Path:
    """Return the file of a layer, or write one where there is none, or none that says the same.

    Layers in memory or in a database, selected features, filters, joined fields, edits that are not saved, a CRS set by
    the user and files with several layers are written to a GeoPackage, together with the prompts kept beside them.

    Parameters
    ----------
    value : Any
        What the parameter was set to.
    layer : QgsVectorLayer, optional
        The layer, where it is one.
    source : QgsProcessingFeatureSource
        Its features.
    path : Path
        Of the GeoPackage to write, if it is needed.

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
    """Return the file of a layer that holds exactly what the layer shows."""
    if layer is None or (isinstance(value, QgsProcessingFeatureSourceDefinition) and _is_part(value)):
        return None
    provider = layer.dataProvider()
    if provider.name() != "ogr" or layer.subsetString() or layer.isModified():
        return None
    if layer.fields().names() != provider.fields().names() or layer.crs() != provider.crs():
        return None
    path = Path(QgsProviderRegistry.instance().decodeUri("ogr", layer.source()).get("path") or "")
    return path if path.is_file() and _has_one_layer(path) else None


def _is_part(value: QgsProcessingFeatureSourceDefinition) -> bool:
    # The filter is there since QGIS 3.32.
    return bool(value.selectedFeaturesOnly or value.featureLimit > 0 or getattr(value, "filterExpression", ""))


def _has_one_layer(path: Path) -> bool:
    try:
        dataset = ogr.Open(str(path))
    except RuntimeError:
        # Where another plugin made GDAL raise; otherwise it returns nothing.
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
    # A GeoPackage numbers its features by itself in a column of this name.
    copied = [index for index, field in enumerate(fields) if field.name().lower() != "fid"]
    written = make_fields()
    for index in copied:
        written.append(fields.at(index))
    has_table = layer is not None and can_keep(layer) and fields.lookupField("prompts") < 0
    records = find_records(layer) if has_table else {}
    kept = [name for name in _KEPT if fields.lookupField(name) < 0] if records else []
    for field in make_fields(**dict.fromkeys(kept, TEXT)):
        written.append(field)
    options = QgsVectorFileWriter.SaveVectorOptions()
    options.driverName = "GPKG"
    options.layerName = "polygons"
    transforms = context.transformContext()
    writer = QgsVectorFileWriter.create(str(path), written, source.wkbType(), source.sourceCrs(), transforms, options)
    flag = QgsProcessingFeatureSource.Flag.FlagSkipGeometryValidityChecks
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
    # The file is whole once the writer is gone.
    del writer
    if problem:
        raise EditError(
            tr("{path} cannot be written: {reason}").format(path=path, reason=problem),
            tr("check the space left and the permissions"),
        )

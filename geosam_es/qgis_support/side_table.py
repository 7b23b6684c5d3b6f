"""A table in a GeoPackage for provenance that its layer has no fields for.

A feature gets its final id when the user saves the edits of the layer. Records are kept in memory until then; those of
features that were undone, deleted or changed again are never written.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from osgeo import ogr
from qgis.core import Qgis, QgsGeometry, QgsMessageLog, QgsProviderRegistry, QgsVectorLayer
from qgis.PyQt.QtCore import QObject

from ..errors import EditError
from .messages import PLUGIN_NAME, tr, translated

__all__ = ["SIDE_TABLE", "can_keep", "find_record", "find_records", "keep_record"]

SIDE_TABLE = "geosam_provenance"
_KEEPER_NAME = "geosam_es_records"

_COLUMNS = {
    "layer": ogr.OFTString,
    "feature": ogr.OFTInteger64,
    "model": ogr.OFTString,
    "score": ogr.OFTReal,
    "prompts": ogr.OFTString,
    "raster": ogr.OFTString,
    "created": ogr.OFTString,
}

Record = Mapping[str, Any]


def can_keep(layer: QgsVectorLayer) -> bool:
    """Tell whether a layer is stored in a GeoPackage."""
    provider = layer.dataProvider()
    return bool(provider.name() == "ogr" and provider.storageType() == "GPKG")


def keep_record(layer: QgsVectorLayer, feature_id: int, record: Record) -> None:
    """Write a record for a feature as it is now when the user saves the edits of the layer.

    Parameters
    ----------
    layer : QgsVectorLayer
        Stored in a GeoPackage.
    feature_id : int
        Id in the edit buffer.
    record : mapping
        With the keys model, score, prompts, raster and created.
    """
    keeper = _keeper(layer) or _Keeper(layer)
    keeper.keep(feature_id, record)


def find_record(layer: QgsVectorLayer, feature_id: int) -> dict[str, Any] | None:
    """Return the record of a feature, saved or not; None if there is none."""
    keeper = _keeper(layer)
    waiting = keeper.find(feature_id) if keeper is not None else None
    if waiting is not None:
        return dict(waiting)
    return next(iter(_read(layer, feature_id)), None) if feature_id >= 0 and can_keep(layer) else None


def find_records(layer: QgsVectorLayer) -> dict[int, dict[str, Any]]:
    """Return all saved records of a layer by feature id."""
    return {record["feature"]: record for record in _read(layer)}


def _keeper(layer: QgsVectorLayer) -> _Keeper | None:
    found = layer.findChild(QObject, _KEEPER_NAME)
    return found if isinstance(found, _Keeper) else None


class _Keeper(QObject):
    """Keeps the records of a layer until its edits are saved; a child of the layer."""

    def __init__(self, layer: QgsVectorLayer) -> None:
        super().__init__(layer)
        self.setObjectName(_KEEPER_NAME)
        # All records of a feature, the latest last: an undo makes an earlier one valid again.
        self._waiting: defaultdict[int, list[tuple[QgsGeometry, Record]]] = defaultdict(list)
        self._deleted: int | None = None
        layer.featureDeleted.connect(self._on_deleted)
        layer.featureAdded.connect(self._on_added)
        layer.afterCommitChanges.connect(self._write)
        layer.afterRollBack.connect(self._forget)

    @property
    def _layer(self) -> QgsVectorLayer:
        # Not stored: the layer owns this object, and a reference back would keep both alive.
        return self.parent()  # type: ignore[no-any-return]

    def keep(self, feature_id: int, record: Record) -> None:
        geometry = self._layer.getFeature(feature_id).geometry()
        self._waiting[feature_id].append((QgsGeometry(geometry), record))

    def find(self, feature_id: int) -> Record | None:
        """Return the latest record made for the current geometry of the feature."""
        geometry = self._layer.getFeature(feature_id).geometry()
        waiting = reversed(self._waiting.get(feature_id, []))
        return next((record for known, record in waiting if known.isGeosEqual(geometry)), None)

    def _on_deleted(self, feature_id: int) -> None:
        self._deleted = feature_id

    def _on_added(self, feature_id: int) -> None:
        # On saving, QGIS deletes a feature under its temporary negative id and adds it under its final one.
        if self._deleted is not None and self._deleted < 0 <= feature_id and self._deleted in self._waiting:
            self._waiting[feature_id] = self._waiting.pop(self._deleted)
        self._deleted = None

    def _forget(self) -> None:
        self._waiting.clear()

    def _write(self) -> None:
        found = {feature_id: self.find(feature_id) for feature_id in self._waiting if feature_id >= 0}
        self._waiting.clear()
        records = {feature_id: record for feature_id, record in found.items() if record is not None}
        if records:
            try:
                _write(self._layer, records)
            except EditError as error:
                # A signal of QGIS called this, so only the log can report it. The polygons are saved.
                QgsMessageLog.logMessage(translated(error), PLUGIN_NAME, Qgis.MessageLevel.Warning)


def _place(layer: QgsVectorLayer) -> tuple[Path, str]:
    """Return the GeoPackage of a layer, and the name of the layer in it."""
    parts = QgsProviderRegistry.instance().decodeUri("ogr", layer.source())
    path, name = Path(parts["path"]), parts.get("layerName")
    if not name:
        dataset = _open(path, update=False)
        name = dataset.GetLayer(max(int(parts.get("layerId") or 0), 0)).GetName()
    return path, str(name)


def _open(path: Path, update: bool) -> ogr.DataSource:
    dataset = None
    try:
        dataset = ogr.Open(str(path), int(update))
    except RuntimeError as error:
        # Another plugin may have turned on GDAL's exceptions; otherwise GDAL returns None.
        raise _failed(path) from error
    if dataset is None:
        raise _failed(path)
    return dataset


def _failed(path: Path) -> EditError:
    problem = tr("The prompts were not saved in {path}").format(path=path)
    return EditError(problem, tr("check that the file is writable and not open in another program"))


def _filter(name: str, feature_id: int | None) -> str:
    own = "layer = '{}'".format(name.replace("'", "''"))
    return own if feature_id is None else f"{own} AND feature = {int(feature_id)}"


def _write(layer: QgsVectorLayer, records: Mapping[int, Record]) -> None:
    path, name = _place(layer)
    dataset = _open(path, update=True)
    try:
        dataset.StartTransaction()
        table = dataset.GetLayerByName(SIDE_TABLE) or _create(dataset)
        for feature_id, record in records.items():
            table.SetAttributeFilter(_filter(name, feature_id))
            row = table.GetNextFeature()
            known = row is not None
            row = row if known else ogr.Feature(table.GetLayerDefn())
            for key, value in {"layer": name, "feature": feature_id, **record}.items():
                if value is None:
                    row.SetFieldNull(key)
                else:
                    row.SetField(key, value)
            done = table.SetFeature(row) if known else table.CreateFeature(row)
            if done != ogr.OGRERR_NONE:
                raise _failed(path)
        if dataset.CommitTransaction() != ogr.OGRERR_NONE:
            raise _failed(path)
    except (RuntimeError, AttributeError) as error:
        raise _failed(path) from error


def _create(dataset: ogr.DataSource) -> ogr.Layer:
    table = dataset.CreateLayer(SIDE_TABLE, None, ogr.wkbNone)
    for name, kind in _COLUMNS.items():
        table.CreateField(ogr.FieldDefn(name, kind))
    return table


def _read(layer: QgsVectorLayer, feature_id: int | None = None) -> list[dict[str, Any]]:
    """Return the saved records of a feature, or of all features."""
    try:
        path, name = _place(layer)
        dataset = _open(path, update=False)
    except EditError:
        return []
    table = dataset.GetLayerByName(SIDE_TABLE)
    if table is None:
        return []
    table.SetAttributeFilter(_filter(name, feature_id))
    return [{key: row.GetField(key) for key in _COLUMNS} for row in table]

"""What the user decided about each polygon that a machine proposed: written at once, and read after a restart.

It is kept in a table of the GeoPackage with the polygons; if they are not in one, in that of the target layer, or else
with their layer in the project.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from osgeo import ogr
from qgis.core import QgsFeatureRequest, QgsProject, QgsVectorLayer
from qgis.PyQt import sip

from ..errors import EditError
from .messages import tr
from .side_table import can_keep, open_geopackage, place_of

__all__ = ["ACCEPTED", "REJECTED", "REVIEW_TABLE", "UNSAVED", "Judgements"]

REVIEW_TABLE = "geosam_review"
ACCEPTED, REJECTED = "accepted", "rejected"
UNSAVED = "unsaved"
"""Accepted into a layer whose edits are not saved yet."""

_PROPERTY = "geosam_es/review"
_COLUMNS = {"layer": ogr.OFTString, "feature": ogr.OFTInteger64, "review": ogr.OFTString, "shape": ogr.OFTInteger64}


class Judgements:
    """What was decided about the polygons of a layer.

    Parameters
    ----------
    layer : QgsVectorLayer
    target : QgsVectorLayer, optional
        Its GeoPackage is used if the layer is in none that can be written.
    """

    def __init__(self, layer: QgsVectorLayer, target: QgsVectorLayer | None = None) -> None:
        self._layer = layer
        self._dataset: Any = None
        self._path, self._name = Path(), ""
        self._rows: dict[int, int] = {}
        for owner in (layer, target):
            if self._dataset is None and owner is not None and can_keep(owner):
                self._open(owner)
        late = self._late()
        kept = {**self._read(), **late}
        shapes = self._shapes_of(kept)
        self._kept = {key: judged for key, judged in kept.items() if shapes.get(key) == judged[1]}
        # What the GeoPackage did not take last time.
        self._due = set(late)

    def state(self, key: int) -> str:
        """Return what was decided about a polygon by its feature id; empty if nothing, or if it has changed since."""
        return self._kept.get(key, ("", 0))[0]

    def set(self, states: Mapping[int, str]) -> None:
        """Keep what was decided; an empty text forgets it.

        Raises
        ------
        EditError
            If the GeoPackage cannot be written; from then on the project keeps it.
        """
        shapes = self._shapes_of(states)
        for key, state in states.items():
            if state:
                self._kept[key] = state, shapes.get(key, 0)
            else:
                self._kept.pop(key, None)
        try:
            if self._dataset is not None:
                # Features that are not saved have no lasting ids.
                self._write([key for key in {*states, *self._due} if key >= 0])
        finally:
            if (self._dataset is None or self._due) and not sip.isdeleted(self._layer):
                self._layer.setCustomProperty(_PROPERTY, json.dumps(self._kept if self._dataset is None else {}))
                QgsProject.instance().setDirty(True)
        self._due = set()

    def _open(self, owner: QgsVectorLayer) -> None:
        try:
            self._path, name = place_of(owner)
            self._dataset = open_geopackage(self._path, update=True)
        except EditError:
            # A file that cannot be written: the next place.
            return
        self._name = name if owner is self._layer else self._layer.source()

    def _read(self) -> dict[int, tuple[str, int]]:
        table, kept = self._table(), {}
        if table is not None:
            table.SetAttributeFilter("layer = '{}'".format(self._name.replace("'", "''")))
            for row in table:
                self._rows[row.GetField("feature")] = row.GetFID()
                kept[row.GetField("feature")] = row.GetField("review"), row.GetField("shape")
        return kept

    def _late(self) -> dict[int, tuple[str, int]]:
        """Return what is kept in the project."""
        try:
            kept = json.loads(self._layer.customProperty(_PROPERTY, "{}"))
            return {int(key): (str(state), int(shape)) for key, (state, shape) in kept.items()}
        except (AttributeError, TypeError, ValueError):
            return {}

    def _table(self) -> Any:
        return self._dataset.GetLayerByName(REVIEW_TABLE) if self._dataset is not None else None

    def _write(self, keys: Iterable[int]) -> None:
        dataset = self._dataset
        try:
            # A table that is made within a transaction is gone if that fails.
            table = self._table() or self._create()
            dataset.StartTransaction()
            done = [self._write_row(table, key) for key in keys]
            if dataset.CommitTransaction() == ogr.OGRERR_NONE and all(done):
                return
            problem = self._failed()
        except (RuntimeError, AttributeError):
            problem = self._failed()
        # From now on it is kept in the project: each try may wait for seconds for a file that is locked.
        self._dataset = None
        raise problem

    def _write_row(self, table: Any, key: int) -> bool:
        judged, known = self._kept.get(key), self._rows.get(key)
        if judged is None:
            return known is None or bool(table.DeleteFeature(self._rows.pop(key)) == ogr.OGRERR_NONE)
        row = ogr.Feature(table.GetLayerDefn())
        for name, value in zip(_COLUMNS, (self._name, key, *judged)):
            row.SetField(name, value)
        if known is not None:
            row.SetFID(known)
            return bool(table.SetFeature(row) == ogr.OGRERR_NONE)
        is_done = bool(table.CreateFeature(row) == ogr.OGRERR_NONE)
        self._rows[key] = row.GetFID()
        return is_done

    def _create(self) -> Any:
        table = self._dataset.CreateLayer(REVIEW_TABLE, None, ogr.wkbNone)
        for name, kind in _COLUMNS.items():
            table.CreateField(ogr.FieldDefn(name, kind))
        return table

    def _failed(self) -> EditError:
        problem = tr("The judgements were not saved in {path}").format(path=self._path)
        return EditError(problem, tr("save the project to keep them; save the edits of that file"))

    def _shapes_of(self, keys: Iterable[int]) -> dict[int, int]:
        """Return checksums of polygons, which tell whether an id still means the same one."""
        if sip.isdeleted(self._layer):
            return {}
        request = QgsFeatureRequest().setFilterFids(list(keys)).setSubsetOfAttributes([])
        return {
            feature.id(): zlib.crc32(feature.geometry().asWkb().data()) for feature in self._layer.getFeatures(request)
        }

"""Changes to a layer whose polygons form a coverage, computed from its edit buffer. Writes nothing.

`edits.write_changes` writes them.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import shapely
from qgis.core import QgsFeatureRequest, QgsGeometry, QgsRectangle, QgsVectorLayer, QgsVectorLayerFeatureSource
from shapely.geometry.base import BaseGeometry

from ...core import coverage, coverage_check
from ...core.codes import code_text
from ...core.coverage import Changes, Ground, Rules
from ...core.coverage_check import Finding, Kind, Progress
from ...core.faces import middle
from ...core.partition import polygonal, valid
from ...errors import EditError
from ...qgis_support.classes import min_areas
from ...qgis_support.coverage_mode import CoverageMode
from ...qgis_support.crs import EllipsoidArea, from_qgs
from ...qgis_support.messages import tr

__all__ = ["LayerCoverage"]


class LayerCoverage:
    """The polygons of a layer as they are now, unsaved edits included. Made in the GUI thread, used in any.

    All geometries are in the CRS of the layer. Each method that returns changes raises `EditError` if the change is
    not possible.

    Parameters
    ----------
    layer : QgsVectorLayer
    mode : CoverageMode
        The rules; whether it is on does not matter.
    class_fields : sequence of str
        Fields with the class, or the classes of a mix.
    has_class_areas : bool
        Whether the minimum areas in the class list of the layer count.
    """

    def __init__(
        self,
        layer: QgsVectorLayer,
        mode: CoverageMode,
        class_fields: Sequence[str] = (),
        has_class_areas: bool = True,
    ) -> None:
        self.mode = mode
        self._source = QgsVectorLayerFeatureSource(layer)
        self._fields = [index for index in map(layer.fields().lookupField, class_fields) if index >= 0]
        self._meter = EllipsoidArea(layer.crs())
        smallest: dict[Hashable, float] = dict(min_areas(layer).items()) if has_class_areas else {}
        self._rules = Rules(
            mode.tolerance_m, mode.min_area_m2, smallest, mode.refuses_small, max_gap_m2=mode.max_gap_m2
        )

    @staticmethod
    def class_name(values: Iterable[Any]) -> str | None:
        """Return one name for the values of the class fields."""
        # NULL is no value.
        return ", ".join(code_text(value) for value in values if isinstance(value, (str, int, float))) or None

    def place(self, outline: BaseGeometry, class_name: str | None = None) -> Changes:
        """Add a polygon of a class; see `coverage.place`."""
        polygons, rules, classes = self._around(outline)
        return coverage.place(outline, polygons, rules, Ground(self.mode.ground), classes, class_name)

    def reshape(self, feature_id: int, outline: BaseGeometry, class_name: str | None = None) -> Changes:
        """Give a polygon another outline, and perhaps another class; see `coverage.reshape`."""
        polygons, rules, classes = self._around(outline, self.outline(feature_id))
        classes[feature_id] = class_name or classes[feature_id]
        moves = self.mode.moves_borders
        return coverage.reshape(feature_id, outline, polygons, rules, moves_borders=moves, classes=classes)

    def crossed(self, line: shapely.LineString, among: Sequence[int] = ()) -> dict[int, Any]:
        """Return the features that a line crosses, by id; ``among`` are the ids of those that count, if not all do."""
        around = QgsFeatureRequest().setFilterRect(QgsRectangle(*line.bounds))
        if among:
            around.setFilterFids(among)
        return {
            feature.id(): feature
            for feature in self._source.getFeatures(around)
            if shapely.intersection(line, valid(from_qgs(feature.geometry()))).length
        }

    def cut(self, feature_ids: Sequence[int], line: shapely.LineString) -> list[Changes]:
        """Cut polygons along a line; see `coverage.cut`."""
        return coverage.cut(feature_ids, line, *self._around(line, *map(self.outline, feature_ids)))

    def merge(self, feature_id: int, other_id: int) -> Changes:
        """Join a polygon to another one, which keeps its attributes; see `coverage.merge`."""
        around = self._around(self.outline(feature_id), self.outline(other_id))
        return coverage.merge(feature_id, other_id, *around)

    def check(
        self, area: BaseGeometry | None = None, progress: Progress | None = None
    ) -> tuple[list[Finding], dict[int, BaseGeometry]]:
        """Find what is wrong around an area, by default in the whole layer.

        ``progress`` is called for each polygon that is read, and then by `coverage_check.check`.

        Returns
        -------
        findings : list of Finding
            With feature ids. Gaps that reach beyond the surroundings of the area are left out, as they may be none.
        envelopes : dict of int to geometry
            Of the polygons that were read, by feature id.
        """
        rectangle = self.reach(area) if area is not None else None
        polygons, rules, classes = self._read(rectangle, progress)
        skip = () if self.mode.joins_class else (Kind.SAME_CLASS,)
        found = coverage_check.check(polygons, rules, classes, skip, progress)
        if rectangle is not None:
            box = from_qgs(QgsGeometry.fromRect(rectangle))
            gaps = Kind.GAP, Kind.LARGE_GAP
            found = [finding for finding in found if finding.kind not in gaps or box.covers(finding.place)]
        return found, {key: polygon.envelope for key, polygon in polygons.items()}

    def remedy(self, finding: Finding) -> Changes:
        """Return the changes that mend a finding of `check`; none if it is mended already."""
        around = self.outlines(finding.ids)
        if len(around) < len(finding.ids):
            return Changes({})
        return coverage_check.remedy(finding, *self._around(finding.place, *around))

    def reach(self, *geometries: BaseGeometry) -> QgsRectangle:
        """Return the surroundings of geometries, in which other polygons matter."""
        min_x, min_y, max_x, max_y = shapely.total_bounds(np.array(geometries, object))
        scale = self._meter.metres_per_unit((min_x + max_x) / 2, (min_y + max_y) / 2)
        x, y = (self._rules.reach_m / metres for metres in scale)
        return QgsRectangle(min_x - x, min_y - y, max_x + x, max_y + y)

    def neighbours(self, changes: Changes, feature_id: int | None = None) -> list[BaseGeometry]:
        """Return the polygons that change visibly beside the new one or that of ``feature_id``."""
        others = {key: outline for key, outline in changes.changed.items() if key != feature_id}
        before = {key: self.outline(key) for key in (*others, *changes.removed)}
        # Not those that get vertices on their edges alone.
        moved = [
            outline for key, outline in others.items() if not math.isclose(outline.area, before[key].area, rel_tol=1e-9)
        ]
        return [*moved, *(before[key] for key in changes.removed)]

    def outline(self, feature_id: int) -> shapely.Polygon | shapely.MultiPolygon:
        """Return a polygon as it is."""
        for outline in self.outlines([feature_id]):
            return outline
        raise EditError(tr("The polygon is no longer in the layer"), tr("choose another one"))

    def outlines(self, feature_ids: Collection[int]) -> list[shapely.Polygon | shapely.MultiPolygon]:
        """Return polygons as they are, in any order; those that are gone are left out."""
        features = self._source.getFeatures(QgsFeatureRequest().setFilterFids(list(feature_ids)).setNoAttributes())
        return [polygonal(from_qgs(feature.geometry())) for feature in features if not feature.geometry().isEmpty()]

    def _around(self, *geometries: BaseGeometry) -> tuple[dict[int, BaseGeometry], Rules, dict[int, str | None]]:
        return self._read(self.reach(*geometries))

    def _read(
        self, rectangle: QgsRectangle | None, progress: Progress | None = None
    ) -> tuple[dict[int, BaseGeometry], Rules, dict[int, str | None]]:
        request = QgsFeatureRequest().setSubsetOfAttributes(self._fields)
        if rectangle is not None:
            request.setFilterRect(rectangle)
        polygons: dict[int, BaseGeometry] = {}
        classes: dict[int, str | None] = {}
        for feature in self._source.getFeatures(request):
            if progress is not None:
                progress(0, 100)
            if not feature.geometry().isEmpty():
                polygons[feature.id()] = from_qgs(feature.geometry())
                classes[feature.id()] = self.class_name(feature.attribute(index) for index in self._fields)
        rules = self._rules
        if polygons:
            x, y = middle(polygons.values()) if rectangle is None else (rectangle.center().x(), rectangle.center().y())
            scale_at = self._meter.metres_per_unit
            rules = replace(rules, metres_per_unit=scale_at(x, y), scale_at=scale_at if rectangle is None else None)
        return polygons, rules, classes

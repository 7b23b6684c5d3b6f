"""Coverage mode: the rules that the polygons of a layer keep, remembered with the layer in the project."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from qgis.core import QgsProject, QgsVectorLayer

from ..core.coverage import MAX_GAP_M2, Ground

__all__ = ["CoverageMode"]

_PROPERTY = "geosam_es/coverage"


@dataclass(frozen=True)
class CoverageMode:
    """Whether and how the polygons of a layer are kept a coverage.

    Attributes
    ----------
    is_on : bool
    ground : str
        Value of a `Ground`: what happens to the ground that a new polygon shares with others.
    tolerance_m : float
        Gaps, overlaps and parts up to this width are closed, in metres on the ground.
    min_area_m2 : float
        Minimum mapping unit of classes that have none of their own.
    refuses_small : bool
        Whether a change that leaves a smaller part is refused; otherwise the part goes to a neighbour.
    max_gap_m2 : float
        Larger enclosed gaps are no fault.
    moves_borders : bool
        Whether refining a polygon moves the borders that it shares.
    joins_class : bool
        Whether neighbours of the same class are a fault, as in land cover; parcels of one crop are none.
    """

    is_on: bool = False
    ground: str = Ground.FILL.value
    tolerance_m: float = 1.0
    min_area_m2: float = 0.0
    refuses_small: bool = False
    max_gap_m2: float = MAX_GAP_M2
    moves_borders: bool = True
    joins_class: bool = True

    @classmethod
    def of(cls, layer: QgsVectorLayer | None) -> CoverageMode:
        """Return the mode of a layer; what is missing or of another type is as by default."""
        mode = cls()
        try:
            kept = json.loads(layer.customProperty(_PROPERTY, "{}") if layer is not None else "{}")
        except (TypeError, ValueError):
            return mode
        for option in fields(cls) if isinstance(kept, dict) else ():
            value: Any = kept.get(option.name)
            if type(value) is type(getattr(mode, option.name)):
                mode = replace(mode, **{option.name: value})
        return mode if mode.ground in [ground.value for ground in Ground] else replace(mode, ground=cls.ground)

    def remember(self, layer: QgsVectorLayer) -> None:
        """Keep the mode with a layer."""
        layer.setCustomProperty(_PROPERTY, json.dumps(asdict(self)))
        QgsProject.instance().setDirty(True)

    @property
    def next_ground(self) -> str:
        """What comes after ``ground``, in turn."""
        grounds = [ground.value for ground in Ground]
        return grounds[(grounds.index(self.ground) + 1) % len(grounds)]

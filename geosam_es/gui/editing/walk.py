"""A list that the user walks through by keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qgis.core import QgsVectorLayer
from qgis.PyQt.QtCore import QObject, pyqtSignal
from shapely.geometry.base import BaseGeometry

from ...qgis_support.messages import tr
from ..canvas.controller import SegmentationController

__all__ = ["Walk"]


class Walk(QObject):
    """Knows where the user is in a list.

    Attributes
    ----------
    layer : QgsVectorLayer, optional
        What the list is about.
    items : sequence
        What is left.
    index : int, optional
        Position of the item that the user is at.

    Signals
    -------
    changed
        The list, or the current item, is another one.
    shown : geometry, QgsVectorLayer
        The user has gone to an item: where it is, in the CRS of the layer.
    failed : GeoSamError
    """

    changed = pyqtSignal()
    shown = pyqtSignal(object, object)
    failed = pyqtSignal(object)

    def __init__(self, controller: SegmentationController, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._controller = controller
        self.layer: QgsVectorLayer | None = None
        self.items: Sequence[Any] = []
        self.index: int | None = None

    @property
    def current(self) -> Any:
        """The item that the user is at; None if there is none."""
        return self.items[self.index] if self.index is not None else None

    @property
    def place(self) -> BaseGeometry | None:
        """Where the current item is, in the CRS of the layer; None if there is none."""
        raise NotImplementedError

    @property
    def is_idle(self) -> bool:
        """Whether nothing is drawn, so that Enter and Esc belong to the list."""
        drawing = self._controller.drawing
        return not (drawing.can_undo or drawing.has_polygon or drawing.busy or self._controller.is_waiting)

    def step(self, step: int) -> None:
        """Go to the next item, or to the previous one with -1, from the last one on to the first."""
        if len(self.items):
            index = self.index
            start = (0 if step > 0 else len(self.items) - 1) if index is None else (index + step)
            self.choose(start % len(self.items))

    def choose(self, index: int) -> None:
        """Go to an item by its position in the list."""
        raise NotImplementedError

    def leave(self) -> bool:
        """Leave the walk, and return whether there was one; the list stays.

        Not while something is drawn, which Esc discards first.
        """
        if self.index is None or not self.is_idle:
            return False
        self.index = None
        self.changed.emit()
        return True

    def _numbered(self, text: str) -> str:
        """Return a text about the current item with its number."""
        index = self.index if self.index is not None else -1
        return tr("{number} of {count}: {finding}").format(number=index + 1, count=len(self.items), finding=text)

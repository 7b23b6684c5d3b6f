"""Shapes polygons by hand: brush, eraser, cut and lasso on the one being drawn, cut and merge in the layer."""

from __future__ import annotations

from functools import partial

import shapely
from qgis.core import QgsFeature, QgsPointXY, QgsVectorLayer
from qgis.PyQt.QtCore import QObject, pyqtSignal

from ...core.coverage import Changes
from ...errors import EditError, GeoSamError
from ...qgis_support.coverage_mode import CoverageMode
from ...qgis_support.crs import transform_points
from ...qgis_support.messages import tr
from ...qgis_support.settings import Settings
from ..canvas.controller import SegmentationController
from ..canvas.drawing import Drawing
from ..canvas.gestures import BRUSHES, Line
from ..canvas.map_tool import SegmentMapTool
from ..panel.actions import Actions
from ..panel.dock import SegmentDock
from .computation import Computation
from .coverage import LayerCoverage
from .edits import check_target, edit_command, write_changes
from .history import EditHistory, OwnEdit, named
from .refining import Refining, class_of

__all__ = ["Shaping"]

_SIZE_STEP = 1.25
_SIZES = (1.0, 1000.0)
"""Smallest and largest brush, in pixels of the image."""


class Shaping(QObject):
    """Knows in which mode a drag shapes a polygon.

    Cuts and merges in the layer are computed in a thread of their own; meanwhile the other gestures wait.

    Signals
    -------
    changed
        The mode or the size of the brush is another one.
    written : str
        What was cut or merged in a layer, for people.
    failed : GeoSamError
    """

    changed = pyqtSignal()
    written = pyqtSignal(str)
    failed = pyqtSignal(object)

    def __init__(
        self,
        tool: SegmentMapTool,
        controller: SegmentationController,
        refining: Refining,
        dock: SegmentDock,
        history: EditHistory,
        settings: Settings,
        actions: Actions,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._tool = tool
        self._controller = controller
        self._refining = refining
        self._dock = dock
        self._history = history
        self._settings = settings
        self._modes = {"brush": actions.brush, "eraser": actions.eraser, "cut": actions.cut, "lasso": actions.lasso}
        self._sizes = actions.smaller, actions.larger
        self._was_drawn = False
        self._line = Line(tool.canvas())
        self._computation = Computation(controller, tr("cut or merge the polygons again"), self)
        self._computation.ended.connect(lambda: self._line.take())
        self._computation.failed.connect(self.failed)
        for mode, action in self._modes.items():
            action.triggered.connect(lambda checked, mode=mode: self._begin(mode if checked else ""))
        actions.smaller.triggered.connect(lambda: self._resize(-1))
        actions.larger.triggered.connect(lambda: self._resize(1))
        actions.merge.triggered.connect(self.merge)
        tool.stroked.connect(self._on_stroke)
        tool.resized.connect(self._resize)
        tool.brush_radius = lambda point: settings.brush_pixels / 2 / controller.screen_pixel(point)
        tool.deactivated.connect(self._leave_mode)
        controller.drawing_changed.connect(self._on_drawing)
        self._set("")

    @property
    def hint(self) -> str:
        """What the mouse does in the present mode; empty without one."""
        size = tr("Ctrl+wheel or [ ]: size ({pixels} px)").format(pixels=round(self._settings.brush_pixels))
        hints = {
            "brush": tr("Drag: add · Shift: take away") + f"\n{size} · " + tr("Esc: leave"),
            "eraser": tr("Drag: take away · Shift: add") + f"\n{size} · " + tr("Esc: leave"),
            "cut": tr("Click or drag a line across the polygon\nEnter or right click: cut · Esc: leave"),
            "lasso": tr("Drag a loop: area · a stroke: points along it\nShift: outside · Esc: leave"),
        }
        return hints.get(self._tool.mode, "")

    def release(self) -> None:
        """End the thread."""
        self._computation.release()

    def leave(self) -> bool:
        """Give up the cut or merge that is being computed, or leave the present mode; False if there is neither."""
        is_computing = self._computation.is_running
        self._computation.stop()
        return is_computing or self._leave_mode()

    def _leave_mode(self) -> bool:
        had_mode = bool(self._tool.mode or any(action.isChecked() for action in self._modes.values()))
        if had_mode:
            self._set("")
        return had_mode

    def merge(self) -> None:
        """Join the polygon under the pointer to the one being refined or selected, or what is drawn to it."""
        if self._controller.hold(self.merge):
            return
        try:
            found = self._refining.under_pointer()
            if found is None:
                raise EditError(tr("There is no polygon here"), tr("point at a polygon of the target layer"))
            layer, feature = found
            check_target(layer)
            refined, selected = self._refining.current, self._refining.selected()
            if refined is None and self._controller.drawing.can_undo:
                self._refining.grow(layer, feature)
                return
            if refined is not None:
                self._refining.check_free()
                first = refined.layer, refined.locate()
            elif selected is not None:
                first = selected[0], int(selected[1].id())
            else:
                remedy = tr("press R on one polygon, then M on the other")
                raise EditError(tr("No polygon is chosen to merge with"), remedy)
            if first == (layer, feature.id()) or first[0] is not layer:
                problem = tr("This is not another polygon of the same layer")
                raise EditError(problem, tr("point at a neighbour of the first one"))
            coverage, other = _coverage(layer, self._dock), feature.id()
        except GeoSamError as error:
            self.failed.emit(error)
            return

        def write(changes: Changes) -> None:
            if refined is not None:
                self._controller.discard()
            write_changes(layer, changes, tr("Merge polygons"))
            self._note(layer, tr("merge with polygon {label} in {layer}"), feature)

        self._computation.start(layer, lambda: coverage.merge(first[1], other), write)

    def _begin(self, mode: str) -> None:
        if not self._tool.isActive():
            self._tool.canvas().setMapTool(self._tool)
        self._set(mode)

    def _set(self, mode: str) -> None:
        self._tool.set_mode(mode)
        for name, action in self._modes.items():
            action.setChecked(name == mode)
        for action in self._sizes:
            action.setEnabled(mode in BRUSHES)
        self.changed.emit()

    def _resize(self, steps: int) -> None:
        size = self._settings.brush_pixels * (_SIZE_STEP if steps > 0 else 1 / _SIZE_STEP)
        self._settings.brush_pixels = min(max(size, _SIZES[0]), _SIZES[1])
        self._tool.show_brush()
        self.changed.emit()

    def _on_drawing(self, drawing: Drawing) -> None:
        was_drawn, self._was_drawn = self._was_drawn, drawing != Drawing()
        if was_drawn and not self._was_drawn and self._tool.mode in BRUSHES:
            # The next object begins with a click.
            self._set("")

    def _on_stroke(self, name: str, points: list[QgsPointXY], positive: bool) -> None:
        if name == "cut":
            self._set("")
        self._stroke(name, points, positive)

    def _stroke(self, name: str, points: list[QgsPointXY], positive: bool) -> None:
        if self._controller.hold(partial(self._stroke, name, points, positive)):
            return
        if name in BRUSHES:
            gesture = "eraser" if (name == "eraser") == positive else "brush"
            self._controller.draw(gesture, points, radius=self._settings.brush_pixels / 2)
        elif name == "cut" and (self._refining.is_untouched or not self._controller.drawing.can_undo):
            self._cut(points)
        else:
            self._controller.draw(name, points, positive)

    def _cut(self, points: list[QgsPointXY]) -> None:
        """Cut the polygon being refined, or else all of the target layer along a line, or the selected ones of them."""
        refined, text = self._refining.current, tr("Cut polygon")
        try:
            layer = check_target(self._dock.layer if refined is None else refined.layer)
            places = transform_points(points, self._tool.canvas().mapSettings().destinationCrs(), layer.crs())
            line = shapely.LineString([(place.x(), place.y()) for place in places])
            among = [refined.locate()] if refined is not None else layer.selectedFeatureIds()
            coverage, name = _coverage(layer, self._dock), layer.name()
        except GeoSamError as error:
            self.failed.emit(error)
            return

        def cut() -> tuple[dict[int, QgsFeature], list[Changes]]:
            crossed = coverage.crossed(line, among)
            if not crossed:
                problem = tr("The line crosses no polygon of {layer}").format(layer=name)
                raise EditError(problem, tr("draw it across a polygon, from outside to outside"))
            return crossed, coverage.cut(list(crossed), line)

        def write(found: tuple[dict[int, QgsFeature], list[Changes]]) -> None:
            crossed, cuts = found
            with edit_command(check_target(layer), text):
                for changes in cuts:
                    write_changes(layer, changes, text)
            if refined is not None:
                self._controller.discard()
            divided = [crossed[changes.source] for changes in cuts if changes.source is not None]
            if len(divided) == 1:
                self._note(layer, tr("cut of polygon {label} in {layer}"), divided[0])
            else:
                self._note(layer, tr("cut of {label} polygons in {layer}"), len(divided))

        self._line.points = points[:-1]
        self._line.follow(points[-1])
        self._computation.start(layer, cut, write)

    def _note(self, layer: QgsVectorLayer, name: str, of: QgsFeature | int) -> None:
        label = str(of) if isinstance(of, int) else class_of(of, self._dock) if layer is self._dock.layer else ""
        done = named(name, layer, label)
        self._history.note(layer, OwnEdit(done))
        self.written.emit(done)


def _coverage(layer: QgsVectorLayer, dock: SegmentDock) -> LayerCoverage:
    mode = CoverageMode.of(layer)
    # Other layers have no rules.
    rules = mode if mode.is_on else CoverageMode(tolerance_m=0.0)
    return LayerCoverage(layer, rules, dock.class_box.class_fields, has_class_areas=mode.is_on)

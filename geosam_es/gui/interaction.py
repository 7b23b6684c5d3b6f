"""Connects map tool, controller, overlay, panel, editing and stores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import shapely
from qgis.core import QgsCoordinateReferenceSystem, QgsMapLayer, QgsProject, QgsVectorLayer, QgsWkbTypes
from qgis.PyQt.QtCore import QObject, Qt, QTimer
from qgis.PyQt.QtGui import QColor

from ..errors import GeoSamError, PromptError
from ..inference.session import CleanOptions
from ..qgis_support.messages import Messages, tr
from ..qgis_support.settings import Settings
from ..qgis_support.store_news import store_news
from .canvas.comparison import DecoderComparison
from .canvas.controller import SegmentationController
from .canvas.drawing import Drawing
from .canvas.map_tool import SegmentMapTool
from .canvas.overlay import Overlay
from .canvas.view_tiles import TilesInView
from .editing.accepting import Acceptor
from .editing.target import Target
from .panel.actions import Actions
from .panel.dock import SegmentDock
from .panel.result_text import comparison_text, result_text
from .stores.background_encoding import BackgroundEncoding
from .stores.current_store import CurrentStore
from .stores.decoder_choice import Comparison, DecoderChoice
from .stores.open_store import (
    OpenStore,
    ProjectRaster,
    live_options,
    pixel_area_m2,
    project_raster,
    project_rasters,
    store_beside,
)

__all__ = ["Interaction"]

_VIEW_SETTLED_MS = 250
_PANEL_SHOWN_MS = 40


class Interaction(QObject):
    """The part of the plugin that needs the packages listed in `qgis_support.dependencies`.

    Parameters
    ----------
    iface : QgisInterface
    actions : Actions
    settings : Settings
    messages : Messages
    """

    def __init__(self, iface: Any, actions: Actions, settings: Settings, messages: Messages) -> None:
        super().__init__()
        self._iface = iface
        self._actions = actions
        self._settings = settings
        self._messages = messages
        self._canvas = iface.mapCanvas()
        self.stores = CurrentStore(self)
        self.controller = SegmentationController(self.stores, self._canvas.mapSettings, self)
        self.overlay = Overlay(self._canvas)
        self.dock = SegmentDock(actions, settings, iface.mainWindow())
        self.tool = SegmentMapTool(self._canvas, actions.by_keys)
        self.tool.setAction(actions.tool)
        self.target = Target(self.dock, self)
        self.decoders = DecoderChoice(self.stores, settings, self)
        self.comparison = DecoderComparison(self.controller, self.decoders, self)
        self.acceptor = Acceptor(iface, self.controller, self.dock, settings, self)
        self.encoding = BackgroundEncoding(self)
        self._encode_when_open: bool | None = None
        self._settled = QTimer(self)
        self._settled.setSingleShot(True)
        self._settled.setInterval(_VIEW_SETTLED_MS)
        self._settled.timeout.connect(self._on_view_settled)
        self._shown = QTimer(self)
        self._shown.setSingleShot(True)
        self._shown.setInterval(_PANEL_SHOWN_MS)
        self._shown.timeout.connect(self._on_shown)
        self._must_follow = False
        actions.preview.setChecked(settings.hover_preview)
        iface.addDockWidget(Qt.DockWidgetArea.RightDockWidgetArea, self.dock)
        # Shown when the tool is first used.
        self.dock.hide()
        self._connect_stores()
        self._connect_controller()
        self._connect_gestures()
        self._connect_decoders()
        self._connect_qgis()
        self.apply_settings()
        self._on_store(None)

    def _connect_stores(self) -> None:
        self.stores.changed.connect(self._on_store)
        self.stores.updated.connect(self._on_store_updated)
        self.stores.failed.connect(self._on_failed)
        self.stores.noticed.connect(self._messages.warning)
        self.encoding.progressed.connect(self._on_encoded)
        self.encoding.ended.connect(self._on_encoding_ended)
        self.encoding.failed.connect(self._messages.error)

    def _connect_controller(self) -> None:
        controller = self.controller
        controller.drawing_changed.connect(self._on_drawing)
        controller.preview_changed.connect(self.overlay.show_preview)
        controller.tiles_changed.connect(self._on_tiles)
        controller.store_wanted.connect(self._on_store_wanted)
        controller.failed.connect(self._on_failed)
        self.acceptor.failed.connect(self._messages.error)
        self.target.failed.connect(self._messages.error)
        self.target.undo_changed.connect(self._enable_actions)
        self.acceptor.written.connect(self._on_written)
        self.acceptor.refining.connect(lambda provenance: self.decoders.choose(provenance.decoder))

    def _connect_gestures(self) -> None:
        tool, controller, actions = self.tool, self.controller, self._actions
        tool.clicked.connect(controller.add_point)
        tool.boxed.connect(controller.set_box)
        tool.hovered.connect(self._on_hover)
        tool.left.connect(controller.end_preview)
        tool.accepted.connect(controller.accept)
        tool.activated.connect(self._on_tool_activated)
        actions.undo.triggered.connect(controller.undo)
        actions.undo_again.triggered.connect(self._undo)
        actions.redo.triggered.connect(self._redo)
        actions.candidate.triggered.connect(controller.next_candidate)
        actions.accept.triggered.connect(controller.accept)
        actions.discard.triggered.connect(controller.cancel)
        actions.refine.triggered.connect(self.acceptor.refine_selected)
        actions.preview.toggled.connect(self._on_preview_toggled)
        for index, action in enumerate(actions.classes):
            action.triggered.connect(lambda _checked=False, index=index: self.dock.class_box.choose(index))

    def _connect_decoders(self) -> None:
        decoders, row, actions = self.decoders, self.dock.decoders, self._actions
        decoders.changed.connect(row.show_state)
        decoders.switching.connect(self.controller.answer_with)
        self.comparison.compared.connect(self._on_compared)
        row.chosen.connect(decoders.choose)
        row.other_chosen.connect(decoders.compare_with)
        row.folder_chosen.connect(lambda folder: decoders.add(Path(folder)))
        row.keep_wanted.connect(decoders.keep)
        actions.compare.toggled.connect(self.comparison.set_on)
        actions.swap.triggered.connect(decoders.swap)
        store_news.decoders_changed.connect(self._on_decoders_changed)

    def _connect_qgis(self) -> None:
        dock = self.dock
        dock.store_chosen.connect(lambda path: self.open_store(Path(path)))
        dock.new_layer_wanted.connect(self._on_new_layer)
        dock.encoding.view_wanted.connect(lambda: self._encode(whole=False))
        dock.encoding.layer_wanted.connect(lambda: self._encode(whole=True))
        dock.encoding.cancel_wanted.connect(self.encoding.cancel)
        dock.display_changed.connect(self._on_display_changed)
        dock.options_box.changed.connect(self.apply_settings)
        dock.class_box.colour_changed.connect(self._on_colour)
        self._iface.currentLayerChanged.connect(self._on_current_layer)
        self._canvas.extentsChanged.connect(self._settled.start)
        QgsProject.instance().cleared.connect(self._on_project_cleared)

    def dispose(self) -> None:
        """Remove everything from QGIS, and end the threads."""
        self._iface.currentLayerChanged.disconnect(self._on_current_layer)
        self._canvas.extentsChanged.disconnect(self._settled.start)
        QgsProject.instance().cleared.disconnect(self._on_project_cleared)
        store_news.decoders_changed.disconnect(self._on_decoders_changed)
        self._settled.stop()
        self._shown.stop()
        self.target.release()
        self.encoding.dispose()
        if self._canvas.mapTool() is self.tool:
            self._canvas.unsetMapTool(self.tool)
        self.stores.shutdown()
        self.overlay.remove()
        self._iface.statusBarIface().clearMessage()
        self._iface.removeDockWidget(self.dock)
        self.dock.deleteLater()
        self.tool.deleteLater()
        self.deleteLater()

    def set_active(self, active: bool) -> None:
        """Make the map tool active or not."""
        if active:
            self.dock.show()
            self._canvas.setMapTool(self.tool)
        elif self._canvas.mapTool() is self.tool:
            self._canvas.unsetMapTool(self.tool)

    def open_store(self, path: Path) -> None:
        """Open a store in the background."""
        self._must_follow = False
        if not path.is_dir():
            self._settings.forget_store(str(path))
        self._open(path, project_rasters(self._iface.activeLayer()), path.name)

    def _open(self, path: Path | None, rasters: list[ProjectRaster], name: str) -> None:
        settings = self._settings
        self.stores.open(path, rasters, live_options(settings), settings.decoder_threads or None)
        self.dock.show_state(tr("Opening {name} …").format(name=name))

    def apply_settings(self) -> None:
        """Apply what was changed in the panel or in QGIS's options."""
        store = self.stores.store
        pixel = pixel_area_m2(store) if store is not None else 0.0
        holes = self._settings.fill_holes_m2 / pixel if pixel > 0 else 0.0
        # Polygons below the minimum area are shown, and refused with a reason when accepted.
        self.controller.set_options(CleanOptions(self._settings.simplify_pixels, fill_holes_area=holes))
        self._on_colour(self.dock.class_box.colour)

    # The store.

    def _on_store(self, store: OpenStore | None) -> None:
        self.overlay.set_crs(store.crs if store is not None else QgsCoordinateReferenceSystem())
        if store is not None:
            self._settings.remember_store(str(store.path))
        self.dock.show_recent(str(store.path) if store is not None else None)
        self._show_store_state()
        self.apply_settings()
        self._on_display_changed()
        self._show_encodable()
        whole, self._encode_when_open = self._encode_when_open, None
        if store is not None and whole is not None:
            self._encode(whole)

    def _on_store_updated(self, store: OpenStore) -> None:
        self.overlay.set_crs(store.crs)
        self.apply_settings()
        self._on_drawing(self.controller.drawing)
        self._on_view_settled()

    def _on_store_wanted(self) -> None:
        """Open or make a store of the active raster, or of the only one, for the prompt that waits."""
        self._follow_now()
        if self.stores.is_opening:
            return
        chosen = self._raster_to_encode()
        if chosen is not None:
            self._open(None, [chosen], chosen.source.name)
            return
        remedy = tr("choose a raster layer to click on, or open a prepared image in the panel")
        self.controller.give_up(PromptError(tr("There is nothing to segment"), remedy))

    def _raster_to_encode(self) -> ProjectRaster | None:
        rasters = project_rasters(self._iface.activeLayer())
        return next((raster for raster in rasters if raster.active or len(rasters) == 1), None)

    def _encode(self, whole: bool) -> None:
        """Encode the raster or the view, into the open store or into a new one."""
        store, sight = self.stores.store, self.controller.sight()
        if store is None:
            self._encode_when_open = whole
            self._on_store_wanted()
        elif whole:
            self.encoding.start(store)
        elif sight is not None:
            self.encoding.start(store, shapely.Polygon(sight.corners), sight.level)
        else:
            self._messages.error(
                PromptError(tr("The view cannot be transformed to the CRS of the raster"), tr("zoom to the raster"))
            )

    def _show_encodable(self) -> None:
        store = self.stores.store
        live = store.live if store is not None else None
        self.dock.encoding.set_possible(store is None or live is not None, live.no_download if live is not None else "")

    def _on_encoded(self, percent: int, text: str) -> None:
        self.dock.encoding.show_progress(percent, text)
        if self._settings.show_tiles and not self._settled.isActive():
            self._settled.start()

    def _on_encoding_ended(self, text: str) -> None:
        self.dock.encoding.show_end()
        self._iface.statusBarIface().showMessage(text)
        self._on_view_settled()

    def _show_store_state(self) -> None:
        store = self.stores.store
        if store is None:
            self.dock.show_state(tr("Click on a raster layer, or open or drop its prepared image here."))
            return
        metadata = store.metadata
        self.dock.show_state(
            tr("{raster}, model {model}, {levels} levels").format(
                raster=metadata.raster.file_name, model=metadata.model["name"], levels=metadata.levels
            )
        )

    def _on_failed(self, error: GeoSamError) -> None:
        self._messages.error(error)
        self._encode_when_open = None
        if not self.stores.is_opening:
            store = self.stores.store
            self.dock.show_recent(str(store.path) if store is not None else None)
            self._show_store_state()

    def _on_display_changed(self) -> None:
        store = self.stores.store
        self.overlay.show_footprint(store if self._settings.show_footprint else None)
        if store is None or not self._settings.show_tiles:
            self.overlay.show_tiles([], [])
        self._on_view_settled()

    def _on_view_settled(self) -> None:
        self.controller.look_ahead(self._settings.show_tiles, self._canvas.mapTool() is self.tool)

    def _on_tiles(self, tiles: TilesInView) -> None:
        if self._settings.show_tiles:
            self.overlay.show_tiles(tiles.encoded, tiles.missing)

    def _on_tool_activated(self) -> None:
        # Painting the panel, loading onnxruntime and opening a store each block the window briefly: one at a time.
        self._must_follow = True
        self._shown.start()

    def _on_shown(self) -> None:
        self.stores.warm_up(self._follow_now)

    def _follow_now(self) -> None:
        if self._must_follow:
            self._must_follow = False
            self._on_current_layer(self._iface.activeLayer())
            self._on_view_settled()

    def _on_current_layer(self, layer: QgsMapLayer | None) -> None:
        if isinstance(layer, QgsVectorLayer):
            if self.dock.layer is None and layer.geometryType() == QgsWkbTypes.PolygonGeometry:
                self.dock.layers.setLayer(layer)
            return
        raster = project_raster(layer)
        if raster is not None and self._canvas.mapTool() is self.tool and not self.controller.drawing.can_undo:
            self._follow(raster)

    def _follow(self, raster: ProjectRaster) -> None:
        """Draw on the active raster: with the store beside it, or with one that the first click makes."""
        store = self.stores.store
        if store is not None and store.raster is not None and store.raster.source.path == raster.source.path:
            if store.raster.layer_id != raster.layer_id:
                self.stores.follow(raster)
            return
        path = store_beside(raster)
        if path is not None and path != self.stores.opening:
            self.open_store(path)
        elif path is None and store is not None and store.raster is not None:
            # It belongs to another raster than the one the user sees.
            self.stores.set(None)

    def _on_project_cleared(self) -> None:
        self.stores.cancel_opening()
        self.stores.set(None)

    # The object.

    def _on_hover(self, point: Any, positive: bool) -> None:
        if self._actions.preview.isChecked():
            self.controller.preview(point, positive)

    def _on_preview_toggled(self, checked: bool) -> None:
        self._settings.hover_preview = checked
        if not checked:
            self.controller.end_preview()

    def _on_drawing(self, drawing: Drawing) -> None:
        self.overlay.show_drawing(drawing.prompts, drawing.result)
        self._enable_actions()
        if drawing.busy:
            return
        text = self._result_text()
        self.dock.show_result(text)
        if text:
            self._iface.statusBarIface().showMessage(text)
        else:
            self._iface.statusBarIface().clearMessage()

    def _on_compared(self, comparison: Comparison | None) -> None:
        shown = (comparison.result.geometry, comparison.difference) if comparison is not None else (None, None)
        self.overlay.show_compared(*shown)
        store, result = self.stores.store, self.controller.drawing.result
        if comparison is None or store is None or result is None:
            self.dock.show_result(self._result_text())
        else:
            colours = self.overlay.colour.name(), self.overlay.compared_colour.name()
            self.dock.show_result(comparison_text(store.decoder, result, comparison, store.crs, colours))

    def _result_text(self) -> str:
        store, result = self.stores.store, self.controller.drawing.result
        return result_text(result, store.crs) if store is not None and result is not None else ""

    def _on_decoders_changed(self, path: str, name: str) -> None:
        self.decoders.refresh(Path(path), name)

    def _enable_actions(self) -> None:
        drawing, actions = self.controller.drawing, self._actions
        actions.set_drawing_states(drawing.can_undo, drawing.can_redo, drawing.has_polygon, drawing.busy)
        # With nothing drawn, they undo and redo in the target layer, which need not be QGIS's active layer.
        actions.undo_again.setEnabled(drawing.can_undo or self.target.can_undo)
        actions.redo.setEnabled(drawing.can_redo or self.target.can_redo)

    def _undo(self) -> None:
        (self.controller if self.controller.drawing.can_undo else self.target).undo()

    def _redo(self) -> None:
        (self.controller if self.controller.drawing.can_redo else self.target).redo()

    def _on_written(self, layer: QgsVectorLayer, _feature_id: int) -> None:
        text = tr("Added to {layer}. Ctrl+Z undoes it. Save the layer to keep it.").format(layer=layer.name())
        self._iface.statusBarIface().showMessage(text)

    def _on_colour(self, colour: QColor | None) -> None:
        shown = colour if colour is not None else QColor(self._settings.outline_colour)
        self.overlay.set_colour(shown, self._settings.fill_opacity / 100)

    def _on_new_layer(self, path: str) -> None:
        store = self.stores.store
        crs = store.crs if store is not None and store.crs.isValid() else QgsProject.instance().crs()
        self.target.make(Path(path), crs)

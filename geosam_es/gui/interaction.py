"""Connects map tool, controller, overlay, panel, editing and stores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import shapely
from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsMapSettings,
    QgsPointXY,
    QgsProject,
    QgsRasterLayer,
    QgsVectorLayer,
)
from qgis.PyQt import sip
from qgis.PyQt.QtCore import QObject, Qt, QTimer
from qgis.PyQt.QtGui import QColor
from shapely.geometry.base import BaseGeometry

from ..errors import EditError, GeoSamError, NoTargetError, PromptError, RasterError
from ..inference.session import CleanOptions
from ..qgis_support.crs import to_qgs, transform, transform_polygon
from ..qgis_support.layer_source import LayerSource, source_of
from ..qgis_support.messages import PLUGIN_NAME, Messages, tr, translated
from ..qgis_support.settings import Settings
from ..qgis_support.store_news import store_news
from ..store.raster_name import RasterPath
from ..store.remote import is_address
from .canvas.comparison import DecoderComparison
from .canvas.controller import SegmentationController
from .canvas.drawing import Drawing
from .canvas.map_tool import SegmentMapTool
from .canvas.overlay import Overlay
from .canvas.pointed_image import PointedImage
from .canvas.view import View
from .canvas.view_tiles import TilesInView
from .canvas.visible_rasters import VisibleRasters
from .editing.accepting import Acceptor
from .editing.coverage_check import CoverageCheck
from .editing.edits import no_target
from .editing.finding import SimilarFinding
from .editing.fitter import Fitter
from .editing.history import EditHistory
from .editing.refining import Refining
from .editing.reviewing import ReviewQueue
from .editing.shaping import Shaping
from .editing.suggesting import ClassSuggestions
from .editing.target import Target
from .editing.target_layer import suggested_crs, suggested_path
from .editing.undoing import UndoStory
from .editing.walk import Walk
from .panel.actions import Actions
from .panel.dock import SegmentDock
from .panel.fields_dialog import FieldsDialog
from .panel.learning import Learning
from .panel.result_text import candidate_text, comparison_text, is_uncertain, result_text, result_tip
from .panel.store_place_message import StorePlaceMessage
from .stores.background_encoding import BackgroundEncoding
from .stores.current_store import CurrentStore
from .stores.decoder_choice import Comparison, DecoderChoice
from .stores.open_store import (
    OpenStore,
    Place,
    pixel_area_m2,
    project_rasters,
)

__all__ = ["Interaction"]

_VIEW_SETTLED_MS = 250
_PANEL_SHOWN_MS = 40
_HINT_MS = 2000
_FINDING_IN_VIEW, _LEAST_IN_VIEW, _LEAST_JUDGED, _MOST_IN_VIEW, _MARGIN = 1.5, 0.02, 0.08, 0.6, 0.05
"""What the map shows around a finding, in sides of it; the parts of the map for which the scale stays, the least of
them also for a polygon whose outline is judged; and the part along the edges where the map moves on."""


class Interaction(QObject):
    """The part of the plugin that needs the packages listed in `qgis_support.dependencies`."""

    def __init__(self, iface: Any, actions: Actions, settings: Settings, messages: Messages) -> None:
        super().__init__()
        self._iface = iface
        self._actions = actions
        self._settings = settings
        self._messages = messages
        self._canvas = iface.mapCanvas()
        self.stores = CurrentStore(self)
        self.controller = SegmentationController(self.stores, self._canvas.mapSettings, self)
        self.image = PointedImage(self.controller, self.stores, self)
        self.overlay = Overlay(self._canvas)
        self.dock = SegmentDock(actions, settings, iface.mainWindow())
        self.tool = SegmentMapTool(self._canvas, actions.by_keys)
        self.tool.setAction(actions.tool)
        self.target = Target(self.dock, self)
        self.decoders = DecoderChoice(self.stores, settings, self)
        self.comparison = DecoderComparison(self.controller, self.decoders, self)
        self.history = EditHistory(self)
        self.refining = Refining(iface, self.controller, self.dock, self.history, self)
        # Before what follows, because it makes a candidate the object that gestures change and that is accepted.
        self.review = ReviewQueue(
            iface, self.tool, self.controller, self.dock, settings, self.refining, self.history, self
        )
        self.similar = SimilarFinding(self.controller, self.dock, self.review, self)
        self.shaping = Shaping(
            self.tool, self.controller, self.refining, self.dock, self.history, settings, actions, self
        )
        self.acceptor = Acceptor(iface, self.controller, self.dock, settings, self.refining, self.history, self)
        self.check = CoverageCheck(self.controller, self.dock, self.history, self)
        self.undoing = UndoStory(self.controller, self.history, self.refining, self)
        self.fitter = Fitter(self.controller, self.refining, self.dock, settings, self)
        self.suggestions = ClassSuggestions(self.controller, self.dock, self)
        self.encoding = BackgroundEncoding(self)
        self.learning = Learning(
            iface.messageBar(), self.dock, self.stores, self.decoders, messages, self.refining.check_free, self
        )
        self.place = StorePlaceMessage(iface.messageBar(), self.stores, settings, self)
        # The layer to encode when its store is open, and the view, or None for the whole layer.
        self._encode_when_open: tuple[QgsRasterLayer, View | None] | None = None
        self._settled = QTimer(self)
        self._settled.setSingleShot(True)
        self._settled.setInterval(_VIEW_SETTLED_MS)
        self._settled.timeout.connect(self._on_view_settled)
        self._hinted = QTimer(self)
        self._shown = QTimer(self)
        self._shown.setSingleShot(True)
        self._shown.setInterval(_PANEL_SHOWN_MS)
        # Painting the panel, loading onnxruntime and opening a store each block the window briefly: one at a time.
        self._shown.timeout.connect(lambda: self.stores.warm_up(self._on_view_settled))
        actions.preview.setChecked(settings.hover_preview)
        iface.addDockWidget(Qt.DockWidgetArea.RightDockWidgetArea, self.dock)
        # Shown when the tool is first used.
        self.dock.hide()
        self._connect_stores()
        self._connect_controller()
        # First, because accepting or discarding an object must not mend or leave a finding too.
        self._connect_coverage()
        self._connect_review()
        self._connect_gestures()
        self._connect_undo()
        self._connect_refining()
        self._connect_decoders()
        self._connect_qgis()
        self.apply_settings()
        self._on_store(None)

    def _connect_stores(self) -> None:
        self.stores.changed.connect(self._on_store)
        self.stores.opened.connect(self._on_opened)
        self.stores.updated.connect(self._on_store_updated)
        self.stores.failed.connect(self._on_failed)
        self.stores.noticed.connect(self._messages.warning)
        self.place.moved.connect(self._show_recent)
        self.image.changed.connect(lambda state: self.dock.show_image(state.name, state.text, state.path))
        self.image.store_wanted.connect(self._request)
        self.image.arrived.connect(self._preview)
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
        self.acceptor.failed.connect(self._on_not_written)
        self.target.failed.connect(self._messages.error)
        self.acceptor.written.connect(self._on_written)

    def _connect_gestures(self) -> None:
        tool, controller, actions = self.tool, self.controller, self._actions
        tool.clicked.connect(lambda point, _positive: self.image.move_to(point))
        tool.clicked.connect(self._on_click)
        tool.boxed.connect(controller.set_box)
        tool.hovered.connect(self._on_hover)
        tool.left.connect(self._on_left)
        tool.accepted.connect(self._on_accept)
        self.shaping.changed.connect(self._show_mode)
        self.shaping.failed.connect(self._messages.error)
        tool.activated.connect(self._shown.start)
        actions.candidate.triggered.connect(lambda: controller.next_candidate())
        actions.previous.triggered.connect(lambda: controller.next_candidate(-1))
        actions.accept.triggered.connect(self._on_accept)
        actions.discard.triggered.connect(self._on_discard)
        actions.preview.toggled.connect(self._on_preview_toggled)
        self.dock.hold = self.dock.class_box.hold = self.review.hold
        for index, action in enumerate(actions.classes):
            action.triggered.connect(lambda _checked=False, index=index: self._on_class_key(index))
        classes = self.dock.class_box
        actions.suggested.triggered.connect(self._on_suggested_key)
        classes.suggestion_changed.connect(lambda: actions.suggested.setEnabled(bool(classes.suggestion)))

    def _connect_undo(self) -> None:
        undoing, actions, history = self.undoing, self._actions, self.history
        actions.undo.triggered.connect(undoing.undo)
        actions.redo.triggered.connect(undoing.redo)
        actions.undo_prompt.triggered.connect(self.controller.undo)
        undoing.changed.connect(self._name_undo)
        undoing.undone.connect(lambda text: self._messages.report(text, tr("Redo"), undoing.redo_edit))
        self.shaping.written.connect(undoing.say_done)
        # The text of the last acceptance no longer applies.
        self.shaping.written.connect(lambda _text: self._show_result())
        undoing.done.connect(lambda text: self._messages.report(text, tr("Undo"), undoing.undo_edit))
        undoing.outdated.connect(self._messages.close_report)
        # What was set aside keeps the files of its store open.
        self.stores.changed.connect(history.forget_drawings)
        self.dock.layer_chosen.connect(history.follow)
        history.follow(self.dock.layer)

    def _connect_refining(self) -> None:
        refining, tool, actions = self.refining, self.tool, self._actions
        tool.hovered.connect(refining.hover)
        tool.left.connect(refining.leave)
        actions.refine.triggered.connect(self._on_refine)
        actions.delete.triggered.connect(refining.delete)
        refining.changed.connect(self._show_mode)
        refining.started.connect(lambda provenance: self.decoders.choose(provenance.decoder))
        refining.failed.connect(self._messages.error)

    def _connect_coverage(self) -> None:
        coverage, actions = self.dock.options_box.coverage, self._actions
        self._hinted.setSingleShot(True)
        self._hinted.setInterval(_HINT_MS)
        self._hinted.timeout.connect(lambda: self._on_colour(self.dock.class_box.colour))
        coverage.changed.connect(lambda: actions.ground.setEnabled(coverage.mode.is_on))
        actions.ground.triggered.connect(self._on_ground)
        check = self.check
        actions.check.triggered.connect(check.start)
        coverage.check_wanted.connect(check.start)
        coverage.chosen.connect(check.choose)
        coverage.fields_wanted.connect(self._on_fields)
        actions.next_finding.triggered.connect(lambda: self._walk.step(1))
        actions.previous_finding.triggered.connect(lambda: self._walk.step(-1))
        actions.accept.triggered.connect(partial(self._unless_in_mode, check.mend))
        actions.discard.triggered.connect(partial(self._unless_in_mode, check.leave))
        check.changed.connect(self._show_check)
        check.shown.connect(self._go_to)
        check.shown.connect(lambda *_: self.review.leave())
        check.checked.connect(lambda text: self._iface.messageBar().pushInfo(PLUGIN_NAME, text))
        check.failed.connect(self._messages.error)

    def _connect_review(self) -> None:
        review, box = self.review, self.dock.review_box
        box.layer_chosen.connect(review.fill)
        box.field_chosen.connect(review.set_field)
        box.order_chosen.connect(review.set_by_space)
        box.least_chosen.connect(review.set_least)
        box.all_wanted.connect(self._accept_all)
        box.similar_wanted.connect(self.similar.start)
        box.everything_wanted.connect(self._segment_everything)
        review.filled.connect(self._on_review)
        review.changed.connect(self._show_review)
        review.shown.connect(lambda place, layer: self._go_to(place, layer, _LEAST_JUDGED))
        review.shown.connect(lambda *_: self.check.leave())
        review.failed.connect(self._on_not_written)
        review.written.connect(self._on_written)
        review.told.connect(lambda text: self._iface.messageBar().pushInfo(PLUGIN_NAME, text))
        self.controller.accept_ready.connect(lambda _drawing: review.go_on())
        self._actions.similar.triggered.connect(self.similar.start)
        self.similar.failed.connect(self._messages.error)
        # Before a polygon of a layer is deleted, which ends its refining.
        self._actions.delete.triggered.connect(review.reject)

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
        self.history.changed.connect(self.learning.refresh)

    def _connect_qgis(self) -> None:
        dock = self.dock
        dock.store_chosen.connect(lambda place: self.open_store(place if is_address(place) else Path(place)))
        dock.suggest_layer = lambda: str(suggested_path(self._image()))
        dock.new_layer_wanted.connect(lambda path: self.target.make(Path(path), self._layer_crs()))
        dock.layer_chosen.connect(lambda _layer: self._messages.close_offer())
        dock.encoding.view_wanted.connect(lambda: self._encode(whole=False))
        dock.encoding.layer_wanted.connect(lambda: self._encode(whole=True))
        dock.encoding.cancel_wanted.connect(self.encoding.cancel)
        dock.display_changed.connect(self._on_display_changed)
        dock.options_box.changed.connect(self.apply_settings)
        dock.class_box.colour_changed.connect(self._on_colour)
        dock.class_box.finished.connect(self.tool.take_focus)
        self._canvas.extentsChanged.connect(self._settled.start)
        self._canvas.layersChanged.connect(self._settled.start)
        QgsProject.instance().cleared.connect(self._on_project_cleared)

    def dispose(self) -> None:
        """Remove everything from QGIS, and end the threads."""
        self._canvas.extentsChanged.disconnect(self._settled.start)
        self._canvas.layersChanged.disconnect(self._settled.start)
        QgsProject.instance().cleared.disconnect(self._on_project_cleared)
        store_news.decoders_changed.disconnect(self._on_decoders_changed)
        self._settled.stop()
        self._shown.stop()
        self._hinted.stop()
        self.image.stop()
        self.target.release()
        self.check.release()
        self.similar.stop()
        self.review.release()
        self.fitter.release()
        self.shaping.release()
        self.suggestions.release()
        self.history.release()
        self._messages.close_offer()
        self._messages.close_report()
        self.encoding.dispose()
        self.learning.dispose()
        self.place.close()
        if self._canvas.mapTool() is self.tool:
            self._canvas.unsetMapTool(self.tool)
        self.stores.shutdown()
        self.overlay.remove()
        self._iface.statusBarIface().clearMessage()
        self._iface.removeDockWidget(self.dock)
        self.dock.deleteLater()
        self.tool.label.deleteLater()
        self.tool.deleteLater()
        self.deleteLater()

    def set_active(self, active: bool) -> None:
        """Make the map tool active or not."""
        if active:
            self.dock.show()
            self._canvas.setMapTool(self.tool)
        elif self._canvas.mapTool() is self.tool:
            self._canvas.unsetMapTool(self.tool)

    def open_store(self, place: Place) -> None:
        """Open a store in the background."""
        if isinstance(place, Path) and not place.is_dir():
            self._settings.forget_store(str(place))
        self.stores.open(place, project_rasters())
        self.image.show()

    def _request(self, raster: LayerSource) -> None:
        """Open or make the store of a raster in the background, unless one is being opened."""
        if not self.stores.is_opening:
            self.stores.request(raster)
            self.image.show()

    def apply_settings(self) -> None:
        """Apply what was changed in the panel or in QGIS's options."""
        store = self.stores.store
        pixel = pixel_area_m2(store) if store is not None else 0.0
        holes = self._settings.fill_holes_m2 / pixel if pixel > 0 else 0.0
        # Polygons below the minimum area are shown, and refused with a reason when accepted.
        settings = self._settings
        # Curves and the fewest vertices are made of the outline as it was traced.
        simplify = 0.0 if settings.outline else settings.simplify_pixels
        self.controller.set_options(CleanOptions(simplify, fill_holes_area=holes, all_parts=settings.all_parts))
        self._on_colour(self.dock.class_box.colour)
        # The command line may be another one.
        self.learning.refresh()

    # The store.

    def _on_store(self, store: OpenStore | None) -> None:
        self.overlay.set_crs(store.crs if store is not None else QgsCoordinateReferenceSystem())
        self._show_recent(store)
        self._show_store_state()
        self.apply_settings()
        self._on_display_changed()
        self._show_encodable()

    def _on_opened(self) -> None:
        wish, self._encode_when_open = self._encode_when_open, None
        if wish is not None and not sip.isdeleted(wish[0]):
            self._encode_layer(*wish)
        self._show_store_state()
        self._on_view_settled()

    def _show_recent(self, store: OpenStore | None) -> None:
        if store is not None and store.place not in self._settings.recent_stores:
            self._settings.remember_store(store.place)
        self.dock.image_box.show_recent(store.place if store is not None else None)

    def _on_store_updated(self, store: OpenStore) -> None:
        self.overlay.set_crs(store.crs)
        self.apply_settings()
        self._on_drawing(self.controller.drawing)
        self._look_ahead()

    def _on_store_wanted(self, raster: LayerSource | None) -> None:
        """Open or make the store for a prompt that waits."""
        if raster is not None:
            self._request(raster)
        elif not self.stores.is_opening:
            self._explain_nothing()

    def _explain_nothing(self) -> None:
        """Say why nothing answers a prompt: no raster is visible, or GDAL cannot read it."""
        error: GeoSamError = _nothing_here()
        unreadable = VisibleRasters(self._canvas.mapSettings).unreadable()
        if unreadable is not None:
            try:
                # Opening it fails with the reason.
                self._request(source_of(unreadable))
                return
            except RasterError as reason:
                error = reason
        self.controller.give_up(error)

    def _encode(self, whole: bool) -> None:
        """Encode the raster under the pointer, or what is in view of the one in the middle of the map."""
        layer = (self.image.layer if whole else None) or self.controller.layer_at()
        # The map may have moved when the store is open.
        settings = QgsMapSettings(self._canvas.mapSettings())
        self._encode_layer(layer, None if whole else View(lambda: settings))

    def _encode_layer(self, layer: QgsRasterLayer | None, view: View | None) -> None:
        """Encode what is in a view, by default the whole raster, as soon as the store of the layer is open."""
        try:
            raster = source_of(layer) if layer is not None else None
        except RasterError as error:
            self._messages.error(error)
            return
        store = self.stores.find(raster) if raster is not None else self.controller.store_at() or self.stores.store
        if store is None and layer is not None and raster is not None:
            self._encode_when_open = layer, view
            self._request(raster)
        elif store is None:
            self._messages.error(_nothing_here())
        elif view is None:
            self.encoding.start(store)
        else:
            try:
                sight = view.sight(store)
            except EditError:
                problem = tr("The view cannot be transformed to the CRS of the raster")
                self._messages.error(PromptError(problem, tr("zoom to the raster")))
            else:
                self.encoding.start(store, shapely.Polygon(sight.corners), sight.level)

    def _show_encodable(self) -> None:
        store = self.stores.store
        live = store.live if store is not None else None
        self.dock.encoding.set_possible(store is None or live is not None, live.no_download if live is not None else "")

    def _on_encoded(self, percent: int, text: str) -> None:
        self.image.show_encoding(self.encoding.store, percent)
        self.dock.encoding.show_progress(percent, text)
        if self._settings.show_tiles and not self._settled.isActive():
            self._settled.start()

    def _on_encoding_ended(self, text: str) -> None:
        self.image.show_encoding(None)
        self.dock.encoding.show_end()
        self._iface.statusBarIface().showMessage(text)
        self._look_ahead()

    def _show_store_state(self) -> None:
        text = ""
        if store := self.stores.store:
            name, licence = (store.metadata.model[key] for key in ("name", "licence"))
            text = tr("Prepared with the model {model} (licence: {licence})").format(model=name, licence=licence)
        self.dock.image_box.show_state(text)

    def _on_failed(self, error: GeoSamError) -> None:
        self._messages.error(error)
        self._encode_when_open = None
        if not self.stores.is_opening:
            self._show_recent(self.stores.store)
            self._show_store_state()

    def _on_display_changed(self) -> None:
        store = self.stores.store
        self.overlay.show_footprint(store if self._settings.show_footprint else None)
        if store is None or not self._settings.show_tiles:
            self.overlay.show_tiles([], [])
        self._look_ahead()

    def _on_view_settled(self) -> None:
        if self._canvas.mapTool() is self.tool:
            self.image.look()
        self._look_ahead()

    def _look_ahead(self) -> None:
        self.controller.look_ahead(self._settings.show_tiles, self._canvas.mapTool() is self.tool)

    def _on_tiles(self, tiles: TilesInView) -> None:
        if self._settings.show_tiles:
            self.overlay.show_tiles(tiles.encoded, tiles.missing)

    def _on_project_cleared(self) -> None:
        self._messages.close_offer()
        self.place.close()
        self.similar.stop()
        self.stores.close_all()
        self.image.forget()

    # The object.

    def _on_hover(self, point: QgsPointXY, positive: bool) -> None:
        self.image.move_to(point)
        self._preview(point, positive)

    def _on_left(self) -> None:
        self.image.stop()
        self.controller.end_preview()

    def _preview(self, point: QgsPointXY, positive: bool = True) -> None:
        if self._actions.preview.isChecked() and not self.tool.mode:
            self.controller.preview(point, positive)

    def _on_preview_toggled(self, checked: bool) -> None:
        self._settings.hover_preview = checked
        if not checked:
            self.controller.end_preview()

    def _on_drawing(self, drawing: Drawing) -> None:
        shown = self.review.fitted if drawing.result is None and self.review.index is not None else drawing.fitted
        self.overlay.show_drawing(drawing.prompts, drawing.result, shown)
        self._enable_actions()
        if drawing.busy:
            return
        text = self._show_result()
        if text:
            self._iface.statusBarIface().showMessage(text)
        else:
            self._iface.statusBarIface().clearMessage()

    def _on_compared(self, comparison: Comparison | None) -> None:
        shown = (comparison.result.geometry, comparison.difference) if comparison is not None else (None, None)
        self.overlay.show_compared(*shown)
        store, result = self.stores.store, self.controller.drawing.result
        if comparison is None or store is None or result is None:
            self._show_result()
        else:
            colours = self.overlay.colour.name(), self.overlay.compared_colour.name()
            text = comparison_text(store.decoder, result, comparison, store.crs, colours)
            self.dock.show_result(text, candidate=candidate_text(result))

    def _show_result(self) -> str:
        store, drawing = self.stores.store, self.controller.drawing
        result, fitted = drawing.result, drawing.fitted
        if store is None or result is None:
            text, is_doubtful = self.review.described
            self.dock.show_result(text, uncertain=is_doubtful)
            return ""
        if fitted is not None and fitted.outline is not None:
            text = result_text(replace(result, geometry=fitted.outline), fitted.crs)
        else:
            text = result_text(result, store.crs)
        refusal = fitted.refusal if fitted is not None else None
        if refusal is not None:
            text = f"{text}\n{translated(refusal)}"
        uncertain = is_uncertain(result) or refusal is not None
        self.dock.show_result(text, result_tip(result), uncertain=uncertain, candidate=candidate_text(result))
        return text

    def _on_decoders_changed(self, path: str, name: str) -> None:
        self.decoders.refresh(Path(path), name)

    def _enable_actions(self) -> None:
        drawing, refining, actions = self.controller.drawing, self.refining, self._actions
        is_busy = drawing.busy or self.controller.is_waiting
        actions.set_drawing_states(drawing.can_undo, drawing.can_redo, drawing.has_polygon, is_busy)
        if refining.picks or self.tool.mode:
            # Esc leaves it.
            actions.discard.setEnabled(True)
        if self.tool.mode == "cut":
            # Enter ends the line.
            actions.accept.setEnabled(True)
        # Also after the last candidate: once too often, the key would delete what is selected in QGIS.
        actions.delete.setEnabled(refining.current is not None or self.review.candidates is not None)
        if self.check.index is not None or self.review.index is not None:
            actions.accept.setEnabled(True)
            actions.discard.setEnabled(True)

    def _on_accept(self) -> None:
        if self.tool.finish_line():
            return
        # What was typed for a polygon that could not be written counts too.
        if not self.review.is_accepting:
            self.dock.class_box.take_typed()
        if not self.review.accept():
            self.controller.accept()

    def _on_discard(self) -> None:
        if self.shaping.leave():
            return
        if self.refining.picks:
            self.refining.stop()
        elif not self.review.leave():
            self.controller.cancel()

    def _on_class_key(self, index: int) -> None:
        """Choose a class; in the review, accept with it too."""
        classes = self.dock.class_box.classes
        self.dock.class_box.choose(index)
        if classes is not None and index < len(classes.items):
            self._accept_reviewed()

    def _on_suggested_key(self) -> None:
        """Take the suggested class, as the key of that class does."""
        self.dock.class_box.take_suggestion()
        self._accept_reviewed()

    def _accept_reviewed(self) -> None:
        if self.review.index is not None and self.refining.current is None:
            self._on_accept()

    # Undo.

    def _name_undo(self) -> None:
        undoing, actions = self.undoing, self._actions
        actions.name_undo(undoing.undo_text, undoing.redo_text)
        if self.controller.is_waiting or self.controller.drawing.can_undo:
            # QGIS would undo or redo an edit of the active layer while an object is drawn.
            actions.undo.setEnabled(True)
            actions.redo.setEnabled(True)

    # Refining.

    def _on_click(self, point: Any, positive: bool) -> None:
        if self.refining.picks:
            self.refining.pick(point)
        else:
            self.controller.add_point(point, positive)

    def _on_refine(self) -> None:
        if self._canvas.mapTool() is not self.tool:
            self.set_active(True)
        self.refining.start()
        self._show_mode()

    def _show_mode(self) -> None:
        refining = self.refining
        if self.tool.mode:
            self.controller.end_preview()
        self._actions.refine.setChecked(refining.picks or refining.current is not None)
        self._enable_actions()
        self.dock.show_hint(self.shaping.hint or refining.hint or self.check.hint or self.review.hint)

    def _on_written(self, layer: QgsVectorLayer, _feature_id: int) -> None:
        step = self.history.last_done
        is_new = step is None or step.own is None or step.own.feature_id is None
        text = tr("Added to {layer} · Ctrl+Z: undo") if is_new else tr("Replaced in {layer} · Ctrl+Z: undo")
        # In a narrow window, the status bar of QGIS has no room for it.
        self.dock.show_result(text.format(layer=layer.name()))
        self._iface.statusBarIface().showMessage(text.format(layer=layer.name()))

    # Coverage.

    def _on_ground(self) -> None:
        """Choose fill, carve or split, and say so beside the pointer for a moment."""
        text = self.dock.options_box.coverage.next_ground()
        self._iface.statusBarIface().showMessage(text, _HINT_MS)
        self.tool.show_beside_pointer(text, self.overlay.colour)
        self._hinted.start()

    def _on_fields(self) -> None:
        layer, classes = self.dock.layer, self.dock.class_box
        if layer is None:
            return
        dialog = FieldsDialog(layer, classes.field, self._iface.mainWindow())
        # What was typed is still there after an error.
        while dialog.exec():
            try:
                dialog.field_map.apply(layer, dialog.class_field)
            except EditError as error:
                self._messages.error(error)
                continue
            if dialog.class_field != classes.field:
                classes.choose_field(dialog.class_field)
            break

    def _unless_in_mode(self, act: Callable[[], object], _checked: bool = False) -> None:
        """Do something with the current finding, unless the key belongs to a mode of the mouse."""
        if not (self.tool.mode or self.refining.picks):
            act()

    def _show_check(self) -> None:
        check, box = self.check, self.dock.options_box.coverage
        box.show_findings(check.texts, check.index)
        box.show_checking(check.is_running)
        self._enable_walk()
        self._show_place()
        self._show_mode()

    # The review.

    @property
    def _walk(self) -> Walk:
        """The list that N goes through: the one the user is in, or else what was not finished."""
        check = self.check
        return check if check.findings and self.review.index is None else self.review

    def _enable_walk(self) -> None:
        for action in (self._actions.next_finding, self._actions.previous_finding):
            action.setEnabled(bool(len(self._walk.items)))

    def _accept_all(self) -> None:
        if self.dock.layer is None:
            self._offer_layer(no_target(), self.review.accept_all)
        else:
            self.review.accept_all()

    def _segment_everything(self) -> None:
        """Open the dialog of the algorithm, and review what it finds."""
        # A plugin of QGIS, which the user may have turned off.
        from processing import execAlgorithmDialog

        output = execAlgorithmDialog("geosam_es:automaticmasks", {}).get("OUTPUT")
        layers = QgsProject.instance().mapLayers().values()
        layer = next((layer for layer in layers if output in (layer.id(), layer.source())), None)
        if layer is not None:
            self.review.fill(layer)

    def _on_review(self) -> None:
        """Show what is under review now; its keys work at once."""
        found, box = self.review.candidates, self.dock.review_box
        box.show_layer(self.review.layer, found.fields if found else (), found.field if found else "")
        if found is not None:
            self.set_active(True)

    def _show_review(self) -> None:
        review, found = self.review, self.review.candidates
        confidence = found.confidence[found.pending] if found else None
        self.dock.review_box.show_queue(len(review.items), found.counts if found else (0, 0), confidence)
        self._enable_walk()
        self._show_place()
        self.suggestions.look_at(review.place, review.layer)
        self._on_drawing(self.controller.drawing)
        self._show_mode()

    def _show_place(self) -> None:
        walk: Walk = self.check if self.check.index is not None else self.review
        self.overlay.show_finding(walk.place, walk.layer.crs() if walk.layer is not None else None)

    def _go_to(self, place: BaseGeometry, layer: QgsVectorLayer, least: float = _LEAST_IN_VIEW) -> None:
        """Show a place, with as little movement as possible; the scale stays if it suits."""
        canvas = self._canvas
        try:
            box = transform_polygon(
                shapely.box(*place.bounds), transform(layer.crs(), canvas.mapSettings().destinationCrs())
            )
        except EditError as error:
            self._messages.error(error)
            return
        extent, view = to_qgs(box).boundingBox(), canvas.extent()
        part = max(extent.width() / view.width(), extent.height() / view.height())
        if least <= part <= _MOST_IN_VIEW:
            if view.buffered(-_MARGIN * max(view.width(), view.height())).contains(extent):
                return
            canvas.setCenter(extent.center())
        else:
            # A line may have no width.
            extent.grow(_FINDING_IN_VIEW * max(extent.width(), extent.height()))
            canvas.setExtent(extent)
        canvas.refresh()

    def _on_colour(self, colour: QColor | None) -> None:
        current = self.dock.class_box.current
        # Another list may have the same codes.
        self.dock.options_box.outline.show_class(current.title if current is not None else "")
        shown = colour if colour is not None else QColor(self._settings.outline_colour)
        self.overlay.set_colour(shown, self._settings.fill_opacity / 100)
        self.tool.show_beside_pointer(self.dock.class_box.shown_text, shown)

    # A new layer.

    def _on_not_written(self, error: GeoSamError) -> None:
        if isinstance(error, NoTargetError):
            self._offer_layer(error, self._on_accept)
        else:
            self._messages.error(error)

    def _offer_layer(self, error: NoTargetError, accept: Callable[[], None]) -> None:
        """Say that there is no target layer, and offer to make one and accept into it."""
        remedies = (
            (tr("New layer"), str(suggested_path(self._image())), self.target.make_beside),
            (tr("Temporary layer"), tr("In memory: save it before you close QGIS"), self.target.make_temporary),
        )

        def act(make: Callable[[RasterPath | None, QgsCoordinateReferenceSystem], bool]) -> None:
            if make(self._image(), self._layer_crs()):
                accept()
            self.tool.take_focus()

        self._messages.offer(error, [(name, tip, partial(act, make)) for name, tip, make in remedies])

    def _image(self) -> RasterPath | None:
        store = self.stores.store
        if store is None:
            return None
        return store.raster.path if store.raster else store.path.parent / store.metadata.raster.file_name

    def _layer_crs(self) -> QgsCoordinateReferenceSystem:
        store, settings = self.stores.store, self._canvas.mapSettings()
        if store is None or not store.crs.isValid():
            return suggested_crs(settings.destinationCrs(), self._canvas.center())
        raster = store.metadata.raster
        center = QgsPointXY(*raster.transform.apply(raster.width / 2, raster.height / 2))
        return suggested_crs(store.crs, center)


def _nothing_here() -> PromptError:
    remedy = tr("show a raster layer and click on it, or open a prepared image in the panel")
    return PromptError(tr("There is nothing to segment here: no raster layer is visible"), remedy)

"""The actions of the plugin, with shortcuts that can be changed in the shortcut dialog of QGIS."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsApplication
from qgis.PyQt.QtCore import QObject, Qt
from qgis.PyQt.QtGui import QIcon, QKeySequence

from ...qgis_support.icons import own_icon
from ...qgis_support.messages import PLUGIN_NAME, tr

try:
    from qgis.PyQt.QtGui import QAction
except ImportError:  # Qt 5
    from qgis.PyQt.QtWidgets import QAction

__all__ = ["CLASS_KEYS", "Actions", "QAction"]

CLASS_KEYS = 9


def _theme_icon(name: str) -> QIcon:
    return QgsApplication.getThemeIcon(f"/{name}.svg")


class Actions(QObject):
    """Creates all actions. Other classes connect them.

    Attributes
    ----------
    tool : QAction
        Checkable; shows and activates the map tool.
    undo, redo : QAction
        For the object being drawn and then for the edits of layers, while the map tool is active; see `name_undo`.
    undo_prompt, candidate, previous, preview, accept, discard : QAction
        For the object being drawn, while the map tool is active.
    refine, delete : QAction
        For polygons of a layer, while the map tool is active; ``refine`` is checked while one is picked or refined.
    brush, eraser, cut, lasso : QAction
        Checkable; modes in which a drag shapes the polygon, while the map tool is active.
    smaller, larger : QAction
        For the size of the brush; enabled with it.
    merge : QAction
        For two polygons, while the map tool is active.
    compare, swap : QAction
        For comparing two decoders, while the map tool is active.
    ground : QAction
        For a target layer in coverage mode, while the map tool is active.
    next_finding, previous_finding : QAction
        For what a check found and for the review, while the map tool is active.
    similar : QAction
        Searches the view, while the map tool is active.
    check : QAction
        Checks the target layer.
    classes : list of QAction
        Each chooses the class at its position.
    suggested : QAction
        Chooses the suggested class; enabled if there is one, while the map tool is active.
    """

    def __init__(self, iface: Any) -> None:
        super().__init__()
        self._iface = iface
        self._registered: list[Any] = []
        self.tool = self._make(own_icon("geosam_es"), tr("Segment by clicking"), "", checkable=True)
        self.tool.setObjectName("geosamEsTool")
        undo, redo = _theme_icon("mActionUndo"), _theme_icon("mActionRedo")
        self.undo = self._make(undo, tr("Undo"), "Ctrl+Z")
        self.redo = self._make(redo, tr("Redo"), "Ctrl+Shift+Z")
        self.undo_prompt = self._make(undo, tr("Take back the last prompt"), "Backspace")
        self.candidate = self._make(own_icon("candidate"), tr("Next candidate: whole, part, sub-part"), "Tab")
        self.previous = self._make(QIcon(), tr("Previous candidate"), "Shift+Tab")
        self.preview = self._make(own_icon("preview"), tr("Preview under the pointer"), "P", checkable=True)
        self.accept = self._make(_theme_icon("mIconSuccess"), tr("Accept the polygon"), "Return")
        self.discard = self._make(_theme_icon("mIconDelete"), tr("Discard the polygon"), "Escape")
        self.refine = self._make(own_icon("refine"), tr("Refine the polygon under the pointer"), "R", checkable=True)
        self.delete = self._make(_theme_icon("mActionDeleteSelected"), tr("Delete or reject the polygon"), "Delete")
        self.brush = self._make(own_icon("brush"), tr("Brush: add to the polygon"), "B", checkable=True)
        self.eraser = self._make(own_icon("eraser"), tr("Eraser: take away from the polygon"), "E", checkable=True)
        self.smaller = self._make(QIcon(), tr("Smaller brush"), "[")
        self.larger = self._make(QIcon(), tr("Larger brush"), "]")
        split = _theme_icon("mActionSplitFeatures")
        self.cut = self._make(split, tr("Cut a polygon along a line"), "K", checkable=True)
        self.lasso = self._make(QIcon(), tr("Lasso or scribble without Alt"), "L", checkable=True)
        merge = tr("Merge with the polygon under the pointer")
        self.merge = self._make(_theme_icon("mActionMergeFeatures"), merge, "M")
        self.compare = self._make(
            own_icon("compare"), tr("Compare two model variants on each click"), "C", checkable=True
        )
        self.swap = self._make(own_icon("swap"), tr("Swap the two model variants, to accept the other polygon"), "X")
        self.ground = self._make(QIcon(), tr("Fill, carve or split, in turn"), "V")
        self.next_finding = self._make(QIcon(), tr("Next in the review or the check"), "N")
        self.previous_finding = self._make(QIcon(), tr("Previous in the review or the check"), "Shift+N")
        self.check = self._make(QIcon(), tr("Check coverage"), "")
        self.similar = self._make(QIcon(), tr("Find objects like the selected ones or the proposal"), "F")
        self.classes = [
            self._make(QIcon(), tr("Choose class {number}").format(number=number), str(number))
            for number in range(1, CLASS_KEYS + 1)
        ]
        self.suggested = self._make(QIcon(), tr("Choose the suggested class"), "0")
        for action in (self.suggested, self.delete, self.ground, self.next_finding, self.previous_finding):
            action.setEnabled(False)
        self.set_drawing_states(False, False, False, False)
        self.name_undo("", "")
        for action in (self.undo, self.redo, self.accept, self.delete, *self.classes):
            # A held key must not run on into the polygons of a layer; Backspace takes back many prompts.
            action.setAutoRepeat(False)

    @property
    def on_buttons(self) -> list[Any]:
        """The actions with a button, in order."""
        shaping = [self.brush, self.eraser, self.cut]
        return [self.accept, self.discard, self.undo, self.candidate, self.refine, *shaping, self.preview]

    @property
    def by_keys(self) -> list[Any]:
        """The actions that the map tool triggers with their shortcuts."""
        keys = [self.previous, self.undo_prompt, self.redo, self.delete, self.compare, self.swap]
        shaping = [self.smaller, self.larger, self.lasso, self.merge]
        coverage = [self.ground, self.next_finding, self.previous_finding, self.similar]
        return [*self.on_buttons, *keys, *shaping, *coverage, *self.classes, self.suggested]

    def set_drawing_states(self, can_undo: bool, can_redo: bool, has_polygon: bool, busy: bool) -> None:
        """Enable the actions that apply to the object being drawn; keys of disabled actions go to QGIS."""
        self.undo_prompt.setEnabled(can_undo)
        self.candidate.setEnabled(has_polygon or busy)
        self.previous.setEnabled(has_polygon or busy)
        self.accept.setEnabled(has_polygon or busy)
        self.discard.setEnabled(can_undo or can_redo or has_polygon or busy)

    def name_undo(self, undo: str, redo: str) -> None:
        """Say on the buttons what undo and redo would do; an empty text disables one, and its key goes to QGIS.

        Their names in the shortcut dialog of QGIS stay.
        """
        for action, text in ((self.undo, undo), (self.redo, redo)):
            action.setEnabled(bool(text))
            name = text or action.text().partition(": ")[2]
            action.setIconText(name)
            keys = action.shortcut().toString(QKeySequence.SequenceFormat.NativeText)
            action.setToolTip(f"{name} ({keys})" if keys else name)

    def unload(self) -> None:
        """Remove the actions from QGIS."""
        for action in self._registered:
            self._iface.unregisterMainWindowAction(action)
            action.deleteLater()
        self._registered = []

    def _make(self, icon: QIcon, text: str, shortcut: str, checkable: bool = False) -> Any:
        action = QAction(icon, text, self._iface.mainWindow())
        action.setToolTip(text)
        action.setCheckable(checkable)
        if shortcut:
            # The map tool handles the keys; a window-wide shortcut would take single letters from all of QGIS.
            action.setShortcutContext(Qt.ShortcutContext.WidgetShortcut)
        # The shortcut dialog of QGIS shows the text, so it names the plugin.
        action.setText(f"{PLUGIN_NAME}: {text}")
        self._iface.registerMainWindowAction(action, shortcut)
        action.setIconText(text)
        self._registered.append(action)
        return action

"""The actions: one for each thing a user can do, with a shortcut that can be changed in QGIS's own dialog."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsApplication
from qgis.PyQt.QtCore import QObject, Qt
from qgis.PyQt.QtGui import QIcon

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
    """All actions. They do nothing until whoever needs them connects them.

    Parameters
    ----------
    iface : QgisInterface

    Attributes
    ----------
    tool : QAction
        Checkable; shows and activates the map tool.
    undo, undo_again, redo, candidate, preview, accept, discard, refine : QAction
        What the keys do while the map tool is active. ``undo_again`` is `undo` with another shortcut.
    compare, swap : QAction
        The same, of the store's decoders.
    classes : list of QAction
        Choose the first class, the second, and so on.
    """

    def __init__(self, iface: Any) -> None:
        super().__init__()
        self._iface = iface
        self._registered: list[Any] = []
        self.tool = self._make(own_icon("geosam_es"), tr("Segment by clicking"), "", checkable=True)
        self.tool.setObjectName("geosamEsTool")
        undo, redo = _theme_icon("mActionUndo"), _theme_icon("mActionRedo")
        self.undo = self._make(undo, tr("Undo the last prompt"), "Backspace")
        self.undo_again = self._make(undo, tr("Undo the last prompt (second shortcut)"), "Ctrl+Z")
        self.redo = self._make(redo, tr("Redo the prompt"), "Ctrl+Shift+Z")
        self.candidate = self._make(own_icon("candidate"), tr("Next candidate: whole, part, sub-part"), "Tab")
        self.preview = self._make(own_icon("preview"), tr("Preview under the pointer"), "P", checkable=True)
        self.accept = self._make(_theme_icon("mIconSuccess"), tr("Accept the polygon"), "Return")
        self.discard = self._make(_theme_icon("mIconDelete"), tr("Discard the polygon"), "Escape")
        self.refine = self._make(own_icon("refine"), tr("Refine the selected polygon"), "R")
        self.compare = self._make(own_icon("compare"), tr("Compare two decoders on each click"), "C", checkable=True)
        self.swap = self._make(own_icon("swap"), tr("Swap the two decoders: accept the other one's polygon"), "X")
        self.classes = [
            self._make(QIcon(), tr("Choose class {number}").format(number=number), str(number))
            for number in range(1, CLASS_KEYS + 1)
        ]
        self.set_drawing_states(False, False, False, False)

    @property
    def on_buttons(self) -> list[Any]:
        """The actions that have a button, in order."""
        return [self.undo, self.redo, self.candidate, self.preview, self.accept, self.discard, self.refine]

    @property
    def by_keys(self) -> list[Any]:
        """The actions that the map tool triggers by their keys."""
        return [*self.on_buttons, self.undo_again, self.compare, self.swap, *self.classes]

    def set_drawing_states(self, can_undo: bool, can_redo: bool, has_polygon: bool, busy: bool) -> None:
        """Enable what makes sense for the object being drawn.

        A key whose action is disabled goes to QGIS: with nothing drawn, Ctrl+Z undoes the last edit of the layer.
        """
        self.undo.setEnabled(can_undo)
        self.undo_again.setEnabled(can_undo)
        self.redo.setEnabled(can_redo)
        self.candidate.setEnabled(has_polygon or busy)
        self.accept.setEnabled(has_polygon or busy)
        self.discard.setEnabled(can_undo or can_redo or has_polygon or busy)

    def unload(self) -> None:
        """Take the actions out of QGIS."""
        for action in self._registered:
            self._iface.unregisterMainWindowAction(action)
            action.deleteLater()
        self._registered = []

    def _make(self, icon: QIcon, text: str, shortcut: str, checkable: bool = False) -> Any:
        action = QAction(icon, text, self._iface.mainWindow())
        action.setToolTip(text)
        action.setCheckable(checkable)
        if shortcut:
            # Keys of one letter must not be taken from the rest of QGIS: the map tool listens for them.
            action.setShortcutContext(Qt.ShortcutContext.WidgetShortcut)
        # QGIS names shortcuts by their text, which must say whose they are.
        action.setText(f"{PLUGIN_NAME}: {text}")
        self._iface.registerMainWindowAction(action, shortcut)
        action.setIconText(text)
        self._registered.append(action)
        return action

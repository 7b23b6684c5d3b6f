"""A text beside the pointer, such as the class of the next polygon."""

from __future__ import annotations

from qgis.PyQt.QtCore import QPoint, Qt
from qgis.PyQt.QtGui import QColor
from qgis.PyQt.QtWidgets import QLabel, QWidget

__all__ = ["PointerLabel"]

_OFFSET = QPoint(14, 16)
_MAX_WIDTH = 280


class PointerLabel(QLabel):
    """Follows the pointer over a canvas without taking its clicks."""

    def __init__(self, viewport: QWidget) -> None:
        super().__init__(viewport)
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.hide()

    def show_class(self, text: str, colour: QColor) -> None:
        """Set the text and the colour of its edge; an empty text hides it."""
        self.setText(self.fontMetrics().elidedText(text, Qt.TextElideMode.ElideMiddle, _MAX_WIDTH))
        self.setStyleSheet(
            "background: rgba(255, 255, 255, 225); color: #202020; padding: 1px 5px;"
            f" border: 1px solid #606060; border-left: 6px solid {colour.name()};"
        )
        self.adjustSize()
        if not text:
            self.hide()

    def follow(self, pointer: QPoint) -> None:
        """Move beside the pointer; on its other side at the right and lower edge."""
        if not self.text():
            return
        area = self.parentWidget().rect()
        x, y = pointer.x() + _OFFSET.x(), pointer.y() + _OFFSET.y()
        if x + self.width() > area.right():
            x = pointer.x() - _OFFSET.x() - self.width()
        if y + self.height() > area.bottom():
            y = pointer.y() - _OFFSET.y() - self.height()
        self.move(x, y)
        self.show()

"""Widgets that several parts of the panel use. All of them work in a panel of any width."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import escape

from qgis.core import QgsApplication
from qgis.PyQt.QtCore import QEvent, QRect, QSize, Qt
from qgis.PyQt.QtGui import QPalette, QResizeEvent
from qgis.PyQt.QtWidgets import (
    QCheckBox,
    QDoubleSpinBox,
    QHBoxLayout,
    QLabel,
    QLayout,
    QLayoutItem,
    QSizePolicy,
    QToolButton,
    QWidget,
    QWidgetItem,
)

from ...qgis_support.settings import Settings

__all__ = [
    "Caption",
    "ElidedLabel",
    "FlowLayout",
    "WrappedLabel",
    "flat_button",
    "icon_button",
    "number_row",
    "row_of",
    "setting_box",
]

_SPACING = 3
_ARROWS_PIXELS = 28
_SHORTEST_NAME = 30
"""Characters of a name that must be seen, unless the panel is narrower."""
_UNITS = re.compile(r"(?<=\d) (?=%|m²|ha\b)")
"""Spaces where a line may not end."""
_WARNING_ON_LIGHT, _WARNING_ON_DARK = "#a33c00", "#ffb454"
_MIDDLE_GREY = 128
_BREAKS = re.compile(r"<[^>]*>|&[#\w]+;|(?<=[_\\])(?=\w)|(?<=[-./])(?=[^\W\d])|(?<=\w{20})(?=\w{5})")
"""Places in a text where a line may end although there is no space; markup is matched to leave it alone."""


def flat_button() -> QToolButton:
    """Return a button without a frame."""
    button = QToolButton()
    button.setAutoRaise(True)
    return button


def icon_button(icon: str, tip: str) -> QToolButton:
    """Return a `flat_button` with an icon of QGIS, by its file name without ``.svg``."""
    button = flat_button()
    button.setIcon(QgsApplication.getThemeIcon(f"/{icon}.svg"))
    button.setToolTip(tip)
    button.setAccessibleName(tip)
    return button


def setting_box(settings: Settings, setting: str, text: str, tip: str, changed: Callable[[], object]) -> QCheckBox:
    """Return a check box for a setting; ``changed`` is called after the user has changed it."""

    def store(checked: bool) -> None:
        setattr(settings, setting, checked)
        changed()

    box = QCheckBox(text)
    box.setObjectName(setting)
    box.setToolTip(tip)
    box.setChecked(getattr(settings, setting))
    box.toggled.connect(store)
    return box


def row_of(*widgets: QWidget) -> QHBoxLayout:
    """Return a layout with widgets side by side."""
    row = QHBoxLayout()
    for widget in widgets:
        row.addWidget(widget)
    return row


class WrappedLabel(QLabel):
    """A text of as many lines as it needs. Long names in it, such as those of files, are broken too."""

    _text, _is_warning = "", False

    def __init__(self, text: str = "") -> None:
        super().__init__()
        self.setWordWrap(True)
        # Otherwise its longest word would be the least width of the panel.
        self.setMinimumWidth(1)
        self.setText(text)

    def setText(self, text: str) -> None:  # noqa: N802
        """Show a text or HTML."""
        self._text, self._is_warning = text, False
        self._show()

    def set_warning(self, text: str) -> None:
        """Show a plain text in a colour that warns."""
        self._text, self._is_warning = text, True
        self._show()

    def text(self) -> str:
        """Return the text as it was set."""
        return self._text

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802
        """Follow the theme of QGIS, which decides on the background."""
        super().changeEvent(event)
        if self._is_warning and event.type() in (QEvent.Type.PaletteChange, QEvent.Type.StyleChange):
            self._show()

    def _show(self) -> None:
        text = self._text
        if self._is_warning:
            is_dark = self.palette().color(QPalette.ColorRole.WindowText).lightness() > _MIDDLE_GREY
            colour = _WARNING_ON_DARK if is_dark else _WARNING_ON_LIGHT
            lines = escape(text).replace("\n", "<br>")
            text = f'<span style="color:{colour}">{lines}</span>'
        text = _BREAKS.sub(lambda match: match[0] or "\u200b", text)
        super().setText(_UNITS.sub("\u00a0", text))


class Caption(WrappedLabel):
    """A short text or HTML beside a widget, in one line where there is room."""

    def __init__(self, text: str = "") -> None:
        # Knows the width of the line, with the padding of QGIS's theme.
        self._line: QLabel | None = None
        super().__init__(text)
        self._line = QLabel(self)
        self._line.hide()

    def sizeHint(self) -> QSize:  # noqa: N802
        """Return the size of one line."""
        if self._line is None:
            return super().sizeHint()
        self._line.setText(self.text())
        return self._line.sizeHint()


class ElidedLabel(QLabel):
    """One line; the middle of a text that does not fit is left out."""

    _text = ""

    def __init__(self) -> None:
        super().__init__()
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setTextFormat(Qt.TextFormat.PlainText)

    def setText(self, text: str) -> None:  # noqa: N802
        """Show a text."""
        self._text = text
        self.setAccessibleName(text)
        self.updateGeometry()
        self._elide()

    def text(self) -> str:
        """Return the whole text."""
        return self._text

    def sizeHint(self) -> QSize:  # noqa: N802
        """Return the size of the text, or of the part of it that must be seen."""
        metrics = self.fontMetrics()
        width = min(metrics.horizontalAdvance(self._text), metrics.averageCharWidth() * _SHORTEST_NAME)
        return QSize(width + self._padding(), super().sizeHint().height())

    def minimumSizeHint(self) -> QSize:  # noqa: N802
        """Return a size that fits any panel."""
        return QSize(1, super().minimumSizeHint().height())

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802
        """Show as much of the text as fits."""
        super().resizeEvent(event)
        self._elide()

    def _elide(self) -> None:
        width = self.width() - self._padding()
        super().setText(self.fontMetrics().elidedText(self._text, Qt.TextElideMode.ElideMiddle, width))

    def _padding(self) -> int:
        """Return what the theme of QGIS adds to the width of a text."""
        return int(super().sizeHint().width() - self.fontMetrics().horizontalAdvance(super().text()))


class FlowLayout(QLayout):
    """Widgets side by side, on as many lines as they need; those that can grow fill their line."""

    def __init__(self, *widgets: QWidget) -> None:
        super().__init__()
        self._items: list[QLayoutItem] = []
        self.setContentsMargins(0, 0, 0, 0)
        for widget in widgets:
            self.addChildWidget(widget)
            self.addItem(QWidgetItem(widget))

    def addItem(self, item: QLayoutItem) -> None:  # noqa: N802
        """Add an item; called by Qt."""
        self._items.append(item)

    def count(self) -> int:
        """Return the number of items; called by Qt."""
        return len(self._items)

    def itemAt(self, index: int) -> QLayoutItem | None:  # noqa: N802
        """Return an item; called by Qt."""
        return self._items[index] if 0 <= index < len(self._items) else None

    def takeAt(self, index: int) -> QLayoutItem | None:  # noqa: N802
        """Remove an item; called by Qt."""
        return self._items.pop(index) if 0 <= index < len(self._items) else None

    def hasHeightForWidth(self) -> bool:  # noqa: N802
        """Return whether a narrow panel needs more lines; called by Qt."""
        # Hidden widgets, as in a folded group, have no height of their own.
        return not self.isEmpty()

    def heightForWidth(self, width: int) -> int:  # noqa: N802
        """Return the height of all lines; called by Qt."""
        heights = [height for height, _ in self._lines(width)]
        return sum(heights) + _SPACING * max(len(heights) - 1, 0)

    def sizeHint(self) -> QSize:  # noqa: N802
        """Return the size of a single line; called by Qt."""
        hints = [item.sizeHint() for item in self._items if not item.isEmpty()]
        width = sum(hint.width() for hint in hints) + _SPACING * max(len(hints) - 1, 0)
        return QSize(width, max((hint.height() for hint in hints), default=0))

    def minimumSize(self) -> QSize:  # noqa: N802
        """Return the size of the largest widget; called by Qt."""
        size = QSize()
        for item in self._items:
            if not item.isEmpty():
                size = size.expandedTo(item.minimumSize())
        return size

    def setGeometry(self, rect: QRect) -> None:  # noqa: N802
        """Place the widgets; called by Qt."""
        super().setGeometry(rect)
        top = rect.top()
        for height, line in self._lines(rect.width()):
            left = rect.left()
            for item, width in line:
                item.setGeometry(QRect(left, top, width, height))
                left += width + _SPACING
            top += height + _SPACING

    def _lines(self, available: int) -> list[tuple[int, list[tuple[QLayoutItem, int]]]]:
        """Return the height of each line, and its items with their widths."""
        lines: list[list[tuple[QLayoutItem, int]]] = []
        left = 0
        for item in self._items:
            if item.isEmpty():
                continue
            width = min(item.sizeHint().width(), max(available, item.minimumSize().width()))
            if not lines or left + width > available:
                lines.append([])
                left = 0
            lines[-1].append((item, width))
            left += width + _SPACING
        return [self._filled(line, available) for line in lines]

    @staticmethod
    def _filled(line: list[tuple[QLayoutItem, int]], available: int) -> tuple[int, list[tuple[QLayoutItem, int]]]:
        spare = available - sum(width for _, width in line) - _SPACING * (len(line) - 1)
        growing = [bool(item.expandingDirections() & Qt.Orientation.Horizontal) for item, _ in line]
        if not any(growing):
            growing = [bool(item.alignment() & Qt.AlignmentFlag.AlignRight) for item, _ in line]
        share = max(spare, 0) // max(sum(growing), 1)
        filled = [(item, width + share * grows) for (item, width), grows in zip(line, growing)]
        heights = [
            item.heightForWidth(width) if item.hasHeightForWidth() else item.sizeHint().height()
            for item, width in filled
        ]
        return max(heights), filled


def number_row(text: str, tip: str, suffix: str, maximum: float, step: float) -> tuple[FlowLayout, QDoubleSpinBox]:
    """Return a caption beside a box for a number, and the box."""
    box = QDoubleSpinBox()
    box.setRange(0.0, maximum)
    box.setDecimals(2 if step < 1000 else 0)
    box.setSingleStep(step)
    box.setSuffix(suffix)
    # Room for a usual number; the largest would make the panel wide.
    box.setFixedWidth(box.fontMetrics().horizontalAdvance("0000.00 m²") + _ARROWS_PIXELS)
    # Not for every typed digit, because each change redraws the polygon.
    box.setKeyboardTracking(False)
    label = Caption(text)
    label.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
    label.setBuddy(box)
    for widget in (label, box):
        widget.setToolTip(tip)
    row = FlowLayout(label, box)
    row.setAlignment(box, Qt.AlignmentFlag.AlignRight)
    return row, box

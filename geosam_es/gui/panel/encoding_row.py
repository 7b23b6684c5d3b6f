"""The part of the panel that prepares the view or the layer in advance, and shows the progress."""

from __future__ import annotations

from qgis.PyQt.QtCore import pyqtSignal
from qgis.PyQt.QtWidgets import QProgressBar, QPushButton, QSizePolicy, QVBoxLayout, QWidget

from ...qgis_support.messages import tr
from .widgets import FlowLayout, WrappedLabel, icon_button, row_of

__all__ = ["EncodingRow"]


class EncodingRow(QWidget):
    """Two buttons, replaced by a progress bar while tiles are encoded."""

    view_wanted = pyqtSignal()
    layer_wanted = pyqtSignal()
    cancel_wanted = pyqtSignal()

    def __init__(self) -> None:
        super().__init__()
        self.view_button = _button(
            tr("Prepare this view"), tr("Prepare the tiles in view now, so that clicks here need not wait")
        )
        self.view_button.clicked.connect(lambda: self.view_wanted.emit())
        self.layer_button = _button(
            tr("Prepare this layer"), tr("Prepare the whole raster in the background while you work")
        )
        self.layer_button.clicked.connect(lambda: self.layer_wanted.emit())
        self._tips = {button: button.toolTip() for button in (self.view_button, self.layer_button)}
        self._bar = QProgressBar()
        self._bar.setTextVisible(False)
        self._cancel = icon_button("mTaskCancel", tr("Stop; finished tiles are kept"))
        self._cancel.clicked.connect(lambda: self.cancel_wanted.emit())
        self._text = WrappedLabel()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(FlowLayout(self.view_button, self.layer_button))
        layout.addLayout(row_of(self._bar, self._cancel))
        layout.addWidget(self._text)
        self.show_end()

    def set_possible(self, possible: bool, why_not_whole: str = "") -> None:
        """Enable the buttons if tiles can be added to the store; otherwise their tool tips say why not.

        Parameters
        ----------
        possible : bool
        why_not_whole : str, optional
            Why only the view can be prepared.
        """
        reason = tr("Only images in local files can be prepared here, with the model chosen in the options")
        for button, tip in self._tips.items():
            button.setEnabled(possible)
            button.setToolTip(tip if possible else reason)
        if possible and why_not_whole:
            self.layer_button.setEnabled(False)
            self.layer_button.setToolTip(why_not_whole)

    def show_progress(self, percent: int, text: str) -> None:
        """Show the progress."""
        self._show(running=True)
        self._bar.setValue(percent)
        self._text.setText(text)

    def show_end(self) -> None:
        """Show the buttons."""
        self._show(running=False)

    def _show(self, running: bool) -> None:
        for widget in (self.view_button, self.layer_button):
            widget.setVisible(not running)
        for widget in (self._bar, self._cancel, self._text):
            widget.setVisible(running)


def _button(text: str, tip: str) -> QPushButton:
    button = QPushButton(text)
    button.setToolTip(tip)
    button.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    return button

"""The part of the panel that chooses the model variant, which is a decoder of the store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qgis.PyQt.QtCore import QLocale, Qt, pyqtSignal
from qgis.PyQt.QtWidgets import QComboBox, QFileDialog, QHBoxLayout, QMenu, QSizePolicy, QToolButton, QWidget

from ...qgis_support.messages import tr
from ...store.decoders import ORIGINAL, StoreDecoder
from ..stores.decoder_choice import DecoderState
from .actions import Actions
from .widgets import flat_button, icon_button

__all__ = ["DecoderRow", "decoder_label", "decoder_tip"]


class DecoderRow(QWidget):
    """A list of the decoders of the store, with buttons to compare and add decoders.

    Parameters
    ----------
    actions : Actions
        The actions that compare and swap get buttons.

    Signals
    -------
    chosen : str
        Name of the decoder to use.
    other_chosen : str
        Name of the decoder to compare it with.
    folder_chosen : str
        Folder of a tuned decoder to add to the store.
    keep_wanted
        The store shall open with the chosen decoder.
    """

    chosen = pyqtSignal(str)
    other_chosen = pyqtSignal(str)
    folder_chosen = pyqtSignal(str)
    keep_wanted = pyqtSignal()

    def __init__(self, actions: Actions) -> None:
        super().__init__()
        self._actions = actions
        self._names = QComboBox()
        self._names.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._names.setAccessibleName(tr("Model variant"))
        self._names.activated.connect(lambda index: self.chosen.emit(self._names.itemData(index)))
        self._others = QMenu(self)
        self._others.setToolTipsVisible(True)
        compare, swap = _action_button(actions.compare), _action_button(actions.swap)
        compare.setPopupMode(QToolButton.ToolButtonPopupMode.MenuButtonPopup)
        compare.setMenu(self._others)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(self._names, 1)
        for button in (compare, swap, self._more_button()):
            layout.addWidget(button)
        self.show_state(DecoderState())

    def show_state(self, state: DecoderState) -> None:
        """Show the decoders and the chosen ones, and disable what does not apply."""
        several = len(state.decoders) > 1
        self._names.clear()
        for decoder in state.decoders:
            self._names.addItem(decoder_label(decoder.name), decoder.name)
            tip = decoder_tip(decoder)
            self._names.setItemData(self._names.count() - 1, tip, Qt.ItemDataRole.ToolTipRole)
        self._names.setCurrentIndex(self._names.findData(state.chosen))
        self._names.setEnabled(several)
        more = tr("Model variant that draws the polygons; the current polygon is drawn again")
        alone = tr("Only the original model is available; use the menu to add a variant tuned on your own polygons")
        self._names.setToolTip(more if several else alone)
        self._show_others(state)
        self._actions.compare.setEnabled(several)
        self._actions.swap.setEnabled(several)
        self.setEnabled(bool(state.decoders))

    def _show_others(self, state: DecoderState) -> None:
        self._others.clear()
        for decoder in state.decoders:
            if decoder.name != state.chosen:
                action = self._others.addAction(tr("Compare with {name}").format(name=decoder_label(decoder.name)))
                action.setToolTip(decoder_tip(decoder))
                action.setCheckable(True)
                action.setChecked(decoder.name == state.other)
                action.triggered.connect(lambda _checked=False, name=decoder.name: self._on_other(name))

    def _on_other(self, name: str) -> None:
        self.other_chosen.emit(name)
        self._actions.compare.setChecked(True)

    def _more_button(self) -> QToolButton:
        button = icon_button("mActionOptions", tr("Add a model variant, or make the chosen one the default"))
        button.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        menu = QMenu(self)
        menu.addAction(tr("Add a tuned model variant …")).triggered.connect(self._browse)
        keep = menu.addAction(tr("Use the chosen variant by default for this image"))
        keep.triggered.connect(lambda: self.keep_wanted.emit())
        button.setMenu(menu)
        return button

    def _browse(self) -> None:
        title = tr("Folder of a model variant, written by geosam-es finetune")
        folder = QFileDialog.getExistingDirectory(self, title, str(Path.home()))
        if folder:
            self.folder_chosen.emit(folder)


def decoder_label(name: str) -> str:
    """Return the name of a decoder as shown to the user."""
    return tr("original") if name == ORIGINAL else name


def decoder_tip(decoder: StoreDecoder) -> str:
    """Return a tool tip about the origin of a decoder."""
    info = decoder.info
    if info is None or not info.objects:
        return info.base if info is not None and info.base else tr("The model that the image was prepared with")
    objects = QLocale().toString(info.objects)
    return tr("Tuned on {objects} objects, {created}").format(objects=objects, created=info.created[:10])


def _action_button(action: Any) -> QToolButton:
    button = flat_button()
    button.setDefaultAction(action)
    # QGIS adds markup and the shortcut to the tool tip.
    button.setAccessibleName(action.iconText())
    return button

"""The choice of the decoder, as a part of the panel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qgis.core import QgsApplication
from qgis.PyQt.QtCore import QLocale, Qt, pyqtSignal
from qgis.PyQt.QtWidgets import QComboBox, QFileDialog, QHBoxLayout, QMenu, QSizePolicy, QToolButton, QWidget

from ...qgis_support.messages import tr
from ...store.decoders import ORIGINAL, StoreDecoder
from ..stores.decoder_choice import DecoderState
from .actions import Actions

__all__ = ["DecoderRow", "decoder_label", "decoder_tip"]


class DecoderRow(QWidget):
    """A list of the store's decoders, and beside it what compares and adds them.

    Parameters
    ----------
    actions : Actions
        Those that compare and swap have a button here.
    parent : QWidget, optional

    Signals
    -------
    chosen : str
        Name of the decoder that is to answer.
    other_chosen : str
        Name of the one to compare it with.
    folder_chosen : str
        Of a tuned decoder that is to go into the store.
    keep_wanted
        The decoder chosen is to be the one that the store is opened with.
    """

    chosen = pyqtSignal(str)
    other_chosen = pyqtSignal(str)
    folder_chosen = pyqtSignal(str)
    keep_wanted = pyqtSignal()

    def __init__(self, actions: Actions, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._actions = actions
        self._names = QComboBox()
        self._names.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self._names.setMinimumContentsLength(8)
        self._names.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._names.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self._names.setAccessibleName(tr("Decoder"))
        self._names.activated.connect(lambda index: self.chosen.emit(self._names.itemData(index)))
        self._others = QMenu(self)
        self._others.setToolTipsVisible(True)
        compare, swap = _action_button(actions.compare), _action_button(actions.swap)
        compare.setPopupMode(QToolButton.ToolButtonPopupMode.MenuButtonPopup)
        compare.setMenu(self._others)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._names, 1)
        for button in (compare, swap, self._more_button()):
            layout.addWidget(button)
        self.show_state(DecoderState())

    def show_state(self, state: DecoderState) -> None:
        """Show what there is and what was chosen; what makes no sense with it is disabled."""
        several = len(state.decoders) > 1
        self._names.clear()
        for decoder in state.decoders:
            self._names.addItem(decoder_label(decoder.name), decoder.name)
            tip = decoder_tip(decoder)
            self._names.setItemData(self._names.count() - 1, tip, Qt.ItemDataRole.ToolTipRole)
        self._names.setCurrentIndex(self._names.findData(state.chosen))
        self._names.setEnabled(several)
        more = tr("The decoder that answers; prompts already given are answered again")
        alone = tr("The store has one decoder; the menu beside it adds one that was tuned on your own polygons")
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
        button = _button()
        button.setIcon(QgsApplication.getThemeIcon("/mActionOptions.svg"))
        button.setToolTip(tr("Add a decoder, or keep the choice in the store"))
        button.setAccessibleName(button.toolTip())
        button.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        menu = QMenu(self)
        menu.addAction(tr("Add a tuned decoder …")).triggered.connect(self._browse)
        menu.addAction(tr("Open this store with this decoder from now on")).triggered.connect(
            lambda: self.keep_wanted.emit()
        )
        button.setMenu(menu)
        return button

    def _browse(self) -> None:
        title = tr("A decoder's folder, as geosam-es finetune writes it")
        folder = QFileDialog.getExistingDirectory(self, title, str(Path.home()))
        if folder:
            self.folder_chosen.emit(folder)


def decoder_label(name: str) -> str:
    """Return a decoder's name as the user reads it."""
    return tr("original") if name == ORIGINAL else name


def decoder_tip(decoder: StoreDecoder) -> str:
    """Say where a decoder comes from."""
    info = decoder.info
    if info is None:
        return tr("The one that the store was made with")
    objects = QLocale().toString(info.objects)
    return tr("Tuned on {objects} objects, {created}").format(objects=objects, created=info.created[:10])


def _button() -> QToolButton:
    button = QToolButton()
    button.setAutoRaise(True)
    # With the focus in the panel, the keys would no longer reach the map.
    button.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    return button


def _action_button(action: Any) -> QToolButton:
    button = _button()
    button.setDefaultAction(action)
    button.setAccessibleName(action.toolTip())
    return button

"""The message that says where a new prepared image goes and how large it may get, and asks whether it stays there."""

from __future__ import annotations

from functools import partial
from typing import Any

from qgis.core import Qgis
from qgis.PyQt.QtCore import QObject, pyqtSignal
from qgis.PyQt.QtWidgets import QCheckBox, QLabel

from ...qgis_support.live_store import LiveStore
from ...qgis_support.messages import BarMessage, tr
from ...qgis_support.settings import Settings
from ..stores.current_store import CurrentStore
from ..stores.open_store import OpenStore
from .cache_box import size_text

__all__ = ["StorePlaceMessage"]


class StorePlaceMessage(QObject):
    """Asks once, at the first new prepared image of a session, until the user chooses for all.

    Nothing waits for the answer: the image is in the cache until it moves.

    Signals
    -------
    moved : OpenStore or None
        A store is now beside its image. Sends the current store.
    """

    moved = pyqtSignal(object)

    def __init__(self, bar: Any, stores: CurrentStore, settings: Settings, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._message = BarMessage(bar)
        self._stores = stores
        self._settings = settings
        self._has_asked = False
        stores.changed.connect(self._on_store)

    def close(self) -> None:
        """Remove the message; the store stays in the cache."""
        self._message.close()

    def _on_store(self, store: OpenStore | None) -> None:
        live = store.live if store is not None else None
        is_asked = self._has_asked or self._settings.store_place != "ask"
        if is_asked or store is None or live is None or live.beside is None:
            return
        self._has_asked = True
        always = QCheckBox(tr("Do not ask again"))
        places = (
            (tr("Beside the image"), live.beside, "beside"),
            (tr("In the cache"), live.root, "cache"),
        )
        buttons = [
            self._message.button(name, str(path), partial(self._on_chosen, live, place, always))
            for name, path, place in places
        ]
        text = tr("{name} is being prepared in the cache, which takes at most {size}.")
        if live.finest_level < 0:
            text = tr(
                "{name} is being prepared in the cache, which takes at most {size}, or {more} with enlarged detail."
            )
        text = text.format(
            name=store.metadata.raster.file_name,
            size=size_text(live.most_bytes()),
            more=size_text(live.most_bytes(live.finest_level)),
        )
        self._message.show(text, Qgis.MessageLevel.Info, QLabel(tr("Keep it:")), *buttons, always)

    def _on_chosen(self, live: LiveStore, place: str, always: QCheckBox) -> None:
        if always.isChecked():
            self._settings.store_place = place
        if place == "beside":
            self._stores.run(live.keep_beside, partial(self._on_moved, live, str(live.root)))

    def _on_moved(self, live: LiveStore, former: str, _: None) -> None:
        self._settings.forget_store(former)
        self._stores.relocate(live)
        self.moved.emit(self._stores.store)

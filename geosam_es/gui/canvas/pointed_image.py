"""The image under the pointer: its store becomes the current one, and its state is shown."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from qgis.core import QgsPointXY, QgsRasterLayer
from qgis.PyQt import sip
from qgis.PyQt.QtCore import QObject, QTimer, pyqtSignal

from ...core.grid import Tile
from ...errors import StoreError
from ...qgis_support.layer_source import LayerSource
from ...qgis_support.live_store import LiveStore
from ...qgis_support.messages import tr
from ...store.layout import SUFFIX
from ...store.reader import TileState
from ...store.remote import without_query
from ..stores.current_store import CurrentStore
from ..stores.open_store import OpenStore, Place, project_raster
from .controller import SegmentationController
from .drawing import Drawing

__all__ = ["ImageState", "PointedImage"]

_AT_REST_MS = 100
"""How long the pointer rests before the image under it is looked up; moves themselves cost nothing."""

_SLOW_MS = 300
"""How long an answer takes before the panel says that images are being fetched: most are there already."""

_COUNTING_SECONDS = 0.002
"""How long tiles are counted at once, in the window's thread."""


@dataclass(frozen=True)
class ImageState:
    """Which image answers, and in what state it is.

    Attributes
    ----------
    name : str
        Name of the layer, or of the raster's file; empty if there is no image.
    text : str
        The state, for the panel; empty if there is no image.
    path : str
        Of the raster or, without one, of its store.
    """

    name: str = ""
    text: str = ""
    path: str = ""


class PointedImage(QObject):
    """Follows the pointer from image to image, unless something is being drawn.

    Signals
    -------
    changed : ImageState
    store_wanted : LayerSource
        The pointer rests on a raster whose store is not open, and opening it would write nothing.
    arrived : QgsPointXY
        The store under the pointer has become the current one.
    """

    changed = pyqtSignal(object)
    store_wanted = pyqtSignal(object)
    arrived = pyqtSignal(QgsPointXY)

    def __init__(self, controller: SegmentationController, stores: CurrentStore, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._controller = controller
        self._stores = stores
        self._point: QgsPointXY | None = None
        self._layer: QgsRasterLayer | None = None
        self._arrived: OpenStore | None = None
        # The store of a catalogue that the next click opens.
        self._sheet: Place | None = None
        self._encoding: tuple[OpenStore, int] | None = None
        # The tiles that may be missing in the store that was asked last.
        self._counted: LiveStore | None = None
        self._unseen: Iterator[Tile] = iter(())
        self._tile: Tile | None = None
        self._state = ImageState()
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_AT_REST_MS)
        self._timer.timeout.connect(self.look)
        self._slow = QTimer(self)
        self._slow.setSingleShot(True)
        self._slow.setInterval(_SLOW_MS)
        self._slow.timeout.connect(self.show)
        controller.drawing_changed.connect(self._on_drawing)
        stores.changed.connect(self.show)
        stores.opened.connect(self.show)
        stores.refused.connect(self.show)

    @property
    def layer(self) -> QgsRasterLayer | None:
        """The raster layer that was under the pointer last; None if there was none, or it is gone."""
        return self._layer if self._layer is not None and not sip.isdeleted(self._layer) else None

    def move_to(self, point: QgsPointXY) -> None:
        """Follow the pointer to a point in the canvas's CRS."""
        self._point = point
        self._timer.start()

    def stop(self) -> None:
        """Look up nothing more."""
        self._timer.stop()

    def forget(self) -> None:
        """Forget where the pointer was."""
        self._point = self._layer = self._sheet = None
        self._timer.stop()
        self.show()

    def show_encoding(self, store: OpenStore | None, percent: int = 0) -> None:
        """Show how much of a store is encoded, while it is."""
        self._encoding = None if store is None else (store, percent)
        self.show()

    def look(self) -> None:
        """Look up the image under the pointer, or in the middle of the map if the pointer is not known to be on it."""
        controller, stores = self._controller, self._stores
        self._timer.stop()
        point = self._point if self._point is not None and controller.is_in_view(self._point) else None
        layer, store = controller.layer_at(point), controller.store_at(point)
        current = stores.store
        self._sheet = controller.catalogued_at(point) if store is None else None
        if store is not None and store.raster is None:
            # A sheet of a catalogue answers, and not the layer that shows it.
            layer = None
        # Beside all images, the last one stays.
        if layer is not None or store is not None or current is None or not controller.is_shown(current):
            self._layer = layer
            if not controller.is_busy:
                stores.select(store)
                former, self._arrived = self._arrived, store
                if point is not None and store is not None and store is not former:
                    self.arrived.emit(point)
        raster = project_raster(self.layer)
        if raster is not None and not controller.is_busy and stores.can_open_quickly(raster):
            self.store_wanted.emit(raster)
        self.show()

    def _on_drawing(self, drawing: Drawing) -> None:
        """Say that images are being fetched if the answer takes long."""
        if drawing.busy:
            self._slow.start()
        elif self._slow.isActive():
            self._slow.stop()
        else:
            self.show()

    def show(self, _: object = None) -> None:
        """Tell the state of the image if it has changed."""
        state = self._describe(self.layer, project_raster(self.layer))
        if state != self._state:
            self._state = state
            self.changed.emit(state)

    def _describe(self, layer: QgsRasterLayer | None, raster: LayerSource | None) -> ImageState:
        stores = self._stores
        if self._sheet is not None:
            place = without_query(self._sheet) if isinstance(self._sheet, str) else str(self._sheet)
            name = Path(place).name.partition(SUFFIX)[0]
            return ImageState(name, tr("opening") if stores.is_opening else tr("ready"), place)
        if layer is None:
            store, name = stores.store, stores.store.metadata.raster.file_name if stores.store is not None else ""
        elif raster is None:
            return ImageState(layer.name(), tr("cannot be used"))
        else:
            store, name = stores.find(raster), layer.name()
        if self._encoding is not None and store is not None and self._encoding[0].path == store.path:
            text = f"{self._encoding[1]} %"
        elif raster is not None and stores.is_opening_for(raster):
            text = tr("opening")
        elif (layer is not None and layer.providerType() != "gdal") or _is_online(store):
            is_slow = self._controller.drawing.busy and not self._slow.isActive()
            text = tr("fetching images …") if is_slow else tr("online")
        elif store is not None and (store.live is None or self._is_complete(store.live)):
            text = tr("ready")
        else:
            text = tr("prepares as you click") if store is not None or layer is not None else ""
        path = str(raster.path) if raster is not None else "" if store is None else store.place
        return ImageState(name, text, path)

    def _is_complete(self, live: LiveStore) -> bool:
        """Tell whether a store has all tiles of its image; of a large one, not at the first call."""
        reader = live.reader
        if self._counted is not live:
            self._counted, self._unseen = live, iter(reader.pyramid)
            self._tile = next(self._unseen, None)
        end = time.perf_counter() + _COUNTING_SECONDS
        try:
            while self._tile is not None and reader.state(self._tile) is not TileState.MISSING:
                self._tile = next(self._unseen, None)
                if time.perf_counter() > end:
                    QTimer.singleShot(_AT_REST_MS, self.show)
                    break
        except StoreError:
            # The next click reports it.
            return False
        return self._tile is None


def _is_online(store: OpenStore | None) -> bool:
    return store is not None and store.live is not None and store.live.is_online

"""Learning from the target layer: a dialog, the training in the background, and the question whether to use the result.

The Processing algorithm ``finetunedecoder`` does the work with the ``geosam-es`` command.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import shapely
from qgis.core import (  # type: ignore[attr-defined]
    NULL,
    Qgis,
    QgsApplication,
    QgsFeatureRequest,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeatureSourceDefinition,
    QgsProcessingFeedback,
    QgsProcessingUtils,
    QgsProject,
    QgsRasterLayer,
    QgsVectorLayer,
)
from qgis.gui import QgsFieldComboBox
from qgis.PyQt import sip
from qgis.PyQt.QtCore import QLocale, QObject, Qt, QUrl
from qgis.PyQt.QtGui import QDesktopServices
from qgis.PyQt.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QFormLayout,
    QProgressBar,
    QPushButton,
    QWidget,
)

from ...core.codes import code_text
from ...errors import GeoSamError
from ...inference.encoder import MODEL_FILE
from ...qgis_support.command_line import CommandLineError, find_command_line
from ...qgis_support.crs import to_qgs, transform, transform_geometry
from ...qgis_support.messages import BarMessage, Messages, tr, translated
from ...qgis_support.settings import Settings
from ...store.decoders import DecoderInfo, read_info
from ..stores.background_task import BackgroundTask
from ..stores.current_store import CurrentStore
from ..stores.decoder_choice import DecoderChoice
from ..stores.open_store import OpenStore
from .dock import SegmentDock

__all__ = ["LearnDialog", "Learning"]

_LEAST_POLYGONS = 10
"""With fewer, hardly any can be held out for the comparison."""

_LEAST_GAIN = 0.005
"""Mean gain in IoU of a click and a box that is worth a new variant."""

_ALGORITHM = "geosam_es:finetunedecoder"
_MAX_NAME_CHARACTERS = 40


class LearnDialog(QDialog):
    """Asks how thoroughly to learn, and from which polygons of a layer.

    Parameters
    ----------
    layer : QgsVectorLayer
    has_encoder : bool
        Whether the encoder can learn too; see `_has_encoder`.
    parent : QWidget, optional
    show_result : callable, optional
        Shows what the model has learned before, and is not used yet.
    """

    def __init__(
        self,
        layer: QgsVectorLayer,
        has_encoder: bool = False,
        parent: QWidget | None = None,
        show_result: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(parent)
        self.setWindowTitle(tr("Learn from {layer}").format(layer=layer.name()))
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self._layer = layer
        self._effort = QComboBox()
        # Minutes of training; checking and comparing come on top.
        self._effort.addItem(tr("Quick: about 3 minutes"), ("adapter", 2))
        if has_encoder:
            text = tr("Thorough: about 15 minutes; images are prepared again with the result")
            self._effort.addItem(text, ("all", 10))
        else:
            self._effort.addItem(tr("Thorough: about 10 minutes"), ("adapter", 8))
        self._field, self._value = QgsFieldComboBox(), QComboBox()
        self._field.setAllowEmptyFieldName(True)
        self._field.setLayer(layer)
        self._field.setField("")
        self._field.setToolTip(tr("Leave it empty to learn from the polygons of all classes"))
        self._field.fieldChanged.connect(self._on_field)
        self._on_field("")
        self._selected = QCheckBox(tr("Selected polygons only"))
        self._selected.setEnabled(layer.selectedFeatureCount() >= _LEAST_POLYGONS)
        self._selected.setToolTip(tr("Select at least {count} polygons").format(count=_LEAST_POLYGONS))
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Ok | QDialogButtonBox.StandardButton.Cancel)
        buttons.button(QDialogButtonBox.StandardButton.Ok).setText(tr("Learn"))
        if show_result is not None:
            last = buttons.addButton(tr("Last result"), QDialogButtonBox.ButtonRole.ActionRole)
            last.clicked.connect(self.reject)
            last.clicked.connect(show_result)
        buttons.accepted.connect(self.accept)
        buttons.rejected.connect(self.reject)
        form = QFormLayout(self)
        form.addRow(tr("Training"), self._effort)
        form.addRow(tr("Class field"), self._field)
        form.addRow(tr("Class"), self._value)
        form.addRow(self._selected)
        form.addRow(buttons)

    @property
    def parameters(self) -> dict[str, Any]:
        """What was chosen, as parameters of the algorithm."""
        only = self._selected.isEnabled() and self._selected.isChecked()
        depth, minutes = self._effort.currentData()
        source = QgsProcessingFeatureSourceDefinition(self._layer.id(), only)
        chosen = {"INPUT": source, "DEPTH": depth, "MINUTES": minutes}
        if self._field.currentField() and self._value.currentText():
            chosen.update(CLASS_FIELD=self._field.currentField(), CLASS_VALUE=self._value.currentText())
        return chosen

    def _on_field(self, name: str) -> None:
        values = self._layer.uniqueValues(self._layer.fields().lookupField(name)) if name else {tr("all")}
        self._value.clear()
        # As geosam-es writes them.
        texts = (code_text(value) for value in values if value != NULL)
        self._value.addItems(sorted(text for text in texts if text))
        self._value.setEnabled(bool(name))


class _LearnTask(BackgroundTask):
    """Runs the algorithm; afterwards it has the outcome in words, and tells whether the new variant is better."""

    def __init__(self, title: str, store: OpenStore, layer_name: str, parameters: Mapping[str, Any]) -> None:
        super().__init__(title)
        self.store, self._layer_name = store, layer_name
        self.outcome, self.is_better = "", False
        # The folder names the variant. The date makes any name of a layer one that every system can use.
        short = re.sub(r"[^\w .+()-]", "_", layer_name)[:_MAX_NAME_CHARACTERS]
        self.folder = Path(QgsProcessingUtils.generateTempFilename(f"{date.today()} {short}".rstrip(" .")))
        self.report = self.folder / "report" / "report.html"
        self._parameters = {**parameters, "STORE": str(store.folder), "OUTPUT": str(self.folder)}
        # Its folder stays meanwhile, also if the user moves it beside the image.
        self._live = store.live.share() if store.live is not None else None
        raster = QgsProject.instance().mapLayer(store.raster.layer_id) if store.raster is not None else None
        if store.live is not None and isinstance(raster, QgsRasterLayer) and raster.providerType() == "gdal":
            # Encodes the missing tiles under the polygons.
            self._parameters["RASTER"] = raster.id()
        self._context, self._feedback = QgsProcessingContext(), QgsProcessingFeedback(False)
        self._context.setProject(QgsProject.instance())
        self._feedback.progressChanged.connect(self.setProgress)
        self._algorithm = QgsApplication.processingRegistry().createAlgorithmById(_ALGORITHM)
        self._algorithm.prepare(self._parameters, self._context, self._feedback)

    def work(self) -> None:
        try:
            self._algorithm.runPrepared(self._parameters, self._context, self._feedback)
        except QgsProcessingException as error:
            raise CommandLineError(str(error)) from error
        if not self._feedback.isCanceled():
            self.outcome, self.is_better = _outcome(read_info(self.folder), self._layer_name)

    def cancel(self) -> None:
        self._feedback.cancel()
        super().cancel()

    def finished(self, result: bool) -> None:
        super().finished(result)
        if self._live is not None:
            self._live.close()


class Learning(QObject):
    """Shows the button where it can work, and runs one training at a time.

    ``check_free`` raises an error while the user is drawing an object, which another model would discard.
    """

    def __init__(
        self,
        bar: Any,
        dock: SegmentDock,
        stores: CurrentStore,
        decoders: DecoderChoice,
        messages: Messages,
        check_free: Callable[[], None],
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._message = BarMessage(bar)
        self._check_free = check_free
        # Until it is used: the message may be closed by accident.
        self._result: _LearnTask | None = None
        self._dock, self._stores, self._decoders, self._messages = dock, stores, decoders, messages
        self._task: _LearnTask | None = None
        self._button = dock.image_box.learn
        self._tip = self._button.toolTip()
        self._button.clicked.connect(self._ask)
        dock.image_box.collapsedStateChanged.connect(lambda _: self.refresh())
        dock.layer_chosen.connect(lambda _: self.refresh())
        stores.changed.connect(lambda _: self.refresh())

    def refresh(self) -> None:
        """Show the button if the command line is found, and enable it or say why not."""
        if self._dock.image_box.isCollapsed():
            return
        try:
            find_command_line(Settings().command_line)
        except CommandLineError:
            self._button.hide()
            return
        reason = self._why_not()
        self._button.setEnabled(not reason)
        self._button.setToolTip(reason or self._tip)
        self._button.show()

    def dispose(self) -> None:
        """Stop, and remove the message."""
        self._message.close()
        if self._task is not None:
            task, self._task = self._task, None
            for signal in (task.taskCompleted, task.taskTerminated):
                signal.disconnect()
            task.cancel()

    def _why_not(self) -> str:
        layer, store = self._dock.layer, self._stores.store
        if self._task is not None:
            return tr("The model is learning already")
        if store is None:
            return tr("Click on an image first")
        if layer is None:
            return tr("Choose a layer with polygons of this image")
        raster = store.metadata.raster
        image = raster.transform.apply_geometry(shapely.box(0, 0, raster.width, raster.height))
        try:
            extent = transform_geometry(to_qgs(image), transform(store.crs, layer.crs())).boundingBox()
        except GeoSamError as error:
            return translated(error)
        request = QgsFeatureRequest().setNoAttributes().setFilterRect(extent).setLimit(_LEAST_POLYGONS)
        count = sum(1 for _ in layer.getFeatures(request))
        if count >= _LEAST_POLYGONS:
            return ""
        text = tr("{layer} has {count} polygons on this image; at least {least} are needed, 50 are better")
        return text.format(layer=layer.name(), count=count, least=_LEAST_POLYGONS)

    def _ask(self) -> None:
        self.refresh()
        layer, store = self._dock.layer, self._stores.store
        if layer is not None and store is not None and self._button.isEnabled():
            again = partial(self._offer, self._result) if self._result is not None else None
            dialog = LearnDialog(layer, _has_encoder(store), self._dock, again)
            dialog.accepted.connect(lambda: self._start(store, layer.name(), dialog.parameters))
            dialog.open()

    def _start(self, store: OpenStore, name: str, parameters: Mapping[str, Any]) -> None:
        title = tr("The model learns from {layer}").format(layer=name)
        task = self._task = _LearnTask(title, store, name, parameters)
        bar = QProgressBar()
        task.progressChanged.connect(lambda percent: sip.isdeleted(bar) or bar.setValue(int(percent)))
        task.taskCompleted.connect(self._on_completed)
        task.taskTerminated.connect(self._on_terminated)
        stop = self._message.button(tr("Cancel"), tr("The model stays as it is"), task.cancel)
        self._message.show(title, Qgis.MessageLevel.Info, bar, stop)
        self.refresh()
        task.start()

    def _end(self) -> _LearnTask | None:
        task, self._task = self._task, None
        self._message.close()
        self.refresh()
        return task

    def _on_terminated(self) -> None:
        task = self._end()
        if task is not None and task.error is not None:
            self._messages.warning(translated(task.error))

    def _on_completed(self) -> None:
        task = self._end()
        if task is not None:
            if task.is_better:
                self._result = task
            self._offer(task)

    def _offer(self, task: _LearnTask) -> None:
        """Say what was gained, and ask whether to use it."""
        report = QPushButton(tr("Report"))
        report.clicked.connect(lambda: QDesktopServices.openUrl(QUrl.fromLocalFile(str(task.report))))
        if (task.folder / MODEL_FILE).is_file():
            use, tip = partial(self._use_model, task), tr("Prepare images with the new model from now on")
        else:
            use = partial(self._use_decoder, task)
            tip = tr("Choose the new variant for this image")
        buttons = [self._message.button(tr("Use it"), tip, use), report] if task.is_better else [report]
        if self._result not in (None, task):
            tip = tr("Show the earlier result, which is not used yet")
            buttons.append(self._message.button(tr("Last result"), tip, partial(self._offer, self._result)))
        level = Qgis.MessageLevel.Success if task.is_better else Qgis.MessageLevel.Info
        self._message.show(task.outcome, level, *buttons)

    def _use_decoder(self, task: _LearnTask) -> None:
        """Let a decoder answer for its image from now on."""

        def failed(error: GeoSamError) -> None:
            self._result = task
            self._offer(task)
            self._messages.error(error)

        self._result = None
        self._decoders.add(task.folder, task.store, failed)

    def _use_model(self, task: _LearnTask) -> None:
        """Keep a model in the profile, and prepare images with it from now on."""
        folder = task.folder
        try:
            self._check_free()
        except GeoSamError as error:
            self._offer(task)
            self._messages.error(error)
            return
        kept = Path(QgsApplication.qgisSettingsDirPath(), "geosam_es", "models", folder.name)
        try:
            shutil.copytree(folder, kept, dirs_exist_ok=True)
        except OSError as error:
            self._offer(task)
            self._messages.warning(tr("{folder} cannot be written ({reason})").format(folder=kept, reason=error))
            return
        self._result = None
        settings = Settings()
        settings.encoder_folder, settings.enlarges = str(kept), True
        self._stores.close_all()
        text = tr("Images are prepared with {name} now. Empty the model folder in the options to go back.")
        self._message.show(text.format(name=folder.name), Qgis.MessageLevel.Success)


def _has_encoder(store: OpenStore) -> bool:
    """Tell whether the encoder of a store can learn: it is the built-in one, and the image can be prepared again."""
    is_cached = store.live is not None and store.raster is not None and store.path != store.raster.store_beside
    return is_cached and not Settings().encoder_folder


def _outcome(info: DecoderInfo, layer_name: str) -> tuple[str, bool]:
    """Return what was gained in words, and whether the new variant is better."""
    locale, figures, gains = QLocale(), [], []
    for prompts, name in (("point", tr("click")), ("box", tr("box"))):
        before, after = (float(info.summary["prompts"][prompts][which]["iou"]) for which in ("before", "tuned"))
        figures.append(f"{name} {locale.toString(before, 'f', 2)} → {locale.toString(after, 'f', 2)}")
        gains.append(after - before)
    held_out = info.summary["held_out"]
    where = tr("on {count} test polygons") if held_out else tr("on the {count} polygons it learned from")
    is_better = sum(gains) / len(gains) >= _LEAST_GAIN
    text = (
        tr("The model learned from {layer}: {figures} {where}.")
        if is_better
        else tr("The model did not get better with {layer} and stays as it is: {figures} {where}.")
    )
    where = where.format(count=held_out or info.objects)
    return text.format(layer=layer_name, figures=", ".join(figures), where=where), is_better

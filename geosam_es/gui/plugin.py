"""The plugin as QGIS loads it: toolbar, menus, options page, Processing provider."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qgis.core import QgsApplication
from qgis.PyQt.QtCore import QUrl, pyqtSignal
from qgis.PyQt.QtGui import QDesktopServices

from ..errors import PackageError
from ..processing.provider import GeoSamProvider
from ..qgis_support.dependencies import dependency_problem, package_problem
from ..qgis_support.icons import own_icon
from ..qgis_support.language import Language
from ..qgis_support.messages import PLUGIN_NAME, Messages, tr
from ..qgis_support.settings import Settings
from .panel.actions import Actions, QAction
from .panel.install_message import InstallMessage
from .panel.options_page import OptionsPageFactory
from .stores.background_task import BackgroundTask

if TYPE_CHECKING:
    from .interaction import Interaction

__all__ = ["GeoSamPlugin", "help_page"]

_HELP = Path(__file__).resolve().parent.parent / "help"


class GeoSamPlugin:
    """Loads without any package besides QGIS; the parts that need more are created once it is installed.

    Parameters
    ----------
    iface : QgisInterface, optional
        None in qgis_process, which only calls `initProcessing`.
    """

    def __init__(self, iface: Any) -> None:
        self._iface = iface
        self._settings = Settings()
        self._language = Language()
        bar = None if iface is None else iface.messageBar()
        self._messages = Messages(bar, self._on_package)
        self._install_message = None if bar is None else InstallMessage(bar, self._load)
        self._loading: _LoadTask | None = None
        self._actions: Actions | None = None
        self._tool_bar: Any = None
        self._help: Any = None
        self._options: OptionsPageFactory | None = None
        self._provider: GeoSamProvider | None = None
        self.interaction: Interaction | None = None

    def initProcessing(self) -> None:  # noqa: N802
        """Add the Processing algorithms; called by QGIS and by qgis_process."""
        self._language.install()
        if self._provider is None:
            self._provider = GeoSamProvider()
            QgsApplication.processingRegistry().addProvider(self._provider)

    def initGui(self) -> None:  # noqa: N802
        """Add everything to QGIS; called by QGIS."""
        self.initProcessing()
        actions = self._actions = Actions(self._iface)
        actions.tool.triggered.connect(self._on_tool)
        self._iface.mapToolActionGroup().addAction(actions.tool)
        self._tool_bar = self._iface.addToolBar(PLUGIN_NAME)
        self._tool_bar.setObjectName("GeoSamEsToolBar")
        self._tool_bar.addAction(actions.tool)
        for action in (actions.tool, actions.check):
            self._iface.addPluginToRasterMenu(PLUGIN_NAME, action)
        self._help = QAction(own_icon("geosam_es"), PLUGIN_NAME, self._iface.mainWindow())
        self._help.triggered.connect(self._show_help)
        self._iface.pluginHelpMenu().addAction(self._help)
        self._options = OptionsPageFactory(self._settings, self._on_options_applied)
        self._iface.registerOptionsWidgetFactory(self._options)
        self._start_if_complete()

    def unload(self) -> None:
        """Remove everything from QGIS; called by QGIS."""
        self._language.remove()
        if self._provider is not None:
            QgsApplication.processingRegistry().removeProvider(self._provider)
            self._provider = None
        self._loading = None
        if self._install_message is not None:
            self._install_message.close()
        if self._actions is None:
            return
        if self.interaction is not None:
            self.interaction.dispose()
            self.interaction = None
        self._iface.unregisterOptionsWidgetFactory(self._options)
        self._iface.mapToolActionGroup().removeAction(self._actions.tool)
        for action in (self._actions.tool, self._actions.check):
            self._iface.removePluginRasterMenu(PLUGIN_NAME, action)
        self._iface.pluginHelpMenu().removeAction(self._help)
        self._iface.mainWindow().removeToolBar(self._tool_bar)
        self._tool_bar.deleteLater()
        self._help.deleteLater()
        self._actions.unload()
        self._actions = self._tool_bar = self._help = self._options = None

    def _on_tool(self, checked: bool) -> None:
        if self._actions is None:
            return
        if self.interaction is None and self._loading is None:
            self._start_if_complete()
        if self.interaction is not None:
            self.interaction.set_active(checked)
        else:
            self._actions.tool.setChecked(False)

    def _load(self) -> None:
        """Import the new packages in the background, then start."""
        task = self._loading = _LoadTask()
        task.loaded.connect(lambda: self._on_loaded(task))
        task.start()

    def _on_loaded(self, task: _LoadTask) -> None:
        # The plugin may have been unloaded meanwhile.
        if self._loading is task:
            self._loading = None
            self._start_if_complete()

    def _start_if_complete(self) -> None:
        """Start, or offer to install what is missing."""
        problem = dependency_problem()
        if problem is None and self.interaction is None:
            self._start()
        elif problem is not None and self._install_message is not None:
            self._install_message.show(problem)

    def _on_package(self, error: PackageError) -> None:
        if self._install_message is not None:
            self._install_message.show(package_problem(error))

    def _start(self) -> None:
        from .interaction import Interaction

        if self._provider is not None and not self._provider.algorithms():
            self._provider.refreshAlgorithms()
        if self._actions is not None:
            self.interaction = Interaction(self._iface, self._actions, self._settings, self._messages)

    def _on_options_applied(self) -> None:
        if self.interaction is not None:
            self.interaction.apply_settings()

    def _show_help(self) -> None:
        QDesktopServices.openUrl(QUrl.fromLocalFile(str(help_page(self._language.name))))


class _LoadTask(BackgroundTask):
    """Imports the packages and what needs them, which would hold the window.

    Signals
    -------
    loaded
        Whether it worked or not.
    """

    loaded = pyqtSignal()

    def __init__(self) -> None:
        super().__init__(tr("Loading GeoSAM-ES"))

    def work(self) -> None:
        """Import the packages. Starting in the GUI thread raises their errors again."""
        if dependency_problem() is None:
            for name in ("..processing.segmenting", ".interaction"):
                importlib.import_module(name, __package__)

    def finished(self, result: bool) -> None:
        """Report; called by QGIS in the GUI thread."""
        super().finished(result)
        self.loaded.emit()


def help_page(language: str) -> Path:
    """Return the help page in a language such as ``es`` or ``es_ES``; in English if there is no translation."""
    translated = _HELP / f"index.{language[:2]}.html"
    return translated if translated.is_file() else _HELP / "index.html"

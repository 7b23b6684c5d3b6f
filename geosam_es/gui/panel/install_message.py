"""The message that offers to install missing Python packages, with the progress and the end of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from qgis.core import Qgis, QgsMessageLog
from qgis.PyQt.QtWidgets import QFileDialog, QMenu, QProgressBar, QPushButton

from ...qgis_support.dependencies import DependencyProblem, dependency_problem
from ...qgis_support.installation import Installation
from ...qgis_support.messages import PLUGIN_NAME, BarMessage, tr

__all__ = ["InstallMessage"]

_PROGRESS_WIDTH = 120
_SHOWN_SECONDS = 20


class InstallMessage:
    """One message in the message bar of QGIS; a new one replaces it.

    Parameters
    ----------
    bar : QgsMessageBar
    installed : callable
        Called when the packages are there and QGIS need not be restarted.
    """

    def __init__(self, bar: Any, installed: Callable[[], None]) -> None:
        self._bar = bar
        self._installed = installed
        self._message = BarMessage(bar)
        self._packages: tuple[str, ...] = ()
        self.installation: Installation | None = None

    def show(self, problem: DependencyProblem) -> None:
        """Offer to install what is missing, unless it is being installed."""
        if self.installation is None:
            self._packages = problem.packages
            self._offer(problem.text)

    def close(self) -> None:
        """Remove the message, and cancel the installation."""
        installation, self.installation = self.installation, None
        if installation is not None:
            installation.cancel()
            installation.deleteLater()
        self._message.close()

    def install(self, source: Path | None = None) -> None:
        """Install the packages from a folder or zip of wheels, or by default from the index of pip."""
        if self.installation is not None:
            return
        installation = self.installation = Installation(self._packages, source)
        busy = QProgressBar()
        busy.setRange(0, 0)
        busy.setFixedWidth(_PROGRESS_WIDTH)
        cancel = QPushButton(tr("Cancel"))
        cancel.clicked.connect(lambda: self._on_cancelled())
        text = tr("Installing {name}").format(name=", ".join(self._packages))
        self._message.show(text, Qgis.MessageLevel.Info, busy, cancel)
        installation.progressed.connect(self._message.set_text)
        installation.finished.connect(self._on_finished)
        installation.start()

    def _offer(self, text: str) -> None:
        QgsMessageLog.logMessage(text, PLUGIN_NAME, Qgis.MessageLevel.Warning)
        install = QPushButton(tr("Install"))
        install.setToolTip(tr("Downloads the packages into a folder of your QGIS profile"))
        install.clicked.connect(lambda: self.install())
        files = QPushButton(tr("From files"))
        files.setToolTip(tr("Installs from wheels on this computer, without network"))
        menu = QMenu(files)
        menu.addAction(tr("From zip…")).triggered.connect(lambda: self._from_zip())
        menu.addAction(tr("From folder…")).triggered.connect(lambda: self._from_folder())
        files.setMenu(menu)
        self._message.show(text, Qgis.MessageLevel.Warning, install, files)

    def _from_zip(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self._bar, tr("Zip of wheels"), "", "*.zip")
        if path:
            self.install(Path(path))

    def _from_folder(self) -> None:
        path = QFileDialog.getExistingDirectory(self._bar, tr("Folder of wheels"))
        if path:
            self.install(Path(path))

    def _on_cancelled(self) -> None:
        self.close()
        problem = dependency_problem()
        if problem is not None:
            self.show(problem)

    def _on_finished(self, problem: str) -> None:
        installation, self.installation = self.installation, None
        if installation is None:
            return
        installation.deleteLater()
        if problem:
            self._offer(problem)
            return
        text = tr("Installed: {names}. No restart is needed.")
        if installation.needs_restart:
            text = tr("Installed: {names}. Restart QGIS to use them.")
        text = text.format(names=", ".join(installation.installed))
        self._message.show(text, Qgis.MessageLevel.Success, seconds=_SHOWN_SECONDS)
        if not installation.needs_restart:
            self._installed()

"""Runs ``geosam-es`` in a process, with progress, cancelling and one-sentence errors."""

from __future__ import annotations

import os
import re
import shlex
import signal
import sys
from collections.abc import Sequence

from qgis.core import QgsProcessingFeedback, QgsProcessingUtils
from qgis.PyQt.QtCore import QProcess, QProcessEnvironment

from ..qgis_support.command_line import CommandLine, CommandLineError
from ..qgis_support.messages import tr

__all__ = ["run_command_line", "terminal_command"]

_POLL_MS = 200
_GRACE_MS = 5000
"""Time that a process gets to end after a signal."""

_PROGRESS_SECONDS = "1"
_PROGRESS = re.compile(r"(?:.+: |epoch )(?P<done>\d+)/(?P<total>\d+) .*")
"""The progress lines of `encoder_tools.progress`, and the lines that training prints for each epoch."""

_ERROR = "Error: "
_OF_QGIS = (
    *("PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "PYTHONEXECUTABLE", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__"),
    *("GDAL_DATA", "GDAL_DRIVER_PATH", "PROJ_LIB", "PROJ_DATA"),
)
"""Variables that QGIS sets for its own Python, GDAL and PROJ; they would break those of another environment."""


def terminal_command(command: CommandLine | None, arguments: Sequence[str]) -> str:
    """Return the command line to type in a terminal, with the plain name if the command was not found."""
    words = [command.program, *command.first] if command is not None else ["geosam-es"]
    return shlex.join([*words, *arguments])


def run_command_line(command: CommandLine, arguments: Sequence[str], feedback: QgsProcessingFeedback) -> bool:
    """Run the command and wait for it, on a thread of Processing.

    Its progress is shown as progress; its other output goes to the log.

    Parameters
    ----------
    command : CommandLine
    arguments : sequence of str
    feedback : QgsProcessingFeedback
        If it is cancelled, the process and all processes it has started are ended.

    Returns
    -------
    bool
        False if it was cancelled.

    Raises
    ------
    CommandLineError
        If it cannot be started, or fails; with the error message of the command.
    """
    process = QProcess()
    process.setProcessChannelMode(QProcess.ProcessChannelMode.MergedChannels)
    process.setProcessEnvironment(_environment())
    # In an empty folder: a file in the current one could be taken for a decoder of the same name.
    process.setWorkingDirectory(QgsProcessingUtils.tempFolder())
    process.start(command.program, [*command.first, *arguments])
    if not process.waitForStarted():
        raise CommandLineError(
            tr("{path} cannot be started ({reason})").format(path=command.program, reason=process.errorString()),
            tr("choose another command in the options of GeoSAM-ES"),
        )
    lines = _Lines(feedback)
    while process.state() != QProcess.ProcessState.NotRunning:
        if feedback.isCanceled():
            _end(process)
            return False
        process.waitForReadyRead(_POLL_MS)
        lines.take(bytes(process.readAll()))
    lines.take(bytes(process.readAll()) + b"\n")
    if process.exitStatus() != QProcess.ExitStatus.NormalExit or process.exitCode() != 0:
        if lines.is_missing:
            problem = tr("GeoSAM-ES is not installed in the Python {path}").format(path=command.program)
            raise CommandLineError(problem, tr("choose another command in the options of GeoSAM-ES"))
        raise CommandLineError(lines.error or tr("The geosam-es command ended without a result: see the log"))
    return True


def _environment() -> QProcessEnvironment:
    environment = QProcessEnvironment.systemEnvironment()
    for name in _OF_QGIS:
        environment.remove(name)
    environment.insert("PYTHONUTF8", "1")
    environment.insert("PYTHONUNBUFFERED", "1")
    environment.insert("GEOSAM_ES_PROGRESS_SECONDS", _PROGRESS_SECONDS)
    # So that cancelling can end whatever it has started.
    environment.insert("GEOSAM_ES_PROCESS_GROUP", "1")
    return environment


class _Lines:
    """Reads the output of the process line by line."""

    def __init__(self, feedback: QgsProcessingFeedback) -> None:
        self.error = ""
        self.is_missing = False
        self._feedback = feedback
        self._rest = b""

    def take(self, data: bytes) -> None:
        """Add output; the last line may still be incomplete."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            text = line.decode("utf-8", "replace").rstrip()
            if text:
                self._take_line(text)

    def _take_line(self, text: str) -> None:
        progress = _PROGRESS.fullmatch(text)
        if progress is not None:
            done, total = int(progress["done"]), int(progress["total"])
            self._feedback.setProgress(100.0 * done / max(total, 1))
            self._feedback.setProgressText(text)
        elif text.startswith(_ERROR):
            self.error = text[len(_ERROR) :]
        else:
            self.is_missing = self.is_missing or "No module named 'encoder_tools" in text
            # The last line of a traceback says what happened.
            self.error = text if re.match(r"[\w.]+(Error|Exception): ", text) else self.error
            self._feedback.pushConsoleInfo(text)


def _end(process: QProcess) -> None:
    """End the command and every process it has started: with SIGTERM, then with SIGKILL."""
    if process.state() == QProcess.ProcessState.NotRunning:
        return
    pid = int(process.processId())
    if sys.platform == "win32":
        QProcess.execute("taskkill", ["/T", "/F", "/PID", str(pid)])
        process.kill()
        process.waitForFinished(_GRACE_MS)
        return
    for number, end_alone in ((signal.SIGTERM, process.terminate), (signal.SIGKILL, process.kill)):
        try:
            os.killpg(pid, number)
        except OSError:
            # It was cancelled before it had a process group, or nothing of the group is left.
            end_alone()
        process.waitForFinished(_GRACE_MS)

"""Runs ``geosam-es`` as a process of its own, with progress, cancelling and errors in one sentence."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from qgis.core import QgsProcessingFeedback, QgsProcessingUtils
from qgis.PyQt.QtCore import QProcess, QProcessEnvironment

from ..qgis_support.command_line import CommandLine, CommandLineError
from ..qgis_support.messages import tr

__all__ = ["as_typed", "run_command_line"]

_POLL_MS = 200
_GRACE_SECONDS = 5.0
"""What a process that was told to end has for it."""

_PROGRESS_SECONDS = "1"
_PROGRESS = re.compile(r"(?:.+: |epoch )(?P<done>\d+)/(?P<total>\d+) .*")
"""The lines of `encoder_tools.progress`, and those of the epochs of a training."""

_ERROR = "Error: "
_FOREIGN = ("PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "PYTHONEXECUTABLE", "GDAL_DATA", "GDAL_DRIVER_PATH")
_FOREIGN_TOO = ("PROJ_LIB", "PROJ_DATA", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")
"""What QGIS sets for its own Python, GDAL and PROJ, and would break those of another environment."""


def as_typed(command: CommandLine | None, arguments: Sequence[str]) -> str:
    """Return a command as it is typed in a terminal; where it was not found, under its name."""
    words = [command.program, *command.first] if command is not None else ["geosam-es"]
    return shlex.join([*words, *arguments])


def run_command_line(command: CommandLine, arguments: Sequence[str], feedback: QgsProcessingFeedback) -> bool:
    """Run the command to its end; on a thread of Processing's.

    What it writes goes to the log, but for progress, which is shown as such.

    Parameters
    ----------
    command : CommandLine
    arguments : sequence of str
    feedback : QgsProcessingFeedback
        When it is cancelled the process is ended, and those it has started.

    Returns
    -------
    bool
        False where it was cancelled.

    Raises
    ------
    CommandLineError
        If it cannot be started, or fails, with the sentence it gave.
    """
    process = QProcess()
    process.setProcessChannelMode(QProcess.ProcessChannelMode.MergedChannels)
    process.setProcessEnvironment(_environment())
    # Where no file is taken for a decoder of the same name.
    process.setWorkingDirectory(QgsProcessingUtils.tempFolder())
    process.start(command.program, [*command.first, *arguments])
    if not process.waitForStarted():
        raise CommandLineError(
            tr("{path} cannot be started ({reason})").format(path=command.program, reason=process.errorString()),
            tr("choose it again in the options of GeoSAM-ES"),
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
            problem = tr("{path} is a Python without GeoSAM-ES").format(path=command.program)
            raise CommandLineError(problem, tr("choose it again in the options of GeoSAM-ES"))
        raise CommandLineError(lines.error or tr("The command line of GeoSAM-ES ended without a result: see the log"))
    return True


def _environment() -> QProcessEnvironment:
    environment = QProcessEnvironment.systemEnvironment()
    for name in (*_FOREIGN, *_FOREIGN_TOO):
        environment.remove(name)
    environment.insert("PYTHONUTF8", "1")
    environment.insert("PYTHONUNBUFFERED", "1")
    environment.insert("GEOSAM_ES_PROGRESS_SECONDS", _PROGRESS_SECONDS)
    return environment


class _Lines:
    """What a process writes, line by line."""

    def __init__(self, feedback: QgsProcessingFeedback) -> None:
        self.error = ""
        self.is_missing = False
        self._feedback = feedback
        self._rest = b""
        self._last = ""

    def take(self, data: bytes) -> None:
        """Take what was written; the last line may not be whole yet."""
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
            # A traceback, which should never come, ends with what happened.
            self.error = text if re.match(r"[\w.]+(Error|Exception): ", text) else self.error
            self._feedback.pushConsoleInfo(text)


def _end(process: QProcess) -> None:
    """End a process and all that it has started, politely at first."""
    family = [process.processId(), *_descendants(process.processId())]
    if sys.platform == "win32":
        QProcess.execute("taskkill", ["/T", "/F", "/PID", str(process.processId())])
    for kind in ("SIGTERM", "SIGKILL"):
        end = time.monotonic() + _GRACE_SECONDS
        for pid in family:
            _signal(pid, kind)
        while process.state() != QProcess.ProcessState.NotRunning and time.monotonic() < end:
            process.waitForFinished(_POLL_MS)
    process.waitForFinished(-1)


def _signal(pid: int, kind: str) -> None:
    number = getattr(signal, kind, None)
    if number is not None and sys.platform != "win32":
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def _descendants(pid: int) -> list[int]:
    """Return the processes that a process has started, and those that these have."""
    children: dict[int, list[int]] = {}
    for child, parent in _parents().items():
        children.setdefault(parent, []).append(child)
    found, waiting = [], [pid]
    while waiting:
        new = children.get(waiting.pop(), [])
        found += new
        waiting += new
    return found


def _parents() -> dict[int, int]:
    """Return each process that runs and the one that started it; nothing on Windows, where `taskkill` knows them."""
    if sys.platform == "win32":
        return {}
    # Containers and sandboxes of Linux often have no ps; macOS has no /proc.
    found = dict(_from_proc(Path("/proc")))
    return found or dict(_from_ps())


def _from_proc(folder: Path) -> Iterator[tuple[int, int]]:
    for path in folder.glob("[0-9]*/stat"):
        # It may have ended by now.
        with contextlib.suppress(OSError):
            # The name, in brackets, may hold anything.
            _, parent = path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[:2]
            yield int(path.parent.name), int(parent)


def _from_ps() -> Iterator[tuple[int, int]]:
    ps = QProcess()
    ps.start("ps", ["-A", "-o", "pid=,ppid="])
    ps.waitForFinished()
    for line in bytes(ps.readAllStandardOutput()).decode().splitlines():
        pair = line.split()
        if len(pair) == 2:
            yield int(pair[0]), int(pair[1])

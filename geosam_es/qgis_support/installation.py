"""Installs the Python packages that QGIS lacks into a folder of the user profile, with pip and QGIS's own Python.

The packages of QGIS stay as they are: nothing is installed outside that folder, numpy never is, and to uninstall is to
delete the folder. pip writes into a temporary folder. The packages move to their place after another process could
import them. Everything that takes time, even listing and removing files, is done by processes, or by a thread once the
process was ended.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import re
import shutil
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from qgis.core import QgsApplication, QgsMessageLog, QgsNetworkAccessManager
from qgis.PyQt.QtCore import QObject, QProcess, QProcessEnvironment, QUrl, pyqtSignal
from qgis.PyQt.QtNetwork import QNetworkProxy

from ..errors import GeoSamError
from ..inference.packages import import_failure, is_missing_library, without_remedy
from .messages import PLUGIN_NAME, tr, translated

__all__ = ["Installation", "InstallationError", "packages_folder", "python_of_qgis", "use_packages_folder"]

_REQUIREMENTS = Path(__file__).resolve().parents[2] / "requirements.txt"
_NAME = re.compile(r"[\w-]+")
_STEP = re.compile(r"(?:Collecting|Processing|Downloading|Installing) (?:\S*[/\\])?(?P<name>[A-Za-z]\w*)")
_NO_WHEEL = re.compile(
    r"No matching distribution found for (?P<name>[\w-]+)|(?P<file>\S+\.whl) is not a supported wheel"
)
_NO_NETWORK = re.compile(
    r"NewConnectionError|NameResolutionError|ConnectTimeout|ReadTimeout|ProxyError|SSLError|Connection (refused|reset)"
)
_WRONG_HASH = "DO NOT MATCH THE HASHES"

_PREPARE = """
import importlib.util, json, pathlib, sys, zipfile
source, folder = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
found = {"tag": sys.implementation.cache_tag, "pip": importlib.util.find_spec("pip") is not None, "unpacked": True}
if source.is_file():
    try:
        with zipfile.ZipFile(source) as archive:
            archive.extractall(folder)
    except (OSError, zipfile.BadZipFile):
        found["unpacked"] = False
    source = folder
if len(sys.argv) > 3:
    found["wheels"] = [str(path) for path in sorted(source.rglob("*.whl"))]
    listed = sorted(source.rglob("requirements.txt"))
    found["listed"] = listed[0].read_text(encoding="utf-8") if listed else None
print(json.dumps(found))
"""
"""Looks at the Python and at the wheels, in a zip or a folder if there is a third argument."""

_CHECK = """
import importlib, json, sys
sys.path[:] = json.loads(sys.argv[1])
for name in sys.argv[2:]:
    try:
        print("version", name, importlib.import_module(name).__version__)
    except Exception as error:
        print("failed", json.dumps([name, getattr(error, "name", None), str(error) or repr(error)]))
"""
"""Imports the packages as this process will: with its path, behind the new folder."""


_PLACE = """
import pathlib, shutil, sys
made, target = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
try:
    target.mkdir(exist_ok=True)
    # The folder that Python imports comes last: a package is there only when all its parts are.
    for path in sorted(made.iterdir(), key=lambda path: path.name in sys.argv[4:]):
        name = path.name.partition("-")[0]
        old = [target / path.name, *(target.glob(f"{name}-*.dist-info") if path.suffix == ".dist-info" else ())]
        for place in old:
            if place.is_dir():
                shutil.rmtree(place)
        path.replace(target / path.name)
except OSError as error:
    print(error.strerror or error)
    sys.exit(1)
shutil.rmtree(sys.argv[3], ignore_errors=True)
"""
_REMOVE_TRIES, _REMOVE_WAIT_SECONDS = 20, 0.1
_REMOVE = "import shutil, sys; shutil.rmtree(sys.argv[1], ignore_errors=True)"


class InstallationError(GeoSamError, OSError):
    """Raised when the packages cannot be installed."""


def packages_folder() -> Path:
    """Return the folder of the packages for this version of Python, in the user profile of QGIS."""
    tag = f"{sys.implementation.cache_tag}-{sysconfig.get_platform()}"
    return Path(QgsApplication.qgisSettingsDirPath(), "python", "geosam_es_packages", tag)


def use_packages_folder() -> None:
    """Let Python find the packages in the folder. It holds only what QGIS lacks or has in too old a version."""
    folder = packages_folder()
    if folder.is_dir() and str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    importlib.invalidate_caches()


def python_of_qgis() -> str:
    """Return the Python interpreter of QGIS; ``sys.executable`` may be QGIS itself.

    Raises
    ------
    InstallationError
        If QGIS comes without one.
    """
    program, prefix = Path(sys.executable or "."), Path(sys.exec_prefix)
    names = [f"python{sys.version_info.major}.{sys.version_info.minor}", "python3", "python"]
    if os.name == "nt":
        names = ["python.exe", "python3.exe"]
    # ``sys.executable`` comes late: in QGIS it may be whatever PATH calls python3, such as that of pyenv or conda.
    folders = [prefix, prefix / "bin", program.parent, program.parent / "bin"]
    candidates = [folder / name for folder in folders for name in names]
    found = next((path for path in candidates if path.is_file()), None)
    if found is None:
        raise InstallationError(
            tr("The Python interpreter of QGIS was not found"), tr("install QGIS with its Python, then try again")
        )
    return str(found)


class Installation(QObject):
    """One installation. It runs in other processes, and the window stays free.

    Parameters
    ----------
    packages : sequence of str
        As they are imported.
    source : Path, optional
        A folder or a zip of wheels. By default the index that pip is configured for. A ``requirements.txt`` with hashes
        beside the wheels is obeyed.
    parent : QObject, optional

    Attributes
    ----------
    progressed : signal (str)
        What it does now.
    finished : signal (str)
        Why it failed, or an empty text. Not emitted if it was cancelled.
    installed : list of str
        Names and versions.
    needs_restart : bool
        Whether QGIS has already loaded another version of one of them.
    """

    progressed = pyqtSignal(str)
    finished = pyqtSignal(str)

    def __init__(self, packages: Sequence[str], source: Path | None = None, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.installed: list[str] = []
        self.needs_restart = False
        self._packages = list(packages)
        self._source = source
        self._folder = Path()
        self._wheels: list[Path] = []
        self._output = ""
        self._then: Callable[[int], None] | None = None
        self._process = QProcess(self)
        self._process.setProcessChannelMode(QProcess.ProcessChannelMode.MergedChannels)
        self._process.readyReadStandardOutput.connect(self._read)
        self._process.finished.connect(self._on_finished)
        self._process.errorOccurred.connect(self._on_error)

    def start(self) -> None:
        """Begin; `finished` reports the end."""
        self._guarded(self._prepare)

    def cancel(self) -> None:
        """End the process; a thread removes its files, which outlives this object."""
        self._then = None
        self._process.kill()
        self._clean()

    def _prepare(self) -> None:
        self._python = python_of_qgis()
        parent = packages_folder().parent
        parent.mkdir(parents=True, exist_ok=True)
        self._folder = Path(tempfile.mkdtemp(prefix="installing-", dir=parent))
        # Outside the folder, which Windows would not remove otherwise.
        self._process.setWorkingDirectory(str(parent))
        self._process.setProcessEnvironment(_environment(is_local=self._source is not None))
        if self._source is not None:
            self.progressed.emit(tr("Reading {name}").format(name=self._source.name))
        source = [str(self._source or ""), str(self._folder / "source")]
        self._run(["-c", _PREPARE, *source, *(["local"] if self._source is not None else [])], self._on_prepared)

    def _on_prepared(self, code: int) -> None:
        found = _json_of(self._output)
        if code != 0 or found.get("tag") != sys.implementation.cache_tag:
            raise InstallationError(
                tr("{path} is not the Python interpreter of this QGIS").format(path=self._python),
                tr("install QGIS with its Python, then try again"),
            )
        if not found["unpacked"]:
            raise InstallationError(
                tr("{path} is not a zip that can be unpacked").format(path=self._source), tr("copy it again")
            )
        self._wheels = [Path(path) for path in found.get("wheels", ())]
        if self._source is not None and not self._wheels:
            raise InstallationError(
                tr("There are no Python wheels in {path}").format(path=self._source),
                tr("choose a folder or zip made with: {command}").format(command=_bundle_command()),
            )
        pip = next((path for path in self._wheels if path.name.startswith("pip-")), None)
        if not found["pip"] and pip is None:
            raise InstallationError(
                tr("The Python of QGIS comes without pip"),
                tr(
                    "install pip (on Debian and Ubuntu: sudo apt install python3-pip), or install from a zip made "
                    "with: {command}"
                ).format(command=_bundle_command()),
            )
        lines = _lines_of(found.get("listed") or _REQUIREMENTS.read_text(encoding="utf-8"), self._packages)
        has_hashes = any("--hash=" in line for line in lines)
        requirements = self._folder / "requirements.txt"
        requirements.write_text("\n".join(lines) + "\n", encoding="utf-8")
        options = ["--only-binary", ":all:", "--no-deps", "--no-input", "--no-cache-dir", "--progress-bar", "off"]
        options += ["--target", str(self._new), "-r", str(requirements)]
        if self._source is not None:
            folders = sorted({path.parent for path in self._wheels})
            options += ["--no-index", *(f"--find-links={folder}" for folder in folders)]
        if has_hashes:
            options.append("--require-hashes")
        own_pip = ["-m", "pip"] if found["pip"] else [str(pip / "pip") if pip else ""]
        self._run([*own_pip, "install", *options], self._on_installed)

    @property
    def _new(self) -> Path:
        return self._folder / "packages"

    def _on_installed(self, code: int) -> None:
        if code != 0:
            raise self._pip_failure()
        self.progressed.emit(tr("Checking the packages"))
        path = json.dumps([str(self._new), *sys.path])
        self._run(["-c", _CHECK, path, *self._packages], self._on_checked)

    def _on_checked(self, code: int) -> None:
        failed = re.search(r"^failed (.+)$", self._output, re.MULTILINE)
        if failed is not None:
            name, missing, reason = json.loads(failed[1])
            error = ModuleNotFoundError(reason, name=missing) if "No module named" in reason else ImportError(reason)
            raise self._check_failure(name, error)
        versions = re.findall(r"^version (\S+) (\S+)", self._output, re.MULTILINE)
        if code != 0 or len(versions) != len(self._packages):
            raise InstallationError(
                tr("The new packages make Python crash ({reason})").format(reason=_last_line(self._output)),
                self._other_wheels(self._packages[-1]),
            )
        self.installed = [f"{name} {version}" for name, version in versions]
        where = [str(self._new), str(packages_folder()), str(self._folder)]
        self._run(["-c", _PLACE, *where, *self._packages], self._on_placed)

    def _on_placed(self, code: int) -> None:
        if code != 0:
            # Windows keeps the libraries that QGIS has loaded.
            raise _not_written(_last_line(self._output))
        self.needs_restart = any(module.partition(".")[0] in self._packages for module in sys.modules)
        use_packages_folder()
        self.finished.emit("")

    def _check_failure(self, name: str, error: ImportError) -> InstallationError:
        problem = translated(without_remedy(import_failure(name, error)))
        if is_missing_library(error):
            remedy = tr("install the Microsoft Visual C++ Redistributable 2019 or later, then restart QGIS")
        else:
            remedy = self._other_wheels(name)
        return InstallationError(problem, remedy)

    def _other_wheels(self, name: str) -> str:
        """Return what to do about a package that does not work here."""
        wheel = next((path for path in self._wheels if path.name.lower().startswith(f"{name}-")), None)
        if wheel is None:
            return tr("try again, or install from a zip made with: {command}").format(command=_bundle_command())
        return tr("replace {file} by the wheel from a zip made with: {command}").format(
            file=wheel.name, command=_bundle_command()
        )

    def _pip_failure(self) -> InstallationError:
        if _WRONG_HASH in self._output:
            return InstallationError(
                tr("A wheel in {path} is damaged or has been changed: its hash is not the listed one").format(
                    path=self._source or "pip"
                ),
                tr("copy or download it again"),
            )
        if self._source is None and _NO_NETWORK.search(self._output):
            return InstallationError(
                tr("The package index cannot be reached"),
                tr("check the network and the proxy in the options of QGIS, or install from a folder or zip of wheels"),
            )
        found = _NO_WHEEL.search(self._output)
        if found is not None:
            problem = tr("There is no wheel of {name} for Python {python} on {platform}").format(
                name=found["name"],
                python=f"{sys.version_info.major}.{sys.version_info.minor}",
                platform=f"{platform.system()} {platform.machine()}",
            )
            return InstallationError(problem, tr("make a zip with: {command}").format(command=_bundle_command()))
        return InstallationError(
            tr("pip cannot install the packages ({reason})").format(reason=_last_line(self._output)),
            tr("the log has its whole output"),
        )

    def _run(self, arguments: list[str], then: Callable[[int], None]) -> None:
        self._output = ""
        self._then = then
        self._process.start(self._python, arguments)

    def _read(self) -> None:
        text = bytes(self._process.readAllStandardOutput()).decode("utf-8", "replace")
        self._output += text
        for line in text.splitlines():
            step = _STEP.match(line.strip())
            if step is not None and step["name"] in self._packages:
                self.progressed.emit(tr("Installing {name}").format(name=step["name"]))

    def _on_finished(self, code: int, status: QProcess.ExitStatus) -> None:
        self._read()
        then, self._then = self._then, None
        if then is not None:
            QgsMessageLog.logMessage(self._output, PLUGIN_NAME)
            self._guarded(lambda: then(code if status == QProcess.ExitStatus.NormalExit else -1))

    def _on_error(self, error: QProcess.ProcessError) -> None:
        if error == QProcess.ProcessError.FailedToStart and self._then is not None:
            self._then = None
            self._clean()
            self.finished.emit(
                tr("{path} cannot be started ({reason})").format(path=self._python, reason=self._process.errorString())
            )

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
        except GeoSamError as error:
            self._end(translated(error))
        except OSError as error:
            self._end(translated(_not_written(error.strerror or str(error))))

    def _end(self, problem: str) -> None:
        """Remove what was made, in a process too, then report."""
        if self._folder == Path():
            self.finished.emit(problem)
        else:
            self._run(["-c", _REMOVE, str(self._folder)], lambda _: self.finished.emit(problem))

    def _clean(self) -> None:
        if self._folder != Path():
            threading.Thread(target=_remove, args=(self._folder,)).start()


def _remove(folder: Path) -> None:
    """Remove a folder in which a process that was killed may still write."""
    for _ in range(_REMOVE_TRIES):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(_REMOVE_WAIT_SECONDS)


def _not_written(reason: str) -> InstallationError:
    problem = tr("The packages cannot be written to {path} ({reason})").format(path=packages_folder(), reason=reason)
    return InstallationError(problem, tr("restart QGIS, then try again"))


def _bundle_command() -> str:
    """Return the command that makes a zip of wheels for this QGIS."""
    names = {"win32": "windows", "darwin": "macos"}
    usual = "linux" if platform.machine() == "x86_64" else f"linux_{platform.machine()}"
    name = names.get(sys.platform, usual)
    return f"make bundle PYTHON={sys.version_info.major}.{sys.version_info.minor} PLATFORM={name}"


def _json_of(output: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(output.strip().rpartition("\n")[2])
    except ValueError:
        return {}
    return found


def _lines_of(requirements: str, packages: Sequence[str]) -> list[str]:
    """Return the lines of the wanted packages."""
    lines = requirements.replace("\\\n", " ").splitlines()
    named = ((_NAME.match(line), line) for line in lines)
    return [line for name, line in named if name is not None and name[0].lower() in packages]


def _environment(*, is_local: bool) -> QProcessEnvironment:
    environment = QProcessEnvironment.systemEnvironment()
    if is_local:
        # Only the chosen wheels count.
        for name in environment.keys():  # noqa: SIM118 - not a dict
            if name.upper().startswith("PIP_"):
                environment.remove(name)
        environment.insert("PIP_CONFIG_FILE", os.devnull)
    elif not environment.contains("PIP_PROXY"):
        proxy = _proxy()
        if proxy:
            environment.insert("PIP_PROXY", proxy)
    # These settings of the user do not agree with --target.
    environment.insert("PIP_USER", "0")
    environment.insert("PIP_REQUIRE_VIRTUALENV", "0")
    environment.insert("PIP_DISABLE_PIP_VERSION_CHECK", "1")
    environment.insert("PIP_RETRIES", "1")
    environment.insert("PYTHONUTF8", "1")
    environment.insert("PYTHONUNBUFFERED", "1")
    return environment


def _proxy() -> str:
    """Return the proxy of QGIS's options as pip takes it, or an empty text. pip finds that of the system itself."""
    proxy = QgsNetworkAccessManager.instance().fallbackProxy()
    kinds = (QNetworkProxy.ProxyType.HttpProxy, QNetworkProxy.ProxyType.HttpCachingProxy)
    if proxy.type() not in kinds or not proxy.hostName():
        return ""
    url = QUrl()
    url.setScheme("http")
    url.setHost(proxy.hostName())
    url.setPort(proxy.port())
    url.setUserName(proxy.user())
    url.setPassword(proxy.password())
    return str(url.toString(QUrl.ComponentFormattingOption.FullyEncoded))


def _last_line(output: str) -> str:
    lines = [line for line in output.strip().splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    return (errors or lines or [tr("see the log")])[-1].replace("ERROR:", "").strip()

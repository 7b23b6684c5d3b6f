"""Where the command ``geosam-es`` is: an environment of its own, with packages that must not be installed in QGIS."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from ..errors import GeoSamError
from .messages import tr

__all__ = ["CommandLine", "CommandLineError", "find_command_line", "install_lines"]

_NAME = "geosam-es"
_MODULE = ("-m", "encoder_tools.cli")
_SOURCE = "https://github.com/geosam-es/geosam-es"
_EXTRA_FOLDERS = ("~/.local/bin", "/opt/homebrew/bin", "/usr/local/bin", "~/geosam-es/bin", "~/geosam-es/Scripts")
"""Where it may be besides PATH, which on some systems is shorter in a window than in a terminal."""


class CommandLineError(GeoSamError, OSError):
    """Raised when ``geosam-es`` is not there, or fails."""


@dataclass(frozen=True)
class CommandLine:
    """The command as it is started.

    Attributes
    ----------
    program : str
        The command, or a Python that has it.
    first : tuple of str
        Arguments that come first then.
    """

    program: str
    first: tuple[str, ...] = ()


def find_command_line(chosen: str) -> CommandLine:
    """Return the command.

    Parameters
    ----------
    chosen : str
        What the user chose in the options: the command, a Python, or the folder of a virtual environment; empty for the
        one that is found.

    Raises
    ------
    CommandLineError
        If there is none.
    """
    if chosen:
        command = _from_path(Path(chosen).expanduser())
        if command is None:
            problem = tr("{path} is neither geosam-es, the command, nor a Python that has it").format(path=chosen)
            raise CommandLineError(problem, tr("choose it again in the options of GeoSAM-ES"))
        return command
    folders = [os.environ.get("PATH", ""), *(str(Path(folder).expanduser()) for folder in _EXTRA_FOLDERS)]
    found = shutil.which(_NAME, path=os.pathsep.join(folders))
    if found is None:
        raise CommandLineError(
            tr("The command line of GeoSAM-ES is not installed on this computer, or not where it is looked for"),
            tr("the log says how to install it; or choose it in the options of GeoSAM-ES"),
        )
    return CommandLine(found)


def _from_path(path: Path) -> CommandLine | None:
    """Take the command itself, a Python, or the folder of a virtual environment."""
    if path.is_dir():
        inner = (path / part / name for part in ("bin", "Scripts", ".") for name in (_NAME, f"{_NAME}.exe"))
        return next((CommandLine(str(one)) for one in inner if one.is_file()), None)
    if not path.is_file():
        return None
    return CommandLine(str(path), _MODULE if path.stem.lower().startswith("python") else ())


def install_lines() -> list[str]:
    """Return what to type in a terminal to install it."""
    if sys.platform == "win32":
        python, pip = "py -3", r"%USERPROFILE%\geosam-es\Scripts\pip"
        folder = r"%USERPROFILE%\geosam-es"
    else:
        python, pip, folder = "python3", "~/geosam-es/bin/pip", "~/geosam-es"
    return [f"{python} -m venv {folder}", f'{pip} install "geosam-es[finetune] @ git+{_SOURCE}"']

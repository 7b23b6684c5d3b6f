"""Finds ``geosam-es``, which is installed outside QGIS: it needs packages that must not be installed in QGIS."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ..errors import GeoSamError
from .messages import tr

__all__ = ["CommandLine", "CommandLineError", "find_command_line", "install_steps"]

_NAME = "geosam-es"
_MODULE = ("-m", "encoder_tools.cli")
_EXTRA_FOLDERS = ("~/.local/bin", "/opt/homebrew/bin", "/usr/local/bin", "~/geosam-es/bin", "~/geosam-es/Scripts")
"""Searched in addition to PATH, which on some systems is shorter for desktop programs than in a terminal."""


class CommandLineError(GeoSamError, OSError):
    """Raised when ``geosam-es`` is not found, or fails."""


@dataclass(frozen=True)
class CommandLine:
    """How to start the command.

    Attributes
    ----------
    program : str
        The command itself, or a Python interpreter in whose environment it is installed.
    first : tuple of str
        Arguments before those of the command, for a Python interpreter.
    """

    program: str
    first: tuple[str, ...] = ()


def find_command_line(chosen: str) -> CommandLine:
    """Return the command that the user chose, or else the one that is found.

    Parameters
    ----------
    chosen : str
        Path from the options: the command, a Python interpreter, or the folder of a virtual environment. Empty to
        search for the command.

    Raises
    ------
    CommandLineError
        If there is no such command.
    """
    if chosen:
        command = _from_path(Path(chosen).expanduser())
        if command is None:
            problem = tr("{path} is neither the geosam-es command nor a Python in which it is installed").format(
                path=chosen
            )
            raise CommandLineError(problem, tr("choose another command in the options of GeoSAM-ES"))
        return command
    folders = [os.environ.get("PATH", ""), *(str(Path(folder).expanduser()) for folder in _EXTRA_FOLDERS)]
    found = shutil.which(_NAME, path=os.pathsep.join(folders))
    if found is None:
        raise CommandLineError(
            tr("The geosam-es command was not found on this computer"),
            tr("install it as the log says, or enter its path in Settings > Options > GeoSAM-ES"),
        )
    return CommandLine(found)


def _from_path(path: Path) -> CommandLine | None:
    """Accept the command itself, a Python interpreter, or the folder of a virtual environment."""
    if path.is_dir():
        inner = (path / part / name for part in ("bin", "Scripts", ".") for name in (_NAME, f"{_NAME}.exe"))
        return next((CommandLine(str(one)) for one in inner if one.is_file()), None)
    if not path.is_file():
        return None
    return CommandLine(str(path), _MODULE if path.stem.lower().startswith("python") else ())


class InstallStep(NamedTuple):
    """What to do, and the commands to type for it."""

    text: str
    commands: tuple[str, ...] = ()


def install_steps() -> list[InstallStep]:
    """Return how to install it from the source code; FOLDER stands for the folder of the source code."""
    if sys.platform == "win32":
        base, folder = "py -3", r'"%USERPROFILE%\geosam-es"'
        own = r'"%USERPROFILE%\geosam-es\Scripts\python"'
    else:
        base, folder, own = "python3", "~/geosam-es", "~/geosam-es/bin/python"
    make = f"{base} -m venv {folder}"
    return [
        InstallStep(
            tr(
                "geosam-es is a separate program. It needs PyTorch, which must not be installed in QGIS, and so a "
                "Python of its own: version 3.9 or later, from python.org or your system."
            )
        ),
        InstallStep(
            tr(
                "Get the source code of GeoSAM-ES and type in a terminal (on Windows, the Command Prompt), with the "
                "folder of the source code in place of FOLDER:"
            ),
            (make, f'{own} -m pip install "FOLDER[finetune]"'),
        ),
        InstallStep(
            tr(
                "Without network: on a computer with network, the same system and the same version of Python, type the "
                "first command. Copy the folder wheels that it makes to this computer, and type the others beside it:"
            ),
            (
                f'{base} -m pip wheel --wheel-dir wheels "FOLDER[finetune]"',
                make,
                f'{own} -m pip install --no-index --find-links wheels "geosam-es[finetune]"',
            ),
        ),
        InstallStep(
            tr(
                "GeoSAM-ES finds it there. If you install it elsewhere, enter its path in Settings > Options > "
                "GeoSAM-ES > Command line."
            )
        ),
    ]

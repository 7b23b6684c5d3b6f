"""Errors as messages and exit codes."""

from __future__ import annotations

import errno
import sys
import traceback
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import click

from geosam_es import __version__
from geosam_es.errors import GeoSamError, OutputError

__all__ = ["EXIT_BAD_INPUT", "EXIT_FAULT", "EXIT_INTERRUPTED", "CommandGroup", "report_fault", "user_error"]

EXIT_FAULT = 1
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130

_GOES_ON = ("models", "repair", "train-mini")
"""Commands without ``--resume`` that go on with what they find."""

_LOG_FILE = "geosam-es.log"
_MOST_LOG_BYTES = 1 << 20


class CommandGroup(click.Group):
    """A group that turns errors into one sentence and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo(f"Interrupted. {self._kept(ctx)}.", err=True)
            sys.exit(EXIT_INTERRUPTED)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            # click has messages and exit codes of its own for these.
            raise
        except Exception as error:
            known = user_error(error)
            click.echo(f"Error: {report_fault(error) if known is None else known.user_message}", err=True)
            sys.exit(EXIT_FAULT if known is None else EXIT_BAD_INPUT)

    def _kept(self, ctx: click.Context) -> str:
        """Return what an interrupted command leaves."""
        name = ctx.invoked_subcommand or ""
        command = self.get_command(ctx, name)
        if command is not None and any(option.name == "resume" for option in command.params):
            return "Finished work is kept: continue with --resume"
        if name in _GOES_ON:
            return "Finished work is kept: run the command again to go on"
        return "An incomplete output is not kept"


def user_error(error: Exception) -> GeoSamError | None:
    """Return the error that a user can act on, or None.

    It is also made of an error of the file system that names a file, or of a full disk.
    """
    if isinstance(error, GeoSamError):
        return error
    if not isinstance(error, OSError) or not error.strerror:
        return None
    is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    if error.filename is None:
        return OutputError(f"The disk is full ({error.strerror})", "free some space") if is_full else None
    remedy = "free some space" if is_full else "check its name and its permissions"
    return OutputError(f"{error.filename} cannot be used ({error.strerror})", remedy)


def report_fault(error: Exception) -> str:
    """Append the traceback of an unexpected error to the log file, and return a sentence for the user."""
    reason = " ".join(str(error).split()) or type(error).__name__
    try:
        path = _append_to_log("".join(traceback.format_exception(type(error), error, error.__traceback__)))
    except OSError:
        return f"An unexpected error occurred ({type(error).__name__}: {reason}): please report it"
    return f"An unexpected error occurred ({type(error).__name__}: {reason}): please report it with the log file {path}"


def _append_to_log(text: str) -> Path:
    from platformdirs import user_log_path

    folder = user_log_path("geosam-es", appauthor=False)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / _LOG_FILE
    is_full = path.is_file() and path.stat().st_size > _MOST_LOG_BYTES
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    with path.open("w" if is_full else "a", encoding="utf-8", errors="backslashreplace") as file:
        file.write(f"{now} GeoSAM-ES {__version__}: {' '.join(sys.argv[1:])}\n{text}\n")
    return path

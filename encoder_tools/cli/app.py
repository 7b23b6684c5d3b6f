"""The command line with all its commands."""

from __future__ import annotations

import io
import os
import signal
import sys

import click

from geosam_es import __version__

from .auto import auto_command
from .catalog import catalog_command
from .check import check_command
from .classify import classify_command
from .decoder import decoder_command
from .encode import encode_command
from .evaluate import evaluate_command
from .finetune import finetune_command
from .group import CommandGroup
from .import_geosam import import_command
from .inspect import info_command, repair_command, verify_command
from .models import export_command, models_command, train_mini_command
from .segment import segment_command
from .similar import similar_command
from .update import update_command

__all__ = ["cli", "main"]

_COMMANDS = (
    encode_command,
    import_command,
    info_command,
    verify_command,
    catalog_command,
    repair_command,
    segment_command,
    auto_command,
    similar_command,
    check_command,
    classify_command,
    update_command,
    decoder_command,
    evaluate_command,
    finetune_command,
    models_command,
    export_command,
    train_mini_command,
)


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="geosam-es")
def cli() -> None:
    """Draw polygons on orthophotos with Segment Anything.

    \b
    geosam-es encode ortho.tif                     writes ortho.embeddings.zarr beside it
    geosam-es segment ortho.embeddings.zarr clicks.gpkg -o polygons.gpkg
    """


for _command in _COMMANDS:
    cli.add_command(_command)


def main() -> None:
    """Run the command line."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # File names need not be text that the terminal can show. Standard error is set so by default.
        sys.stdout.reconfigure(errors="backslashreplace")
    # rasterio cannot log a message of GDAL that quotes bytes of a damaged file, and prints two tracebacks instead.
    show, warn = sys.excepthook, sys.unraisablehook
    sys.excepthook = lambda kind, *rest: None if kind is UnicodeDecodeError else show(kind, *rest)
    sys.unraisablehook = lambda given: None if given.exc_type is UnicodeDecodeError else warn(given)
    if os.environ.get("GEOSAM_ES_PROCESS_GROUP") and hasattr(os, "setpgid"):
        # QGIS ends this process together with all those it starts.
        os.setpgid(0, 0)
    # QGIS ends a command with it. As with Ctrl+C, temporary files are removed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    cli(prog_name="geosam-es")

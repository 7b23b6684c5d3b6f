"""The group of commands, and the one place where errors become messages and exit codes."""

from __future__ import annotations

import sys
from typing import Any

import click

from geosam_es import __version__
from geosam_es.errors import GeoSamError

__all__ = ["cli", "main"]

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130


class _Commands(click.Group):
    """A group that turns errors into one sentence and exit code 2."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except GeoSamError as error:
            click.echo(f"Error: {error.user_message}", err=True)
            sys.exit(EXIT_BAD_INPUT)
        except KeyboardInterrupt:
            click.echo("Interrupted. What was written stays; encode goes on with --resume.", err=True)
            sys.exit(EXIT_INTERRUPTED)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="geosam-es")
def cli() -> None:
    """Draw polygons on orthophotos with Segment Anything.

    \b
    geosam-es encode ortho.tif                     makes ortho.embeddings.zarr beside it
    geosam-es segment ortho.embeddings.zarr clicks.gpkg -o polygons.gpkg
    """


def main() -> None:
    """Run the command line."""
    # Imported here, because the commands need the group.
    from . import encode, inspect, models, segment

    for command in (
        encode.encode_command,
        inspect.info_command,
        inspect.verify_command,
        segment.segment_command,
        models.models_command,
        models.export_command,
        models.train_mini_command,
    ):
        cli.add_command(command)
    cli(prog_name="geosam-es")

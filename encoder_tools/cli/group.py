"""The one place where errors become messages and exit codes."""

from __future__ import annotations

import sys
from typing import Any

import click

from geosam_es.errors import GeoSamError

__all__ = ["EXIT_BAD_INPUT", "EXIT_INTERRUPTED", "CommandGroup"]

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130


class CommandGroup(click.Group):
    """A group that turns errors into one sentence and exit code 2."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except GeoSamError as error:
            click.echo(f"Error: {error.user_message}", err=True)
            sys.exit(EXIT_BAD_INPUT)
        except KeyboardInterrupt:
            click.echo("Interrupted. What was written stays; encode and finetune go on with --resume.", err=True)
            sys.exit(EXIT_INTERRUPTED)

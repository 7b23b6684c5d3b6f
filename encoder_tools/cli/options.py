"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["PATH", "json_option", "threads_option"]

PATH = click.Path(path_type=Path)

json_option = click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
threads_option = click.option("--threads", type=click.IntRange(min=1), help="CPU threads. Default: all cores.")

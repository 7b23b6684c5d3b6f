"""``python -m benchmarks.speed``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from geosam_es.errors import GeoSamError

from .report import fill_document, read_results, summary, write_results
from .run import CASES, run_benchmark

__all__ = ["bench"]


@click.command("benchmarks.speed")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Folder for results.md, results.json and a PNG.")
@click.option("--only", multiple=True, type=click.Choice(list(CASES)), help="Run only this case; may be repeated.")
@click.option("--threads", type=click.IntRange(min=1), default=2, show_default=True, help="CPU threads of all cases.")
@click.option("--quick", is_flag=True, help="Only a few runs of each case; the results are not reliable.")
@click.option(
    "--fill",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Markdown document whose marked sections are filled with the results; may be repeated.",
)
@click.option("--no-run", is_flag=True, help="Use the results in the folder of -o.")
def bench(
    output: Path | None, only: Sequence[str], threads: int, quick: bool, fill: Sequence[Path], no_run: bool
) -> None:
    """Measure clicks and encoding in comparison with references; takes twenty minutes on two cores.

    \b
    Example:
      python -m benchmarks.speed --only decode --quick
      python -m benchmarks.speed -o benchmarks
    """
    if no_run and output is None:
        raise click.UsageError("--no-run needs the folder of the results: -o DIR.")
    try:
        if no_run and output is not None:
            results = read_results(output)
        else:
            results = run_benchmark(only or list(CASES), threads, quick)
        if output is not None:
            write_results(results, output)
            # Imported here, because matplotlib is not installed everywhere.
            from .figures import draw_results

            draw_results(results, output)
        click.echo(summary(results.rows))
        for document in fill:
            fill_document(document, results)
    except GeoSamError as error:
        click.echo(f"Error: {error.user_message}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    bench(prog_name="python -m benchmarks.speed")

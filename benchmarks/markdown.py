"""Markdown tables, and pages with sections that measurements fill in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from geosam_es.errors import ModelError, OutputError
from geosam_es.store.files import write_text

__all__ = ["markdown_table", "replace_sections"]


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def replace_sections(page: Path, sections: Mapping[str, str]) -> None:
    """Replace the text between ``<!-- NAME: begin -->`` and ``<!-- NAME: end -->`` for each name.

    Raises
    ------
    ModelError
        If the page lacks the markers; it is not changed.
    OutputError
        If it cannot be read or written.
    """
    try:
        text = page.read_text(encoding="utf-8")
        for name, body in sections.items():
            begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
            before, found_begin, rest = text.partition(begin)
            _, found_end, after = rest.partition(end)
            if not found_begin or not found_end:
                raise ModelError(f"'{page}' has no section {name}", f"add '{begin}' and '{end}'")
            text = f"{before}{begin}\n{body.strip()}\n{end}{after}"
        write_text(page, text)
    except OSError as error:
        raise OutputError(f"cannot write '{page}' ({error.strerror})", "choose another file") from error

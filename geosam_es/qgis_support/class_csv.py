"""Reads class lists from text files in the forms that users have: CORINE, EUNIS, SIOSE or their own."""

from __future__ import annotations

import csv
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ..errors import EditError
from .messages import tr

__all__ = ["ClassRow", "parse_class_csv", "read_text"]

_MAX_FILE_BYTES = 5_000_000
_DELIMITERS = ";\t,|"

_CODE_WORDS = ("code", "codigo", "codi", "cod", "clave", "key", "value", "valor", "id")
_NAME_WORDS = (
    *("name", "nombre", "nom", "label", "etiqueta", "denominacion", "denominacio"),
    *("descripcion", "descripcio", "description", "desc", "leyenda", "legend", "texto", "text"),
    *("clase", "classe", "class", "habitat"),
)
_COLOR_WORDS = ("color", "colour", "rgb", "hex", "html")
_CHANNEL_WORDS = (("red", "r", "rojo", "vermell"), ("green", "g", "verde", "verd"), ("blue", "b", "azul", "blau"))

_AREA_WORDS = ("mmu", "umc", "minarea", "areamin", "minimum", "minima", "minimo", "min")
_HECTARE_M2 = 1e4

_HEX = re.compile(r"#?([0-9a-f]{6})(?:[0-9a-f]{2})?", re.IGNORECASE)
_NUMBER = re.compile(r"\d+(?:\.\d*)?")
_TRIPLE = re.compile(r"(?:rgba?)?[ (]*(\d{1,3})[-,;/ ]+(\d{1,3})[-,;/ ]+(\d{1,3})(?:[-,;/ ]+[\d.]+)?[ )]*")


@dataclass(frozen=True)
class ClassRow:
    """One class of a list."""

    code: str
    name: str
    rgb: tuple[int, int, int] | None
    min_area_m2: float | None = None


class _Columns(NamedTuple):
    """Indices of the columns; the colour has one column, or three for its channels."""

    code: int
    name: int | None
    color: tuple[int, ...]
    area: int | None = None
    area_m2: float = 1.0
    """Of one unit of the column with areas."""


def read_text(path: Path) -> str:
    """Read a text file in UTF-8 (with or without a BOM), UTF-16 with a BOM, or Windows-1252.

    Raises
    ------
    EditError
        If it cannot be read, or is far too large for a class list.
    """
    try:
        size = path.stat().st_size
        data = path.read_bytes() if size <= _MAX_FILE_BYTES else b""
    except OSError as error:
        raise EditError(tr("{path} cannot be read").format(path=path), tr("check that the file exists")) from error
    if size > _MAX_FILE_BYTES:
        raise _no_classes(path)
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", errors="replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")


def _no_classes(path: Path) -> EditError:
    problem = tr("{path} is not a class list").format(path=path)
    return EditError(problem, tr("write one line for each class with its code, name and colour"))


def parse_class_csv(text: str, path: Path) -> list[ClassRow]:
    """Detect the delimiter and the columns of a class list, and read it.

    Parameters
    ----------
    text : str
    path : Path
        Named in error messages.

    Raises
    ------
    EditError
        If the text contains no class.
    """
    lines = [line for line in text.replace("\x00", "").splitlines() if line.strip() and not _is_comment(line)]
    try:
        rows = _split(lines)
    except csv.Error as error:
        # Such as a line that is too long for a table.
        raise _no_classes(path) from error
    if not rows:
        raise _no_classes(path)
    header = _header(rows)
    body = rows[1:] if header else rows
    columns = _columns_by_header(header, body) if header else _columns_by_content(body)
    classes: dict[str, ClassRow] = {}
    for row in body:
        code = _cell(row, columns.code)
        if code:
            name = _cell(row, columns.name) or code
            rgb = _color([_cell(row, index) for index in columns.color])
            area = _number(_cell(row, columns.area))
            area_m2 = None if area is None else area * columns.area_m2
            classes.setdefault(code, ClassRow(code, name, rgb, area_m2))
    if not classes:
        raise _no_classes(path)
    return list(classes.values())


def _is_comment(line: str) -> bool:
    # A colour map exported by QGIS starts with both.
    return line.startswith(("# ", "INTERPOLATION:"))


def _split(lines: Sequence[str]) -> list[list[str]]:
    """Split lines at the delimiter that gives most of them the same number of cells, more than one.

    ``csv.Sniffer`` gives up on a few ragged lines, which names with a delimiter in them cause.
    """
    best: tuple[int, int, list[list[str]]] | None = None
    for delimiter in _DELIMITERS:
        rows = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=delimiter)]
        width, count = Counter(len(row) for row in rows).most_common(1)[0] if rows else (0, 0)
        if width > 1 and (best is None or count > best[0]):
            best = (count, width, rows)
    return best[2] if best else [[line.strip()] for line in lines]


def _words(cell: str) -> list[str]:
    plain = unicodedata.normalize("NFKD", cell).encode("ascii", "ignore").decode().lower()
    return re.findall(r"[a-z]+", plain)


def _header(rows: Sequence[Sequence[str]]) -> list[str] | None:
    """Return the first row if it is a header."""
    first, body = list(rows[0]), rows[1:]
    known = {*_CODE_WORDS, *_NAME_WORDS, *_COLOR_WORDS}
    named = [cell for cell in first if len(_words(cell)) <= 3 and known.intersection(_words(cell))]
    if len(named) >= min(2, len(first)):
        return first
    # A word above numbers or colours is a header too.
    for index, cell in enumerate(first):
        below = [_cell(row, index) for row in body]
        if len(below) > 1 and all(below) and not cell.isdigit() and all(value.isdigit() for value in below):
            return first
        if len(below) > 1 and not _color([cell]) and all(_strict_color(value) for value in below):
            return first
    return None


def _columns_by_header(header: Sequence[str], body: Sequence[Sequence[str]]) -> _Columns:
    words = [_words(cell) for cell in header]

    def find(wanted: Sequence[str], taken: set[int]) -> int | None:
        ranked = [
            # The values of a raster (GRID_CODE) are not the codes that people use.
            (("grid" in cell), wanted.index(word), _last_first(header, index), index)
            for index, cell in enumerate(words)
            for word in cell
            if word in wanted and index not in taken
        ]
        return min(ranked)[-1] if ranked else None

    taken: set[int] = set()
    channels = [
        next((i for i, cell in enumerate(words) if cell and cell[0] in names), None) for names in _CHANNEL_WORDS
    ]
    color = tuple(index for index in channels if index is not None)
    if len(color) != 3:
        single = find(_COLOR_WORDS, taken)
        color = () if single is None else (single,)
    taken.update(color)
    area = find(_AREA_WORDS, taken)
    taken.update(() if area is None else (area,))
    code = find(_CODE_WORDS, taken)
    taken.update(() if code is None else (code,))
    name = find(_NAME_WORDS, taken)
    rest = [index for index in range(len(header)) if index not in taken and index != name]
    if code is None:
        code = rest.pop(0) if rest else name
    if name is None:
        name = rest[0] if rest else code
    area_m2 = _HECTARE_M2 if area is not None and "ha" in words[area] else 1.0
    return _Columns(code or 0, name, color, area, area_m2)


def _last_first(header: Sequence[str], index: int) -> int:
    """Rank numbered columns, such as LABEL1 to LABEL3, with the most detailed first."""
    number = re.search(r"(\d+)$", header[index].strip())
    return -int(number.group(1)) if number else 0


def _columns_by_content(body: Sequence[Sequence[str]]) -> _Columns:
    width = max(len(row) for row in body)

    def column(index: int) -> list[str]:
        return [_cell(row, index) for row in body]

    def is_channel(index: int) -> bool:
        return all(value.isdigit() and int(value) <= 255 for value in column(index))

    texts = [index for index in range(1, width) if not is_channel(index)]
    colors = [index for index in texts if any(column(index)) and all(_strict_color(v) for v in column(index) if v)]
    if colors:
        color: tuple[int, ...] = (colors[0],)
    else:
        color = next((tuple(range(i, i + 3)) for i in range(1, width - 2) if all(map(is_channel, range(i, i + 3)))), ())
    names = [index for index in texts if index not in color]
    return _Columns(0, names[0] if names else None, color)


def _cell(row: Sequence[str], index: int | None) -> str:
    return row[index] if index is not None and index < len(row) else ""


def _number(text: str) -> float | None:
    number = text.strip().replace(",", ".")
    return float(number) if _NUMBER.fullmatch(number) else None


def _strict_color(value: str) -> bool:
    """Tell whether a text can only be a colour; six hex digits alone may be a code."""
    return (value.startswith("#") and _color([value]) is not None) or _TRIPLE.fullmatch(value) is not None


def _color(cells: Sequence[str]) -> tuple[int, int, int] | None:
    if len(cells) == 3:
        numbers = [int(cell) if cell.isdigit() else 256 for cell in cells]
    elif len(cells) == 1 and (match := _HEX.fullmatch(cells[0].strip())):
        digits = match.group(1)
        numbers = [int(digits[i : i + 2], 16) for i in (0, 2, 4)]
    elif len(cells) == 1 and (match := _TRIPLE.fullmatch(cells[0].strip().lower())):
        numbers = [int(number) for number in match.groups()]
    else:
        return None
    return (numbers[0], numbers[1], numbers[2]) if max(numbers) <= 255 else None

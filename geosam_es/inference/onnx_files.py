"""Which other files an ONNX file reads, told without loading it: older versions of onnxruntime read any file it names.

The file is a tree of protocol buffers. Only the branches that can end in a tensor are followed.
"""

from __future__ import annotations

from collections.abc import Iterator
from mmap import ACCESS_READ, mmap
from pathlib import Path

__all__ = ["external_files"]

_BRANCHES = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
_LOCATION = b"location"
_KEY, _VALUE = 1, 2
_MOST_VARINT_BITS = 64


def external_files(path: Path) -> set[str]:
    """Return the names of the files with weights that an ONNX file has outside itself.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it names a file in a part that is not ONNX.
    """
    found: set[str] = set()
    if path.stat().st_size == 0:
        return found
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
        if content.find(_LOCATION) < 0:
            return found
        branches = [("model", 0, len(content))]
        while branches:
            kind, start, end = branches.pop()
            parts = list(_parts(content, start, end))
            if kind == "entry":
                texts = [(number, content[first:last]) for number, first, last in parts]
                if (_KEY, _LOCATION) in texts:
                    found.update(text.decode("utf-8", "replace") for number, text in texts if number == _VALUE)
                continue
            branches.extend(
                (_BRANCHES[kind][number], first, last) for number, first, last in parts if number in _BRANCHES[kind]
            )
    return found


def _parts(content: mmap, place: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield the number, start and end of each field of a message that has a length."""
    while place < end:
        tag, place = _varint(content, place, end)
        wire, number = tag & 7, tag >> 3
        if wire == 0:
            _, place = _varint(content, place, end)
        elif wire == 2:
            length, place = _varint(content, place, end)
            yield number, place, place + length
            place += length
        elif wire in (1, 5):
            place += 8 if wire == 1 else 4
        else:
            raise ValueError("it is no ONNX file")
    if place != end:
        raise ValueError("it is no ONNX file")


def _varint(content: mmap, place: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, _MOST_VARINT_BITS + 6, 7):
        if place >= end:
            break
        byte = content[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
    raise ValueError("it is no ONNX file")

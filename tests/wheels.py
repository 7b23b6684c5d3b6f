"""Tiny wheels, made on the spot."""

from __future__ import annotations

import zipfile
from pathlib import Path

VERSIONS = {"contourpy": "1.2.0", "shapely": "2.1.0", "onnxruntime": "1.20.0", "numpy": "9.0"}
"""What a folder of wheels holds."""


def make_wheel(folder: Path, name: str, *, tag: str = "py3-none-any", body: str = "") -> Path:
    version = VERSIONS.get(name, "99.0")
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-{version}-{tag}.whl"
    info = f"{name}-{version}.dist-info"
    contents = {
        f"{name}/__init__.py": body + f"\n__version__ = '{version}'\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nRequires-Dist: numpy>=9\n",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    record = "".join(f"{file},,\n" for file in [*contents, f"{info}/RECORD"])
    with zipfile.ZipFile(path, "w") as wheel:
        for file, text in {**contents, f"{info}/RECORD": record}.items():
            wheel.writestr(file, text)
    return path

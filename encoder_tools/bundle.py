"""``make bundle``: the plugin's zip beside the wheels that it needs, for computers without network.

The wheels are those of one version of Python and one platform, and ``requirements.txt`` holds their hashes. The button
*From files* of the plugin installs them.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

__all__ = ["main", "make_bundle"]

_ROOT = Path(__file__).resolve().parents[1]
_MANYLINUX = ("manylinux_2_17", "manylinux2014", "manylinux_2_27", "manylinux_2_28")
_USUAL = {
    "linux": ("linux_x86_64",),
    "windows": ("win_amd64",),
    "win": ("win_amd64",),
    "macos": ("macosx_14_0_arm64", "macosx_14_0_x86_64"),
    "mac": ("macosx_14_0_arm64", "macosx_14_0_x86_64"),
}
"""The platforms that a plain name stands for. QGIS for macOS may be of either processor."""


def make_bundle(plugin: Path, python: str, platform: str, out: Path) -> Path:
    """Download the wheels and write the bundle.

    Parameters
    ----------
    plugin : Path
        ``geosam_es.zip``.
    python : str
        Version of QGIS's Python, such as ``3.12``.
    platform : str
        As pip names it, such as ``win_amd64`` or ``macosx_14_0_arm64``; ``linux_x86_64`` stands for the usual manylinux
        platforms, and ``linux``, ``windows`` and ``macos`` for the usual ones of the system.
    out : Path
        Folder of the bundle.

    Returns
    -------
    Path
        The bundle.

    Raises
    ------
    ValueError
        If ``python`` is not a version of Python 3.
    subprocess.CalledProcessError
        If pip does not find a wheel.
    """
    if not re.fullmatch(r"3\.\d+", python):
        raise ValueError(f"{python} is not a version of Python")
    platforms = _USUAL.get(platform.lower(), (platform,))
    wheels: dict[str, Path] = {}
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        for name in platforms:
            # A line of its own for each processor: their versions may differ.
            marker = f' ; platform_machine == "{name.rpartition("_0_")[2]}"' if len(platforms) > 1 else ""
            for wheel in _download(python, name, Path(folder, name)):
                wheels[wheel.name] = wheel
                lines.append(_locked(wheel, marker))
        out.mkdir(parents=True, exist_ok=True)
        path = out / f"geosam_es-py{python}-{platforms[0] if len(platforms) == 1 else 'macos'}.zip"
        with zipfile.ZipFile(path, "w") as bundle:
            bundle.write(plugin, "geosam_es.zip")
            bundle.writestr("wheels/requirements.txt", "\n".join(lines) + "\n")
            for wheel in wheels.values():
                bundle.write(wheel, f"wheels/{wheel.name}")
    return path


def _download(python: str, platform: str, folder: Path) -> list[Path]:
    """Download the wheels for one platform."""
    platforms = [platform]
    if platform.startswith("linux_"):
        platforms = [f"{name}_{platform[len('linux_') :]}" for name in _MANYLINUX]
    folder.mkdir()
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary", ":all:", "--no-deps"]
    command += ["--python-version", python, "--implementation", "cp", "--dest", str(folder)]
    command += [f"--platform={name}" for name in platforms]
    # Not every QGIS has pip.
    subprocess.run([*command, "-r", str(_requirements(python, folder)), "pip"], check=True)
    return sorted(folder.glob("*.whl"))


def _requirements(python: str, folder: Path) -> Path:
    """Return requirements without markers, which pip reads for the Python that it runs in."""
    from packaging.requirements import Requirement

    lines = (_ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    wanted = [Requirement(line) for line in lines if line and not line.startswith("#")]
    environment = {"python_version": python}
    path = folder / "wanted.txt"
    chosen = [f"{one.name}{one.specifier}" for one in wanted if one.marker is None or one.marker.evaluate(environment)]
    path.write_text("\n".join(chosen) + "\n", encoding="utf-8")
    return path


def _locked(wheel: Path, marker: str) -> str:
    name, version = wheel.name.split("-")[:2]
    return f"{name}=={version}{marker} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from ``make bundle``."""
    parser = argparse.ArgumentParser(prog="python -m encoder_tools.bundle", description=__doc__)
    parser.add_argument("plugin", type=Path, help="geosam_es.zip")
    parser.add_argument("--python", required=True, help="version of QGIS's Python, such as 3.12")
    parser.add_argument("--platform", required=True, help="windows, linux, macos, or as pip names it")
    parser.add_argument("--out", type=Path, default=Path("dist"))
    options = parser.parse_args(arguments)
    try:
        print(make_bundle(options.plugin, options.python, options.platform, options.out))
    except ValueError:
        print(f"Error: {options.python} is not a version of Python: add, for example, PYTHON=3.12", file=sys.stderr)
        return 2
    except subprocess.CalledProcessError:
        print(f"Error: there are no wheels for Python {options.python} on {options.platform}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`make test-qgis SUITE=...` hands the tests to another Debian's QGIS, once; with a stand-in for the chroot."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STAND_INS = {
    "id": "echo 0",
    "debootstrap": "exit 1",
    "mount": "true",
    "mountpoint": "false",
    "cp": "true",
    "chroot": 'shift; printf "%s\\n" "$*" >>"$NOTED"; env >>"$NOTED"',
}


@pytest.mark.skipif(shutil.which("make") is None or os.name != "posix", reason="make and a shell are needed")
def test_the_make_inside_does_not_begin_another(tmp_path: Path) -> None:
    for name, body in STAND_INS.items():
        script = tmp_path / "bin" / name
        script.parent.mkdir(exist_ok=True)
        script.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
        script.chmod(0o755)
    chroot = tmp_path / "roots" / "trixie"
    for folder in ("etc/apt/apt.conf.d", "dev", "sys", "proc"):
        (chroot / folder).mkdir(parents=True)
    (chroot / ".ready").touch()
    noted = tmp_path / "noted"
    environment = {
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "CHROOTS": str(chroot.parent),
        "NOTED": str(noted),
        "HOME": str(tmp_path),
    }
    command = ["make", "--no-print-directory", "test-qgis", "SUITE=trixie"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = noted.read_text(encoding="utf-8").splitlines()
    assert sum("test-qgis" in line for line in lines) == 1
    assert not [
        line for line in lines if line.startswith(("SUITE=", "MAKEFLAGS=", "MAKEOVERRIDES=")) and "trixie" in line
    ]

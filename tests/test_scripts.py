"""The Makefile and the scripts of ``.ci``."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = [*sorted((ROOT / ".ci").iterdir()), *sorted((ROOT / "tests").rglob("*.sh"))]
WITH_POSTGIS = ROOT / ".ci" / "with-postgis"
POSTGIS = list(Path("/usr/share/postgresql").glob("*/extension/postgis.control"))

pytestmark = pytest.mark.skipif(os.name != "posix" or not shutil.which("bash"), reason="needs bash")


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {name: value for name, value in os.environ.items() if name != "GEOSAM_ES_POSTGIS"}
    return subprocess.run(
        command, cwd=ROOT, env={**variables, **environment}, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_have_no_syntax_errors(script: Path) -> None:
    assert os.access(script, os.X_OK)
    result = run("bash", "-n", script)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_finds_nothing(script: Path) -> None:
    shellcheck = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed")
    result = run(shellcheck, script)
    assert result.returncode == 0, result.stdout


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_help_names_targets_that_exist() -> None:
    named = re.findall(r"^  make ([a-z-]+)", run("make", "help").stdout, re.MULTILINE)
    phony = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert phony is not None
    assert len(named) > 8 and set(named) <= set(phony[1].split())


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_test_says_what_it_installs_before_it_installs() -> None:
    """In the order of the commands: first the plan, then apt-get and pip."""
    commands = run("make", "-n", "test", "VENV=not-made", "QGIS_VENV=not-made-either").stdout
    first_install = min(commands.index("\n.ci/apt-install"), commands.index("-m pip"))
    plan = commands[:first_install]
    for package in (
        "torch==",
        "-e '.[dev]'",
        "-r requirements.txt",
        "not-made:",
        "not-made-either:",
        "Debian packages",
    ):
        assert package in plan


def test_a_named_server_is_used_as_it_is() -> None:
    result = run(WITH_POSTGIS, "sh", "-c", 'echo "$GEOSAM_ES_POSTGIS"; exit 3', GEOSAM_ES_POSTGIS="host=other")
    assert (result.returncode, result.stdout, result.stderr) == (3, "host=other\n", "")


@pytest.mark.skipif(bool(POSTGIS), reason="PostGIS is installed")
def test_without_postgis_the_command_runs_and_the_skip_is_named() -> None:
    result = run(WITH_POSTGIS, "sh", "-c", 'echo "[$GEOSAM_ES_POSTGIS]"; exit 3')
    assert (result.returncode, result.stdout) == (3, "[]\n")
    assert result.stderr.startswith("SKIPPED: tests/qgis/test_postgis.py: PostGIS is not installed")


@pytest.mark.skipif(not POSTGIS, reason="PostGIS is not installed: sudo apt-get install postgresql-postgis")
@pytest.mark.parametrize("end", ["exit 3", "kill -TERM $PPID"])
def test_the_server_ends_with_its_command(end: str) -> None:
    """Also when the command fails, and when the script itself is stopped."""
    look = "import os, socket; c = dict(p.split('=') for p in os.environ['GEOSAM_ES_POSTGIS'].split())"
    look += "; socket.create_connection((c['host'], int(c['port']))).close(); print(c['port'])"
    folders = set(Path("/tmp").glob("geosam-es-postgis.*"))
    result = run(WITH_POSTGIS, "sh", "-c", f'"{sys.executable}" -c "{look}"; {end}')
    assert result.returncode == (3 if end == "exit 3" else -15), result.stderr
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(result.stdout)))
    assert set(Path("/tmp").glob("geosam-es-postgis.*")) <= folders

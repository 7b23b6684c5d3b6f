"""``geosam-es models`` and ``export``, and the help of every command."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from encoder_tools.cli.app import cli
from tests.encoder_tools.conftest import Run, Spawn


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEOSAM_ES_MODELS", str(tmp_path / "models"))


def commands(group: click.Group, *names: str) -> list[list[str]]:
    found = []
    for name, command in group.commands.items():
        found.append([*names, name])
        if isinstance(command, click.Group):
            found += commands(command, *names, name)
    return found


@pytest.mark.parametrize("names", commands(cli), ids=" ".join)
def test_help_shows_an_example(run: Run, names: list[str]) -> None:
    result = run(*names, "--help")
    assert result.exit_code == 0 and result.stderr == ""
    example = result.stdout.split("Example:\n")[1].splitlines()[0].strip()
    assert example.startswith(f"geosam-es {' '.join(names)}".removesuffix(" list"))
    assert all(len(line) <= 100 for line in result.stdout.splitlines())


def test_every_option_says_what_it_does() -> None:
    def check(command: click.Command) -> None:
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, f"{command.name} {parameter.name}"
        if isinstance(command, click.Group):
            for child in command.commands.values():
                check(child)

    check(cli)


def test_help_and_version_of_all(run: Run) -> None:
    shown = run("--help").stdout
    for name in ("encode", "info", "verify", "segment", "export", "models"):
        assert f"\n  {name} " in shown
    assert run("-h").stdout == shown
    assert run("--version").stdout.startswith("geosam-es, version ")


@pytest.fixture
def break_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Replace PyTorch by a module that fails when it is imported, as a damaged PyTorch does."""

    def fail_with(error: str) -> None:
        (tmp_path / "torch.py").write_text(f"raise {error}('not here')")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    return fail_with


@pytest.mark.parametrize("arguments", [["--help"], ["models"], ["encode", "--help"]], ids=" ".join)
def test_help_needs_no_torch(spawn: Spawn, break_torch: Callable[[str], None], arguments: list[str]) -> None:
    break_torch("ImportError")
    done = spawn(*arguments)
    assert done.returncode == 0 and done.stderr == ""


@pytest.mark.parametrize(
    ("error", "arguments"),
    [
        ("ImportError", ["train-mini", "--out"]),
        ("OSError", ["export", "vit_b", "-o"]),
        ("ValueError", ["train-mini", "--out"]),
    ],
)
def test_what_needs_torch_says_so(
    spawn: Spawn, tmp_path: Path, break_torch: Callable[[str], None], error: str, arguments: list[str]
) -> None:
    break_torch(error)
    done = spawn(*arguments, tmp_path / "out")
    assert done.returncode == 2 and done.stdout == "" and len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("Error: PyTorch cannot be imported") and "pip install" in done.stderr


def test_models(run: Run, tmp_path: Path) -> None:
    shown = run("models").stdout
    assert shown == run("models", "list").stdout
    for name in ("mini", "vit_b", "vit_l", "vit_h"):
        assert f"{name:6} " in shown
    assert "download it with: geosam-es models download vit_b" in shown
    entries = json.loads(run("models", "list", "--json").stdout)
    by_name = {entry["name"]: entry for entry in entries}
    assert by_name["mini"]["downloaded"] and not by_name["vit_b"]["downloaded"]
    assert by_name["sam3"]["path"] is None
    assert by_name["vit_b"]["path"].startswith(str(tmp_path)) and len(by_name["vit_b"]["sha256"]) == 64


@pytest.mark.parametrize(("name", "message"), [("vit_x", "unknown model 'vit_x'"), ("mini", "mini is embedded")])
def test_impossible_downloads_are_one_sentence(run: Run, name: str, message: str) -> None:
    result = run("models", "download", name)
    assert result.exit_code == 2 and result.stdout == "" and message in result.stderr


def test_export_of_an_unknown_model_is_one_sentence(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="export needs torch")
    before = set(tmp_path.rglob("*"))
    result = run("export", tmp_path / "missing.pth", "-o", tmp_path / "out")
    assert result.exit_code == 2 and "missing.pth is neither a model nor a checkpoint file" in result.stderr
    result = run("export", "vit_b", "-o", tmp_path / "out")
    assert result.exit_code == 2 and "geosam-es models download vit_b" in result.stderr
    assert set(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("cores", "gpu", "chosen"),
    [(8, None, "sam2.1_tiny"), (2, None, "mini"), (2, "/usr/bin/nvidia-smi", "sam2.1_large")],
)
def test_the_list_says_what_suits_the_machine(
    run: Run, monkeypatch: pytest.MonkeyPatch, cores: int, gpu: str | None, chosen: str
) -> None:
    monkeypatch.setattr("encoder_tools.cli.models.available_cores", lambda: cores)
    monkeypatch.setattr("shutil.which", lambda _: gpu)
    shown = run("models").stdout
    assert chosen in shown.splitlines()[-1]
    assert "sam2.1_base_plus" in shown and "LicenseRef-SAM" in shown and "forbids some uses" in shown

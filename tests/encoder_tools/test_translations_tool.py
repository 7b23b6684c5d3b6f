"""The tool that updates the translation files from the sources."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from encoder_tools import translations
from encoder_tools.translations import main, read_translations, source_strings, update


def package(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def test_texts_and_errors_are_found_once_in_order(tmp_path: Path) -> None:
    root = package(
        tmp_path,
        core__a='raise StoreError("{path} is gone", "look" if here else "search", path=path)\n',
        gui__b='f(tr("one").format(n=tr("two")), "none")\nself.tr("three")\ntr("one")\nprint("no")\nmarked("nine")',
        gui__c='raise EditError(tr("four"), remedy)\nraise EditError(f"{a}".strip(), "five")\nStoreError("six")\n',
        store__d='check_signature(a, "no", c, "seven")\nraise SignatureMismatchError("no", "no", 1, 2, "")\n',
        errors='super().__init__("eight {key}", remedy)\nsuper().__init__(problem)\n',
    )
    expected = [
        "{path} is gone",
        "look",
        "search",
        "eight {key}",
        "one",
        "two",
        "three",
        "nine",
        "four",
        "five",
        "six",
        "seven",
    ]
    assert source_strings(root) == expected


@pytest.mark.parametrize("call", ['tr(f"{a}")', 'tr("a" if b else f"{c}")', 'StoreError(f"{path} is gone", "look")'])
def test_a_string_that_cannot_be_translated_is_refused(tmp_path: Path, call: str) -> None:
    with pytest.raises(ValueError, match=r"bad\.py:2: .* needs a plain string"):
        source_strings(package(tmp_path, gui__bad=f"\n{call}\n"))


def test_an_update_keeps_translations_and_drops_old_sources(tmp_path: Path) -> None:
    path = tmp_path / "i18n" / "x_es.ts"
    assert update(path, "es", ["one", "two\n<&> 'ñ'"]) == 2
    assert read_translations(path) == {}
    text = path.read_text(encoding="utf-8")
    path.write_text(
        text.replace('<translation type="unfinished" />', "<translation>uno\n¡ñ!</translation>", 1), "utf-8"
    )
    assert update(path, "es", ["zero", "two\n<&> 'ñ'", "one"]) == 2
    assert read_translations(path) == {"one": "uno\n¡ñ!"}
    assert update(path, "es", ["one"]) == 0
    assert "two" not in path.read_text(encoding="utf-8")
    once = path.read_bytes()
    assert update(path, "es", ["one"]) == 0
    assert path.read_bytes() == once


def test_the_command_prints_what_is_left_to_translate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(translations, "FOLDER", tmp_path)
    result = CliRunner().invoke(main)
    count = len(source_strings())
    assert result.exit_code == 0
    assert result.output == f"geosam_es_es.ts: {count} strings, {count} to translate\n"


def test_lrelease_compiles_the_file(tmp_path: Path) -> None:
    program = shutil.which("lrelease") or shutil.which("lrelease-qt5")
    if program is None:
        pytest.skip("lrelease is not installed: sudo apt-get install qttools5-dev-tools")
    built = tmp_path / "es.qm"
    source = translations.FOLDER / "geosam_es_es.ts"
    result = subprocess.run([program, str(source), "-qm", str(built)], capture_output=True, text=True, check=True)
    assert f"{len(source_strings())} finished and 0 unfinished" in result.stdout
    assert built.stat().st_size > 10_000

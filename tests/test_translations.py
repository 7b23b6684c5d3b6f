"""The translation file: whole, in step with the sources, and with the same placeholders."""

from __future__ import annotations

import ast
import html
import re
import string
import xml.etree.ElementTree as ElementTree
from collections.abc import Collection
from pathlib import Path

import pytest

from encoder_tools.translations import FOLDER, PACKAGE, read_translations, source_strings, update

PATH = FOLDER / "geosam_es_es.ts"
SAME_IN_SPANISH = {"GeoPackage (*.gpkg);;Shapefile (*.shp)", " px", "original", "16 bits"}
COMMAND = r"geosam-es (?:decoder \w+|encode|export|finetune|info|verify)"
SHOWN = {
    *("setText", "setToolTip", "setStatusTip", "setWindowTitle", "setTitle", "setPlaceholderText", "setSuffix"),
    *("setPrefix", "setSpecialValueText", "setIconText", "setDescription", "addItem", "addAction", "addRow", "addTab"),
    *("QLabel", "QPushButton", "QCheckBox", "QGroupBox", "QRadioButton", "QAction", "QMenu", "addMenu"),
    *("pushMessage", "showMessage", "pushWarning", "pushInfo", "reportError", "setProgressText", "warning"),
    *("information", "critical", "question", "beginEditCommand", "show_state", "show_result", "show_progress"),
    *("show_image", "show_hint", "set_warning", "WrappedLabel", "Caption"),
    *("getOpenFileName", "getSaveFileName", "getExistingDirectory", "QgsProcessingException"),
}
SYMBOLS = {"CSV…", " GB", " m²", " %"}
OF_QGIS = {"Deshacer"}
NO_TEXT = {"geosam_es", "*.zip", "adapter", "all"}
"""Names of icons and the like."""

TRANSLATIONS = read_translations(PATH)


class Anything:
    """A value that every format takes."""

    def __format__(self, _spec: str) -> str:
        return "x"


def placeholders(text: str) -> list[tuple[str, str, str]]:
    fields = string.Formatter().parse(text)
    return sorted((name, spec or "", conversion or "") for _, name, spec, conversion in fields if name is not None)


def test_the_file_holds_exactly_the_sources() -> None:
    messages = list(ElementTree.parse(PATH).iter("message"))
    assert [message.findtext("source") for message in messages] == source_strings()
    assert not [m.findtext("source") for m in messages if m.find("translation").attrib]  # type: ignore[union-attr]
    assert list(TRANSLATIONS) == source_strings()


def test_the_file_is_as_the_tool_writes_it(tmp_path: Path) -> None:
    copy = tmp_path / PATH.name
    copy.write_bytes(PATH.read_bytes())
    assert update(copy, "es", source_strings()) == 0
    assert copy.read_bytes() == PATH.read_bytes()


@pytest.mark.parametrize("source", TRANSLATIONS)
def test_both_sides_agree(source: str) -> None:
    translation = TRANSLATIONS[source]
    assert translation.strip()
    assert placeholders(source) == placeholders(translation)
    translation.format(**{name: Anything() for name, _, _ in placeholders(source) if "!" not in name})
    assert (source == translation) == (source in SAME_IN_SPANISH)
    for mark in (r"\n", r"[.:…]$", r"^ ", r"--[a-z][a-z-]*", r"\*\.\w+", COMMAND, "GeoSAM-ES", "&"):
        assert re.findall(mark, source) == re.findall(mark, translation), mark


def test_remedies_follow_a_colon() -> None:
    """A remedy goes on with a sentence in both languages."""
    wrong = [
        source
        for source, spanish in TRANSLATIONS.items()
        if source[0].islower() and spanish[0].isupper() and "{" not in source
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("name", "labels"), [("index.html", TRANSLATIONS.keys()), ("index.es.html", TRANSLATIONS.values())]
)
def test_the_help_quotes_labels_as_they_are(name: str, labels: Collection[str]) -> None:
    page = (PACKAGE / "help" / name).read_text(encoding="utf-8")
    quoted = {html.unescape(" ".join(text.split())) for text in re.findall(r"<i>(.*?)</i>", page, re.DOTALL)}
    own = {text for text in quoted - OF_QGIS if " > " not in text}
    assert own and own <= set(labels)


def test_what_users_see_is_translated() -> None:
    """No text reaches a widget, a message or an edit command but through ``tr``."""
    bare = []
    for path in sorted([*(PACKAGE / "gui").rglob("*.py"), *(PACKAGE / "processing").rglob("*.py")]):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and (
                name_of(call) in SHOWN or name_of(call).startswith("QgsProcessingOutput")
            ):
                texts = {text for argument in call.args for text in bare_texts(argument)}
                bare += [f"{path.name}:{call.lineno} {text!r}" for text in sorted(texts - SYMBOLS - NO_TEXT)]
    assert bare == []


def name_of(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def bare_texts(node: ast.AST) -> list[str]:
    """Return the strings in an argument that have letters outside HTML tags; strings in inner calls are left out."""
    if isinstance(node, ast.Call):
        return []
    if isinstance(node, ast.Constant):
        value = node.value
        return [value] if isinstance(value, str) and re.search("[A-Za-z]", re.sub("</?[a-z]+>", "", value)) else []
    return [text for child in ast.iter_child_nodes(node) for text in bare_texts(child)]


def test_nothing_is_translated_before_the_language_is_known() -> None:
    early = []
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        functions = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.Lambda))]
        late = {id(inner) for function in functions for inner in ast.walk(function)}
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and name_of(node) == "tr"]
        early += [f"{path.name}:{call.lineno}" for call in calls if id(call) not in late]
    assert early == []

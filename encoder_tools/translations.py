"""Updates the plugin's translation files from its sources: ``python -m encoder_tools.translations``.

Qt's ``lupdate`` uses the class around a call as the context of a string. The plugin has one context for all strings.
"""

from __future__ import annotations

import ast
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path

import click

from geosam_es import errors
from geosam_es.store.signature import check_signature

__all__ = ["CONTEXT", "read_translations", "source_strings", "update"]

CONTEXT = "GeoSAM-ES"
PACKAGE = Path(__file__).resolve().parents[1] / "geosam_es"
FOLDER = PACKAGE / "i18n"
LANGUAGES = ("es",)
ERRORS_FILE = Path(errors.__file__).name
HAVE_REMEDY = {check_signature.__name__}
ERRORS = frozenset(errors.__all__) - {errors.SignatureMismatchError.__name__, errors.marked.__name__}
_REMEDY = 3


def source_strings(package: Path = PACKAGE) -> list[str]:
    """Return every string that the plugin can show, once each, in the order of the files.

    These are the texts passed to ``tr``, and the problems and remedies of errors: any module may raise one, and the
    plugin translates it when it shows it.

    Raises
    ------
    ValueError
        If the argument of ``tr`` or of an error is not a plain string and so cannot be translated.
    """
    found: dict[str, None] = {}
    for path in sorted(package.rglob("*.py")):
        for call in _calls(ast.parse(path.read_text(encoding="utf-8"))):
            texts = _plain_strings(_texts(call, path.name))
            if texts is None:
                raise ValueError(f"{path.name}:{call.lineno}: {_name(call)}() needs a plain string")
            found.update(dict.fromkeys(text for text in texts if text))
    return list(found)


def _calls(tree: ast.AST) -> list[ast.Call]:
    """Return the calls in source order."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return sorted(calls, key=lambda call: (call.lineno, call.col_offset))


def _name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _texts(call: ast.Call, file_name: str) -> list[ast.expr]:
    """Return the arguments that hold text for the user; of an error's arguments, only those that are literals."""
    name = _name(call)
    if name in ("tr", errors.marked.__name__):
        return call.args[:1]
    # SignatureMismatchError passes its own text to its parent.
    is_error = name in ERRORS or (file_name == ERRORS_FILE and name == "__init__")
    arguments = call.args if is_error else call.args[_REMEDY:] if name in HAVE_REMEDY else []
    return [item for item in arguments if isinstance(item, (ast.Constant, ast.IfExp, ast.JoinedStr))]


def _plain_strings(arguments: Sequence[ast.expr]) -> list[str] | None:
    texts = []
    for argument in arguments:
        choices = [argument.body, argument.orelse] if isinstance(argument, ast.IfExp) else [argument]
        for choice in choices:
            if not isinstance(choice, ast.Constant) or not isinstance(choice.value, str):
                return None
            texts.append(choice.value)
    return texts


def read_translations(path: Path) -> dict[str, str]:
    """Return the finished translations of a ``.ts`` file, keyed by source text."""
    translations: dict[str, str] = {}
    for message in ElementTree.parse(path).iter("message"):
        translation = message.find("translation")
        if translation is not None and translation.get("type") != "unfinished" and translation.text:
            translations[message.findtext("source", "")] = translation.text
    return translations


def update(path: Path, language: str, sources: list[str]) -> int:
    """Write all sources to a ``.ts`` file, keep finished translations, and return how many are missing."""
    known = read_translations(path) if path.exists() else {}
    root = ElementTree.Element("TS", version="2.1", language=language, sourcelanguage="en")
    context = ElementTree.SubElement(root, "context")
    ElementTree.SubElement(context, "name").text = CONTEXT
    for source in sources:
        message = ElementTree.SubElement(context, "message")
        ElementTree.SubElement(message, "source").text = source
        translation = ElementTree.SubElement(message, "translation")
        if source in known:
            translation.text = known[source]
        else:
            translation.set("type", "unfinished")
    ElementTree.indent(root, space="  ")
    body = ElementTree.tostring(root, encoding="unicode")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'<?xml version="1.0" encoding="utf-8"?>\n<!DOCTYPE TS>\n{body}\n', encoding="utf-8")
    return len(sources) - len(known.keys() & set(sources))


@click.command()
def main() -> None:
    """Update the translation files, and print how many strings are left to translate."""
    sources = source_strings()
    for language in LANGUAGES:
        path = FOLDER / f"geosam_es_{language}.ts"
        click.echo(f"{path.name}: {len(sources)} strings, {update(path, language, sources)} to translate")


if __name__ == "__main__":
    main()

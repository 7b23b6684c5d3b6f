"""Errors: what a user reads, what a translation is found by, and braces that break nothing."""

from __future__ import annotations

import ast
import string
from pathlib import Path

import pytest

from geosam_es import errors
from geosam_es.errors import GeoSamError, PromptError, SignatureMismatchError, StoreError

PACKAGE = Path(errors.__file__).parent


def test_values_are_put_into_problem_and_remedy() -> None:
    error = PromptError("There is no candidate {number}", "choose one from 1 to {count}", number=4, count=3)
    assert error.problem == "There is no candidate 4"
    assert error.remedy == "choose one from 1 to 3"
    assert error.user_message == str(error) == "There is no candidate 4: choose one from 1 to 3"
    assert (error.template, error.remedy_template) == ("There is no candidate {number}", "choose one from 1 to {count}")
    assert error.values == {"number": 4, "count": 3}
    assert error.fill("No hay candidato {number} de {count}") == "No hay candidato 4 de 3"


def test_formats() -> None:
    error = GeoSamError("{size:.3g} and {name!r}", size=1.23456, name="a")
    assert error.user_message == "1.23 and 'a'"


@pytest.mark.parametrize("name", ["{0}", "{", "}", "{path}", "{{x}}", "{path.name}", "a{b}c"])
def test_braces_in_values_stay(name: str) -> None:
    error = StoreError("{path} is not there", "look for {path}", path=Path("/data") / name)
    assert error.user_message == f"/data/{name} is not there: look for /data/{name}"


@pytest.mark.parametrize("text", ["/data/{0}", "{", "}", "{path}", "{{x}}"])
def test_without_values_a_text_is_taken_as_it_is(text: str) -> None:
    assert GeoSamError(text, text).user_message == f"{text}: {text}"


def test_signature_mismatch_with_braces_everywhere() -> None:
    error = SignatureMismatchError("/s{0}", "model", "{a}", {"b": 1}, "open the store of {x}.tif }")
    assert error.user_message == "/s{0} was made with model = '{a}', not {'b': 1}: open the store of {x}.tif }"
    assert (error.key, error.stored, error.wanted) == ("model", "{a}", {"b": 1})
    assert error.template == "{store} was made with {key} = {stored!r}, not {wanted!r}"


def test_every_error_with_values_names_them_all() -> None:
    wrong = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or getattr(node.func, "id", "") not in errors.__all__ or not node.args:
                continue
            given = {keyword.arg for keyword in node.keywords}
            if None in given:
                # Another error passes on its template and its values.
                continue
            texts = [
                item.value for argument in node.args for item in ast.walk(argument) if isinstance(item, ast.Constant)
            ]
            named = {
                name for text in texts for _, name, _, _ in string.Formatter().parse(str(text)) if name is not None
            }
            # A text made elsewhere may hold braces, so that it must not be parsed once more.
            is_plain = all(isinstance(argument, (ast.Constant, ast.IfExp)) for argument in node.args)
            if given and (given != named or not is_plain):
                wrong.append(f"{path.name}:{node.lineno} {given ^ named}")
            if any(isinstance(argument, ast.JoinedStr) for argument in node.args):
                wrong.append(f"{path.name}:{node.lineno} is an f-string, which cannot be translated")
    assert not wrong, "\n".join(wrong)

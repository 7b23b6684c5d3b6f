"""Errors of GeoSAM-ES.

Every error a user can cause is a `GeoSamError`: one sentence that names what is wrong, and a remedy. Each
child also inherits the builtin that a caller would catch.
"""

from __future__ import annotations

__all__ = [
    "EditError",
    "GeoSamError",
    "ModelError",
    "OutputError",
    "PromptError",
    "RasterError",
    "SignatureMismatchError",
    "StoreError",
    "VectorError",
]


class GeoSamError(Exception):
    """Root of every error that GeoSAM-ES raises on purpose.

    Parameters
    ----------
    problem : str
        What is wrong, naming the file or the value.
    remedy : str, optional
        What the user can do about it.
    **values
        What stands for the names in braces in both texts. Texts without any values are taken as they are, braces
        included.

    Attributes
    ----------
    problem, remedy : str
        As the user reads them, in English.
    template, remedy_template : str
        As they were given, which is what a translation is found by.
    values : dict
    """

    def __init__(self, problem: str, remedy: str = "", **values: object) -> None:
        self.template = problem
        self.remedy_template = remedy
        self.values = values
        self.problem = self.fill(problem)
        self.remedy = self.fill(remedy)
        super().__init__(self.problem)

    def fill(self, template: str, **replaced: object) -> str:
        """Put the error's values, or others in place of some, into a text: one of its own, or its translation."""
        # Braces in the values stay as they are, since only the template is parsed.
        return template.format(**{**self.values, **replaced}) if self.values else template

    @property
    def user_message(self) -> str:
        """Problem and remedy in one sentence, ready to be shown."""
        return f"{self.problem}: {self.remedy}" if self.remedy else self.problem

    def __str__(self) -> str:
        return self.user_message


class RasterError(GeoSamError, ValueError):
    """Raised when a raster cannot be read, or lacks what encoding needs."""


class VectorError(GeoSamError, ValueError):
    """Raised when a vector file cannot be read, or holds nothing usable."""


class StoreError(GeoSamError, ValueError):
    """Raised when a directory is not a whole embedding store of a known format version."""


class SignatureMismatchError(StoreError):
    """Raised when a store was made from other data, another model or other options.

    Parameters
    ----------
    key : str
        The first key that differs.
    stored, wanted : object
        Its value in the store, and the one asked for.
    remedy : str, optional
        Taken as it is, braces included.
    """

    def __init__(self, store: str, key: str, stored: object, wanted: object, remedy: str = "") -> None:
        super().__init__(
            "{store} was made with {key} = {stored!r}, not {wanted!r}",
            remedy.replace("{", "{{").replace("}", "}}"),
            store=store,
            key=key,
            stored=stored,
            wanted=wanted,
        )
        self.key = key
        self.stored = stored
        self.wanted = wanted


class PromptError(GeoSamError, ValueError):
    """Raised when prompts cannot be answered: empty, contradictory, or outside the raster's data."""


class ModelError(GeoSamError, ValueError):
    """Raised when a model file is unknown, damaged, or does not fit."""


class OutputError(GeoSamError, OSError):
    """Raised when a result cannot be written: no permission, no space, no such folder."""


class EditError(GeoSamError, ValueError):
    """Raised when a polygon cannot go into a layer as it is, or a layer cannot take it."""

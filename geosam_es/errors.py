"""Errors of GeoSAM-ES.

Every error that a user can cause is a `GeoSamError`: a sentence that names the problem, and a remedy. Each child also
inherits the builtin exception that a caller would catch.
"""

from __future__ import annotations

__all__ = [
    "EditBufferError",
    "EditError",
    "GeoSamError",
    "ModelError",
    "NoTargetError",
    "OutputError",
    "PackageError",
    "PromptError",
    "RasterError",
    "RefusedError",
    "ServerError",
    "SignatureMismatchError",
    "StoreError",
    "VectorError",
    "marked",
]


def marked(text: str) -> str:
    """Return a text that is translated where it is shown, see `qgis_support.messages.translated`."""
    return text


class GeoSamError(Exception):
    """Root of every error that GeoSAM-ES raises on purpose.

    Parameters
    ----------
    problem : str
        What is wrong, naming the file or the value.
    remedy : str, optional
        What the user can do about it.
    **values
        Values for the names in braces in both texts. Without values, the texts are used as they are, braces included.

    Attributes
    ----------
    problem, remedy : str
        The English texts with the values filled in.
    template, remedy_template : str
        The texts without the values, which are the keys of their translations.
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
        """Fill the error's values into one of its texts or a translation; ``replaced`` overrides some of them."""
        return template.format(**{**self.values, **replaced}) if self.values else template

    @property
    def user_message(self) -> str:
        """Problem and remedy in one sentence."""
        return f"{self.problem}: {self.remedy}" if self.remedy else self.problem

    def __str__(self) -> str:
        return self.user_message


class RasterError(GeoSamError, ValueError):
    """Raised when a raster cannot be read, or lacks what encoding needs."""


class VectorError(GeoSamError, ValueError):
    """Raised when a vector file cannot be read, or contains nothing usable."""


class StoreError(GeoSamError, ValueError):
    """Raised when a directory is not a complete embedding store of a known format version."""


class ServerError(StoreError):
    """Raised when a server does not answer, or with an error, so that nothing is known of the store on it."""


class RefusedError(ServerError):
    """Raised when a server does not show a file to this user, whether it is there or not."""


class SignatureMismatchError(StoreError):
    """Raised when a store was made from other data, another model or other options.

    Parameters
    ----------
    key : str
        The first key that differs.
    stored, wanted : object
        Its value in the store, and the requested one.
    remedy : str, optional
        Used as it is, braces included.
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
    """Raised when prompts are empty, contradictory, or outside the data of the raster."""


class ModelError(GeoSamError, ValueError):
    """Raised when a model file is unknown, damaged, or of another model."""


class PackageError(ModelError):
    """Raised when a Python package that models need cannot be imported; ``values["package"]`` names it."""


class OutputError(GeoSamError, OSError):
    """Raised when a result cannot be written: no permission, no space, or no such folder."""


class EditError(GeoSamError, ValueError):
    """Raised when a layer cannot be edited, or does not accept a polygon."""


class EditBufferError(EditError):
    """Raised when a layer refuses an edit, perhaps after others of the same undo step were made."""


class NoTargetError(EditError):
    """Raised when no layer is chosen to write to."""

"""The state of an interrupted training, in the output folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from typing import Any

from geosam_es.errors import ModelError, OutputError
from geosam_es.store.files import put_in_place, temporary_name

from ..models.libraries import torch

__all__ = ["STATE_FILE", "Checkpoint"]

STATE_FILE = "training.pt"
_FORMAT = 2


class Checkpoint:
    """The state of an interrupted training; an existing file is resumed.

    Parameters
    ----------
    folder : Path
    signature : mapping
        Plain values that must equal those of an existing checkpoint.

    Raises
    ------
    ModelError
        If the checkpoint is damaged or belongs to another training.
    """

    def __init__(self, folder: Path, signature: Mapping[str, Any]) -> None:
        self._path, self._signature = folder / STATE_FILE, dict(signature)
        self._states: dict[str, Any] = {}
        self._lock = Lock()
        if not self._path.exists():
            return
        try:
            content = torch.load(self._path, map_location="cpu", weights_only=True)
            found, self._states = dict(content["signature"]), dict(content["states"])
        # torch.load raises errors of many kinds for a damaged file.
        except Exception as error:
            raise ModelError(f"{self._path} is damaged", "start again with --overwrite") from error
        for key, value in self._signature.items():
            if found.get(key) != value:
                raise ModelError(
                    f"The training in {folder} was started with another {key}",
                    "continue it with the same one, or start again with --overwrite",
                )

    def get(self, key: str) -> Any:
        """Return a part of the state, None if there is none."""
        return self._states.get(key)

    def put(self, key: str, state: Any) -> None:
        """Replace a part of the state on the disk.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        with self._lock:
            self._states[key] = state
            partial = temporary_name(self._path.parent)
            try:
                # PyTorch derives the archive's name from a path, which this one does not give.
                with partial.open("wb") as file:
                    torch.save({"format": _FORMAT, "signature": self._signature, "states": self._states}, file)
                put_in_place(partial, self._path)
            except (OSError, RuntimeError) as error:
                partial.unlink(missing_ok=True)
                raise OutputError(f"{self._path} cannot be written ({error})", "check the free space") from error

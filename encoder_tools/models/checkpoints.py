"""Published models: list, paths and downloads. Needs no PyTorch.

``models.json`` holds their addresses, sizes, hashes and licences. Files are kept in the user's cache directory, or in
the one that the environment variable ``GEOSAM_ES_MODELS`` names. Repositories of huggingface.co are downloaded and kept
by the library huggingface_hub, with its own cache, ``HF_HOME``, and offline switch, ``HF_HUB_OFFLINE``.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO

import geosam_es
from geosam_es.errors import ModelError, OutputError
from geosam_es.inference.encoder import read_model_info
from geosam_es.store.decoder_files import file_sha256, plain_sha256
from geosam_es.store.files import put_in_place

__all__ = [
    "REPOSITORY_FILES",
    "Checkpoint",
    "ModelEntry",
    "checkpoint_path",
    "download",
    "list_models",
    "load_registry",
    "mini_folder",
    "models_directory",
]

REPOSITORY_FILES = ("config.json", "model.safetensors")
"""What is downloaded of a repository."""

MODELS_VARIABLE = "GEOSAM_ES_MODELS"
_REGISTRY_FILE = Path(__file__).with_name("models.json")
_CHUNK_BYTES = 1024 * 1024
_SHA256_DIGITS = 64
_TIMEOUT_S = 60
_READ_ERRORS = (OSError, http.client.HTTPException)

Progress = Callable[[int, int], None]
"""Called with the number of bytes downloaded and the total."""


@dataclass(frozen=True)
class Checkpoint:
    """A published file of weights.

    Attributes
    ----------
    name : str
        Such as ``vit_b``.
    url : str
        Download address of a file, whose name is the last part; otherwise the page of the model.
    bytes : int
        Size of the weights, rounded if there is no ``sha256``.
    sha256 : str
        Hash of the file in hexadecimal; empty if it is in a repository.
    licence : str
        SPDX expression of the weights' licence.
    family : str
        Which module loads it; see `family.FAMILIES`.
    repository : str
        Repository on huggingface.co. Without it and ``sha256`` the model is not downloaded by GeoSAM-ES.
    notice : str
        What users must know of the licence.
    """

    name: str
    url: str
    bytes: int
    sha256: str
    licence: str
    family: str = "sam"
    repository: str = ""
    notice: str = ""

    @property
    def filename(self) -> str:
        """Name of the file in the models' directory."""
        return self.url.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class ModelEntry(Checkpoint):
    """A line of ``geosam-es models``. The embedded model has no ``url``, and the ``sha256`` of its encoder.

    Attributes
    ----------
    path : Path, optional
        Location of the file, also of one not downloaded yet, or of the downloaded repository.
    downloaded : bool
        Whether the file exists and has the right size.
    """

    path: Path | None = None
    downloaded: bool = False


def mini_folder() -> Path:
    """Return the folder of the embedded model."""
    return Path(geosam_es.__file__).parent / "models" / "mini"


def load_registry() -> dict[str, Checkpoint]:
    """Read the checkpoints that can be downloaded, by name."""
    entries = json.loads(_REGISTRY_FILE.read_text(encoding="utf-8"))["models"]
    return {name: Checkpoint(name=name, **fields) for name, fields in entries.items()}


def models_directory() -> Path:
    """Return the directory that keeps the checkpoints: ``GEOSAM_ES_MODELS``, else the user's cache."""
    chosen = os.environ.get(MODELS_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("geosam-es", appauthor=False) / "models"


def list_models() -> list[ModelEntry]:
    """List the embedded model and the checkpoints.

    Only sizes are compared here; `download` checks the hash.

    Returns
    -------
    list of ModelEntry
        ``mini`` first.
    """
    directory = models_directory()
    entries = [_embedded_entry()]
    for checkpoint in load_registry().values():
        path = directory / checkpoint.filename if checkpoint.sha256 else _snapshot(checkpoint)
        downloaded = _size(path) == checkpoint.bytes if checkpoint.sha256 else path is not None
        entries.append(ModelEntry(**asdict(checkpoint), path=path, downloaded=downloaded))
    return entries


def checkpoint_path(name: str) -> Path:
    """Return the file of a downloaded checkpoint, or the folder of a repository.

    Raises
    ------
    ModelError
        If there is no such checkpoint, or it is not downloaded.
    """
    checkpoint = _find(name)
    if not checkpoint.sha256:
        folder = _snapshot(checkpoint)
        if folder is None:
            remedy = f"run `geosam-es models download {name}`, or give its folder with --checkpoint"
            raise _own_copy(checkpoint) or ModelError(f"{name} is not downloaded", remedy)
        return folder
    path = models_directory() / checkpoint.filename
    if _size(path) != checkpoint.bytes:
        raise ModelError(f"the checkpoint of {name} is not at {path}", f"run `geosam-es models download {name}`")
    return path


def download(name: str, progress: Progress | None = None) -> Path:
    """Download a checkpoint, resuming an interrupted download.

    The download goes to ``FILENAME.part``, which is renamed once its SHA-256 is right. The hash of an existing file is
    checked too, so that running the command again repairs a damaged file.

    Parameters
    ----------
    name : str
        Such as ``vit_b``.
    progress : callable, optional
        Called with the number of bytes downloaded and the total; not for repositories.

    Returns
    -------
    Path
        The file, or the folder of a repository.

    Raises
    ------
    ModelError
        If there is no such checkpoint, its licence keeps it from being downloaded, the server cannot be reached or
        closes the connection (the partial file is kept), or the hash is wrong (the file is removed).
    OutputError
        If the file cannot be written, or the disk is full.
    """
    checkpoint = _find(name)
    if not checkpoint.sha256:
        return _download_snapshot(checkpoint)
    directory = models_directory()
    path = directory / checkpoint.filename
    if _size(path) == checkpoint.bytes and file_sha256(path) == checkpoint.sha256:
        return path
    part = path.with_name(path.name + ".part")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if (_size(part) or 0) > checkpoint.bytes:
            part.unlink()
        _check_space(checkpoint, part)
        if (_size(part) or 0) < checkpoint.bytes:
            _fetch(checkpoint, part, progress)
        if file_sha256(part) != checkpoint.sha256:
            part.unlink()
            raise ModelError(
                f"the download from {checkpoint.url} has the wrong SHA-256 and was removed",
                f"run `geosam-es models download {name}` again",
            )
        put_in_place(part, path)
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(
            f"cannot write {error.filename or part} ({error.strerror})",
            f"free some space there, or set {MODELS_VARIABLE} to a writable directory",
        ) from error
    return path


def _find(name: str) -> Checkpoint:
    checkpoints = load_registry()
    if name == "mini":
        raise ModelError(
            "mini is embedded and needs no checkpoint",
            "use it as it is: geosam-es encode IMAGE --model mini",
        )
    if name not in checkpoints:
        raise ModelError(f"unknown model {name!r}", f"choose one of {', '.join(checkpoints)}")
    return checkpoints[name]


def _embedded_entry() -> ModelEntry:
    folder = mini_folder()
    info = read_model_info(folder)
    return ModelEntry(
        name=info.name,
        bytes=sum(file.stat().st_size for file in folder.glob("*.onnx")),
        licence=info.licence,
        sha256=plain_sha256(info.encoder_sha256),
        url="",
        family="mini",
        path=folder,
        downloaded=True,
    )


def _size(path: Path | None) -> int | None:
    return path.stat().st_size if path is not None and path.is_file() else None


def _own_copy(checkpoint: Checkpoint) -> ModelError | None:
    """Return the error for a model that only its owner can download."""
    if checkpoint.repository:
        return None
    return ModelError(
        f"GeoSAM-ES does not download {checkpoint.name}{', because of its licence' if checkpoint.notice else ''}",
        f"get it from {checkpoint.url} and give it with --checkpoint",
    )


def _snapshot(checkpoint: Checkpoint) -> Path | None:
    """Return the folder of a repository in the cache of huggingface_hub, if it is complete."""
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    if not checkpoint.repository:
        return None
    found = [try_to_load_from_cache(checkpoint.repository, name) for name in REPOSITORY_FILES]
    return Path(found[0]).parent if all(isinstance(path, str) for path in found) else None


def _download_snapshot(checkpoint: Checkpoint) -> Path:
    refusal = _own_copy(checkpoint)
    if refusal is not None:
        raise refusal
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise ModelError(
            f"huggingface_hub cannot be imported ({error})", 'install it with `pip install "geosam-es[models]"`'
        ) from error
    try:
        folder = Path(snapshot_download(checkpoint.repository, allow_patterns=REPOSITORY_FILES))
    except Exception as error:  # errors of several HTTP libraries
        remedy = f"check the connection and HF_HUB_OFFLINE, and run `geosam-es models download {checkpoint.name}` again"
        if type(error).__name__ == "GatedRepoError":
            remedy = f"accept its terms on {checkpoint.url} and log in with `hf auth login`"
        reason = str(error).strip().splitlines() or [repr(error)]
        raise ModelError(f"{checkpoint.url} cannot be downloaded ({reason[0]})", remedy) from error
    for name in REPOSITORY_FILES:
        # The cache names large files by their SHA-256.
        blob = (folder / name).resolve()
        if len(blob.name) == _SHA256_DIGITS and file_sha256(blob) != blob.name:
            blob.unlink()
            raise ModelError(
                f"the download of {name} from {checkpoint.url} has the wrong SHA-256 and was removed",
                f"run `geosam-es models download {checkpoint.name}` again",
            )
    return folder


def _check_space(checkpoint: Checkpoint, part: Path) -> None:
    missing = checkpoint.bytes - (_size(part) or 0)
    free = shutil.disk_usage(part.parent).free
    if free < missing:
        raise OutputError(
            f"{part.parent} has {_megabytes(free)} of free space, and {checkpoint.name} needs {_megabytes(missing)}",
            f"free some space there, or set {MODELS_VARIABLE} to a directory on a larger disk",
        )


def _fetch(checkpoint: Checkpoint, part: Path, progress: Progress | None) -> None:
    """Append the rest to ``part``, or start again if the server does not support ranges."""
    here = start = _size(part) or 0
    try:
        response = _open(checkpoint.url, start)
    except _READ_ERRORS as error:
        raise _network_error(checkpoint, start, error) from error
    if response.status != HTTPStatus.PARTIAL_CONTENT:
        start = 0
    is_page = response.headers.get_content_type() == "text/html"
    if is_page or (response.length is not None and start + response.length != checkpoint.bytes):
        response.close()
        reason = "it sends something else, such as a page to log in: check the network and the proxy"
        raise _network_error(checkpoint, here, ConnectionError(reason))
    with response, part.open("ab" if start else "wb") as file:
        done = _copy(checkpoint, response, file, start, progress)
    if done < checkpoint.bytes:
        raise _network_error(checkpoint, done, ConnectionError("the server closed the connection"))


def _open(url: str, start: int) -> http.client.HTTPResponse:
    headers = {"User-Agent": f"geosam-es/{geosam_es.__version__}"}
    if start:
        headers["Range"] = f"bytes={start}-"
    request = urllib.request.Request(url, headers=headers)
    try:
        response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if start and error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return _open(url, 0)
        raise
    return response


def _copy(
    checkpoint: Checkpoint,
    response: http.client.HTTPResponse,
    file: BinaryIO,
    done: int,
    progress: Progress | None,
) -> int:
    """Copy the response's body, up to the checkpoint's size; return the size of the file."""
    while done < checkpoint.bytes:
        try:
            chunk = response.read(min(_CHUNK_BYTES, checkpoint.bytes - done))
        except _READ_ERRORS as error:
            raise _network_error(checkpoint, done, error) from error
        if not chunk:
            break
        file.write(chunk)
        done += len(chunk)
        if progress is not None:
            progress(done, checkpoint.bytes)
    return done


def _network_error(checkpoint: Checkpoint, done: int, error: Exception) -> ModelError:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    status = f"HTTP status {error.code}, " if isinstance(error, urllib.error.HTTPError) else ""
    return ModelError(
        f"{checkpoint.url} cannot be downloaded ({status}{reason});"
        f" {_megabytes(done)} of {_megabytes(checkpoint.bytes)} are here",
        f"check the connection and run `geosam-es models download {checkpoint.name}` again to resume",
    )


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"

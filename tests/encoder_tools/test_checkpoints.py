"""The registry of checkpoints, and downloads from a local server that behaves in all the usual ways."""

from __future__ import annotations

import hashlib
import http.server
import resource
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from encoder_tools.models import checkpoints
from encoder_tools.models.checkpoints import Checkpoint, checkpoint_path, download, list_models, load_registry
from encoder_tools.models.family import FAMILIES
from geosam_es.errors import ModelError, OutputError
from geosam_es.store.decoder_files import file_sha256

CONTENT = bytes(range(256)) * 12_000  # 3 MB: several chunks


class Handler(http.server.BaseHTTPRequestHandler):
    ranges = True
    break_after: int | None = None
    status_for_range: int | None = None
    page: str | None = None
    """A header of the page that is sent in place of the file."""

    requests: ClassVar[list[str | None]] = []

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        type(self).requests.append(wanted)
        if self.path != "/weights.pth":
            self.send_error(404)
            return
        if wanted and self.status_for_range:
            self.send_error(self.status_for_range)
            return
        if self.page is not None:
            self.send_response(200)
            self.send_header(*self.page.split("="))
            self.end_headers()
            self.wfile.write(b"<p>log in")
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.ranges else 0
        body = CONTENT[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body if self.break_after is None else body[: self.break_after])

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def handler() -> type[Handler]:
    return type("OneTestHandler", (Handler,), {"requests": []})


@pytest.fixture
def address(handler: type[Handler]) -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


Publish = Callable[..., None]


@pytest.fixture
def publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Publish:
    """Return a function that publishes the only checkpoint at an address; downloads go to the test's folder."""
    monkeypatch.setenv("GEOSAM_ES_MODELS", str(tmp_path))

    def publish(url: str, content: bytes = CONTENT) -> None:
        checkpoint = Checkpoint("small", url, len(content), hashlib.sha256(content).hexdigest(), "Apache-2.0")
        monkeypatch.setattr(checkpoints, "load_registry", lambda: {"small": checkpoint})

    return publish


@pytest.fixture
def published(publish: Publish, address: str) -> None:
    publish(f"{address}/weights.pth")


@pytest.mark.usefixtures("published")
def test_download_reports_progress_and_gives_the_file_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEOSAM_ES_MODELS", str(tmp_path / "new"))
    calls: list[tuple[int, int]] = []
    path = download("small", lambda done, total: calls.append((done, total)))
    assert path == tmp_path / "new" / "weights.pth"
    assert path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]
    assert calls == sorted(calls)
    assert len(calls) >= 3
    assert calls[-1] == (len(CONTENT), len(CONTENT))


@pytest.mark.usefixtures("published")
def test_a_download_that_a_virus_scanner_holds_for_a_moment_gets_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    rename, refusals = Path.replace, [PermissionError(13, "The process cannot access the file")]

    def refuse_once(made: Path, target: Path) -> Path:
        if refusals:
            raise refusals.pop()
        return rename(made, target)

    monkeypatch.setattr(Path, "replace", refuse_once)
    assert download("small").read_bytes() == CONTENT


@pytest.mark.usefixtures("published")
def test_a_file_that_is_there_is_not_downloaded_again(tmp_path: Path, handler: type[Handler]) -> None:
    (tmp_path / "weights.pth").write_bytes(CONTENT)
    download("small")
    assert handler.requests == []


@pytest.mark.usefixtures("published")
def test_a_damaged_file_is_repaired(tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(bytes(len(CONTENT)))
    assert download("small").read_bytes() == CONTENT


@pytest.mark.usefixtures("published")
def test_an_interrupted_download_is_resumed(tmp_path: Path, handler: type[Handler]) -> None:
    handler.break_after = 1_500_000
    with pytest.raises(ModelError, match=r"1\.5 MB of 3\.1 MB.*again to resume"):
        download("small")
    assert (tmp_path / "weights.pth.part").stat().st_size == 1_500_000
    assert not (tmp_path / "weights.pth").exists()
    handler.break_after = None
    calls: list[int] = []
    path = download("small", lambda done, _: calls.append(done))
    assert handler.requests == [None, "bytes=1500000-"]
    assert calls[0] > 1_500_000
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("page", ["Content-Length=9", "Content-Type=text/html"])
@pytest.mark.usefixtures("published")
def test_a_page_in_place_of_the_file_leaves_the_partial_file(tmp_path: Path, handler: type[Handler], page: str) -> None:
    part = tmp_path / "weights.pth.part"
    part.write_bytes(CONTENT[:1_500_000])
    handler.page = page
    with pytest.raises(ModelError, match=r"such as a page to log in.*1\.5 MB of 3\.1 MB are here"):
        download("small")
    assert part.read_bytes() == CONTENT[:1_500_000]
    handler.page = None
    assert download("small").read_bytes() == CONTENT
    assert handler.requests[-1] == "bytes=1500000-"


@pytest.mark.parametrize("status_for_range", [None, 416])
@pytest.mark.usefixtures("published")
def test_a_server_without_ranges_starts_again(
    tmp_path: Path, handler: type[Handler], status_for_range: int | None
) -> None:
    handler.ranges = False
    handler.status_for_range = status_for_range
    (tmp_path / "weights.pth.part").write_bytes(b"x" * 1_000)
    assert download("small").read_bytes() == CONTENT


def test_a_complete_partial_file_needs_no_server(tmp_path: Path, publish: Publish) -> None:
    publish("http://127.0.0.1:9/weights.pth")
    (tmp_path / "weights.pth.part").write_bytes(CONTENT)
    assert download("small").read_bytes() == CONTENT


@pytest.mark.usefixtures("published")
def test_a_partial_file_that_is_too_long_is_discarded(tmp_path: Path) -> None:
    (tmp_path / "weights.pth.part").write_bytes(CONTENT + b"x")
    assert download("small").read_bytes() == CONTENT


def test_a_wrong_hash_is_an_error_and_the_file_is_removed(tmp_path: Path, publish: Publish, address: str) -> None:
    publish(f"{address}/weights.pth", content=bytes(len(CONTENT)))
    with pytest.raises(ModelError, match="wrong SHA-256"):
        download("small")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file_on_the_server(publish: Publish, address: str) -> None:
    publish(f"{address}/gone.pth")
    with pytest.raises(ModelError, match="HTTP status 404"):
        download("small")


def test_no_server_at_all(publish: Publish) -> None:
    publish("http://127.0.0.1:9/weights.pth")
    with pytest.raises(ModelError, match=r"cannot be downloaded .*refused.*models download small"):
        download("small")


@pytest.mark.usefixtures("published")
def test_too_little_disk_space_is_reported_before_the_download(
    tmp_path: Path, handler: type[Handler], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 1_000_000})
    monkeypatch.setattr(checkpoints.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(OutputError, match=r"1\.0 MB of free space, and small needs 3\.1 MB"):
        download("small")
    assert handler.requests == []


@pytest.mark.usefixtures("published")
def test_a_disk_that_fills_up_during_the_download(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    try:
        with pytest.raises(OutputError, match=r"cannot write .*free some space"):
            download("small")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.usefixtures("published")
def test_a_directory_that_cannot_be_created(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GEOSAM_ES_MODELS", str(tmp_path / "file" / "models"))
    with pytest.raises(OutputError, match="cannot write"):
        download("small")


@pytest.mark.parametrize("name", ["vit_x", "mini"])
def test_a_name_without_checkpoint(name: str) -> None:
    with pytest.raises(ModelError, match=name):
        download(name)


def test_the_registry_holds_metas_three_checkpoints() -> None:
    registry = load_registry()
    assert [name for name, model in registry.items() if model.family == "sam"] == ["vit_b", "vit_l", "vit_h"]
    for checkpoint in filter(lambda model: model.family == "sam", registry.values()):
        assert checkpoint.url.startswith("https://")
        assert checkpoint.filename.endswith(".pth")
        assert len(bytes.fromhex(checkpoint.sha256)) == 32
        assert checkpoint.bytes > 300_000_000
        assert checkpoint.licence == "Apache-2.0"


def test_every_model_has_a_family_and_a_line_in_the_documentation() -> None:
    wanted = {"vit_b", "vit_l", "vit_h", "mobile_sam", "hq_tiny", "hq_vit_b", "hq_vit_l", "hq_vit_h", "edgetam", "sam3"}
    wanted |= {f"sam2.1_{size}" for size in ("tiny", "small", "base_plus", "large")}
    registry = checkpoints.load_registry()
    assert set(registry) == wanted
    assert {checkpoint.family for checkpoint in registry.values()} == set(FAMILIES)
    described = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8").split("## ONNX")[0]
    assert all(f"`{name}`" in described for name in wanted)


@pytest.mark.usefixtures("published")
def test_models_are_listed_with_their_paths(tmp_path: Path) -> None:
    mini, small = list_models()
    assert mini.name == "mini"
    assert small.path == tmp_path / "weights.pth"
    assert not small.downloaded
    (tmp_path / "weights.pth").write_bytes(CONTENT)
    assert list_models()[1].downloaded


def test_the_embedded_model_is_listed_with_its_size_and_hash() -> None:
    mini = list_models()[0]
    assert mini.downloaded and (mini.path / "encoder.onnx").is_file()
    assert mini.bytes == sum(path.stat().st_size for path in mini.path.glob("*.onnx"))
    assert mini.sha256 == file_sha256(mini.path / "encoder.onnx")


def test_the_users_cache_is_the_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("platformdirs")
    monkeypatch.delenv("GEOSAM_ES_MODELS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert checkpoints.models_directory() == tmp_path / "geosam-es" / "models"


@pytest.mark.usefixtures("published")
def test_a_checkpoint_that_was_not_downloaded_names_the_command() -> None:
    with pytest.raises(ModelError, match="geosam-es models download small"):
        checkpoint_path("small")


def test_torch_is_not_imported() -> None:
    code = "import sys, encoder_tools.models.checkpoints; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


REPOSITORY = Checkpoint("hubbed", "https://huggingface.co/some/model", 9, "", "Apache-2.0", "sam2", "some/model")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[bytes, str], Path]:
    """Return a function that fills the cache of huggingface_hub, as a download does."""
    pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(checkpoints, "load_registry", lambda: {"hubbed": REPOSITORY})
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))

    def fill(weights: bytes, name: str) -> Path:
        root = tmp_path / "models--some--model"
        folder = root / "snapshots" / "abc"
        for path in (root / "refs", root / "blobs", folder):
            path.mkdir(parents=True, exist_ok=True)
        (root / "refs" / "main").write_text("abc")
        (folder / "config.json").write_text("{}")
        (root / "blobs" / name).write_bytes(weights)
        (folder / "model.safetensors").symlink_to(root / "blobs" / name)
        return folder

    return fill


def test_a_repository_in_the_cache_of_the_hub_is_found(hub: Callable[[bytes, str], Path]) -> None:
    with pytest.raises(ModelError, match=r"hubbed is not downloaded: run `geosam-es models download hubbed`"):
        checkpoint_path("hubbed")
    assert not list_models()[1].downloaded
    folder = hub(b"weights", hashlib.sha256(b"weights").hexdigest())
    assert checkpoint_path("hubbed") == folder == list_models()[1].path
    (folder / "config.json").unlink()
    assert list_models()[1].path is None


def test_a_damaged_download_of_a_repository_is_removed(
    hub: Callable[[bytes, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = hub(b"weights", "0" * 64)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(folder))
    with pytest.raises(ModelError, match=r"model.safetensors .* has the wrong SHA-256 and was removed"):
        download("hubbed")
    assert not (folder / "model.safetensors").exists()


@pytest.mark.usefixtures("hub")
def test_a_repository_that_cannot_be_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match=r"cannot be downloaded .*: check the connection and HF_HUB_OFFLINE"):
        download("hubbed")

    class GatedRepoError(Exception):
        pass

    def refuse(*_: object, **__: object) -> None:
        raise GatedRepoError("403")

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    with pytest.raises(ModelError, match=r"accept its terms on https://huggingface.co/some/model and log in"):
        download("hubbed")


def test_a_model_that_is_not_downloaded_because_of_its_licence() -> None:
    with pytest.raises(ModelError, match=r"does not download sam3, because of its licence: get it from https"):
        download("sam3")

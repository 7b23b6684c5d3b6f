"""``geosam-es decoder``: a decoder with a different answer is added to a store and answers there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import shapely

from encoder_tools.vector import read_vector
from geosam_es.store.metadata import read_metadata
from tests.encoder_tools.conftest import Ortho, Run
from tests.encoder_tools.scenes import write_model
from tests.helpers import make_decoder


def contents(model: Path) -> dict[str, bytes]:
    return {name: (model / name).read_bytes() for name in ("prepare.onnx", "decoder.onnx")}


@pytest.fixture
def tuned(ortho: Ortho, model: Path, tmp_path: Path) -> Path:
    """The store's own decoder under another name."""
    known = read_metadata(ortho.store).model
    info = {"model": known["name"], "encoder_sha256": known["encoder_sha256"]}
    return make_decoder(tmp_path / "tuned", "fields", contents(model), **info)


def test_set_list_use_and_remove(run: Run, ortho: Ortho, tuned: Path) -> None:
    assert run("decoder", "list", ortho.store).stdout == "* original (made with the store)\n"
    done = run("decoder", "set", ortho.store, tuned)
    assert (done.exit_code, done.stdout) == (0, f"{ortho.store}: decoder fields is in use\n")
    listed = run("decoder", "list", ortho.store).stdout.splitlines()
    assert listed[0].startswith("  original")
    assert listed[1] == "* fields (tuned from original on 12 objects, 2026-11-20T10:00:00+00:00)"
    assert run("decoder", "use", ortho.store, "original").exit_code == 0
    active = {item["name"]: item["active"] for item in json.loads(run("decoder", "list", ortho.store, "--json").stdout)}
    assert active == {"original": True, "fields": False}
    assert run("decoder", "use", ortho.store, "fields").exit_code == 0
    done = run("decoder", "remove", ortho.store, "fields")
    assert done.stdout == f"{ortho.store}: decoder fields removed, original is in use\n"


def test_it_can_be_added_under_another_name_without_being_used(run: Run, ortho: Ortho, tuned: Path) -> None:
    done = run("decoder", "set", ortho.store, tuned, "--name", "second try", "--keep-active")
    assert done.stdout == f"{ortho.store}: decoder second try added\n"
    assert run("decoder", "list", ortho.store).stdout.startswith("* original")


def test_segment_answers_with_the_decoder_in_use(run: Run, ortho: Ortho, tuned: Path, tmp_path: Path) -> None:
    (ortho.store / "decoder.onnx").write_bytes(b"whatever loads this fails")
    out = tmp_path / "a.gpkg"
    refused = run("segment", ortho.store, "-o", out, ortho.click)
    assert refused.exit_code == 2 and "decoder.onnx" in refused.stderr
    assert run("decoder", "set", ortho.store, tuned).exit_code == 0
    assert run("segment", ortho.store, "-o", out, ortho.click).exit_code == 0
    (found,) = read_vector(out).geometries
    assert shapely.intersection(found, ortho.truth).area / shapely.union(found, ortho.truth).area > 0.8


def test_info_and_verify_know_the_decoders(run: Run, ortho: Ortho, tuned: Path) -> None:
    run("decoder", "set", ortho.store, tuned)
    lines = [line for line in run("info", ortho.store).stdout.splitlines() if line.startswith("Decoder:")]
    assert len(lines) == 2 and lines[1].endswith("in use") and not lines[0].endswith("in use")
    value = json.loads(run("info", ortho.store, "--json").stdout)
    assert [item["name"] for item in value["decoders"]] == ["original", "fields"]
    assert run("verify", ortho.store).exit_code == 0
    run("decoder", "use", ortho.store, "original")
    (ortho.store / "decoders" / "fields" / "decoder.onnx").write_bytes(b"half")
    damaged = run("verify", ortho.store)
    assert damaged.exit_code == 2 and "changed or copied in part" in damaged.stderr


def test_encoding_again_keeps_the_decoders(run: Run, ortho: Ortho, tuned: Path, model: Path) -> None:
    assert run("decoder", "set", ortho.store, tuned).exit_code == 0
    again = run("encode", ortho.image, "--model", model, "--overwrite", "--dtype", "int8")
    assert again.exit_code == 0, again.stderr
    assert "* fields" in run("decoder", "list", ortho.store).stdout
    assert run("verify", ortho.store).exit_code == 0
    kept = ortho.store.with_name("ortho.old-decoders")
    image = ortho.image.read_bytes()
    ortho.image.write_bytes(image[: len(image) // 2])
    assert run("encode", ortho.image, "--overwrite").exit_code == 2
    assert "* fields" in run("decoder", "list", ortho.store).stdout and not kept.exists()
    ortho.image.write_bytes(image)
    other = run("encode", ortho.image, "--overwrite")
    assert other.exit_code == 0 and f"its decoders belong to the old encoder and are now in {kept}" in other.stderr
    assert (kept / "fields" / "decoder.onnx").read_bytes() == (tuned / "decoder.onnx").read_bytes()
    assert run("decoder", "list", ortho.store).stdout == "* original (made with the store)\n"


@pytest.mark.parametrize("options", [("--name", "fields"), ("--keep-active",)])
def test_options_without_a_meaning_for_a_model_with_an_encoder_are_refused(
    run: Run, ortho: Ortho, tmp_path: Path, options: tuple[str, ...]
) -> None:
    other = write_model(tmp_path / "other")
    card = json.loads((other / "model.json").read_text(encoding="utf-8"))
    (other / "model.json").write_text(json.dumps({**card, "encoder_sha256": "c" * 64}), encoding="utf-8")
    before = read_metadata(ortho.store).model
    refused = run("decoder", "set", ortho.store, other, *options)
    assert refused.exit_code == 2 and f"{options[0]} cannot be used" in refused.stderr
    assert read_metadata(ortho.store).model == before


def test_what_is_refused_is_one_sentence(run: Run, ortho: Ortho, tuned: Path, model: Path, tmp_path: Path) -> None:
    other = make_decoder(tmp_path / "other", "fields", contents(model), model="vit_b", encoder_sha256="1" * 64)
    own = read_metadata(ortho.store).model
    text = make_decoder(tmp_path / "text", "text", model=own["name"], encoder_sha256=own["encoder_sha256"])
    for arguments, problem in (
        (("set", ortho.store, other), "encoder vit_b"),
        (("set", ortho.store, text), "is not an ONNX model"),
        (("set", ortho.store, tmp_path), "is not a decoder"),
        (("set", tmp_path, tuned), "is not an embedding store"),
        (("list", tmp_path), "is not an embedding store"),
        (("use", ortho.store, "none"), "has no decoder none"),
        (("remove", ortho.store, "original"), "cannot be removed"),
    ):
        done = run("decoder", *arguments)
        assert done.exit_code == 2 and done.stdout == ""
        assert len(done.stderr.splitlines()) == 1 and problem in done.stderr

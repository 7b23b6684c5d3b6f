"""Stores damaged at random: every command ends with a result or one sentence, and touches nothing else.

`CASES_VARIABLE` sets the number of stores.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from encoder_tools.cli.app import cli
from geosam_es.inference import session
from tests.encoder_tools.conftest import Ortho
from tests.helpers import make_decoder

CASES_VARIABLE = "GEOSAM_ES_DAMAGED_CASES"
CASES = int(os.environ.get(CASES_VARIABLE, "600"))

HUGE = 10**40
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 3, 7, 0.5, 1e-300, 1e300, 2**31, 2**63, HUGE, float("nan"), float("inf")),
    *("", "x", "../x", "..", "/etc/passwd", "C:\\x", "a/b", "con", "original", "\x1b[2J", "\ud800", "x" * 5000),
    *("float32", "int8", "object", "nan", "PROJCS[", 'PROJCS["x"]', "GEOGCS[]", "EPSG:25830", "f" * 64, "{0}"),
    *([], [None], [1, 2, 3], [[1, 2]] * 3, [1, 1, 1, 1, 1, 1], {}, {"a": 1}, {"../a": [1, 2, 3]}, {"/a": [1, 2, 3]}),
)  # fmt: skip
FACTORS = (-1, 0.5, 2, 16, 1000, 1e6, 1e20)


class Damage(NamedTuple):
    """One change to a store; the numbers choose the file and the place in it."""

    change: Callable[[Path, random.Random], None]
    only_json: bool
    seed: int


def change_value(path: Path, rng: random.Random) -> None:
    """Replace, scale, remove or add a value of a JSON file."""
    document = json.loads(path.read_text())
    places: list[tuple[Any, Any]] = []

    def collect(value: Any) -> None:
        keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
        for key in keys:
            places.append((value, key))
            collect(value[key])

    collect(document)
    if not places:
        return
    parent, key = rng.choice(places)
    old = parent[key]
    how = rng.random()
    if how < 0.15:
        del parent[key]
    elif how < 0.4 and isinstance(old, (int, float)) and not isinstance(old, bool):
        parent[key] = old * rng.choice(FACTORS)
    elif how < 0.5 and isinstance(parent, dict):
        parent[rng.choice([value for value in VALUES if isinstance(value, str)])] = parent.pop(key)
    else:
        parent[key] = rng.choice(VALUES)
    path.write_text(json.dumps(document))


def cut(path: Path, rng: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: rng.randrange(len(content) + 1)])


def lengthen(path: Path, rng: random.Random) -> None:
    path.write_bytes(path.read_bytes() + rng.randbytes(rng.randrange(1, 9)))


def garble(path: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    for _ in range(rng.choice((1, 1, 50))):
        if content:
            content[rng.randrange(len(content))] = rng.randrange(256)
    path.write_bytes(bytes(content))


def remove(path: Path, rng: random.Random) -> None:
    path.unlink()


def become_a_folder(path: Path, rng: random.Random) -> None:
    path.unlink()
    path.mkdir()


def lose_the_folder(path: Path, rng: random.Random) -> None:
    shutil.rmtree(path.parent)
    if rng.random() < 0.5:
        path.parent.touch()


CHANGES = st.one_of(
    *[st.just((change_value, True))] * 6,
    *[st.just((change, False)) for change in (cut, lengthen, garble, remove, become_a_folder, lose_the_folder)],
    *[st.just((change, True)) for change in (cut, garble)],
)
DAMAGES = st.lists(
    st.builds(lambda change, seed: Damage(*change, seed), CHANGES, st.integers(0, 2**32)), min_size=1, max_size=3
)


class Place(NamedTuple):
    """An undamaged store, and a folder with the copy that is damaged and the output."""

    whole: Path
    folder: Path
    store: Path
    out: Path
    click: str

    def names(self) -> set[str]:
        """Return everything in the folder of the cases."""
        return {f"{root}/{name}" for root, folders, files in os.walk(self.folder) for name in (*folders, *files)}

    def restore(self, touched: list[Path], is_whole: bool) -> None:
        """Undo the damage to files, or to the whole store, which takes longer."""
        if is_whole:
            shutil.rmtree(self.store, ignore_errors=True)
            self.store.unlink(missing_ok=True)
            shutil.copytree(self.whole, self.store)
        for path in touched:
            if path.is_dir():
                path.rmdir()
            shutil.copyfile(self.whole / path.relative_to(self.store), path)


@pytest.fixture(scope="module")
def place(made_ortho: Ortho, tmp_path_factory: pytest.TempPathFactory) -> Place:
    made, folder = (tmp_path_factory.mktemp(name) for name in ("made", "cases"))
    whole = Path(shutil.copytree(made_ortho.store, made / "ortho.embeddings.zarr"))
    files = {name: (whole / name).read_bytes() for name in ("prepare.onnx", "decoder.onnx")}
    decoder = make_decoder(made / "tuned", "fields", files, model="bright", encoder_sha256="b" * 64)
    result = CliRunner().invoke(cli, ["decoder", "set", str(whole), str(decoder)])
    assert result.exit_code == 0, result.stderr
    (folder / "out").mkdir()
    store = Path(shutil.copytree(whole, folder / whole.name))
    return Place(whole, folder, store, folder / "out" / "out.geojson", made_ortho.click)


class Opened:
    """Records the files that this process opens inside `watched`."""

    def __init__(self) -> None:
        self.paths: list[str] | None = None
        sys.addaudithook(self._on_event)

    def _on_event(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and self.paths is not None and isinstance(arguments[0], (str, bytes)):
            self.paths.append(os.path.realpath(os.fsdecode(arguments[0])))

    @contextmanager
    def watched(self) -> Iterator[list[str]]:
        self.paths = found = []
        try:
            yield found
        finally:
            self.paths = None


OPENED = Opened()
HARMLESS = tuple(
    {sys.prefix, sys.base_prefix, str(Path(__file__).parents[2]), "/usr", "/proc", "/dev", "/etc/localtime"}
)


@contextmanager
def damaged(place: Place, damages: list[Damage]) -> Iterator[None]:
    """Damage the store for a while."""
    touched: list[Path] = []
    try:
        for item in damages:
            rng = random.Random(item.seed)
            files = sorted(Path(root, name) for root, _, names in os.walk(place.store) for name in names)
            documents = [path for path in files if path.suffix == ".json"]
            # The root says the most.
            roots = [path for path in documents if path.parent == place.store]
            chosen = roots if item.only_json and rng.random() < 0.5 else documents if item.only_json else files
            if chosen:
                touched.append(rng.choice(chosen))
                try:
                    item.change(touched[-1], rng)
                except (ValueError, RecursionError):
                    # An earlier change has left no JSON.
                    cut(touched[-1], rng)
        yield
    finally:
        is_whole = any(item.change is lose_the_folder for item in damages)
        place.restore([] if is_whole else touched, is_whole)


@settings(
    max_examples=CASES,
    deadline=None,
    database=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
@given(damages=DAMAGES)
# A decoder whose weights became infinite.
@example(damages=[Damage(garble, False, 8082), Damage(remove, False, 82525)])
def test_damaged_stores(place: Place, damages: list[Damage]) -> None:
    store = str(place.store)
    commands = (
        ("info", store),
        ("info", store, "--json"),
        ("verify", store),
        ("decoder", "list", store),
        ("segment", store, place.click, "-o", str(place.out), "--overwrite"),
    )
    with damaged(place, damages):
        before = place.names()
        for arguments in commands:
            with OPENED.watched() as opened, pytest.MonkeyPatch.context() as patch:
                patch.setattr(session, "load_decoder", _load_decoder)
                result = CliRunner().invoke(cli, arguments)
            said = f"{arguments}: {result.exit_code} {result.exception!r} {result.stderr}"
            assert result.exit_code in (0, 2), said
            assert result.exception is None or isinstance(result.exception, SystemExit), said
            assert "Traceback" not in result.output, said
            allowed = (store, str(place.out.parent), *HARMLESS)
            assert not [path for path in opened if not path.startswith(allowed)], said
        assert place.names() - {str(place.out)} == before - {str(place.out)}


_load = session.load_decoder


def _load_decoder(prepare: Path | None, decoder: Path, threads: int | None = None) -> Any:
    """Load a decoder once for each content."""
    contents = tuple(None if path is None or not path.is_file() else path.read_bytes() for path in (prepare, decoder))
    return _load_contents(contents, prepare, decoder) if None not in contents[1:] else _load(prepare, decoder, threads)


@cache
def _load_contents(contents: tuple[bytes | None, ...], prepare: Path | None, decoder: Path) -> Any:
    return _load(prepare, decoder, 1)

"""One command over the stores of a folder or of a catalogue, one after another or with several processes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from geosam_es.core.prompts import Bounds
from geosam_es.errors import OutputError, StoreError, VectorError
from geosam_es.inference.segmenter import Segmenter
from geosam_es.inference.session import open_segmenter
from geosam_es.store import StoreReader
from geosam_es.store.layout import SUFFIX, is_store
from geosam_es.store.remote import RemoteStore, is_address

from ..crs import reproject, same_crs, store_crs
from ..distributed import Cluster, Item, Value, connect
from ..progress import Progress
from ..remote import opened
from ..vector import file_and_layer, read_vector
from .catalog import common_crs, footprint_in, footprint_of, stores_in
from .group import EXIT_FAULT, report_fault, user_error
from .options import StorePlace

__all__ = ["RASTER_FIELD", "Sheet", "Sheets", "each", "stores_progress", "worker_options"]

_TOUCHING = 1e-6
"""Distance of sheets that touch, as a part of their side."""

RASTER_FIELD = "raster"
"""Field of outputs of several stores, with the file name of the raster as the plugin writes it."""


def worker_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of the processes that share the stores."""
    workers = click.option(
        "--workers",
        type=click.IntRange(min=1),
        help='Share the stores among this many processes on this computer. Needs Dask: pip install ".[distributed]".',
    )
    scheduler = click.option(
        "--scheduler",
        help="Address of a Dask scheduler, such as tcp://HOST:8786, to share the stores among its workers. Stores and "
        "output must have the same paths on all machines.",
    )
    return workers(scheduler(command))


def each(
    work: Callable[[Item], Value], items: Iterable[Item], cluster: Cluster | None
) -> Iterator[Callable[[], Value]]:
    """Call a function for each item, here or on the workers; see `Cluster.each`."""
    return (partial(work, item) for item in items) if cluster is None else cluster.each(work, items)


def stores_progress(output: Path, cluster: Cluster | None) -> AbstractContextManager[Progress | None]:
    """Return the progress with the stores that workers share; here, each store has its own."""
    return nullcontext() if cluster is None else Progress(output.name, "stores")


class Sheet(NamedTuple):
    """A store to work on.

    Attributes
    ----------
    store : Path, RemoteStore or str
        In a worker, an address stands for a store on a server.
    crs : pyproj.CRS
    label : str
        What to call the progress with its tiles; empty in a worker, as the client shows how many stores are done.
    neighbours : list of Path, RemoteStore or str
        Stores of the sheets beside it.
    """

    store: StorePlace | str
    crs: pyproj.CRS
    label: str
    neighbours: list[StorePlace | str]

    @contextmanager
    def segmenter(self, threads: int | None) -> Iterator[Segmenter]:
        """Open the store together with its neighbours, see `open_segmenter`; release their copies afterwards."""
        with ExitStack() as stack:
            store = stack.enter_context(opened(self.store))
            neighbours = []
            for place in self.neighbours:
                # Those that cannot be read are left out.
                with suppress(StoreError):
                    neighbours.append(stack.enter_context(opened(place)))
            if isinstance(store, RemoteStore):
                store.trim()
            yield open_segmenter(store, threads, neighbours, same_crs)

    def progress(self) -> AbstractContextManager[Progress | None]:
        """Return the progress with its tiles."""
        return Progress(self.label, "tiles") if self.label else nullcontext()


class Sheets:
    """The stores that a command goes through: one, or those of a folder or a catalogue.

    A store of several that cannot be used does not stop the others, see `guard` and `finish`.

    Parameters
    ----------
    place : Path or RemoteStore
        A store; or a folder, or a vector layer with a field ``store``, as ``geosam-es catalog`` writes it.

    Attributes
    ----------
    is_many : bool
    stores : list of Path or RemoteStore
        Without those that cannot be opened, unless there is only one.
    raster : RasterInfo
        The raster of the first store.
    names : list of str
        File names of their rasters.
    systems : list of pyproj.CRS
        CRSs of their rasters.
    bounds : list of Bounds
        Extents of their rasters, each in its CRS.
    crs : pyproj.CRS
        The CRS in which they are compared: that of the rasters, or WGS 84 if they have several.
    footprints : object (N,)
        Of the rasters, in ``crs``.
    failed : dict of str to str
        Stores that could not be used, and why.

    Raises
    ------
    StoreError
        If the only store, or none of several, can be opened.
    """

    def __init__(self, place: StorePlace) -> None:
        several: Sequence[StorePlace | str] | None = _stores(place)
        self.is_many = several is not None
        self.failed: dict[str, str] = {}
        self._count = len(several or [place])
        found: list[tuple[StorePlace, StoreReader, pyproj.CRS, StorePlace | str]] = []
        for store in several or [place]:
            with self.guard(store), opened(store) as there:
                reader = StoreReader(there)
                found.append((reader.remote or reader.root, reader, store_crs(reader), store))
        self.check()
        self.crs = common_crs([crs for _, _, crs, _ in found])
        placed = []
        for store, reader, crs, _ in found:
            with self.guard(store):
                placed.append(footprint_in(footprint_of(reader), crs, self.crs))
        self.check()
        found = [one for one in found if str(one[0]) not in self.failed]
        self.stores = [store for store, _, _, _ in found]
        # As they were given, for workers.
        self._given = [given for _, _, _, given in found]
        self.raster = found[0][1].metadata.raster
        self.names = [reader.metadata.raster.file_name for _, reader, _, _ in found]
        self.systems = [crs for _, _, crs, _ in found]
        self.bounds = [Bounds(*footprint_of(reader).bounds) for _, reader, _, _ in found]
        self.footprints: NDArray[np.object_] = np.array(placed, dtype=object)

    @property
    def extent(self) -> Bounds:
        """Bounds of all rasters in ``crs``."""
        return Bounds(*shapely.total_bounds(self.footprints).tolist())

    @contextmanager
    def guard(self, store: StorePlace | str) -> Iterator[None]:
        """Report an error of one store of several, and go on."""
        try:
            yield
        except click.ClickException:
            raise
        except Exception as error:
            if not self.is_many:
                raise
            known = user_error(error)
            reason = self.failed[str(store)] = report_fault(error) if known is None else known.user_message
            click.echo(f"Error: {store}: {reason}", err=True)

    def check(self) -> None:
        """Raise StoreError if none of several stores could be used."""
        if len(self.failed) == self._count:
            raise StoreError(f"none of the {self._count} stores can be used", "see the errors above")

    def finish(self, append: bool, options: str = "--overwrite") -> None:
        """List the stores that could not be used, and how to run the command again; end with exit code 1."""
        if self.failed:
            lines = [f"{len(self.failed)} of {self._count} stores could not be used:"]
            lines += [f"{store}: {reason}" for store, reason in self.failed.items()]
            click.echo("\n  ".join(lines), err=True)
            again = "with them alone and --append" if append else f"with {options}"
            click.echo(f"Mend them, and run the command again {again}", err=True)
            sys.exit(EXIT_FAULT)

    def workers(
        self, workers: int | None, scheduler: str | None, threads: int | None
    ) -> AbstractContextManager[Cluster | None]:
        """Return the workers that the options ask for, or None; see `connect`."""
        if (workers, scheduler) == (None, None):
            return nullcontext()
        if not self.is_many:
            raise OutputError(
                "--workers and --scheduler share the stores of a folder or a catalogue, and this is one store",
                "leave them out; one process uses all cores",
            )
        return connect(scheduler, min(workers or 1, len(self.stores)), threads)

    def items(self, output: Path, cluster: Cluster | None) -> list[Sheet]:
        """Return what to work on, here or in workers."""
        count = len(self.stores)
        stores: list[StorePlace | str] = [*self.stores]
        if cluster is not None:
            stores = [store.absolute() if isinstance(store, Path) else store for store in self._given]
        reach = _TOUCHING * np.sqrt(shapely.area(self.footprints))
        first, second = shapely.STRtree(self.footprints).query(self.footprints, "dwithin", reach)
        items = []
        for index, (store, crs) in enumerate(zip(stores, self.systems)):
            label = f"{output.name} ({index + 1}/{count})" if self.is_many else output.name
            beside = [stores[other] for other in second[first == index] if other != index]
            items.append(Sheet(store, crs, "" if cluster is not None else label, beside))
        return items

    def owners(self, geometries: Sequence[BaseGeometry] | NDArray[np.object_], crs: pyproj.CRS) -> NDArray[np.intp]:
        """Return the store of each object (N,): on its raster, the middle of the object is farthest from the border.

        An object whose middle is outside all rasters belongs to one that it touches; -1 if there is none. A single
        store owns everything.
        """
        owners = np.full(len(geometries), -1 if self.is_many else 0)
        if not self.is_many:
            return owners
        placed = reproject(np.array(geometries, dtype=object), crs, self.crs, may_fail=True)
        tree = shapely.STRtree(self.footprints)
        for shapes in (placed, shapely.centroid(placed)):
            defined = np.flatnonzero(np.isfinite(shapely.bounds(shapes)).all(axis=1))
            item, store = tree.query(shapes[defined], predicate="intersects")
            depth = shapely.distance(shapely.boundary(self.footprints[store]), shapes[defined[item]])
            # Of several values for one object, the last is kept.
            order = np.argsort(depth, kind="stable")
            owners[defined[item[order]]] = store[order]
        return owners

    def owns(
        self,
        index: int,
        polygons: Sequence[BaseGeometry] | NDArray[np.object_],
        crs: pyproj.CRS,
        area: BaseGeometry | None = None,
    ) -> NDArray[np.bool_]:
        """Tell which polygons of a store belong to no other one, by what lies in an area in ``crs`` of the stores."""
        shown = np.array(polygons, dtype=object)
        if area is not None:
            # Other stores are not searched outside it.
            shown = shapely.intersection(shapely.make_valid(reproject(shown, crs, self.crs, may_fail=True)), area)
            crs = self.crs
        return np.isin(self.owners(shapely.centroid(shown), crs), (index, -1))


def _stores(place: StorePlace) -> list[Path | str] | None:
    """Return the stores of a folder or a catalogue, or None if this is something else."""
    if not isinstance(place, Path):
        return None
    if place.is_dir():
        is_one = place.name.endswith(SUFFIX) or is_store(place)
        return (None if is_one else sorted(stores_in(place), key=str)) or None
    try:
        column = read_vector(place).field("store") if file_and_layer(place)[0].is_file() else None
    except VectorError:
        return None
    folder = file_and_layer(place)[0].parent
    names = [] if column is None else sorted(str(name) for name in column if name is not None)
    # A catalogue may name a store twice.
    places = {name.rstrip("/") if is_address(name) else os.path.realpath(folder / name): name for name in names}
    return None if column is None else [key if is_address(key) else folder / name for key, name in places.items()]

"""Work for several processes or machines: tasks of Dask ``distributed``.

To encode, the client plans a raster and creates its store, and a task is a block of tiles. Workers open both by their
paths and write straight into the store, so all need the same file system, unless the store is in object storage. Dask
gives a task that is lost with its worker to another one, which skips the tiles that are there already.

To draw on many stores, a task is a store. Workers send back what they found, and the client writes it.
"""

from __future__ import annotations

import io
import json
import logging
import re
import signal
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, redirect_stderr, suppress
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any, TypeVar

import shapely

from geosam_es import __version__
from geosam_es.core.grid import Tile
from geosam_es.encoding.encode import EncodeReport, ProgressCallback, encode_tiles
from geosam_es.encoding.plan import EncodePlan, Tiles
from geosam_es.errors import GeoSamError, ModelError, OutputError, SignatureMismatchError, StoreError
from geosam_es.inference.encoder import Encoder
from geosam_es.inference.runtime import available_cores
from geosam_es.store import StoreMetadata, StoreWriter
from geosam_es.store.signature import check_signature, raster_signature

from .models.loading import load_model
from .object_store import ObjectWriter
from .raster import Raster, bounded_cache
from .remote import Target, resume_writer

__all__ = ["Cluster", "Model", "connect"]

_MOST_TILES, _LEAST_TILES = 64, 8
"""Tiles of a block. A worker that ends loses one block; with each block the pipeline of a worker starts anew."""

_BLOCKS_PER_WORKER = 4
_AHEAD_PER_WORKER = 4
"""Items that are worked on before the results of earlier ones are taken."""

_WAIT_S = 30

Item = TypeVar("Item")
Value = TypeVar("Value")


@dataclass(frozen=True)
class Model:
    """How each worker loads the model; see `load_model`.

    Attributes
    ----------
    devices : tuple of str
        Worker n takes device n, counted from the first again if there are fewer.
    batch_size : int, optional
        Tiles per batch; by default what suits the worker's device.
    """

    name: str
    checkpoint: Path | None
    devices: tuple[str, ...]
    threads: int | None
    precision: str
    batch_size: int | None


@dataclass(frozen=True)
class _Job:
    """A raster and its store, by value, so that a worker opens them only once."""

    model: Model
    raster: tuple[Any, ...]
    store: Target
    metadata: str
    aoi: bytes | None


class Cluster:
    """The workers, which encode one raster or several at a time, or draw on stores.

    Parameters
    ----------
    client : distributed.Client
    model : Model, optional
        To encode with.
    threads : int, optional
        CPU threads of a worker; by default all cores.
    """

    def __init__(self, client: Any, model: Model | None, threads: int | None) -> None:
        self._client = client
        self._model = model
        self.threads = threads
        self._is_stopped = False

    @property
    def workers(self) -> int:
        """Number of workers that are there now."""
        return max(1, len(self._client.nthreads()))

    def encode(
        self, plan: EncodePlan, writer: StoreWriter, tiles: Tiles, progress: ProgressCallback | None
    ) -> EncodeReport:
        """Encode the tiles that a store lacks, as `encode_tiles` does; may be called in several threads.

        Raises
        ------
        GeoSamError
            If a worker cannot open the raster, the store or the model, or has others, if a block ends its workers, or
            if the connection to the scheduler is lost.
        """
        started, path = time.perf_counter(), plan.raster.path
        encoded = skipped = resumed = 0
        killed = OutputError(
            f"several workers ended while they encoded the same tiles of {path}",
            "give them more memory, or encode with a smaller --batch-size, and continue with --resume",
        )
        lost = OutputError(
            f"the connection to the Dask scheduler was lost while {path} was encoded",
            "start it and its workers again, and continue with --resume",
        )
        size = min(_MOST_TILES, max(_LEAST_TILES, -(-len(tiles) // (_BLOCKS_PER_WORKER * self.workers))))
        blocks = ([tuple(tile) for tile in tiles[start : start + size]] for start in range(0, len(tiles), size))
        with closing(self.each(partial(_encode_block, self._job(plan, writer)), blocks, killed, lost)) as parts:
            for found in parts:
                counts = found()
                encoded, skipped, resumed = encoded + counts[0], skipped + counts[1], resumed + counts[2]
                if progress is not None:
                    progress(encoded + skipped + resumed, len(tiles))
        return EncodeReport(encoded, skipped, resumed, time.perf_counter() - started)

    def each(
        self,
        work: Callable[[Item], Value],
        items: Iterable[Item],
        killed: GeoSamError | None = None,
        lost: GeoSamError | None = None,
    ) -> Generator[Callable[[], Value], None, None]:
        """Call a function for each item.

        Parameters
        ----------
        work : callable
            A function of a module, or a partial of one, so that workers can import it. What it writes to standard
            error is written here.
        items : iterable
        killed, lost : GeoSamError, optional
            The errors if an item ends its workers, or the connection to the scheduler is lost.

        Yields
        ------
        callable
            For each item, in their order, a function that returns its value once it is there, or raises its error.
        """
        from distributed.client import ClosedClientError
        from distributed.comm import CommClosedError

        killed = killed or OutputError(
            "several workers ended while they drew on it", "give them more memory, or use fewer"
        )
        lost = lost or OutputError("the connection to the Dask scheduler was lost", "start it and its workers again")

        def value(future: Any) -> Any:
            with self._plain_errors(killed, lost):
                found, said = future.result()
            sys.stderr.write(said)
            return found

        ahead: deque[Any] = deque()
        try:
            for item in items:
                with self._plain_errors(killed, lost):
                    ahead.append(self._client.submit(_perform, __version__, work, item, pure=False))
                if len(ahead) > _AHEAD_PER_WORKER * self.workers:
                    yield partial(value, ahead.popleft())
            while ahead:
                yield partial(value, ahead.popleft())
        finally:
            with suppress(ClosedClientError, CommClosedError):
                self._client.cancel(list(ahead))

    @contextmanager
    def _plain_errors(self, killed: GeoSamError, lost: GeoSamError) -> Iterator[None]:
        """Raise these errors if a task ends its workers, or the connection to the scheduler is lost."""
        from distributed import CancelledError
        from distributed.client import ClosedClientError
        from distributed.comm import CommClosedError
        from distributed.scheduler import KilledWorker

        try:
            yield
        except KilledWorker as error:
            raise killed from error
        except ImportError as error:
            raise ModelError(
                f"the workers lack this version of GeoSAM-ES ({error})", f"install {__version__} on every machine"
            ) from error
        except (CancelledError, ClosedClientError, CommClosedError) as error:
            if self._is_stopped:
                # Not an error of this image.
                raise KeyboardInterrupt from None
            raise lost from error

    def stop(self) -> None:
        """Give up what is being encoded."""
        self._is_stopped = True
        self._client.close()

    def _job(self, plan: EncodePlan, writer: StoreWriter) -> _Job:
        if not isinstance(plan.raster, Raster) or self._model is None:
            raise TypeError(f"workers cannot open a {type(plan.raster).__name__}")
        path, *options = plan.raster.arguments
        return _Job(
            replace(self._model, threads=self.threads),
            (path.absolute() if isinstance(path, Path) else path, *options),
            writer.url if isinstance(writer, ObjectWriter) else writer.root.absolute(),
            json.dumps(writer.metadata.to_json()),
            None if plan.aoi is None else shapely.to_wkb(plan.aoi),
        )


@contextmanager
def connect(
    scheduler: str | None, workers: int, threads: int | None = None, model: Model | None = None
) -> Iterator[Cluster]:
    """Use the workers of a Dask scheduler, or start some on this computer, which end with the context.

    Parameters
    ----------
    scheduler : str, optional
        Address such as ``tcp://HOST:8786``.
    workers : int
        Processes to start if there is no scheduler; they share the cores.
    threads : int, optional
        CPU threads of a worker.
    model : Model, optional
        To encode with.

    Raises
    ------
    ModelError
        If ``distributed`` is not installed.
    OutputError
        If no scheduler answers, or it has no worker.
    """
    try:
        import dask
        from distributed import Client, LocalCluster, TimeoutError
        from distributed.comm import resolve_address
    except ImportError as error:
        raise ModelError(
            f"Dask cannot be imported ({error})", 'install it with `pip install "geosam-es[distributed]"`'
        ) from error
    with ExitStack() as stack:
        place: Any = scheduler
        if scheduler is None:
            threads = threads or max(1, available_cores() // workers)
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="geosam-es-", ignore_cleanup_errors=True))
            with dask.config.set({"temporary-directory": folder}), _interrupts_later():
                place = stack.enter_context(
                    LocalCluster(
                        n_workers=workers,
                        threads_per_worker=1,
                        memory_limit=0,
                        dashboard_address="127.0.0.1:0",
                        silence_logs=logging.CRITICAL,
                    )
                )
        # What it logs is said by the errors below.
        logging.getLogger("distributed.client").setLevel(logging.CRITICAL)
        try:
            if scheduler is not None:
                # A client with a wrong address would not end.
                resolve_address(scheduler)
            client = stack.enter_context(Client(place, timeout=_WAIT_S, set_as_default=False))
            client.wait_for_workers(1, timeout=_WAIT_S)
        except (OSError, ValueError, OverflowError, TimeoutError) as error:
            raise OutputError(
                f"no Dask workers answer at {place} ({error})",
                "start them with `dask scheduler` and `dask worker tcp://HOST:8786 --nthreads 1`",
            ) from error
        yield Cluster(client, model, threads)


@contextmanager
def _interrupts_later() -> Iterator[None]:
    """Delay Ctrl+C, and keep it from processes that are started meanwhile; it is for this one, which ends them.

    SIGTERM is delayed too, but not kept from them.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # It allows signals again when it starts.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    held: set[int] = set()
    terminate = signal.signal(signal.SIGTERM, lambda number, _: held.add(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, terminate)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for number in held:
            signal.raise_signal(number)


def _encode_block(job: _Job, addresses: list[tuple[int, int, int]]) -> tuple[int, int, int]:
    """Encode a block in a worker, and count the tiles encoded, skipped and found done."""
    from distributed import get_worker

    worker = get_worker()
    try:
        number = re.search(r"\d+$", str(worker.name))
        device = job.model.devices[int(number[0] if number else 0) % len(job.model.devices)]
        encoder = _load(job.model, device)
        with bounded_cache():
            plan, writer = _open(job, device)
            # The client removes temporary overviews afterwards, and Windows no open file.
            with closing(plan.raster):
                report = encode_tiles(plan, encoder, writer, [Tile(*address) for address in addresses])
    except GeoSamError as error:
        raise _sendable(error, f" (worker {worker.address})") from None
    return report.encoded, report.skipped, report.resumed


def _perform(version: str, work: Callable[[Item], Value], item: Item) -> tuple[Value, str]:
    """Do something in a worker; return its value and what it wrote to standard error."""
    try:
        if version != __version__:
            raise ModelError(
                f"the versions of GeoSAM-ES differ: {version} of the client, {__version__}",
                "install the same version on every machine",
            )
        with redirect_stderr(io.StringIO()) as said:
            return work(item), said.getvalue()
    except GeoSamError as error:
        raise _sendable(error) from None


def _sendable(error: GeoSamError, place: str = "") -> GeoSamError:
    """Return an error without parameters of its own, which could not be sent."""
    kind = StoreError if isinstance(error, SignatureMismatchError) else type(error)
    return kind(f"{error.problem}{place}", error.remedy)


@lru_cache(maxsize=1)
def _load(model: Model, device: str) -> Encoder:
    # The folder is for the decoder, which only the client exports.
    work = Path(tempfile.gettempdir())
    return load_model(model.name, model.checkpoint, device, work, model.threads, model.precision).encoder


@lru_cache(maxsize=4)
def _open(job: _Job, device: str) -> tuple[EncodePlan, StoreWriter]:
    encoder = _load(job.model, device)
    metadata = StoreMetadata.from_json(json.loads(job.metadata))
    found, wanted = encoder.info, metadata.model["encoder_sha256"]
    if found.encoder_sha256 != wanted:
        raise ModelError(
            f"the model {found.name} of the worker has sha256 {found.encoder_sha256}, that of the client {wanted}",
            "copy the same model to every machine",
        )
    raster = Raster(*job.raster)
    remedy = "give every machine the same file under the same path"
    check_signature(job.store, raster_signature(metadata.raster), raster_signature(raster.info()), remedy)
    aoi = None if job.aoi is None else shapely.from_wkb(job.aoi)
    plan = EncodePlan(raster, metadata, aoi, job.model.batch_size or encoder.default_batch_size)
    return plan, resume_writer(job.store, metadata)

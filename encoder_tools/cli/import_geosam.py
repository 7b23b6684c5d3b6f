"""``geosam-es import-geosam``."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import click

from geosam_es.errors import ModelError
from geosam_es.store.layout import DECODER_FILE, PREPARE_FILE
from geosam_es.store.metadata import DTYPES
from geosam_es.store.raster_name import RasterPath

from ..geosam_folder import GeoSamFolder, import_folder, read_folder
from ..models.checkpoints import checkpoint_path, load_registry
from ..models.family import Network, load_decoder_weights, load_network
from ..raster import Raster
from .options import PATH, RASTER

__all__ = ["import_command"]


@click.command("import-geosam", short_help="Make a store of the features of the plugin Geo-SAM.")
@click.argument("folder", type=PATH)
@click.option("-o", "--output", type=PATH, required=True, help="The store to write: NAME.embeddings.zarr.")
@click.option("--raster", type=RASTER, help="The image that was encoded. The store then fits it, in QGIS too.")
@click.option(
    "--checkpoint",
    type=PATH,
    help="Weights of the model that has encoded, such as sam_vit_h_4b8939_no_img_encoder.pth. Default: the downloaded "
    "ones.",
)
@click.option("--dtype", type=click.Choice(DTYPES), default="float16", show_default=True, help="As for encode.")
@click.option("--overwrite", is_flag=True, help="Replace an existing store.")
def import_command(
    folder: Path, output: Path, raster: RasterPath | None, checkpoint: Path | None, dtype: str, overwrite: bool
) -> None:
    """Make a store of FOLDER, the features that the plugin Geo-SAM (version 1 or 2) has written.

    No tile can be added to the store, because Geo-SAM does not keep the contrast stretch of the image.

    \b
    Example:
      geosam-es import-geosam features/ -o ortho.embeddings.zarr --raster ortho.tif
    """
    # Imported here, because torch takes seconds to import.
    from ..models.export import export_model

    found = read_folder(folder)
    if checkpoint is None and not found.model:
        raise ModelError(f"{folder} does not tell which model has encoded it", "give its weights with --checkpoint")
    image = None if raster is None else Raster(raster)
    network = _load_decoder(found, checkpoint)
    with TemporaryDirectory(prefix="geosam-es-") as work:
        export_model(network, Path(work))
        files = {name: Path(work, name) for name in (PREPARE_FILE, DECODER_FILE)}
        report = import_folder(found, output, network.info, files, raster=image, dtype=dtype, overwrite=overwrite)
    click.echo(f"{output}: {report.encoded} tiles of {found.path}, {report.skipped} places without features")
    for reason in report.damaged:
        click.echo(f"Left out {reason}", err=True)
    if report.moved_px > 0.01:
        click.echo(f"Tiles were moved by up to {report.moved_px:.2f} px to whole pixels", err=True)
    if found.version == 2:
        click.echo("Geo-SAM 2 encodes with red and blue swapped: outlines differ from those of geosam-es", err=True)


def _load_decoder(found: GeoSamFolder, checkpoint: Path | None) -> Network:
    if found.family == "sam":
        from ..models.sam import weights

        return weights.load_decoder_weights(checkpoint or checkpoint_path(found.model), found.model)
    if checkpoint is not None and not found.model:
        return load_decoder_weights(found.family, checkpoint)
    return load_network(load_registry()[found.model], checkpoint)

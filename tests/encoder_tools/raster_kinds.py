"""Small rasters of every kind, with the pixels that have data and the values to show, for rasterio and QGIS's GDAL."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, Resampling
from rasterio.transform import Affine

from geosam_es.core.window import Window
from geosam_es.encoding.raster import TiledRaster
from geosam_es.encoding.stretch import decide_stretch
from geosam_es.inference.encoder import FILL_RGB

SIDE = 64
ROWS, COLS = np.mgrid[:SIDE, :SIDE]
HOLES = (ROWS < 16) | (COLS % 5 == 0) | (ROWS == COLS)
"""A margin, thin lines and a diagonal without data."""
MEAN_OF_MEANS = 8
"""Overviews are made from each other, so pixels beside a hole weigh more. A hole averaged in would be far darker."""


class Kind(NamedTuple):
    """A raster and what must be read from it.

    Attributes
    ----------
    path : Path
    shown : (3, 64, 64)
        Values of the chosen bands; NaN where a band has no data but another has.
    valid : bool (64, 64)
    bands : (int, int, int)
    options : dict
        Of the reader.
    tolerance : float
        Largest difference of a value, for lossy compression.
    own_overviews : bool
        Whether overviews of the file are not means of the pixels that have data.
    coarse_tolerance : float
        Largest difference of a coarse value, besides rounding.
    """

    path: Path
    shown: NDArray[Any]
    valid: NDArray[np.bool_]
    bands: tuple[int, int, int] = (1, 2, 3)
    options: Mapping[str, Any] = MappingProxyType({})
    tolerance: float = 0
    own_overviews: bool = False
    coarse_tolerance: float = 0


def values(count: int, dtype: str = "uint8", low: float = 60, step: float = 1) -> NDArray[Any]:
    """Return bands that differ in every pixel's neighbourhood, without small or large values."""
    return np.stack([low + step * ((ROWS * 2 + COLS * 3 + 40 * band) % 120) for band in range(count)]).astype(dtype)


def write_raster(path: Path, pixels: NDArray[Any], **profile: Any) -> Path:
    """Write pixels (bands, h, w); keywords go to rasterio."""
    count, height, width = pixels.shape
    options = {"driver": "GTiff", "crs": "EPSG:25830", "transform": Affine(0.5, 0, 700000, 0, -0.5, 4400000), **profile}
    with rasterio.open(path, "w", count=count, height=height, width=width, dtype=pixels.dtype, **options) as dataset:
        dataset.write(pixels)
    return path


def _holes(pixels: NDArray[Any], value: float) -> NDArray[Any]:
    holed = pixels.copy()
    holed[:, HOLES] = value
    return holed


def _tagged(dtype: str, nodata: float, low: float = 60, step: float = 1, **profile: Any) -> Callable[[Path], Kind]:
    def make(path: Path) -> Kind:
        pixels = values(3, dtype, low, step)
        return Kind(write_raster(path, _holes(pixels, nodata), nodata=nodata, **profile), pixels, ~HOLES)

    return make


def _plain(dtype: str, low: float = 60, step: float = 1, **profile: Any) -> Callable[[Path], Kind]:
    def make(path: Path) -> Kind:
        pixels = values(3, dtype, low, step)
        return Kind(write_raster(path, pixels, **profile), pixels, np.ones_like(HOLES))

    return make


def _count(count: int, bands: tuple[int, int, int]) -> Callable[[Path], Kind]:
    def make(path: Path) -> Kind:
        pixels = values(count, "uint16")
        shown = pixels[[band - 1 for band in bands]]
        return Kind(write_raster(path, _holes(pixels, 0), nodata=0), shown, ~HOLES, bands)

    return make


def _alpha(colours: str, bands: tuple[int, int, int], nodata: float | None = None) -> Callable[[Path], Kind]:
    """Make a raster of bands with these colours, by their first letters."""

    def make(path: Path) -> Kind:
        pixels = values(len(colours))
        holed = _holes(pixels, 9 if nodata is None else nodata)
        alpha = colours.index("a")
        holed[alpha] = np.where(HOLES, 0, 255)
        if nodata is not None:
            # The lower rows are hidden by alpha alone, the right columns by nodata alone.
            holed[:, 45:, :] = np.where(np.arange(len(colours))[:, None, None] == alpha, 0, 9)
            holed[[index for index in range(len(colours)) if index != alpha], :45, 53:] = nodata
        valid = ~HOLES if nodata is None else ~HOLES & (ROWS < 45) & (COLS < 53)
        write_raster(path, holed, nodata=nodata, photometric="MINISBLACK")
        names = {item.name[0]: item for item in (ColorInterp.red, ColorInterp.blue, ColorInterp.alpha)}
        names.update(g=ColorInterp.green, y=ColorInterp.gray, u=ColorInterp.undefined, n=ColorInterp.undefined)
        with rasterio.open(path, "r+") as dataset:
            dataset.colorinterp = [names[letter] for letter in colours]
        return Kind(path, pixels[[band - 1 for band in bands]], valid, bands)

    return make


def _named_alpha(
    count: int, bands: tuple[int, int, int], overviews: Sequence[int] = (), dtype: str = "uint8", **profile: Any
) -> Callable[[Path], Kind]:
    """Make a raster whose last band the user names, such as near infrared, although it has the colour alpha."""

    def make(path: Path) -> Kind:
        pixels = values(count, dtype)
        pixels[-1, HOLES] = 0
        write_raster(path, pixels, photometric="MINISBLACK", **profile)
        with rasterio.open(path, "r+") as dataset:
            dataset.colorinterp = [*[ColorInterp.undefined] * (count - 1), ColorInterp.alpha]
            if overviews:
                dataset.build_overviews(overviews, Resampling.average)
        shown = pixels[[band - 1 for band in bands]]
        return Kind(path, shown, np.ones_like(HOLES), bands, {"bands": bands})

    return make


def _mask(internal: bool, overviews: tuple[int, ...] = (), tolerance: float = 0, **profile: Any) -> Any:
    def make(path: Path) -> Kind:
        pixels = values(3)
        write_raster(path, _holes(pixels, 0), **profile)
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=internal), rasterio.open(path, "r+") as dataset:
            dataset.write_mask(~HOLES)
            if overviews:
                dataset.build_overviews(overviews, Resampling.average)
        # GDAL ignores a mask beside the file when it makes overviews.
        return Kind(
            path,
            pixels,
            ~HOLES,
            tolerance=tolerance,
            own_overviews=bool(overviews) and not internal,
            coarse_tolerance=MEAN_OF_MEANS if overviews else 0,
        )

    return make


def _mask_in_cog(path: Path) -> Kind:
    kind = _mask(True)(path)
    cog = path.with_name("cog.tif")
    rasterio.shutil.copy(kind.path, cog, driver="COG", blocksize=128)
    return kind._replace(path=cog)


def _overviews(resampling: Resampling, nodata: float = 0) -> Callable[[Path], Kind]:
    def make(path: Path) -> Kind:
        pixels = values(3, "uint16")
        write_raster(path, _holes(pixels, nodata), nodata=nodata, tiled=True, blockxsize=16, blockysize=16)
        with rasterio.open(path, "r+") as dataset:
            dataset.build_overviews([2, 4, 8], resampling)
        is_nearest = resampling is Resampling.nearest
        return Kind(path, pixels, ~HOLES, own_overviews=is_nearest, coarse_tolerance=MEAN_OF_MEANS)

    return make


def _user(dtype: str, nodata: float, tag: float | None, low: float = 60, step: float = 1) -> Callable[[Path], Kind]:
    def make(path: Path) -> Kind:
        pixels = values(3, dtype, low, step)
        path = write_raster(path, _holes(pixels, nodata), nodata=tag)
        return Kind(path, pixels, ~HOLES, options={"nodata": nodata})

    return make


def virtual_raster(path: Path, bands: list[str], extra: str = "") -> Path:
    """Write a virtual raster from the inner parts of its bands."""
    path.write_text(
        f'<VRTDataset rasterXSize="{SIDE}" rasterYSize="{SIDE}"><SRS>EPSG:25830</SRS>'
        f"<GeoTransform>700000, 0.5, 0, 4400000, 0, -0.5</GeoTransform>{''.join(bands)}{extra}</VRTDataset>"
    )
    return path


def _band(number: int, dtype: str, source: Path, source_band: str, inner: str = "") -> str:
    return (
        f'<VRTRasterBand dataType="{dtype}" band="{number}">{inner}<SimpleSource>'
        f"<SourceFilename>{source}</SourceFilename><SourceBand>{source_band}</SourceBand></SimpleSource></VRTRasterBand>"
    )


def _differing_nodata(path: Path) -> Kind:
    pixels = values(3)
    holed = pixels.copy()
    for band, nodata in enumerate((0, 255, 7)):
        holed[band, HOLES] = nodata
    plain = write_raster(path, holed)
    parts = [
        _band(band + 1, "Byte", plain, str(band + 1), f"<NoDataValue>{nodata}</NoDataValue>")
        for band, nodata in enumerate((0, 255, 7))
    ]
    return Kind(virtual_raster(path.with_suffix(".vrt"), parts), pixels, ~HOLES)


def _nodata_outside(nodata: str, dtype: str = "Byte") -> Callable[[Path], Kind]:
    """Make a raster whose nodata value its type cannot hold: all pixels have data."""

    def make(path: Path) -> Kind:
        pixels = values(3)
        plain = write_raster(path, pixels)
        inner = f"<NoDataValue>{nodata}</NoDataValue>"
        parts = [_band(band, dtype, plain, str(band), inner) for band in (1, 2, 3)]
        return Kind(virtual_raster(path.with_suffix(".vrt"), parts), pixels, np.ones_like(HOLES))

    return make


def _mask_in_vrt(path: Path) -> Kind:
    pixels = values(3)
    plain = write_raster(path, _holes(pixels, 0))
    mask = write_raster(path.with_name("mask_of.tif"), np.where(HOLES, 0, 255).astype("uint8")[None])
    parts = [_band(band, "Byte", plain, str(band)) for band in (1, 2, 3)]
    band = _band(1, "Byte", mask, "1").replace(' band="1"', "")
    extra = f"<MaskBand>{band}</MaskBand>"
    return Kind(virtual_raster(path.with_suffix(".vrt"), parts, extra), pixels, ~HOLES)


def _mosaic(source: Callable[[Path], Kind], how: str) -> Callable[[Path], Kind]:
    """Make a virtual mosaic of two halves of another kind, as gdalbuildvrt does."""

    def make(path: Path) -> Kind:
        kind = source(path)
        with rasterio.open(kind.path) as dataset:
            colours = [colour.name for colour in dataset.colorinterp]
            dtype = {"uint8": "Byte", "uint16": "UInt16", "float32": "Float32"}[dataset.dtypes[0]]
            nodata = dataset.nodata
        half = SIDE // 2
        parts = []
        for number, colour in enumerate(colours, start=1):
            inner = f"<ColorInterp>{colour.capitalize()}</ColorInterp>" if "alpha" in colours else ""
            tag = "" if nodata is None else f"<NODATA>{nodata}</NODATA>"
            extra = "<UseMaskBand>true</UseMaskBand>" if how == "mask" else tag
            sources = "".join(
                f"<ComplexSource><SourceFilename>{kind.path}</SourceFilename><SourceBand>{number}</SourceBand>"
                f'<SrcRect xOff="{col}" yOff="0" xSize="{half}" ySize="{SIDE}"/>'
                f'<DstRect xOff="{col}" yOff="0" xSize="{half}" ySize="{SIDE}"/>{extra}</ComplexSource>'
                for col in (0, half)
            )
            inner += "" if nodata is None else f"<NoDataValue>{nodata}</NoDataValue>"
            parts.append(f'<VRTRasterBand dataType="{dtype}" band="{number}">{inner}{sources}</VRTRasterBand>')
        masks = "".join(
            f"<SimpleSource><SourceFilename>{kind.path}</SourceFilename><SourceBand>mask,1</SourceBand>"
            f'<SrcRect xOff="{col}" yOff="0" xSize="{half}" ySize="{SIDE}"/>'
            f'<DstRect xOff="{col}" yOff="0" xSize="{half}" ySize="{SIDE}"/></SimpleSource>'
            for col in (0, half)
        )
        extra = f'<MaskBand><VRTRasterBand dataType="Byte">{masks}</VRTRasterBand></MaskBand>' if how == "mask" else ""
        return kind._replace(path=virtual_raster(path.with_suffix(".vrt"), parts, extra))

    return make


def _mixed(path: Path) -> Kind:
    pixels = values(3, "float64", -200)
    shown = pixels + np.array([0.0, 260.0, 0.25])[:, None, None]
    files = [
        write_raster(path.with_name(f"{dtype}.tif"), _holes(shown[index : index + 1], 0).astype(dtype), nodata=0)
        for index, dtype in enumerate(("int16", "uint8", "float32"))
    ]
    inner = "<NoDataValue>0</NoDataValue>"
    parts = [
        _band(number, dtype, source, "1", inner)
        for number, (dtype, source) in enumerate(zip(("Int16", "Byte", "Float32"), files), start=1)
    ]
    # Integers are rounded, also where they are read as floats.
    return Kind(virtual_raster(path.with_suffix(".vrt"), parts), shown, ~HOLES, coarse_tolerance=0.5)


def _palette_with_transparency(path: Path) -> Kind:
    pixels = values(1, low=0)
    holed = _holes(pixels, 200)
    plain = write_raster(path, holed)
    entries = "".join(
        f'<Entry c1="{index}" c2="{255 - index}" c3="7" c4="{0 if index == 200 else 255}"/>' for index in range(256)
    )
    inner = f"<ColorInterp>Palette</ColorInterp><ColorTable>{entries}</ColorTable>"
    shown = np.stack([pixels[0], 255 - pixels[0], np.full_like(pixels[0], 7)])
    virtual = virtual_raster(path.with_suffix(".vrt"), [_band(1, "Byte", plain, "1", inner)])
    return Kind(virtual, shown, ~HOLES, (1, 1, 1))


def _palette_with_nodata(path: Path) -> Kind:
    pixels = values(1, low=0)
    write_raster(path, _holes(pixels, 200), nodata=200)
    with rasterio.open(path, "r+") as dataset:
        dataset.write_colormap(1, {index: (index, 255 - index, 7, 255) for index in range(256)})
    shown = np.stack([pixels[0], 255 - pixels[0], np.full_like(pixels[0], 7)])
    return Kind(path, shown, ~HOLES, (1, 1, 1))


def _palette_with_alpha(nodata: float | None) -> Callable[[Path], Kind]:
    """Make a palette as gdalwarp -dstalpha writes it."""

    def make(path: Path) -> Kind:
        pixels = values(1, low=0)
        holed = np.stack([pixels[0], np.where(HOLES, 0, 255).astype("uint8")])
        valid = ~HOLES
        if nodata is not None:
            holed[0, :, 53:] = nodata
            valid &= COLS < 53
        write_raster(path, holed, nodata=nodata, photometric="palette", alpha="yes")
        with rasterio.open(path, "r+") as dataset:
            dataset.write_colormap(1, {index: (index, 255 - index, 7, 255) for index in range(256)})
            dataset.colorinterp = [ColorInterp.palette, ColorInterp.alpha]
        shown = np.stack([pixels[0], 255 - pixels[0], np.full_like(pixels[0], 7)])
        return Kind(path, shown, valid, (1, 1, 1))

    return make


def _bands_with_different_holes(path: Path) -> Kind:
    """Each band lacks a third; a pixel has data if any band has."""
    pixels = values(3, "float32")
    for band in range(3):
        pixels[band, 20 * band : 20 * band + 20] = -9999
    write_raster(path, pixels, nodata=-9999)
    return Kind(path, np.where(pixels == -9999, np.nan, pixels), np.ones_like(HOLES), own_overviews=True)


def _one_bit(path: Path) -> Kind:
    pixels = (values(1) % 2).astype("uint8")
    return Kind(write_raster(path, pixels, nbits=1), 255 * pixels[[0, 0, 0]], np.ones_like(HOLES), (1, 1, 1))


def _scaled(path: Path) -> Kind:
    pixels = values(3, "int16")
    write_raster(path, _holes(pixels, -1), nodata=-1)
    with rasterio.open(path, "r+") as dataset:
        dataset.scales, dataset.offsets = (0.01,) * 3, (5.0,) * 3
    return Kind(path, pixels, ~HOLES)


def _nan(dtype: str, nodata: float | None) -> Callable[[Path], Kind]:
    def make(path: Path) -> Kind:
        pixels = values(3, dtype, 0.25, 0.125)
        holed = _holes(pixels, np.nan)
        if nodata is not None and np.isfinite(nodata):
            holed[:, :8] = nodata
        return Kind(write_raster(path, holed, nodata=nodata), pixels, ~HOLES)

    return make


def _infinite(path: Path) -> Kind:
    pixels = values(3, "float32")
    holed = pixels.copy()
    holed[:, :16], holed[:, 16:20] = np.inf, -np.inf
    return Kind(write_raster(path, holed), pixels, ROWS >= 20)


KINDS: dict[str, Callable[[Path], Kind]] = {
    "uint8": _plain("uint8"),
    "int8": _plain("int8", -60),
    "int16": _plain("int16", -60),
    "uint32": _plain("uint32", 4e9),
    "int32": _plain("int32", -2e9),
    "float32 like SAR in dB": _plain("float32", -30.5, 0.25),
    "float64": _plain("float64", -1e6, 1e3),
    "pixel-interleaved": _plain("uint16", interleave="pixel"),
    "uint8, nodata 0": _tagged("uint8", 0),
    "uint8, nodata 255": _tagged("uint8", 255),
    "uint8, nodata within the values": _tagged("uint8", 200),
    "int8, nodata -128": _tagged("int8", -128, -60),
    "uint16, nodata 0": _tagged("uint16", 0),
    "uint16, nodata 65535": _tagged("uint16", 65535),
    "int16, nodata -32768": _tagged("int16", -32768, -60),
    "uint32, nodata 4294967295": _tagged("uint32", 4294967295),
    "int32, nodata -2147483648": _tagged("int32", -2147483648, -60),
    "float32, nodata -9999": _tagged("float32", -9999, -1, 0.01),
    "float32, nodata -9999.9": _tagged("float32", -9999.9, -1, 0.01),
    "float32, nodata -3.4e38": _tagged("float32", float(np.finfo("float32").min), -1, 0.01),
    "float64, nodata 1e300": _tagged("float64", 1e300, -1, 0.01),
    "float32, NaN": _nan("float32", None),
    "float32, nodata NaN": _nan("float32", float("nan")),
    "float32, nodata -1 and NaN": _nan("float32", -1),
    "float64, NaN": _nan("float64", None),
    "float32, infinite": _infinite,
    "one band": _count(1, (1, 1, 1)),
    "two bands": _count(2, (1, 1, 1)),
    "ten bands": _count(10, (1, 2, 3)),
    "RGBA": _alpha("rgba", (1, 2, 3)),
    "alpha first": _alpha("argb", (2, 3, 4)),
    "BGRA": _alpha("bgra", (3, 2, 1)),
    "near infrared first, alpha last": _alpha("nrgba", (2, 3, 4)),
    "gray and alpha": _alpha("ya", (1, 1, 1)),
    "undefined and alpha": _alpha("uuua", (1, 2, 3)),
    "alpha named by the user": _named_alpha(4, (4, 1, 2)),
    "alpha alone named by the user": _named_alpha(2, (2, 2, 2)),
    "alpha named by the user, float": _named_alpha(4, (4, 1, 2), dtype="float32"),
    "alpha named by the user, overviews": _named_alpha(
        4, (1, 2, 4), (2, 4, 8), tiled=True, blockxsize=16, blockysize=16
    ),
    "RGBA with nodata": _alpha("rgba", (1, 2, 3), 0),
    "gray and alpha with nodata": _alpha("ya", (1, 1, 1), 0),
    "alpha first with nodata": _alpha("argb", (2, 3, 4), 0),
    "mask in the file": _mask(True),
    "mask beside the file": _mask(False),
    "mask in the file, overviews": _mask(True, (2, 4, 8), tiled=True, blockxsize=16, blockysize=16),
    "mask beside the file, overviews": _mask(False, (2, 4, 8), tiled=True, blockxsize=16, blockysize=16),
    "mask in a virtual raster": _mask_in_vrt,
    "mask in a JPEG": _mask(True, tolerance=255, compress="jpeg", photometric="ycbcr", interleave="pixel"),
    "mask in a cloud-optimised file": _mask_in_cog,
    "mosaic of nodata": _mosaic(_tagged("uint8", 0), "nodata"),
    "mosaic of float nodata": _mosaic(_tagged("float32", -9999, -1, 0.01), "nodata"),
    "mosaic of NaN": _mosaic(_nan("float32", float("nan")), "nodata"),
    "mosaic of RGBA": _mosaic(_alpha("rgba", (1, 2, 3)), "alpha"),
    "mosaic of masks": _mosaic(_mask(True), "mask"),
    "mosaic of RGBA with nodata": _mosaic(_alpha("rgba", (1, 2, 3), 0), "nodata"),
    "overviews by average": _overviews(Resampling.average),
    "nodata of the user": _user("uint8", 9, None),
    "nodata of the user instead of the file's": _user("uint8", 9, 10),
    "nodata of the user, float": _user("float32", -5.5, None),
    "nodata of the user, NaN": _user("float32", float("nan"), -5.5),
    "nodata that differs between bands": _differing_nodata,
    "nodata below the type": _nodata_outside("-9999"),
    "nodata above the type": _nodata_outside("256"),
    "nodata NaN of an integer": _nodata_outside("nan"),
    "nodata with a fraction": _nodata_outside("100.5"),
    "nodata that is no number": _nodata_outside("none"),
    "holes that differ between bands": _bands_with_different_holes,
    "types that differ between bands": _mixed,
    "overviews by the nearest pixel": _overviews(Resampling.nearest),
    "near infrared first, alpha last, nodata": _alpha("nrgba", (2, 3, 4), 0),
    "palette with transparency": _palette_with_transparency,
    "palette with nodata": _palette_with_nodata,
    "palette with alpha": _palette_with_alpha(None),
    "palette with alpha and nodata": _palette_with_alpha(200),
    "one bit": _one_bit,
    "scale and offset": _scaled,
}


def check(raster: TiledRaster, kind: Kind) -> None:
    """Check what a reader gives: native pixels exactly, coarse ones as means of the pixels that have data."""
    assert raster.bands == kind.bands
    for scale in (1, 2, 8):
        size = SIDE // scale
        read, valid = raster.read_bands(Window(0, 0, size, size), scale)
        in_block = _blocks(kind.valid[None], scale)[0]
        if kind.own_overviews and scale > 1:
            assert valid.any() and not (valid & ~in_block.any(axis=-1)).any()
            continue
        np.testing.assert_array_equal(valid, in_block.any(axis=-1), err_msg=f"valid at scale {scale}")
        shown = _blocks(kind.shown.astype("float64"), scale)
        mean = np.where(in_block, shown, 0).sum(axis=-1) / np.maximum(1, in_block.sum(axis=-1))
        # GDAL rounds halves up. It computes the means of floats in single precision.
        rounding = 1e-6 * np.abs(kind.shown).max() if read.dtype.kind == "f" else 0.5 + 1e-6
        wrong = (np.abs(read - mean) > (0 if scale == 1 else rounding + kind.coarse_tolerance) + kind.tolerance) & valid
        assert not wrong.any(), f"{np.count_nonzero(wrong)} values at scale {scale}"
    stretch = decide_stretch(raster)
    if raster.dtype != np.uint8:
        exact = np.nanpercentile(kind.shown[:, kind.valid].astype("float64"), [2, 98], axis=1).T
        np.testing.assert_allclose(stretch.limits, exact)
    tile = raster.read_tile(Window(0, 0, SIDE, SIDE), 1, stretch)
    image = tile.image[:SIDE, :SIDE].astype("float64")
    assert tile.has_data and (image[~kind.valid] == FILL_RGB).all() and (tile.image[SIDE:] == FILL_RGB).all()
    for band, (low, high) in enumerate(stretch.limits or ((0, 255),) * 3):
        expected = np.clip((kind.shown[band] - low) * (255 / (high - low)), 0, 255)
        expected = np.where(np.isnan(expected), image[..., band], expected)
        assert (np.abs(image[..., band] - expected)[kind.valid] <= 0.51 + kind.tolerance).all()


def _blocks(pixels: NDArray[Any], scale: int) -> NDArray[Any]:
    """Return the native pixels (bands, h, w, scale * scale) of each pixel of a level."""
    size = SIDE // scale
    blocks = pixels.reshape(len(pixels), size, scale, size, scale).transpose(0, 1, 3, 2, 4)
    return blocks.reshape(len(pixels), size, size, scale * scale)

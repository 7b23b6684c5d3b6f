"""From prompts to polygons over a whole raster: which tile is decoded, and how masks continue beyond its border.

Coordinates are native pixels of the raster; `session` works in map coordinates.
"""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from itertools import starmap
from typing import Protocol

import shapely

from ..core.frame import TileFrame, warp_logits
from ..core.grid import LevelGrid, Tile
from ..core.prompts import Bounds, Point, Prompts
from ..core.topology import merge, middles, polygon_parts, prompted_parts
from ..errors import PromptError, StoreError
from ..store.reader import StoreReader, TileState
from .borders import continue_beyond_border
from .decoder import Context, DecodedMasks, MaskDecoder, decode_many, decode_preview
from .masks import Candidate, Proposal, TileMask

__all__ = ["Segmenter", "TileEncoder"]

_CONTEXTS_KEPT = 16

_LEAST_TOLERANCE = 1e-6
"""A point this far outside the raster, in native pixels, lies on its edge."""

_MOST_POINTS = 64
"""Points that the decoder gets for an object. SAM was trained with few: with `mini`, IoU on a disc is 0.98 for 10 to
100 points, 0.97 for 200, 0.73 for 1000 and 0.53 for 3000, as attention is spread over too many tokens."""

_LEAST_GAP = 1.0
"""Parts of a box without a tile count from this area in native pixels; less is due to rounding."""


class TileEncoder(Protocol):
    """Encodes the tiles that a store lacks when prompts need them."""

    @property
    def finest_level(self) -> int:
        """The finest level to encode; below 0 the image is enlarged."""
        ...

    def can_encode(self, tile: Tile) -> bool:
        """Tell whether a missing tile can be encoded while a user waits. Has no side effects."""
        ...

    def ensure_tile(self, tile: Tile) -> TileState:
        """Encode a tile unless the store has it, and return its state: encoded, or skipped if it has no data."""
        ...


class Segmenter:
    """Answers prompts from a store.

    Parameters
    ----------
    reader : StoreReader
    decoder : MaskDecoder
    tile_encoder : TileEncoder, optional
        Encodes missing tiles on demand; by default they stay missing.

    Attributes
    ----------
    reach : Polygon or MultiPolygon
        The images that answer, in native pixels: that of the store, and those of its neighbours.
    finest_level : int
        The finest level that can answer: below 0 if the store has enlarged tiles, or if they are encoded on demand.

    Notes
    -----
    The only state is a cache of prepared tiles, so equal prompts at the same level give equal polygons. Methods may be
    called from several threads.
    """

    def __init__(self, reader: StoreReader, decoder: MaskDecoder, tile_encoder: TileEncoder | None = None) -> None:
        self.reader = reader
        self.decoder = decoder
        self.tile_encoder = tile_encoder
        self.pyramid = reader.pyramid
        self.reach = merge(shapely.box(*part) for part in self.pyramid.parts)
        self.finest_level = min(reader.grids[0].level, tile_encoder.finest_level if tile_encoder is not None else 0)
        self._contexts: OrderedDict[Tile, Context] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def tile_size(self) -> int:
        """Side of a tile in pixels."""
        return self.pyramid.tiling.tile_size

    def propose(
        self, prompts: Prompts, level: int = 0, previous: Candidate | None = None, is_preview: bool = False
    ) -> Proposal:
        """Decode prompts, encoding the tiles they need if the segmenter can.

        Parameters
        ----------
        prompts : Prompts
            In native pixels.
        level : int
            The finest level to use. Finer ones are used for a small box, and if this level and the coarser ones cannot
            answer.
        previous : Candidate, optional
            The result of the object's earlier prompts; its logits become the decoder's `mask_input`. Without it, an
            outline among the prompts does.
        is_preview : bool
            Whether the mask to show first is enough, see `decode_preview`.

        Returns
        -------
        Proposal

        Raises
        ------
        PromptError
            If there is no positive point, box or outline, a prompt lies outside the raster, or a positive point or part
            of the box has no encoded tile or no data.
        StoreError
            If a tile's file cannot be read.
        """
        prompts = self._inside(prompts)
        tile = self._provided_tile(prompts, level)
        mask = previous.mask if previous else None
        if tile is not None:
            return Proposal(prompts, (self.decode(tile, prompts, mask, is_preview),))
        # Each tile refines its own mask, if it has one.
        known = {item.frame.tile: item for item in previous.masks} if previous else {}
        parts = self._split(prompts, level)
        return Proposal(prompts, tuple(self.decode(tile, part, known.get(tile, mask)) for tile, part in parts))

    def propose_many(
        self, prompts: Sequence[Prompts], level: int = 0, first_only: bool = False
    ) -> list[Proposal | PromptError]:
        """Decode the prompts of several objects, those of a tile together.

        Parameters
        ----------
        prompts : sequence of Prompts
            One per object, in native pixels.
        level : int
            As for `propose`.
        first_only : bool
            Whether the mask to show first is enough, see `decode_many`.

        Returns
        -------
        list of Proposal or PromptError
            What `propose` returns or raises for each; other candidates may be missing with ``first_only``.

        Raises
        ------
        StoreError
            If a tile's file cannot be read.
        """
        found: dict[int, Proposal | PromptError] = {}
        by_tile: dict[Tile, list[tuple[int, Prompts]]] = {}
        for index, item in enumerate(prompts):
            placed = self._place(item, level)
            if isinstance(placed, tuple):
                tile, inside = placed
                by_tile.setdefault(tile, []).append((index, inside))
            else:
                found[index] = placed
        for tile, items in by_tile.items():
            frame = TileFrame.of(self.pyramid, tile)
            local = [self._local(frame, inside) for _, inside in items]
            decoded = decode_many(self.decoder, self.context(tile), local, first_only)
            for (index, inside), masks in zip(items, decoded):
                found[index] = Proposal(inside, (_tile_masks(frame, masks),))
        return [found[index] for index in range(len(prompts))]

    def _place(self, prompts: Prompts, level: int) -> tuple[Tile, Prompts] | Proposal | PromptError:
        """Return the tile for prompts and the prompts inside the raster, or what `propose` returns or raises."""
        try:
            inside = self._inside(prompts)
            tile = self._provided_tile(inside, level)
            return self.propose(prompts, level) if tile is None else (tile, inside)
        except PromptError as error:
            return error

    def can_provide(self, tile: Tile) -> bool:
        """Tell whether a tile is encoded or can be encoded on demand. Has no side effects."""
        state = self.reader.state(tile)
        if state is TileState.MISSING and self.tile_encoder is not None:
            return self.tile_encoder.can_encode(tile)
        return state is TileState.ENCODED

    def provide(self, tile: Tile) -> bool:
        """Encode a tile if it is missing and can be encoded on demand.

        Returns
        -------
        bool
            Whether the tile has features now.

        Raises
        ------
        GeoSamError
            If it cannot be encoded.
        """
        if tile in self._contexts:
            return True
        state = self.reader.state(tile)
        if state is TileState.MISSING and self.tile_encoder is not None and self.tile_encoder.can_encode(tile):
            state = self.tile_encoder.ensure_tile(tile)
        if state is TileState.ENCODED and tile.row >= self.pyramid.grid(tile.level).rows:
            # A damaged tile of a neighbouring sheet does not keep this one from answering.
            try:
                self.context(tile)
            except StoreError:
                return False
        return state is TileState.ENCODED

    def tile_for(self, prompts: Prompts, level: int = 0) -> Tile | None:
        """Return the tile to decode prompts on, encoded or not. Has no side effects.

        Parameters
        ----------
        prompts : Prompts
            In native pixels.
        level : int
            As for `propose`.

        Returns
        -------
        Tile or None
            None if no single tile can answer.

        Raises
        ------
        PromptError
            If there is no data, or neither a positive point nor a box.
        """
        bounds, is_box = prompts.positive_bounds, prompts.box is not None or prompts.outline is not None
        places = [(point.x, point.y) for point in prompts.points if point.positive]
        if prompts.box is not None:
            places.append((prompts.box.min_x + prompts.box.width / 2, prompts.box.min_y + prompts.box.height / 2))
        if prompts.outline is not None:
            inside = shapely.point_on_surface(prompts.outline)
            places.append((inside.x, inside.y))
        for finest in range(min(level, len(self.pyramid.grids) - 1), min(level, 0) - 1, -1):
            grid = self.pyramid.grid(max(finest, 0))
            if self.is_without_data(bounds, grid):
                # Parts of the prompts may have data on other tiles.
                self._check_data(places, grid)
            tile = self.pyramid.choose(bounds, is_box=is_box, level=finest, available=self.can_provide)
            if tile is not None:
                return tile
        return None

    def _provided_tile(self, prompts: Prompts, level: int) -> Tile | None:
        """Return the tile for prompts, encoding it if needed, or None if no single tile can answer."""
        tile = self.tile_for(prompts, level)
        # A tile turns out to have no data when it is read. It is skipped then, and another one chosen.
        while tile is not None and not self.provide(tile):
            tile = self.tile_for(prompts, level)
        return tile

    def resolve(
        self, proposal: Proposal, rank: int = 0, all_parts: bool = False, is_continued: bool = True
    ) -> Candidate:
        """Trace one mask of a proposal, and continue it beyond the border of its tile.

        Parameters
        ----------
        proposal : Proposal
        rank : int
            Index in ``proposal.ranking``; 0 is the mask to show first.
        all_parts : bool
            Whether to keep the parts without a prompt too, see `prompted_parts`.
        is_continued : bool
            Whether to decode beyond the border of the tile what it cuts.

        Returns
        -------
        Candidate
        """
        index = proposal.ranking[rank]
        masks: Sequence[TileMask] = [tile_masks[index] for tile_masks in proposal.masks]
        is_one_tile = len(masks) == 1
        # A box bounds the object, and prompts on several tiles were decoded on all of them.
        if is_continued and is_one_tile and proposal.prompts.box is None:
            masks = continue_beyond_border(self, masks[0], proposal.prompts)
        polygons = self._trace(masks)
        if not all_parts:
            positives = [(point.x, point.y) for point in proposal.prompts.points if point.positive]
            polygons = prompted_parts(polygons, positives, proposal.prompts.outline)
        return Candidate(tuple(polygons), tuple(masks))

    def _trace(self, masks: Sequence[TileMask]) -> list[shapely.Polygon]:
        """Trace and merge masks into polygons in native pixels, largest first."""
        traced = [
            polygon
            for mask in masks
            for polygon in mask.polygons(self.tile_size, self.pyramid.tile_bounds(mask.frame.tile))
        ]
        if len(masks) == 1:
            return traced
        return sorted(polygon_parts(merge(traced)), key=lambda polygon: -polygon.area)

    def decode(
        self, tile: Tile, prompts: Prompts, previous: TileMask | None = None, is_preview: bool = False
    ) -> tuple[TileMask, ...]:
        """Decode prompts on a given tile.

        Parameters
        ----------
        tile : Tile
        prompts : Prompts
            In native pixels. Those outside the tile are ignored.
        previous : TileMask, optional
            A mask to refine, of this tile or of another.
        is_preview : bool
            As for `propose`.

        Returns
        -------
        tuple of TileMask
        """
        frame = TileFrame.of(self.pyramid, tile)
        local = self._local(frame, prompts)
        mask_input = None
        if previous is not None:
            mask_input = (
                previous.logits
                if previous.frame == frame
                else warp_logits(previous.logits, previous.frame, frame, self.tile_size)
            )
        if is_preview:
            return _tile_masks(frame, decode_preview(self.decoder, self.context(tile), local, mask_input))
        return _tile_masks(frame, self.decoder.decode(self.context(tile), local, mask_input))

    def _local(self, frame: TileFrame, prompts: Prompts) -> Prompts:
        outline = prompts.outline
        has_middle = any(p.positive and shapely.intersects_xy(outline, p.x, p.y) for p in prompts.points)
        if outline is not None and prompts.box is None and not has_middle:
            # The decoder needs a point beside the mask. With `mini` and outlines displaced by 0.12 of their size, the
            # IoU is 0.34 for the mask alone, 0.89 with a point in the middle, and 0.88 with the box.
            prompts = replace(prompts, points=(*starmap(Point, middles(outline)), *prompts.points))
        return frame.prompts_to_tile(prompts.within(self.pyramid.tile_bounds(frame.tile)).thinned(_MOST_POINTS))

    def context(self, tile: Tile) -> Context:
        """Return the prepared features of an encoded tile, from the cache if it holds them."""
        with self._lock:
            if tile in self._contexts:
                self._contexts.move_to_end(tile)
                return self._contexts[tile]
        context = self.decoder.prepare(self.reader.read_stored(tile))
        with self._lock:
            self._contexts[tile] = context
            while len(self._contexts) > _CONTEXTS_KEPT:
                self._contexts.popitem(last=False)
        return context

    @property
    def map_bounds(self) -> Bounds:
        """Extent of the raster in its CRS, without the neighbouring sheets that are read with it."""
        return Bounds(*self.reader.metadata.raster.transform.apply_geometry(shapely.box(*self.pyramid.bounds)).bounds)

    def is_on_image(self, x: float, y: float) -> bool:
        """Tell whether a place in the raster's CRS is on the raster, or on a sheet that is read with it."""
        col, row = self.reader.metadata.raster.transform.inverse().apply(x, y)
        return any(part.contains(Bounds(col, row, col, row)) for part in self.pyramid.parts)

    def _inside(self, prompts: Prompts) -> Prompts:
        """Check that the points lie on the raster, and clip the box and the outline to it.

        A point on the edge, or beyond it by no more than a rounding error, is moved to the middle of the pixel there:
        the decoder sees no image at the edge itself.
        """
        parts = self.pyramid.parts
        inverse = self.reader.metadata.raster.transform.inverse()
        # What is lost when large coordinates become pixels.
        tolerance = _LEAST_TOLERANCE + 8 * sys.float_info.epsilon * (abs(inverse.c) + abs(inverse.f))
        points = []
        for point in prompts.points:
            place = Bounds(point.x, point.y, point.x, point.y)
            extent = next((part for part in parts if part.contains(place)), parts[0])
            x = min(max(point.x, extent.min_x + 0.5), extent.max_x - 0.5)
            y = min(max(point.y, extent.min_y + 0.5), extent.max_y - 0.5)
            if max(abs(point.x - x), abs(point.y - y)) > 0.5 + tolerance:
                raise self._outside(point)
            points.append(point._replace(x=x, y=y))
        inside = replace(prompts, points=tuple(points))
        if prompts.outline is not None and not shapely.covers(self.reach, shapely.box(*prompts.outline.bounds)):
            clipped = merge(polygon_parts(shapely.make_valid(prompts.outline).intersection(self.reach)))
            if clipped.is_empty:
                raise PromptError(
                    "The outline lies outside the raster, {extent}",
                    "choose another one, or check the CRS of the prompts",
                    extent=self._extent_text(),
                )
            inside = replace(inside, outline=clipped)
        if prompts.box is None:
            return inside
        shown = [box for box in map(prompts.box.intersection, parts) if box is not None]
        if not shown:
            raise PromptError(
                "The box lies outside the raster, {extent}, or has no area",
                "draw it on the raster, or check the CRS of the prompts",
                extent=self._extent_text(),
            )
        return inside.with_box(Bounds(*shapely.total_bounds([shapely.box(*box) for box in shown]).tolist()))

    def _outside(self, point: Point) -> PromptError:
        x, y = self._on_map(point.x, point.y)
        return PromptError(
            "The point ({x:.8g}, {y:.8g}) lies outside the raster, {extent}",
            "move it inside, or check the CRS of the prompts",
            x=x,
            y=y,
            extent=self._extent_text(),
        )

    def _extent_text(self) -> str:
        """Return the corners of the raster in a form that needs no translation."""
        left, bottom, right, top = self.map_bounds
        return f"({left:.8g}, {bottom:.8g}) - ({right:.8g}, {top:.8g})"

    def _on_map(self, col: float, row: float) -> tuple[float, float]:
        return self.reader.metadata.raster.transform.apply(col, row)

    def _check_data(self, places: Sequence[tuple[float, float]], grid: LevelGrid) -> None:
        """Refuse prompts with a place (col, row) around which all tiles of a level were skipped."""
        for col, row in places:
            if self.is_without_data(Bounds(col, row, col, row), grid):
                x, y = self._on_map(col, row)
                raise PromptError(
                    "There is no data at ({x:.8g}, {y:.8g}), or it lies outside the area of interest",
                    "choose another place, or prepare this one",
                    x=x,
                    y=y,
                )

    def is_without_data(self, bounds: Bounds, grid: LevelGrid) -> bool:
        """Tell whether all tiles of a level around a rectangle were skipped because they have no data."""
        states = [self.reader.state(tile) for _, tile in grid.tiles_around(bounds, tolerance=grid.scale)]
        return bool(states) and all(state is TileState.SKIPPED for state in states)

    def _split(self, prompts: Prompts, level: int) -> list[tuple[Tile, Prompts]]:
        """Distribute prompts that no single tile holds among tiles of one level that serves all of them.

        It is the coarsest one, which cuts the object least. Across sheets, whose borders cut it on every level, it is
        the one that suits their extent, or the next coarser one, or else the next finer one.

        Returns
        -------
        list of (Tile, Prompts)
            The tiles, encoded if they were not, and the prompts inside them.

        Raises
        ------
        PromptError
            If no level serves every positive point and the whole box. The message names a place that is not served.
        """
        if prompts.outline is not None and prompts.box is None:
            prompts = prompts.with_box(Bounds(*prompts.outline.bounds))
        unserved: list[list[tuple[float, float]]] = []
        bounds, grids = prompts.positive_bounds, self.pyramid.grids
        start = len(grids) - 1
        if len(self.pyramid.parts) > 1:
            start = max(0, self.pyramid.level_for_size(max(bounds.width, bounds.height), min(level, start)))
        for grid in (*grids[start:], *reversed(grids[:start])):
            parts, left = self._distribute(prompts, grid)
            while not left and not all(self.provide(tile) for tile, _ in parts):
                # A tile turned out to have no data, and was skipped.
                parts, left = self._distribute(prompts, grid)
            if not left:
                return parts
            unserved.append(left)
        col, row = min(unserved, key=len)[0]
        for grid in self.pyramid.grids:
            self._check_data([(col, row)], grid)
        x, y = self._on_map(col, row)
        raise PromptError(
            "Not all tiles around ({x:.8g}, {y:.8g}) have been prepared yet",
            "encode the whole image into another store"
            if self.reader.metadata.is_frozen
            else "prepare the rest with: geosam-es encode --resume",
            x=x,
            y=y,
        )

    def _distribute(
        self, prompts: Prompts, grid: LevelGrid
    ) -> tuple[list[tuple[Tile, Prompts]], list[tuple[float, float]]]:
        """Distribute prompts among the tiles of a level, and return the places (col, row) that are left."""
        parts: list[tuple[Tile, Prompts]] = []
        left: list[Point] = [point for point in prompts.points if point.positive]
        done: list[shapely.Polygon] = []
        around = [Bounds(point.x, point.y, point.x, point.y) for point in left]
        tiles = {tile for place in around for _, tile in grid.tiles_around(place, tolerance=grid.scale)}
        if prompts.box is not None:
            box = prompts.box
            # The last tiles extend beyond their level by less than one of its pixels.
            near = Bounds(box.min_x - grid.scale, box.min_y - grid.scale, box.max_x, box.max_y)
            tiles.update(tile for tile in grid.touching(near) if self.pyramid.tile_bounds(tile).intersection(box))
        for tile in sorted(tiles):
            bounds = self.pyramid.tile_bounds(tile)
            part = prompts.within(bounds)
            new = [point for point in part.points if point in left]
            if (new or part.box) and self.can_provide(tile):
                left = [point for point in left if point not in new]
                parts.append((tile, part))
                done.append(shapely.box(*bounds))
            elif part.box and self.reader.state(tile) is TileState.SKIPPED:
                done.append(shapely.box(*bounds))
        places = [(point.x, point.y) for point in left]
        if prompts.box is not None:
            # Sheets of different heights leave corners without tiles.
            gap = shapely.difference(shapely.box(*prompts.box).intersection(self.reach), shapely.union_all(done))
            is_covered = gap.area < _LEAST_GAP
            if not is_covered or not parts:
                inside = shapely.point_on_surface(shapely.box(*prompts.box) if is_covered else gap)
                places.append((inside.x, inside.y))
        return parts, places


def _tile_masks(frame: TileFrame, decoded: DecodedMasks) -> tuple[TileMask, ...]:
    return tuple(
        TileMask(frame, logits, float(score)) for logits, score in zip(decoded.low_res_masks, decoded.iou_predictions)
    )

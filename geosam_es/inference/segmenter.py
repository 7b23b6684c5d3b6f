"""From prompts to polygons over a whole raster: which tile answers, and what happens at its borders.

Everything here is in native pixels of the raster; the session speaks the map's coordinates.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

import shapely

from ..core.frame import TileFrame, warp_logits
from ..core.grid import Tile
from ..core.prompts import Bounds, Prompts
from ..core.topology import merge, polygon_parts, prompted_parts
from ..errors import PromptError
from ..store.reader import StoreReader, TileState
from .borders import continue_beyond_border
from .decoder import Context, MaskDecoder, decode_many, decode_preview
from .masks import Candidate, Piece, Proposal, TileAnswer

__all__ = ["Segmenter"]

_CONTEXTS_KEPT = 16


class Segmenter:
    """Answers prompts from a store.

    Parameters
    ----------
    reader : StoreReader
    decoder : MaskDecoder

    Notes
    -----
    Holds no state but a cache of prepared tiles, so that equal prompts at an equal level get equal polygons.
    Methods may be called from several threads.
    """

    def __init__(self, reader: StoreReader, decoder: MaskDecoder) -> None:
        self.reader = reader
        self.decoder = decoder
        self.pyramid = reader.pyramid
        self._contexts: OrderedDict[Tile, Context] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def tile_size(self) -> int:
        """Side of a tile in pixels."""
        return self.pyramid.tiling.tile_size

    def propose(
        self, prompts: Prompts, level: int = 0, previous: Candidate | None = None, is_preview: bool = False
    ) -> Proposal:
        """Decode prompts.

        Parameters
        ----------
        prompts : Prompts
            In native pixels.
        level : int
            The finest level to answer from.
        previous : Candidate, optional
            What the earlier prompts of the same object gave; its logits go back in as `mask_input`.
        is_preview : bool
            Whether the mask to show first is enough, see `decode_preview`.

        Returns
        -------
        Proposal

        Raises
        ------
        PromptError
            If there is no positive point or box, a prompt lies outside the raster, or there is no data.
        StoreError
            If a tile's file cannot be read.
        """
        prompts = self._inside(prompts)
        bounds = prompts.positive_bounds
        tile = self.tile_for(prompts, level)
        previous_piece = previous.piece if previous else None
        if tile is not None:
            answers: tuple[TileAnswer, ...] = (self.decode(tile, prompts, previous_piece, is_preview),)
        else:
            self._check_data(bounds, level)
            answers = tuple(self.decode(tile, part, previous_piece) for tile, part in self._split(prompts, level))
        return _proposal(prompts, answers)

    def propose_many(
        self, prompts: Sequence[Prompts], level: int = 0, first_only: bool = False
    ) -> list[Proposal | PromptError]:
        """Decode the prompts of several objects, those of a tile together.

        Parameters
        ----------
        prompts : sequence of Prompts
            One for each object, in native pixels.
        level : int
            The finest level to answer from.
        first_only : bool
            Whether the mask to show first is enough, see `decode_many`.

        Returns
        -------
        list of Proposal or PromptError
            What `propose` gives or raises for each, perhaps without the other candidates.

        Raises
        ------
        StoreError
            If a tile's file cannot be read.
        """
        found: dict[int, Proposal | PromptError] = {}
        by_tile: dict[Tile, list[tuple[int, Prompts]]] = {}
        for index, item in enumerate(prompts):
            answer = self._place(item, level)
            if isinstance(answer, tuple):
                tile, inside = answer
                by_tile.setdefault(tile, []).append((index, inside))
            else:
                found[index] = answer
        for tile, items in by_tile.items():
            frame = TileFrame.of(self.pyramid, tile)
            local = [self._local(frame, inside) for _, inside in items]
            answers = decode_many(self.decoder, self.context(tile), local, first_only)
            for (index, inside), masks in zip(items, answers):
                found[index] = _proposal(inside, (TileAnswer(frame, masks),))
        return [found[index] for index in range(len(prompts))]

    def _place(self, prompts: Prompts, level: int) -> tuple[Tile, Prompts] | Proposal | PromptError:
        """Return the tile for prompts and what of them is to be decoded there, or what `propose` gives or raises."""
        try:
            inside = self._inside(prompts)
            tile = self.tile_for(inside, level)
            return self.propose(prompts, level) if tile is None else (tile, inside)
        except PromptError as error:
            return error

    def tile_for(self, prompts: Prompts, level: int = 0) -> Tile | None:
        """Return the tile that answers prompts in native pixels, or None where no single one can.

        Raises
        ------
        PromptError
            If there is no data.
        """
        bounds = prompts.positive_bounds
        self._check_data(bounds, level)
        return self.pyramid.choose(
            bounds, is_box=prompts.box is not None, level=level, available=self.reader.is_encoded
        )

    def resolve(self, proposal: Proposal, rank: int = 0) -> Candidate:
        """Trace one mask of a proposal, and follow it beyond the border of its tile.

        Parameters
        ----------
        proposal : Proposal
        rank : int
            Place in ``proposal.ranking``; 0 is the mask to show first.

        Returns
        -------
        Candidate
        """
        token = proposal.ranking[rank]
        pieces: Sequence[Piece] = [answer.piece(token) for answer in proposal.answers]
        # A box says where the object ends, and prompts over several tiles were answered by all of them already.
        if len(pieces) == 1 and proposal.prompts.box is None:
            pieces = continue_beyond_border(self, pieces[0], proposal.prompts)
        polygons = self.polygons(pieces)
        positives = [(point.x, point.y) for point in proposal.prompts.points if point.positive]
        if len(proposal.answers) == 1:
            polygons = prompted_parts(polygons, positives)
        base = pieces[0]
        return Candidate(
            tuple(polygons),
            base.score,
            base.frame.tile.level,
            tuple(piece.frame.tile for piece in pieces),
            base,
        )

    def polygons(self, pieces: Sequence[Piece]) -> list[shapely.Polygon]:
        """Trace masks and join them.

        Returns
        -------
        list of Polygon
            In native pixels, the largest first.
        """
        traced = [
            polygon
            for piece in pieces
            for polygon in piece.polygons(self.tile_size, self.pyramid.tile_bounds(piece.frame.tile))
        ]
        if len(pieces) == 1:
            return traced
        return sorted(polygon_parts(merge(traced)), key=lambda polygon: -polygon.area)

    def decode(
        self, tile: Tile, prompts: Prompts, previous: Piece | None = None, is_preview: bool = False
    ) -> TileAnswer:
        """Decode prompts on a given tile.

        Parameters
        ----------
        tile : Tile
        prompts : Prompts
            In native pixels; those outside the tile are left to the tiles they lie in.
        previous : Piece, optional
            A mask to refine, of this tile or of another.
        is_preview : bool
            As for `propose`.

        Returns
        -------
        TileAnswer
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
            return TileAnswer(frame, decode_preview(self.decoder, self.context(tile), local, mask_input))
        return TileAnswer(frame, self.decoder.decode(self.context(tile), local, mask_input))

    def _local(self, frame: TileFrame, prompts: Prompts) -> Prompts:
        return frame.prompts_to_tile(prompts.within(self.pyramid.tile_bounds(frame.tile)))

    def context(self, tile: Tile) -> Context:
        """Return what the decoder keeps of a tile, reading and preparing the tile where that is not done yet."""
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

    def _inside(self, prompts: Prompts) -> Prompts:
        """Check that the points lie in the raster, and cut the box at its edge."""
        extent = self.pyramid.bounds
        transform = self.reader.metadata.raster.transform
        for point in prompts.points:
            if not extent.contains(Bounds(point.x, point.y, point.x, point.y)):
                x, y = transform.apply(point.x, point.y)
                raise PromptError("The point ({x:.8g}, {y:.8g}) lies outside the raster", "move it inside", x=x, y=y)
        if prompts.box is None:
            return prompts
        box = prompts.box.intersection(extent)
        if box is None:
            raise PromptError("The box lies outside the raster or has no area", "draw it on the raster")
        return prompts.with_box(box)

    def _check_data(self, bounds: Bounds, level: int) -> None:
        """Refuse prompts where every tile around them was skipped for want of data."""
        grid = self.pyramid.grids[min(level, len(self.pyramid.grids) - 1)]
        states = [self.reader.state(tile) for _, tile in grid.tiles_around(bounds, tolerance=grid.scale)]
        if states and all(state is TileState.SKIPPED for state in states):
            x, y = self.reader.metadata.raster.transform.apply(
                (bounds.min_x + bounds.max_x) / 2, (bounds.min_y + bounds.max_y) / 2
            )
            raise PromptError(
                "There is no data at ({x:.8g}, {y:.8g}), or it lies outside the area of interest",
                "choose another place, or encode it",
                x=x,
                y=y,
            )

    def _split(self, prompts: Prompts, level: int) -> list[tuple[Tile, Prompts]]:
        """Give out prompts that no single tile holds among tiles of the coarsest level that has some of them.

        Raises
        ------
        PromptError
            If none of the tiles was encoded.
        """
        for grid in reversed(self.pyramid.grids[min(level, len(self.pyramid.grids) - 1) :]):
            parts = []
            left = [point for point in prompts.points if point.positive]
            for tile in grid:
                bounds = self.pyramid.tile_bounds(tile)
                part = prompts.within(bounds)
                news = [point for point in part.points if point in left]
                if (news or part.box) and self.reader.is_encoded(tile):
                    left = [point for point in left if point not in news]
                    parts.append((tile, part))
            if parts:
                return parts
        raise PromptError("No tile here has been encoded yet", "go on with: geosam-es encode --resume")


def _proposal(prompts: Prompts, answers: tuple[TileAnswer, ...]) -> Proposal:
    return Proposal(prompts, answers, tuple(answers[0].masks.ranking(prompts.is_ambiguous)))

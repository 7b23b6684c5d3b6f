"""GeoSAM-ES: draw polygons on orthophotos with Segment Anything, from precomputed embeddings."""

__version__ = "0.1.0"

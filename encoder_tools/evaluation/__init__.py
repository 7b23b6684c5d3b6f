"""Measuring decoders against polygons drawn by people."""

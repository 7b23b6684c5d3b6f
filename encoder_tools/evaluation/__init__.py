"""Measuring decoders on reference polygons."""

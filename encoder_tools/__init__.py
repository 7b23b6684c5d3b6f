"""Offline tools of GeoSAM-ES: encode rasters, segment from prompts, export and train models."""

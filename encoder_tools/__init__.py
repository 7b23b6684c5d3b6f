"""Offline tools of GeoSAM-ES: encode rasters, segment from prompts, export and train models."""

from .environment import ignore_foreign_variables, set_defaults

# Here, so that it happens before any module imports GDAL or PROJ, whatever is run.
ignore_foreign_variables()
set_defaults()

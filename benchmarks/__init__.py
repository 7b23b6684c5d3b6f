"""Measurements: speed, the embedded model, and fine-tuning. Nothing here is installed with the package."""

# First, because it prepares the environment of GDAL and PROJ.
import encoder_tools  # noqa: F401

"""Measurements: speed, the embedded model, and fine-tuning. Nothing here is installed with the package."""

"""The command line: ``geosam-es``."""

from .app import main

__all__ = ["main"]

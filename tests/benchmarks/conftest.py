"""Fixtures that the tests of the benchmarks share with those of the tools."""

from tests.encoder_tools.conftest import model

__all__ = ["model"]

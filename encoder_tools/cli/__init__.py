"""The command line: ``geosam-es``."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line. A package that does not load is reported in one sentence."""
    try:
        from .app import main as run
    except KeyboardInterrupt:
        sys.exit(130)
    # Besides ImportError, a damaged package may raise almost anything.
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        print(
            f"Error: A package that geosam-es needs does not load ({reason}): install geosam-es in a new environment",
            file=sys.stderr,
        )
        sys.exit(2)
    run()

"""Codes of classes and objects as text."""

from __future__ import annotations

__all__ = ["code_text"]


def code_text(value: object) -> str:
    """Return a code as users write it: a whole number without decimals, even in a field with decimals.

    Examples
    --------
    >>> code_text(3111001.0), code_text(0.25), code_text("oak")
    ('3111001', '0.25', 'oak')
    """
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)

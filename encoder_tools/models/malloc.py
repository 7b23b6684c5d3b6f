"""Memory allocation that suits large, short-lived tensors on a CPU."""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_MAX = -4
_M_ARENA_MAX = -8
_TOP_PAD_BYTES = 512 * 1024 * 1024


def tune_malloc() -> bool:
    """Make glibc keep freed memory for the next tensor.

    By default glibc maps every large tensor afresh and unmaps it when it is freed, and each of its pages is
    then faulted in and zeroed again: a ViT-B image encoder spends a third of its time on that. The price is
    that the process gives no memory back before it ends. All threads share one arena, so that one that encodes finds
    what another has freed. Best called before PyTorch is imported.

    Returns
    -------
    bool
        Whether the C library took the settings; False, and nothing changed, where it is not glibc.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # musl and macOS; no such handle; Windows
        return False
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1), (_M_TOP_PAD, _TOP_PAD_BYTES), (_M_ARENA_MAX, 1))
    return all(mallopt(option, value) == 1 for option, value in settings)

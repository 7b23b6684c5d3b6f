"""Settings of the C library's memory allocator for large, short-lived tensors on a CPU."""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_MAX = -4
_M_ARENA_MAX = -8
_TOP_PAD_BYTES = 512 * 1024 * 1024


def tune_malloc() -> bool:
    """Make glibc keep freed memory for the next tensor.

    By default glibc maps every large tensor anew and unmaps it when it is freed, so that the kernel zeroes all its
    pages again. A ViT-B image encoder spends a third of its time on that. With these settings the process returns no
    memory before it ends. All threads share one arena, so that a thread reuses what another has freed. Call this before
    PyTorch is imported if possible.

    Returns
    -------
    bool
        Whether the settings were accepted; False without glibc, where nothing changes.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # musl and macOS; no such handle; Windows
        return False
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1), (_M_TOP_PAD, _TOP_PAD_BYTES), (_M_ARENA_MAX, 1))
    return all(mallopt(option, value) == 1 for option, value in settings)

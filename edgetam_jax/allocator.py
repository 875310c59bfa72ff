"""Memory allocator settings that make this package faster on CPU. Only a call of `tune` changes them."""

import ctypes
import platform

ARENA_MAX, MMAP_MAX, TRIM_THRESHOLD = -8, -4, -1  # names of settings in glibc's malloc.h
UNLIMITED = 2**31 - 1


def tune() -> bool:
    """Makes the allocator keep freed memory, which saves up to a quarter of the time of a frame on CPU.

    Call it before jax computes anything. It applies to the whole process, whose memory use then no longer shrinks. It
    has no effect except on Linux with glibc.

    Returns:
        Whether the settings were changed.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    made = [libc.mallopt(name, value) for name, value in ((ARENA_MAX, 1), (MMAP_MAX, 0), (TRIM_THRESHOLD, UNLIMITED))]
    return all(made)

"""Runs over many videos that can be stopped and started again, and split over processes and machines."""

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import jax

from edgetam_jax.errors import EdgeTAMError


def run_resumable(
    names: Sequence[str], out: Path, process_video: Callable[[str, Path], int], processes: tuple[int, int] = (0, 1)
) -> int:
    """Processes every n-th video, n the number of processes, and returns how many failed.

    A video whose output exists is skipped. One that fails is reported, and the run continues with the next.

    Args:
        names: All videos, in the same order in every process.
        out: The folder of the outputs; that of a video is `out / name`.
        process_video: Gets a name and the path of its output, which it creates when the video is finished; returns
            the number of frames.
        processes: The index of this process, and how many there are.
    """
    rank, count = processes
    own_names = names[rank::count]
    failed = 0
    for number, name in enumerate(own_names, 1):
        label = f"[process {rank + 1}/{count}, video {number}/{len(own_names)}] {name}"
        if (out / name).exists():
            print(f"{label}: done before", flush=True)
            continue
        start = time.perf_counter()
        try:
            frames = process_video(name, out / name)
        except EdgeTAMError as error:
            failed += 1
            print(f"{label}: failed: {error}", file=sys.stderr, flush=True)
            continue
        print(f"{label}: {frames} frames, {frames / (time.perf_counter() - start):.1f} a second", flush=True)
    return failed


def join_processes(rank: int | None, count: int | None, coordinator: str | None) -> tuple[int, int]:
    """Waits for the other processes if there is a coordinator; returns the index of this process and their number."""
    if (rank is None) != (count is None) or (coordinator and rank is None):
        raise EdgeTAMError("--process and --processes go together, and with --coordinator; one of them is missing.")
    if rank is None or count is None:
        return 0, 1
    if not 0 <= rank < count:
        raise EdgeTAMError(f"--process is {rank}; expected 0 to {count - 1}, for there are {count}.")
    if coordinator:
        jax.distributed.initialize(coordinator, count, rank)
        rank, count = jax.process_index(), jax.process_count()
        # From here on the processes share nothing, and one that dies must not end the others.
        jax.distributed.shutdown()
    return rank, count

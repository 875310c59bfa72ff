"""Options of the commands that split videos over processes and machines."""

import argparse

from edgetam_jax.evaluation import resumable


def add_process_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--processes", type=int, help="number of processes that share the videos")
    parser.add_argument("--process", type=int, help="index of this process, from 0")
    parser.add_argument("--coordinator", metavar="HOST:PORT", help="address of process 0, to wait for all processes")


def join_processes(arguments: argparse.Namespace) -> tuple[int, int]:
    """The index of this process, and how many there are."""
    return resumable.join_processes(arguments.process, arguments.processes, arguments.coordinator)

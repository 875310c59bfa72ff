"""Options of the commands that split videos over processes and machines."""

import argparse

from edgetam_jax.evaluation import resumable


def add_process_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--processes", type=int, help="over how many processes the videos are split")
    parser.add_argument("--process", type=int, help="which one this is, from 0")
    parser.add_argument("--coordinator", metavar="HOST:PORT", help="address of process 0, to begin together")


def join_processes(arguments: argparse.Namespace) -> tuple[int, int]:
    """The index of this process, and how many there are."""
    return resumable.join_processes(arguments.process, arguments.processes, arguments.coordinator)

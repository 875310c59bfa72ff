"""Atomic writes: files and folders are written under a temporary name next to their path, then renamed."""

import contextlib
import glob
import os
import pathlib
import shutil
import time
from collections.abc import Iterator

from edgetam_jax.errors import OutputError

ATTEMPTS, PAUSE = 20, 0.1  # to remove a folder, and seconds between them
STAYS_ABSENT = 3  # attempts that find nothing, before a folder counts as removed


@contextlib.contextmanager
def replacing(path: pathlib.Path, force: bool, ours: frozenset[str] = frozenset()) -> Iterator[pathlib.Path]:
    """Yields a temporary path to write a file or folder to, which is renamed to `path` at the end.

    If writing fails, `path` stays as it was.

    Args:
        path: The file or folder to write.
        force: Replace an existing file, or an existing folder that holds only what is named in `ours`.
        ours: Names of files that an earlier run may have written to the folder.

    Raises:
        OutputError: The path exists and may not be replaced, or writing failed.
    """
    path = pathlib.Path(os.path.abspath(path))  # a link in place of the output is replaced, not followed
    check_place(path, force, ours)
    _remove_leftovers(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield temporary
        _flush(temporary)
        _swap(temporary, path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(
            f"{path} could not be written: {reason}. Nothing was changed there. "
            "Check the free space and the permissions of that folder, or choose another output."
        ) from error
    finally:
        _remove(temporary)


def check_place(path: pathlib.Path, force: bool, ours: frozenset[str] | None = None) -> None:
    """Raises if nothing can be written to `path`, or something there would be lost.

    Args:
        path: The file or folder to write.
        force: Allow replacing what exists.
        ours: Names of files that a replaced folder may hold. By default, what it holds is not checked.

    Raises:
        OutputError: The path exists, its folder is missing, or nothing can be written there.
    """
    if not path.parent.is_dir():
        raise OutputError(f"the folder {path.parent} does not exist. Create it, or choose another output.")
    if not os.access(path.parent, os.W_OK):
        raise OutputError(
            f"nothing can be written to the folder {path.parent}. Check its permissions, or choose another output."
        )
    if not os.path.lexists(path):
        return
    if not force:
        raise OutputError(f"{path} exists. Choose another output, or allow replacing it (force=True, --force).")
    if ours is not None and path.is_dir() and (strange := sorted({entry.name for entry in path.iterdir()} - ours)):
        raise OutputError(
            f"{path} is a folder that holds more than a checkpoint ({', '.join(strange[:5])}), and is not replaced. "
            "Choose another output, or remove it yourself."
        )


def _remove_leftovers(path: pathlib.Path) -> None:
    """What a run that was killed left behind."""
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
        owner = leftover.name.split(".")[-2]
        if owner.isdigit() and not _alive(int(owner)):
            _remove(leftover)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _flush(path: pathlib.Path) -> None:
    """To the disk, so that the rename cannot come first; a full disk may say so only here."""
    for file in [path, *path.rglob("*")] if path.is_dir() else [path]:
        if not file.is_symlink():
            descriptor = os.open(file, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _swap(temporary: pathlib.Path, path: pathlib.Path) -> None:
    if not path.is_dir() and not temporary.is_dir():
        os.replace(temporary, path)
        return
    if not os.path.lexists(path):
        os.rename(temporary, path)
        return
    # A folder cannot be replaced in one step: the old one steps aside, and comes back if the new one fails.
    aside = temporary.with_suffix(".old")
    os.rename(path, aside)
    try:
        os.rename(temporary, path)
    except OSError:
        os.rename(aside, path)
        raise
    _remove(aside)


def _remove(path: pathlib.Path) -> None:
    """Removes a file or folder. A folder has to stay away: threads of a library that failed may write to it again."""
    absent = 0
    for _ in range(ATTEMPTS):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
            absent = -STAYS_ABSENT
        else:
            path.unlink(missing_ok=True)
        absent += 1
        if absent > 0 and not os.path.lexists(path):
            return
        time.sleep(PAUSE)

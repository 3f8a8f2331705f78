"""API keys on the command line: taken, but not left there, where `ps` shows them to everybody."""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping, Sequence
from pathlib import Path

OPTION = "--api-key"
MOVED_TO = "LOCAL_RUNPOD_MOVED_KEYS"


class KeyFileError(ValueError):
    """A file with a key that cannot be read; the message names it."""


def without_keys(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Take the keys out of a command line; `@FILE` is none and stays.

    Returns:
        The other arguments, and the keys.
    """
    others: list[str] = []
    keys: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        name, separator, value = argument.partition("=")
        if name == OPTION and not separator:
            value = next(rest, "")
        if name != OPTION or value.startswith("@"):
            others += [argument] if separator or name != OPTION else [argument, value]
        else:
            keys.append(value)
    return others, keys


def hide(environment: MutableMapping[str, str]) -> None:
    """Start this program again with its keys in the environment, which only its user can read."""
    others, keys = without_keys(sys.orig_argv)  # with `-m local_runpod`, which argv lacks
    if keys:
        moved = {**environment, MOVED_TO: "\n".join(keys)}
        os.execve(sys.executable, [sys.executable, *others[1:]], moved)  # noqa: S606  # nosec B606  # the same program


def moved(environment: MutableMapping[str, str]) -> list[str]:
    """The keys that `hide` moved; they go no further."""
    return environment.pop(MOVED_TO, "").split()


def read(option: str) -> str:
    """The key that an option names: itself, or the first line of `@FILE`.

    Raises:
        KeyFileError: The file cannot be read, or holds none.
    """
    if not option.startswith("@"):
        return option
    try:
        key = Path(option[1:]).expanduser().read_text().strip().partition("\n")[0]
    except (OSError, UnicodeDecodeError) as error:
        raise KeyFileError(f"{OPTION} {option}: {error}") from None
    if not key:
        raise KeyFileError(f"{OPTION} {option}: the file is empty")
    return key

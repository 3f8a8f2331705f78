"""What a caller probably meant, and how names are listed in messages. Pure.

Only what is likely is suggested: a wrong guess leads away from the fix.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable
from functools import partial
from itertools import islice
from pathlib import PurePosixPath

from worker_comfyui import strict

MAX_TEXT = 300
MAX_COMPARED = 300
LIKELY = 0.74
"""Of the characters: `hihg` is like `high` (0.75)."""
LIKELY_CLASS = 0.86
"""`KSamplr` is like `KSampler` (0.93); `Image Save` is not `ImageScale` (0.84)."""


cut = partial(strict.cut, limit=MAX_TEXT)
"""Makes a text from outside fit for a message about a workflow."""


def listed(names: Collection[str], most: int = 10) -> str:
    """Name the first few, and count the rest."""
    shown = ", ".join(repr(cut(name)) for name in islice(names, most))
    rest = len(names) - most
    return f"{shown} and {rest} more" if rest > 0 else shown


def likely(wanted: str, names: Iterable[str], *, at_least: float = LIKELY) -> str | None:
    """Return the name that was probably meant; None: none is like it enough.

    Case, spaces, folders and word separators count little; an ending that file names share does not
    make them alike.
    """
    bare = {_bare(name): name for name in names if name != wanted}
    sought = _bare(wanted)
    if sought in bare:
        return bare[sought]
    close = difflib.get_close_matches(sought, bare, n=1, cutoff=at_least)
    return bare[close[0]] if close and sought else None


def _bare(name: str) -> str:
    name = name[:MAX_COMPARED].replace("\\", "/")
    path = PurePosixPath(name)
    stem = path.stem if re.fullmatch(r"\.[A-Za-z0-9]{1,12}", path.suffix) else path.name
    return re.sub(r"[\W_]+", "", stem.casefold())

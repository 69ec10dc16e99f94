"""Names of files in archives: only those that stay in their folder and mean the same on every system."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

_LONGEST = 200  # characters of one part
_DEEPEST = 12
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?", re.IGNORECASE)


def unsafe_name(name: str) -> str | None:
    """Say what is wrong with a name, or None.

    Args:
        name: of a file or folder, with ``/`` between its parts.

    Example:
        >>> unsafe_name("configs/train.json"), unsafe_name("../train.json")
        (None, 'leads out of its folder')
    """
    parts = name.split("/")
    reasons = {
        "is empty": not name,
        "is no text": any(unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp") for letter in name),
        "is absolute": name.startswith("/"),
        "holds a backslash": "\\" in name,
        "holds a colon": ":" in name,
        "leads out of its folder": ".." in parts,
        "has an empty part": any(part in ("", ".") for part in parts),
        "is too long or too deep": len(parts) > _DEEPEST or any(len(part) > _LONGEST for part in parts),
        "is no name everywhere": any(part != part.strip(" ") or part.endswith(".") for part in parts)
        or any(_RESERVED.fullmatch(part) for part in parts),
    }
    return next((reason for reason, found in reasons.items() if found), None)


def colliding_names(names: Iterable[str]) -> tuple[str, str] | None:
    """Find two names that one file would have where case, or the way letters are composed, does not count.

    A file that is the folder of another collides as well.

    Args:
        names: of files.

    Returns:
        The two, which are the same if one stands twice.
    """
    seen: dict[str, tuple[str, bool]] = {}
    for name in names:
        parts = name.split("/")
        for number in range(1, len(parts) + 1):
            path, is_file = "/".join(parts[:number]), number == len(parts)
            folded = _folded(path)
            known, was_file = seen.get(folded, (path, False))
            if known != path or was_file or (is_file and folded in seen):
                return known, path
            seen[folded] = (path, is_file)
    return None


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())

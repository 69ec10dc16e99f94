"""A mistyped id in a config file of one's own: MONAI takes it for a new entry and runs on the defaults."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Sequence
from pathlib import Path

from monai.bundle import ConfigParser

from bonemonai.errors import InputError

_ALWAYS = ("imports", "initialize", "run", "finalize", "_meta_")


def check_overlays(files: Sequence[str | Path]) -> None:
    """Refuse ids of overlays that nothing knows.

    An overlay may replace an id, add an argument to a component, or bring ids that it, or what it overlays, refers to.
    What is none of these has no effect, and is most likely mistyped. The bundle's own overlays may serve several
    configs.

    Args:
        files: configs, overlays last; the first one's folder holds the bundle's other configs.

    Raises:
        InputError: naming the id, and the one that was probably meant.
    """
    contents = [ConfigParser.load_config_file(str(file)) for file in files]
    whole = json.dumps(contents, default=str)
    for number, file in enumerate(files):
        before = [str(each) for each in files[:number]]
        earlier = ConfigParser(ConfigParser.load_config_files(before)) if number else None
        for key in contents[number]:
            name = key.removeprefix("+")
            if earlier is None or name.startswith("_") or name.split("#")[0] in _ALWAYS:
                continue
            if (
                not is_known(name, earlier)
                and not _is_referred_to(name, whole)
                and not _is_elsewhere(name, file, files)
            ):
                near = difflib.get_close_matches(name, earlier.get().keys(), n=1, cutoff=0.5)
                hint = f"did you mean {near[0]!r}?" if near else "remove it."
                raise InputError(Path(file).name, f"sets {name!r}, which no config knows; {hint}")


def is_known(name: str, parser: ConfigParser) -> bool:
    """Whether a config has an id, or a component to which the id would be an argument.

    Args:
        name: of one or more levels, parted by ``#`` or ``::``.
        parser: of the config.
    """
    if name in parser:
        return True
    component = re.sub("(#|::)[^#:]*$", "", name)
    # its constructor then has the last word
    return component != name and component in parser and "_target_" in (parser[component] or {})


def _is_referred_to(name: str, text: str) -> bool:
    spelled = re.escape(name).replace(r"\#", "(?:#|::)")
    return re.search(rf"[@%]{spelled}(?![\w])", text) is not None


def _is_elsewhere(name: str, file: str | Path, files: Sequence[str | Path]) -> bool:
    """Whether the file is the bundle's own, and another of its configs has the id: smoke.json serves several."""
    if Path(file).resolve().parent != Path(files[0]).resolve().parent:
        return False
    others = (path for path in Path(files[0]).parent.glob("*.json") if path.resolve() != Path(file).resolve())
    return any(name in ConfigParser.load_config_file(str(path)) for path in others)

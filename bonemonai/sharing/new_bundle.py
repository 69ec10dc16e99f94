"""A new bundle that works at once, for its author to edit."""

from __future__ import annotations

import json
import re
from importlib.metadata import version
from pathlib import Path

from bonemonai.data.atomic import atomic_path
from bonemonai.errors import InputError, OutputError

_TEMPLATE = Path(__file__).parent / "bundle_template"
_NAME = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+){2,}")
_LONGEST = 100  # characters
_PACKAGES = ("bonemonai", "monai", "numpy", "pytorch-ignite", "torch", "zarr")
_BUNDLES = "bundles"


def new_bundle(name: str, *, into: Path | None = None, title: str | None = None) -> Path:
    """Write a bundle that segments the planes of a scan: it trains, evaluates, infers and is verified as it stands.

    What only its author can decide is marked FILL IN; :func:`bonemonai.sharing.pack_bundle` refuses it until then.

    Args:
        name: <anatomy>_<modality>_<task>, of small letters and digits; of the folder.
        into: where the folder goes; by default ``bundles``, where there is one, or the working directory.
        title: what the bundle is called in its documents; by default its name in words.

    Returns:
        The folder.

    Raises:
        InputError: if the name is of another form, or the title is no single line.
        OutputError: if there is such a folder, or it cannot be written.

    Example:
        >>> import tempfile
        >>> folder = new_bundle("femur_microct_lacunae", into=Path(tempfile.mkdtemp()))
        >>> sorted(path.name for path in folder.iterdir())
        ['LICENSE', 'configs', 'docs']
    """
    if not _NAME.fullmatch(name) or len(name) > _LONGEST:
        raise InputError(name, "is no <anatomy>_<modality>_<task> of small letters and digits: femur_microct_lacunae.")
    title = name.replace("_", " ").capitalize() if title is None else title.strip()
    # in a config a text that begins with $, @ or % is an expression
    if not title.isprintable() or not title or "{{" in title or title[0] in "$@%":
        raise InputError("--title", f"must be one line of text, got {title!r}.")
    if into is None:
        into = Path(_BUNDLES) if Path(_BUNDLES).is_dir() else Path()
    folder = into / name
    if folder.exists() or folder.is_symlink():
        raise OutputError(folder, "exists already; choose another NAME, or another folder by --into.")
    values = {"name": name, "title": title, "modality": name.split("_")[1], **_versions()}
    with atomic_path(folder, overwrite=False) as partial:
        for source in sorted(path for path in _TEMPLATE.rglob("*") if path.is_file()):
            target = partial / source.relative_to(_TEMPLATE)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(_filled(source, values), encoding="utf-8", newline="\n")
    return folder


def _filled(source: Path, values: dict[str, str]) -> str:
    text = source.read_text(encoding="utf-8")
    for key, value in values.items():
        # within JSON's own quotes
        shown = json.dumps(value, ensure_ascii=False)[1:-1] if source.suffix == ".json" else value
        text = text.replace(f"{{{{ {key} }}}}", shown)
    return text


def _versions() -> dict[str, str]:
    """Of what a bundle needs, as installed here; without the build, such as +cpu."""
    return {package: version(package).partition("+")[0] for package in _PACKAGES}

"""Bundles into archives for others: checked, without training state or identifiers, the same bytes every time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bonemonai.data.atomic import atomic_path
from bonemonai.errors import InputError, OutputError
from bonemonai.sharing.archive_writing import check_kind, write_archive
from bonemonai.sharing.bundle_checks import check_layout, check_metadata, check_sizes, check_written
from bonemonai.sharing.bundle_files import (
    LICENCE,
    MANIFEST,
    METADATA,
    MODEL_CARD,
    README,
    bundle_files,
    file_sha256,
    read_configs,
)
from bonemonai.sharing.bundle_manifest import make_manifest
from bonemonai.sharing.config_entries import parse_json
from bonemonai.sharing.identifiers import find_identifier
from bonemonai.sharing.model_card import model_card
from bonemonai.sharing.signing import ArchiveSigner, signature_path
from bonemonai.sharing.verify import check_code
from bonemonai.sharing.wheel import build_wheel

_TEXTS = (".conf", ".csv", ".json", ".md", ".txt", "LICENSE", "NOTICE")


def pack_bundle(
    folder: Path,
    out: Path,
    *,
    allow_large: bool = False,
    wheel: bool = False,
    trust_code: str | None = None,
    sign: Path | None = None,
    overwrite: bool = False,
) -> dict[str, str]:
    """Check a bundle and write it, with its list of files and its model card, to an archive.

    Of weights that hold more than a network's state, such as an optimiser's, the network's state alone is packed. torch
    is imported only where there are weights.

    Args:
        folder: the bundle; its folder ``eval`` is left out.
        out: .zip or .tar.gz.
        allow_large: accept files over 25 MB.
        wheel: put this package's wheel into the archive.
        trust_code: digest of configs that are trusted, see :func:`bonemonai.sharing.verify_bundle`.
        sign: private key, see :class:`bonemonai.sharing.signing.ArchiveSigner`; a signature is written beside.
        overwrite: replace an archive, and its signature.

    Returns:
        What was done, by label.

    Raises:
        InputError: if the bundle is not complete, would be refused by those who get it, or holds an identifier.
        OutputError: if there is such a file, or it cannot be written.
    """
    check_kind(out)
    signer = None if sign is None else ArchiveSigner(sign)
    for path in (out, signature_path(out)) if signer else (out,):
        if path.exists() and not overwrite:
            raise OutputError(path, "exists already; choose another name, or say --overwrite.")
    if folder.resolve() in out.resolve().parents:
        raise OutputError(out, "lies in the bundle that is to be packed; choose another place.")
    contents = _checked(folder, trust_code)
    stripped = _strip_weights(contents)
    if not allow_large:
        check_sizes(contents)
    name = folder.resolve().name
    configs = _parsed(contents)
    readme, licence = (_text(contents, file) for file in (README, LICENCE))
    cards = {file: configs.get(_card(file)) for file in contents if _is_weights(file)}
    contents[MODEL_CARD] = model_card(name, configs[METADATA], cards, readme, licence).encode()
    if wheel:
        file, content = build_wheel()
        contents[f"wheels/{file}"] = content
    contents[MANIFEST] = _json(make_manifest(name, contents, configs))
    with atomic_path(out, overwrite=overwrite) as partial:
        write_archive(partial, {f"{name}/{file}": content for file, content in contents.items()}, out.name)
    lines = {"packed": f"{out} ({len(contents)} files, {out.stat().st_size / 1e6:.1f} MB)"}
    if stripped:
        lines["weights"] = f"of {', '.join(stripped)} only the network's state was kept"
    if signer is not None:
        lines["signature"] = str(signer.sign(out, overwrite=overwrite))
    return {**lines, "sha256": file_sha256(out)}


def _checked(folder: Path, trust_code: str | None) -> dict[str, bytes]:
    """Content of the bundle's files, without what packing writes itself."""
    files = {name: path for name, path in bundle_files(folder).items() if name not in (MANIFEST, MODEL_CARD)}
    files = {name: path for name, path in files.items() if not name.startswith("wheels/")}
    configs = read_configs(files)
    check_metadata(configs)
    check_layout(files)
    contents = {name: path.read_bytes() for name, path in files.items()}
    texts = {name: _text(contents, name) for name in contents if name.endswith(_TEXTS)}
    _refuse_identifiers(texts)  # first: other refusals show the value
    check_written(texts)
    check_code(files, configs, trust_code=trust_code)
    return contents


def _strip_weights(contents: dict[str, bytes]) -> list[str]:
    """Replace weights that hold more than a network's state, and the digest in their cards; say which these are."""
    names = [name for name in contents if _is_weights(name)]
    if not names:
        return []
    from bonemonai.sharing.weights_check import network_state

    changed = []
    for name in names:
        before, after = contents[name], network_state(name, contents[name])
        card = parse_json(_card(name), contents[_card(name)]) if _card(name) in contents else None
        if isinstance(card, Mapping) and card.get("sha256") != hashlib.sha256(before).hexdigest():
            raise InputError(_card(name), f"is the card of other weights than {name}; put the right one beside them.")
        if after != before:
            contents[name] = after
            changed.append(name)
            if isinstance(card, Mapping):
                contents[_card(name)] = _json({**card, "sha256": hashlib.sha256(after).hexdigest()})
    return changed


def _refuse_identifiers(texts: Mapping[str, str]) -> None:
    for name in sorted(texts):
        found = find_identifier(texts[name])
        if found is not None:
            what = f"line {found.line} holds what looks like {found.what} ({found.begins}...)"
            raise InputError(name, f"{what}; remove it.")


def _text(contents: Mapping[str, bytes], name: str) -> str:
    try:
        return contents[name].decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(name, "is no text in UTF-8; save it as such.") from error


def _parsed(contents: Mapping[str, bytes]) -> dict[str, Any]:
    return {name: parse_json(name, content) for name, content in contents.items() if name.endswith(".json")}


def _is_weights(name: str) -> bool:
    return name.endswith((".pt", ".pth"))


def _card(weights: str) -> str:
    return f"{weights.rpartition('.')[0]}.json"


def _json(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()

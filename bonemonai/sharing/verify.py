"""Bundles of others, checked without running anything of them; imports neither torch nor MONAI."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bonemonai.errors import InputError
from bonemonai.sharing.bundle_checks import check_metadata, older_here, stated_needs
from bonemonai.sharing.bundle_files import LICENCE, bundle_files, code_digest, read_configs, read_text
from bonemonai.sharing.bundle_manifest import check_manifest, check_repeated
from bonemonai.sharing.config_scan import ConfigScan, Finding, scan_configs
from bonemonai.sharing.logging_check import check_logging
from bonemonai.sharing.weights_scan import refuse_training_state, scan_weights


def verify_bundle(folder: Path, name: str, *, trust_code: str | None = None) -> dict[str, str]:
    """Check what can be checked before a bundle is trusted: its files, its metadata, what its configs would run.

    Args:
        folder: the bundle, see :func:`bonemonai.sharing.opened_bundle`.
        name: of the bundle.
        trust_code: digest of configs that somebody has read and trusts; what they would run is then not refused.

    Returns:
        What was checked, by label.

    Raises:
        InputError: at the first thing that is wrong.
    """
    files = bundle_files(folder)
    manifest = check_manifest(files)
    configs = read_configs(files)
    metadata = check_metadata(configs)
    if manifest is not None:
        check_repeated(manifest, files, configs)
    scan = check_code(files, configs, trust_code=trust_code)
    size = sum(path.stat().st_size for path in files.values())
    list_found = "sizes and sha256 as on its list" if manifest is not None else "no bundle.json to compare them with"
    lines = {
        "bundle": f"{name} {metadata['version']}",
        "files": f"{len(files)}, {size / 1e6:.1f} MB; {list_found}",
        "configs": f"{len(configs)}; {scan.targets} targets and {scan.expressions} expressions, {_judged(scan)}",
        **_weights(files),
        "made with": ", ".join(f"{package} {number}" for package, number in stated_needs(metadata).items()),
    }
    older = older_here(stated_needs(metadata))
    if older:
        lines["older here"] = ", ".join(older)
    if LICENCE in files:
        lines["data"] = " ".join(read_text(files, LICENCE).decode("utf-8", errors="replace").split("\n\n")[0].split())
    for wheel in (file for file in files if file.endswith(".whl")):
        lines["wheel"] = f"{wheel}: Python, which was not checked"
    return lines


def check_code(
    files: dict[str, Path],
    configs: dict[str, Any],
    *,
    trust_code: str | None = None,
    added: Mapping[str, Any] | None = None,
) -> ConfigScan:
    """Refuse configs that would run what is not on the list, unless they are trusted.

    Args:
        files: of the bundle.
        configs: its parsed JSON files.
        trust_code: digest of configs that are trusted.
        added: name to what is merged into them and is no part of the bundle; if it would run what is not on the list,
            the digest is of it as well.

    Raises:
        InputError: naming the file, the id, the expression, and the digest to trust.
    """
    added = added or {}
    scan = scan_configs({**configs, **added})
    findings = [*_logging_findings(files), *scan.findings]
    digest = code_digest(files)
    if further := {each.file: added[each.file] for each in scan.findings if each.file in added}:
        text = json.dumps([digest, further], sort_keys=True, default=str)
        digest = hashlib.sha256(text.encode()).hexdigest()
    if trust_code is not None and trust_code.lower() != digest:
        raise InputError("--trust-code", f"is not the digest of this bundle's configs, which is {digest}.")
    if findings and trust_code is None:
        first, others = findings[0], len(findings) - 1
        more = f" ({others} more)" if others else ""
        raise InputError(
            first.file,
            f"{first.id}: {first.text!a} {first.reason}{more}; read the configs, and if you trust them, say "
            f"--trust-code {digest}.",
        )
    return ConfigScan(scan.targets, scan.expressions, findings)


def _logging_findings(files: dict[str, Path]) -> list[Finding]:
    found = []
    for name in (name for name in files if name.endswith(".conf")):
        reason = check_logging(read_text(files, name))
        if reason is not None:
            line, _, what = reason.partition(" is ")
            found.append(Finding(name, "logging", line, f"is {what}"))
    return found


def _judged(scan: ConfigScan) -> str:
    return f"{len(scan.findings)} of them trusted, not checked" if scan.findings else "all on the list"


def _weights(files: dict[str, Path]) -> dict[str, str]:
    names = [name for name in files if re.search(r"\.pth?$", name)]
    for name in names:
        refuse_training_state(name, scan_weights(name, files[name]))
    return {"weights": f"{', '.join(names) or 'none'}{'; only tensors' if names else ''}"}

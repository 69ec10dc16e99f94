"""A page for each bundle, and one that lists them: what it is for, how to run it, every option, its weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from bonemonai.data.atomic import atomic_path
from bonemonai.errors import InputError, OutputError
from bonemonai.report.data_notices import SYNTHETIC, as_mapping
from bonemonai.sharing.bundle_checks import check_metadata, stated_needs
from bonemonai.sharing.bundle_files import LICENCE, METADATA, README, bundle_files, file_sha256, read_configs, read_text
from bonemonai.sharing.config_options import overlays, workflows
from bonemonai.sharing.model_card import card_entries, channels_of
from bonemonai.sharing.readme_html import ReadmePage, render_readme
from bonemonai.sharing.safe_names import colliding_names

INDEX = "index.html"
_BUNDLES = Path("bundles")
_MARK = '<meta name="generator" content="bonemonai bundle docs">'
_ABOUT = ("task", "description", "intended_use", "data_source", "data_type", "image_classes", "label_classes",
          "pred_classes", "authors", "copyright")  # fmt: skip


@dataclass(frozen=True)
class _Bundle:
    name: str
    files: dict[str, Path]
    configs: dict[str, Any]
    metadata: dict[str, Any]

    @property
    def page(self) -> str:
        return f"{self.name}.html"


def write_bundle_pages(bundles: Sequence[Path], site: Path) -> list[Path]:
    """Write a page for each bundle, and an index; the same bundles give the same bytes.

    Pages need no other file but each other. Nothing of a bundle is run, and text in it that is HTML is shown, not used.

    Args:
        bundles: folders; where none is named, those in the folder ``bundles`` of the working directory.
        site: folder to write to; pages of an earlier call are replaced.

    Returns:
        The files, the index first.

    Raises:
        InputError: if there is no bundle, one is not complete, or two would have one page.
        OutputError: if another file stands where a page goes, or it cannot be written.
    """
    found = [_open(folder) for folder in bundles or _default_bundles()]
    pair = colliding_names([INDEX, *(bundle.page for bundle in found)])
    if pair is not None:
        raise InputError(pair[1], f"and {pair[0]} would be one page; rename a bundle's folder.")
    addresses = {bundle.name: quote(bundle.page) for bundle in found}
    pages = {site / bundle.page: _bundle_page(bundle, addresses) for bundle in found}
    rows = [{**_heading(bundle), "address": addresses[bundle.name]} for bundle in found]
    written = {site / INDEX: _render("bundle_index.html.j2", bundles=rows), **pages}
    for path in written:
        if path.exists() and not (path.is_file() and _MARK in path.read_text(encoding="utf-8", errors="replace")):
            raise OutputError(path, "exists already, and is no page of bonemonai bundle docs; choose another folder.")
    for path, page in written.items():
        with atomic_path(path) as partial:
            partial.write_text(page, encoding="utf-8", newline="\n")
    return list(written)


def _default_bundles() -> list[Path]:
    # data of somebody who tries one out may lie beside them
    folders = sorted(path.parent.parent for path in _BUNDLES.glob(f"*/{METADATA}"))
    if not folders:
        raise InputError(_BUNDLES, "no bundles are here; name their folders.")
    return folders


def _open(folder: Path) -> _Bundle:
    files = bundle_files(folder)
    configs = read_configs(files)
    return _Bundle(folder.resolve().name, files, configs, check_metadata(configs))


def _heading(bundle: _Bundle) -> dict[str, Any]:
    weights = _weights(bundle)
    return {
        "name": bundle.name,
        "title": bundle.metadata.get("name", bundle.name),
        "task": bundle.metadata["task"],
        "weights": weights,
        "synthetic": any(each["kind"] == SYNTHETIC for each in weights),
    }


def _bundle_page(bundle: _Bundle, addresses: Mapping[str, str]) -> str:
    metadata, readme = bundle.metadata, read_text(bundle.files, README).decode("utf-8", errors="replace")
    page: ReadmePage = render_readme(readme, bundle.files, addresses)
    heading = _heading(bundle)
    data = metadata["network_data_format"]
    about = [(name.replace("_", " "), metadata[name]) for name in _ABOUT if metadata.get(name)]
    about += [
        (f"{side[:-1]} {name!r}", channels_of(tensor))
        for side in ("inputs", "outputs")
        for name, tensor in as_mapping(data.get(side)).items()
    ]
    about += [("version", f"{metadata['version']}: {metadata['changelog'][metadata['version']]}")]
    about += [("made with", ", ".join(f"{name} {number}" for name, number in stated_needs(metadata).items()))]
    references = metadata["references"]
    return _render(
        "bundle_page.html.j2",
        **heading,
        notices=[_said_of(each) for each in heading["weights"]] or ["No weights are shipped."],
        about=about,
        readme=page.body,
        sections=page.sections,
        workflows=workflows(bundle.configs, readme),
        overlays=overlays(bundle.configs),
        licence=read_text(bundle.files, LICENCE).decode("utf-8", errors="replace").strip().split("\n\n"),
        references=references if isinstance(references, list) else [references],
    )


def _weights(bundle: _Bundle) -> list[dict[str, Any]]:
    found = []
    for file in (name for name in bundle.files if name.endswith((".pt", ".pth"))):
        card_name = f"{file.rpartition('.')[0]}.json"
        card = as_mapping(bundle.configs.get(card_name))
        digest = file_sha256(bundle.files[file])
        if card and card.get("sha256") != digest:
            raise InputError(card_name, f"is the card of other weights than {file}; put the right one beside them.")
        kind = str(as_mapping(card.get("trained_on")).get("kind") or "unknown")
        size = bundle.files[file].stat().st_size / 1e6
        entries = {"size": f"{size:.1f} MB", "sha256": digest, **card_entries(card)}
        found.append({"file": file, "kind": kind, "card": list(entries.items())})
    return found


def _said_of(weights: Mapping[str, Any]) -> str:
    return f"{weights['file']}: trained on data of this kind: {weights['kind']}."


def _render(template: str, **content: Any) -> str:
    # the style and the notice are those of the reports
    loader = ChoiceLoader([PackageLoader("bonemonai", folder) for folder in ("sharing", "report")])
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    return environment.get_template(template).render(mark=_MARK, **content)

"""The model card that goes with a bundle: what it was trained on before what it can do."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

_NOTE = "**Research software, not a medical device: not for diagnosis, not for clinical use.**"
_SHOWN = 8  # entries of a list


def model_card(name: str, metadata: Mapping[str, Any], cards: Mapping[str, Any], readme: str, licence: str) -> str:
    """Write a model card in Markdown.

    Args:
        name: of the bundle.
        metadata: checked.
        cards: file of weights to the card beside it, None where there is none.
        readme: of the bundle; its section Performance is taken over.
        licence: of the data.
    """
    lines = [f"# {metadata.get('name', name)}: model card", "", _NOTE, "", metadata["intended_use"], ""]
    lines += ["## Trained on", ""]
    for file, card in cards.items():
        lines += [f"`{file}`", "", *_trained_on(card), ""]
    if not cards:
        lines += ["No weights are shipped.", ""]
    lines += ["Data and weights:", "", *(f"> {line}".rstrip() for line in licence.strip().splitlines()), ""]
    lines += ["## What it does", "", metadata["description"], "", f"Task: {metadata['task']}", ""]
    for side in ("inputs", "outputs"):
        lines += [f"{side.capitalize()}:", "", *_channels(metadata["network_data_format"].get(side, {})), ""]
    lines += ["## Performance", "", section(readme, "Performance") or "Not stated.", ""]
    lines += ["## Version", "", f"{name} {metadata['version']}; with {_needs(metadata)}.", ""]
    lines += [f"{metadata['authors']}. {metadata['copyright']}.", ""]
    references = metadata["references"] if isinstance(metadata["references"], list) else [metadata["references"]]
    lines += ["## References", "", *(f"- {reference}" for reference in references), ""]
    return "\n".join(lines)


def section(text: str, title: str) -> str:
    r"""Text of a section of a Markdown document, without its heading; empty where there is none.

    Args:
        text: of the document.
        title: of the section, a heading of the second level.

    Example:
        >>> section("## A\n\none\n\n## B\n\ntwo", "A")
        'one'
    """
    found = re.search(rf"^## {re.escape(title)}[^\n]*\n(.*?)(?=^## |\Z)", text, re.M | re.S)
    return found[1].strip() if found else ""


def card_entries(card: Any) -> dict[str, str]:
    """What a card says about weights: the data first, then how they were chosen, then the options.

    Args:
        card: beside the weights; empty is returned for one that does not say what they were trained on.
    """
    if not isinstance(card, Mapping) or not card.get("trained_on"):
        return {}
    parts = {**card["trained_on"], **{key: value for key, value in card.items() if key not in ("trained_on", "note")}}
    return {key.replace("_", " "): _shown(value) for key, value in parts.items()}


def _trained_on(card: Any) -> Iterator[str]:
    entries = card_entries(card)
    yield from (f"- {key}: {value}" for key, value in entries.items())
    if not entries:
        yield "- No card says what they were trained on."


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{key} {_shown(inner)}" for key, inner in value.items()) or "none"
    if isinstance(value, list):
        shown = ", ".join(_shown(inner) for inner in value[:_SHOWN])
        return f"{len(value)}: {shown}, ..." if len(value) > _SHOWN else shown or "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _channels(sides: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"- {name}: {channels_of(side)}" for name, side in sides.items())


def channels_of(side: Mapping[str, Any]) -> str:
    """What a tensor that a network takes or gives is, and what its channels mean.

    Args:
        side: an entry of the metadata's ``inputs`` or ``outputs``.
    """
    about = [str(side[key]) for key in ("type", "format", "modality", "dtype") if key in side]
    channels = "; ".join(f"{number}: {text}" for number, text in side.get("channel_def", {}).items())
    return f"{', '.join(about)}; {channels}"


def _needs(metadata: Mapping[str, Any]) -> str:
    return ", ".join(f"{package} {number}" for package, number in metadata["required_packages_version"].items())

"""What a reader must know of the data before any figure: real or synthetic, known or not, on which side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

UNKNOWN = "unknown"
SYNTHETIC = "synthetic"


def trainings(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What each of a result's weights was trained on, see :func:`bonemonai.data.describe_training_data`.

    Args:
        record: how a result came about: its ``weights``, or those of its folds.
    """
    cards = record.get("weights_of_folds") or [record.get("weights")]
    return [as_mapping(as_mapping(card).get("trained_on")) for card in cards]


def kinds_trained_on(record: Mapping[str, Any]) -> set[str]:
    """Kinds of the data that a result's weights were trained on; "unknown" where that is not said."""
    return {str(training.get("kind") or UNKNOWN) for training in trainings(record)}


def kind_tested_on(record: Mapping[str, Any]) -> str:
    """Kind of the data that a result was tested on."""
    return str(record.get("tested_on") or UNKNOWN)


def heading_flags(records: Iterable[Mapping[str, Any]]) -> dict[str, bool]:
    """What the page's heading says of all results.

    Args:
        records: how each came about.

    Returns:
        ``synthetic``: something was trained or tested on synthetic data; ``known``: of something the kind of data is.
    """
    kinds = [{*kinds_trained_on(record), kind_tested_on(record)} for record in records]
    return {
        "synthetic": any(SYNTHETIC in each for each in kinds),
        "known": any(each != {UNKNOWN} for each in kinds),
    }


def data_sentence(record: Mapping[str, Any], *, nothing_about: str) -> str:
    """Say what a result was trained and tested on.

    Args:
        record: how it came about.
        nothing_about: what figures of a phantom say nothing about, such as "bone".

    Example:
        >>> data_sentence({"tested_on": "ex vivo"}, nothing_about="bone")
        'trained on data of this kind: unknown; tested on: ex vivo.'
    """
    trained, tested = kinds_trained_on(record), kind_tested_on(record)
    if trained != {tested}:
        return f"trained on data of this kind: {', '.join(sorted(trained))}; tested on: {tested}."
    if tested == SYNTHETIC:
        return _phantom_sentence(nothing_about)
    if tested == UNKNOWN:
        return "trained and tested on data of unknown kind, real or synthetic."
    return f"trained and tested on data of this kind: {tested}."


def collect_notices(said: Iterable[tuple[str, str]], *, nothing_about: str, between: str) -> list[str]:
    """One notice a sentence, after the names that it holds of; that of phantoms comes first.

    Args:
        said: name and sentence.
        nothing_about: see :func:`data_sentence`.
        between: names.
    """
    names: dict[str, list[str]] = {}
    for name, sentence in said:
        names.setdefault(sentence, []).append(name)
    worst_first = sorted(names, key=lambda sentence: sentence != _phantom_sentence(nothing_about))
    return [f"{between.join(names[sentence])}: {sentence}" for sentence in worst_first]


def as_mapping(value: Any) -> dict[str, Any]:
    """An entry of a record, or nothing, where it is not what it should be."""
    return value if isinstance(value, dict) else {}


def _phantom_sentence(nothing_about: str) -> str:
    return f"trained and tested on a synthetic phantom: these figures say nothing about {nothing_about}."

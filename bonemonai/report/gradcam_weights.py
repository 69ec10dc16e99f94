"""Whether Grad-CAM that a report shows beside a cross-validation was made by the weights of one of its folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bonemonai.data.json_file import read_json
from bonemonai.errors import InputError
from bonemonai.report.data_notices import as_mapping


class FoldWeights(NamedTuple):
    """The weights of a cross-validation.

    Attributes:
        title: of the cross-validation, as a reader meets it.
        digests: name of a fold to the sha256 of its weights; "" where that is not known. Weights need not be kept.
        best: name of the fold that is shown.
    """

    title: str
    digests: dict[str, str]
    best: str


def fold_weights(title: str, record: Mapping[str, Any], best: str) -> FoldWeights:
    """Read which weights the folds of a cross-validation were tested with.

    Args:
        title: of the cross-validation.
        record: its ``results.json``.
        best: name of its best fold.
    """
    folds, cards = record.get("folds") or [best], record.get("weights_of_folds") or []
    known = [str(as_mapping(card).get("sha256") or "") for card in cards]
    if len(known) != len(folds):
        known = [""] * len(folds)
    return FoldWeights(title, dict(zip(folds, known, strict=True)), best)


def weights_notice(folder: Path, shown: Sequence[FoldWeights], *, claimed: bool) -> str:
    """Say what a reader must know of the weights that made Grad-CAM.

    Args:
        folder: of ``gradcam.json``.
        shown: the cross-validations that it may be of.
        claimed: it is shown as that of ``shown``, which is one; otherwise it stands under a name of its own.

    Returns:
        "" if the weights are those of a best fold.

    Raises:
        InputError: if they are of no fold, but are claimed to be.
    """
    digest = as_mapping((read_json(folder / "gradcam.json") or {}).get("weights")).get("sha256")
    if not digest:
        return "cannot be tied to a fold: its gradcam.json does not say which weights made the maps."
    found = [(each, name) for each in shown for name, known in each.digests.items() if known == digest]
    if any(name == each.best for each, name in found):
        return ""
    for each, name in found:
        return f"made by the weights of {name} of {each.title}, not by those of its best fold, {each.best}."
    if unknown := [name for each in shown for name, known in each.digests.items() if not known]:
        return f"cannot be tied to a fold: which weights {', '.join(unknown)} had is not known."
    if claimed:
        raise InputError(
            folder,
            f"holds Grad-CAM by weights (sha256 {digest[:12]}...) that are of no fold of {shown[0].title}; visualise "
            f"{shown[0].best}'s model.pt, or give the folder under a name that is no key of results.",
        )
    return "made by weights that are of no fold of the cross-validations shown."

"""Whether a network that sharpens scans helps to measure bone: by bone first, by the image after it (paper 5)."""

from __future__ import annotations

import math
from typing import NamedTuple

import pandas as pd

from bonemonai.errors import InputError

JUDGED = ("BA/TA", "Tb.Th", "Tb.Sp")
OTHERS = {"lr": "the coarse scan", "bicubic": "cubic interpolation"}

_NETWORK = "dl"
_FEWEST = 3  # specimens that have limits of agreement


class Verdict(NamedTuple):
    """What is to be thought of a network.

    Attributes:
        words: the verdict in one line.
        better: quantities in which the network is nearer to the fine scans than every other method.
        worse: quantities in which another method is nearer, with that method's name.
        loses: whether it loses more of the fine scans' bone than another method does.
        wins_image: whether its PSNR is higher than every other method's; None where that was not scored.
        sentences: the reasons, bone first.
    """

    words: str
    better: tuple[str, ...]
    worse: dict[str, str]
    loses: bool
    wins_image: bool | None
    sentences: tuple[str, ...]

    @property
    def misleads(self) -> bool:
        """The image is better and bone is not: what PSNR alone would hide."""
        return bool(self.wins_image) and (bool(self.worse) or self.loses)


def error_reach(agreement: pd.DataFrame) -> dict[str, dict[str, float]]:
    """How far off the fine scan a single specimen may be: the limit of agreement that is farther from 0.

    Args:
        agreement: see :func:`bonemonai.analysis.morphometry_agreement`.

    Returns:
        Quantity to method to number, in the quantity's unit; of fewer than three specimens the bias. NaN of a method
        that has no value in a specimen: limits of the specimens that it is good in are not its limits.
    """
    limits = agreement.reindex(columns=["lower_limit", "upper_limit"]).abs().max(axis=1)
    reach = limits.fillna(agreement["bias"].abs()).where(agreement["missing"] == 0)
    found: dict[str, dict[str, float]] = {}
    for quantity, method, value in zip(agreement["quantity"], agreement["method"], reach, strict=True):
        found.setdefault(str(quantity), {})[str(method)] = float(value)
    return found


def judge_network(agreement: pd.DataFrame, overlap: pd.DataFrame, specimens: pd.DataFrame | None = None) -> Verdict:
    """Judge a network by the bone in what it makes, then by the image.

    It is better in a quantity if its limits of agreement reach less far from 0 than those of the coarse scan and of
    cubic interpolation, see :func:`error_reach`; limits of few specimens are uncertain themselves, as their intervals
    say. A method that leaves nothing to measure in a specimen is worse than any that does not.

    Args:
        agreement: see :func:`bonemonai.analysis.morphometry_agreement`.
        overlap: ``specimen``, ``method``, ``dice``, ``lost``, ``invented``.
        specimens: see :func:`bonemonai.analysis.specimen_quality`; None judges bone only.

    Raises:
        InputError: if the network or a quantity is missing.

    Source:
        Ours: the paper compares BA/TA only, and prints no figures.
    """
    reach = error_reach(agreement)
    others = [method for method in OTHERS if all(method in reach.get(quantity, {}) for quantity in JUDGED)]
    if not others or not all(_NETWORK in reach[quantity] for quantity in JUDGED):
        raise InputError("agreement", f"must have {', '.join(JUDGED)} of {_NETWORK!r} and of another method.")
    better, worse = [], {}
    for quantity in JUDGED:
        far = {method: _or_far(value) for method, value in reach[quantity].items()}
        best = min(others, key=far.__getitem__)
        if far[_NETWORK] < far[best]:
            better.append(quantity)
        else:
            worse[quantity] = OTHERS[best]
    of_network = agreement[agreement["method"] == _NETWORK]
    missing, pairs = int(of_network["missing"].max()), int(of_network["pairs"].max())
    if not {_NETWORK, *others} <= set(overlap["method"]):
        raise InputError("overlap", f"must have {', '.join([_NETWORK, *others])}.")
    shares = {name: _means(overlap, name) for name in ("lost", "invented")}
    loses = shares["lost"][_NETWORK] > min(shares["lost"][method] for method in others)
    psnr = None if specimens is None else _means(specimens, "psnr_db")
    wins = None if psnr is None else all(psnr[_NETWORK] > psnr[m] for m in others if m in psnr)
    sentences = [_bone(better, worse), _trabeculae(shares, others, missing)]
    if pairs < _FEWEST:
        sentences.append("By the bias alone: of fewer than three specimens there are no limits of agreement.")
    if psnr is not None:
        sentences.append(_image(psnr, others))
    return Verdict(_words(better, worse, loses, wins), tuple(better), worse, loses, wins, tuple(sentences))


def _or_far(value: float) -> float:
    return math.inf if math.isnan(value) else value


def _words(better: list[str], worse: dict[str, str], loses: bool, wins: bool | None) -> str:
    image = {True: "A better image", False: "No better image", None: "Image not scored"}[wins]
    if not worse:
        bone = "better bone" + (", though more of it is lost" if loses else "")
        return f"{image}{', but ' if wins is False else ' and '}{bone}."
    bone = f"bone better in {_listed(better)} only" if better else "no better bone"
    return f"{image}{' and ' if wins is False and not better else ', but '}{bone}: {_nearer(worse)}."


def _bone(better: list[str], worse: dict[str, str]) -> str:
    parts = []
    if better:
        parts.append(f"Nearer to the fine scans than the coarse scan and cubic interpolation in {_listed(better)}")
    if worse:
        parts.append(_nearer(worse))
    return "; ".join(parts) + "."


def _nearer(worse: dict[str, str]) -> str:
    """Quantities by the method that is to be preferred."""
    by_method: dict[str, list[str]] = {}
    for quantity, method in worse.items():
        by_method.setdefault(method, []).append(quantity)
    return "; ".join(f"{_listed(quantities)} as near or nearer by {method}" for method, quantities in by_method.items())


def _trabeculae(shares: dict[str, dict[str, float]], others: list[str], missing: int) -> str:
    parts = []
    for name, words in (("lost", "of the fine scans' bone is lost"), ("invented", "of its own is invented")):
        per_cent = {method: f"{100 * share:.1f} %" for method, share in shares[name].items()}
        beside = ", ".join(f"{OTHERS[method]} {per_cent[method]}" for method in others)
        parts.append(f"{per_cent[_NETWORK]} {words} ({beside})")
    gone = (
        f" In {missing} specimen{'s' if missing > 1 else ''} it leaves no bone, or no space, to measure."
        if missing
        else ""
    )
    return "; ".join(parts) + "." + gone


def _image(psnr: dict[str, float], others: list[str]) -> str:
    beside = ", ".join(f"{OTHERS[method]} {psnr[method]:.2f} dB" for method in others if method in psnr)
    return f"Mean PSNR {psnr[_NETWORK]:.2f} dB ({beside})."


def _means(table: pd.DataFrame, column: str) -> dict[str, float]:
    return {str(method): float(value) for method, value in table.groupby("method")[column].mean().items()}


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1] if names else "nothing"

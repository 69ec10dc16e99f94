"""Each class against the others, the usual way and as paper 4's tables have it.

Usually the named class is the positive one. Tables 1 to 3 of the paper take the other two for positive: what they call
the specificity of "normal" is the share of normal subjects that are called normal, its usual recall, and their
sensitivity is its usual specificity. Accuracy is the same in both; F1 is another number.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from bonemonai.analysis.subject_bootstrap import share
from bonemonai.errors import InputError

CONVENTIONS = ("usual", "paper")

_COLUMNS = ["class", "convention", "accuracy", "sensitivity", "specificity", "f1"]


def one_vs_rest_table(counts: pd.DataFrame) -> pd.DataFrame:
    """Score a confusion matrix class by class, in both conventions.

    Args:
        counts: a row a true class, a column a predicted class in the same order; columns beyond those (as "undecided")
            count as wrong for the class itself, and as not called for the others.

    Returns:
        Two rows a class, "usual" and "paper": ``class``, ``convention``, ``accuracy``, ``sensitivity``,
        ``specificity`` and ``f1``, shares; NaN where nothing is divided by nothing.

    Raises:
        InputError: if the columns do not begin with the rows' classes, or a count is no whole number of 0 or more.

    Source:
        Zhang et al., 4.3.1 and Tables 1 to 3.

    Example:
        >>> classes = ["normal", "osteopenia", "osteoporosis"]
        >>> counts = pd.DataFrame([[245, 6, 0], [5, 97, 14], [1, 3, 47]], index=classes, columns=classes)
        >>> one_vs_rest_table(counts).round(3).to_numpy().tolist()[1]
        ['normal', 'paper', 0.971, 0.964, 0.976, 0.964]
    """
    classes = [str(name) for name in counts.index]
    if len(classes) < 2 or [str(name) for name in counts.columns][: len(classes)] != classes:
        found = f"rows of {', '.join(classes) or 'none'} and columns of {', '.join(map(str, counts.columns)) or 'none'}"
        raise InputError("confusion counts", f"have {found}; columns begin with the rows' classes, in one order.")
    values = counts.apply(pd.to_numeric, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    if not (np.isfinite(values) & (values >= 0) & (values == np.rint(values))).all():
        raise InputError("confusion counts", "hold what is no count; counts are whole numbers of 0 or more.")
    whole = values.astype(np.int64)
    called = whole.sum(axis=0)[: len(classes)]
    return one_vs_rest_scores(classes, whole.sum(axis=1).tolist(), np.diagonal(whole).tolist(), called.tolist())


def one_vs_rest_scores(
    classes: Sequence[str], true: Sequence[int], right: Sequence[int], called: Sequence[int]
) -> pd.DataFrame:
    """Score what is known of a confusion matrix from its margins: they are all that these scores need.

    Args:
        classes: names.
        true: subjects of each class.
        right: those of them that are called so.
        called: subjects that are called so, rightly or not.

    Returns:
        See :func:`one_vs_rest_table`.

    Raises:
        InputError: if more are right than there are, or are called so.
        ValueError: if the lengths differ.

    Source:
        Zhang et al., 4.3.1.
    """
    if not len(classes) == len(true) == len(right) == len(called):
        raise ValueError(f"there must be one count a class, got {len(true)}, {len(right)} and {len(called)}.")
    own, hits, said = (np.asarray(values, dtype=np.int64) for values in (true, right, called))
    total = own.sum()
    if (hits > own).any() or (hits > said).any() or (hits < 0).any() or (said - hits > total - own).any():
        raise InputError("counts", f"do not fit: {list(true)} true, {list(right)} right, {list(called)} called.")
    others, others_right = total - own, total - own - said + hits
    accuracy = share(hits + others_right, np.full_like(own, total))
    recall, rejection = share(hits, own), share(others_right, others)
    # called other than the class: what the paper takes for positive
    f1 = {"usual": share(2 * hits, own + said), "paper": share(2 * others_right, others + total - said)}
    sides = {"usual": (recall, rejection), "paper": (rejection, recall)}
    rows = [
        (name, way, accuracy[index], sides[way][0][index], sides[way][1][index], f1[way][index])
        for index, name in enumerate(classes)
        for way in CONVENTIONS
    ]
    return pd.DataFrame(rows, columns=_COLUMNS)

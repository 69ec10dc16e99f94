"""The figures that paper 4 prints, the counts behind them, and where the two differ."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd

from bonemonai.analysis.one_vs_rest_tables import CONVENTIONS, one_vs_rest_scores
from bonemonai.analysis.screening_scores import SCREENING_CLASSES

# subjects of the test set by condition; the paper's osteopenia is low bone mass here
PAPER_TRUE = (251, 116, 51)

# Tables 1 to 3 of Zhang et al., a line a condition: accuracy, sensitivity, specificity, F1 as printed, where the other
# two conditions are the positive ones; then subjects of the condition that are right, and others not called so.
# data_manifests/paper_zhang_tables.csv holds the same
PAPER_ROWS: Mapping[str, Mapping[str, tuple[tuple[float, ...], ...]]] = {
    "1": {
        "0.1": (
            (0.876, 0.910, 0.813, 0.862, 204, 162),
            (0.816, 0.818, 0.810, 0.865, 94, 247),
            (0.935, 0.951, 0.823, 0.963, 42, 349),
        ),
        "0.01": (
            (0.936, 0.955, 0.923, 0.925, math.nan, math.nan),
            (0.898, 0.905, 0.880, 0.927, math.nan, math.nan),
            (0.962, 0.983, 0.829, 0.978, math.nan, math.nan),
        ),
        "0.001": (
            (0.971, 0.964, 0.976, 0.964, 245, 161),
            (0.933, 0.970, 0.836, 0.954, 97, 293),
            (0.957, 0.962, 0.922, 0.975, 47, 353),
        ),
        "0.0001": (
            (0.880, 0.964, 0.825, 0.866, 207, 161),
            (0.811, 0.848, 0.716, 0.866, 83, 256),
            (0.921, 0.921, 0.922, 0.953, 47, 338),
        ),
        "0.00001": (
            (0.900, 0.941, 0.873, 0.882, 219, 157),
            (0.864, 0.868, 0.853, 0.902, 99, 262),
            (0.964, 0.981, 0.843, 0.980, 43, 360),
        ),
    },
    "2": {
        "alexnet": (
            (0.868, 0.785, 0.785, 0.878, 197, 166),
            (0.799, 0.793, 0.793, 0.687, 92, 242),
            (0.931, 0.882, 0.882, 0.756, 45, 344),
        ),
        "vgg19": (
            (0.856, 0.994, 0.765, 0.847, 192, 166),
            (0.756, 0.795, 0.655, 0.825, 76, 240),
            (0.900, 0.894, 0.941, 0.939, 48, 328),
        ),
        "googlenet": (
            (0.899, 0.976, 0.849, 0.886, 213, 163),
            (0.811, 0.871, 0.655, 0.869, 76, 263),
            (0.911, 0.902, 0.980, 0.947, 50, 331),
        ),
        "resnet50": (
            (0.911, 0.874, 0.936, 0.888, 235, 146),
            (0.868, 0.894, 0.802, 0.907, 93, 270),
            (0.956, 0.995, 0.986, 0.976, 35, 365),
        ),
        "resnet101": (
            (0.938, 0.958, 0.924, 0.925, 232, 160),
            (0.871, 0.917, 0.750, 0.911, 87, 277),
            (0.933, 0.940, 0.882, 0.961, 45, 345),
        ),
        "densenet121": (
            (0.897, 0.982, 0.840, 0.884, 211, 164),
            (0.849, 0.841, 0.871, 0.889, 101, 254),
            (0.952, 0.967, 0.843, 0.972, 43, 355),
        ),
        "shufflenet": (
            (0.926, 0.970, 0.896, 0.913, 225, 162),
            (0.856, 0.911, 0.716, 0.902, 83, 275),
            (0.931, 0.924, 0.980, 0.959, 50, 339),
        ),
        "efficientnet": (
            (0.926, 0.976, 0.892, 0.913, 224, 163),
            (0.871, 0.904, 0.784, 0.910, 91, 273),
            (0.945, 0.943, 0.961, 0.968, 49, 346),
        ),
        "joint": (
            (0.971, 0.964, 0.976, 0.964, 245, 161),
            (0.933, 0.970, 0.836, 0.954, 97, 293),
            (0.957, 0.962, 0.922, 0.975, 47, 353),
        ),
    },
    "3": {
        "none": (
            (0.873, 0.743, 0.960, 0.824, 241, 124),
            (0.825, 0.921, 0.578, 0.884, 67, 278),
            (0.943, 0.978, 0.686, 0.967, 35, 359),
        ),
        "LF": (
            (0.907, 0.784, 0.988, 0.870, 248, 131),
            (0.859, 0.957, 0.603, 0.907, 70, 289),
            (0.947, 0.970, 0.784, 0.970, 40, 356),
        ),
        "GC": (
            (0.889, 0.802, 0.948, 0.853, 238, 134),
            (0.849, 0.921, 0.664, 0.898, 77, 278),
            (0.959, 0.983, 0.784, 0.977, 40, 361),
        ),
        "FF": (
            (0.907, 0.892, 0.916, 0.884, 230, 149),
            (0.854, 0.900, 0.733, 0.899, 85, 272),
            (0.947, 0.965, 0.824, 0.969, 42, 354),
        ),
        "LF+GC": (
            (0.904, 0.850, 0.940, 0.877, 236, 142),
            (0.861, 0.924, 0.698, 0.906, 81, 279),
            (0.956, 0.972, 0.843, 0.975, 43, 357),
        ),
        "a pair (1)": (
            (0.935, 0.982, 0.904, 0.924, 227, 164),
            (0.904, 0.901, 0.914, 0.934, 106, 272),
            (0.964, 0.978, 0.963, 0.979, 44, 359),
        ),
        "a pair (2)": (
            (0.966, 0.946, 0.980, 0.958, 246, 158),
            (0.928, 0.980, 0.793, 0.952, 92, 296),
            (0.956, 0.956, 0.961, 0.972, 49, 351),
        ),
    },
}

# what is printed otherwise than the counts have it, by table, row and condition
PAPER_NOTES = {
    ("1", "0.1", "normal"): "sensitivity misprinted: the counts give 0.970",
    **{("1", "0.01", name): "the row's counts belong to no one test set" for name in SCREENING_CLASSES},
    **{
        ("2", "alexnet", name): "sensitivity and F1 are the named class's own (the usual convention)"
        for name in SCREENING_CLASSES
    },
    ("2", "resnet50", "osteoporosis"): "specificity misprinted: the counts give 0.686",
    ("3", "a pair (1)", "low bone mass"): "f1 misprinted: the counts give 0.932",
    ("3", "a pair (1)", "osteoporosis"): "specificity misprinted: the counts give 0.863",
    ("3", "a pair (2)", "osteoporosis"): "f1 misprinted: the counts give 0.975",
    ("2", "joint", "all"): "93.3 % in the abstract is low bone mass against the others; the counts give 389 of 418",
}

# of all conditions, from the abstract and 4.5.4
PAPER_ACCURACY = {
    ("2", "joint"): 0.933,
    ("3", "none"): 0.821,
    ("3", "LF"): 0.856,
    ("3", "GC"): 0.849,
    ("3", "FF"): 0.854,
    ("3", "LF+GC"): 0.861,
    ("3", "a pair (1)"): 0.902,
    ("3", "a pair (2)"): 0.926,
}

# Fig. 7 (i); rows true, columns decided. Its margins leave two matrices; "3 cases were misclassified" of 4.4 chooses
PAPER_CONFUSION = ((245, 6, 0), (5, 97, 14), (1, 3, 47))
PAPER_AUC = dict(zip(SCREENING_CLASSES, (0.973, 0.965, 0.985), strict=True))
# mean and standard deviation over test images, 4.5.3
PAPER_LOCALISATION = {"average_precision": (0.95, math.nan), "iou": (0.972, 0.125), "dice_index": (0.983, 0.036)}

# sentences for a page, beside the notes
PAPER_MISPRINTS = (
    "The text takes the named condition for the positive one; Tables 1 to 3 take the other two. "
    "The rows of AlexNet mix both.",
    "Overall accuracy of the joint framework: the text has 93.3 %, the counts of its row 389 of 418, which is 93.1 %.",
    "Gain in overall accuracy over the best baseline: the text has 3.8 %, the counts give 389 against 364 of 418, "
    "which is 6.0 %.",
    "Table 3's ticks are partly lost. The row FF follows from the rows beside it; which of the last two rows is LF+FF "
    "and which is GC+FF is not known. All three modules on is the joint framework of Table 2.",
    "The best learning rate is 0.001 in Table 1, and 10e-3 in the text; Figs. 9 and 10 are said to be of 0.01, "
    "and of 10e-3.",
    "Fig. 7: the text's counts of wrong calls do not all fit the row of Table 2; the matrix shown here is the one that "
    "has the row's margins and 3 subjects with osteoporosis that are called low bone mass.",
    "The formula of accuracy is printed with TP + FN above the line; it is TP + TN.",
    "The average precision of 95 % names no IoU at which a box is found.",
    "Results are said to be means of ten folds; each row is counts on one test set of 418 subjects.",
)

_SCORES = ("accuracy", "sensitivity", "specificity", "f1")


def paper_scores(table: str, row: str) -> pd.DataFrame:
    """A row of the paper's Tables 1 to 3: as printed, and as its counts have it.

    Args:
        table: "1", "2" or "3".
        row: see :data:`PAPER_ROWS`; another gives no figures.

    Returns:
        Rows of ``class`` and ``convention``, two a condition; ``paper_accuracy``, ``paper_sensitivity``,
        ``paper_specificity`` and ``paper_f1``, as printed, in the paper's convention alone; the same from the counts,
        ``counts_accuracy`` and so on, in both.

    Example:
        >>> found = paper_scores("2", "resnet50").set_index(["class", "convention"]).loc[("osteoporosis", "paper")]
        >>> found[["paper_specificity", "counts_specificity"]].round(3).tolist()
        [0.986, 0.686]
    """
    printed = PAPER_ROWS[table].get(row)
    counted = _counted(printed)
    rows = []
    for index, name in enumerate(SCREENING_CLASSES):
        for way in CONVENTIONS:
            shown = (math.nan,) * 4 if printed is None or way != "paper" else printed[index][:4]
            values = {f"paper_{score}": value for score, value in zip(_SCORES, shown, strict=True)}
            values |= {f"counts_{score}": counted.get((name, way), {}).get(score, math.nan) for score in _SCORES}
            rows.append({"class": name, "convention": way, **values})
    return pd.DataFrame(rows)


def paper_accuracy(table: str, row: str) -> float:
    """Share of right decisions of a row, by its counts.

    Args:
        table: "1", "2" or "3".
        row: see :data:`PAPER_ROWS`.

    Returns:
        In [0, 1]; NaN where the row has no counts, or is none.

    Example:
        >>> round(paper_accuracy("2", "joint"), 3)
        0.931
    """
    printed = PAPER_ROWS[table].get(row)
    return math.nan if printed is None else sum(cells[4] for cells in printed) / sum(PAPER_TRUE)


def _counted(printed: tuple[tuple[float, ...], ...] | None) -> dict[tuple[str, str], dict[str, float]]:
    if printed is None or math.isnan(printed[0][4]):
        return {}
    right, others = ([int(cells[place]) for cells in printed] for place in (4, 5))
    total = sum(PAPER_TRUE)
    called = [total - true - other + own for true, other, own in zip(PAPER_TRUE, others, right, strict=True)]
    table = one_vs_rest_scores(SCREENING_CLASSES, PAPER_TRUE, right, called)
    return {
        (str(row["class"]), str(row["convention"])): {score: float(row[score]) for score in _SCORES}
        for row in table.to_dict("records")
    }

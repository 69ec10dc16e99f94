"""Whether a classifier's probabilities mean what they say, and the one number that mends them."""

from __future__ import annotations

import logging
import math

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from bonemonai.analysis.classification_scores import logits_and_labels
from bonemonai.errors import InputError

logger = logging.getLogger(__name__)

LARGEST_TEMPERATURE = 100.0  # and its inverse the smallest
_LEAST_PATCHES = 10  # ours: a temperature of fewer is chance


def fit_temperature(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """Find the temperature T that makes softmax(logits / T) most likely.

    Classes keep their order, so decisions a patch stay as they are. Fit on validation patients, never on those that
    are tested: the calibration would look better than it is.

    Where no temperature is best, the bound is returned and a warning logged: 0.01 where every patch is right, since
    ever sharper probabilities are ever more likely; 100 where logits tell nothing of the truth. Such a T describes too
    few patients, not the network; keep T = 1 or validate on more.

    Args:
        logits: (n, C), any real numbers; a constant added to a row changes nothing.
        labels: (n,), index of the true class.

    Returns:
        T in [0.01, 100].

    Raises:
        InputError: if the arrays do not fit each other, there are fewer than 10 patches or one class only, or a logit
            is not finite.

    Source:
        Guo et al., On Calibration of Modern Neural Networks, ICML 2017, section 4.2; the bounds are ours.
    """
    _check(logits, labels, "logits")
    if len(labels) < _LEAST_PATCHES or len(np.unique(labels)) < 2:
        found = f"{len(labels)} patches of {len(np.unique(labels))} class(es)"
        raise InputError("logits", f"are of {found}; a temperature needs {_LEAST_PATCHES} of two: validate on more.")
    exact = np.asarray(logits, dtype=np.float64)

    def loss(log_temperature: float) -> float:
        return _nll(exact / math.exp(log_temperature), labels)

    bound = math.log(LARGEST_TEMPERATURE)
    found = minimize_scalar(loss, bounds=(-bound, bound), method="bounded", options={"xatol": 1e-6})
    best = min(bound, -bound, float(found.x), key=loss)  # the search comes near its bounds, never to them
    temperature = math.exp(best)
    if abs(best) == bound:
        logger.warning("temperature: no value is best; the bound, %.2f, is taken. Validate on more.", temperature)
    return temperature


def expected_calibration_error(
    probabilities: NDArray[np.floating], labels: NDArray[np.integer], *, bins: int = 15
) -> float:
    """Mean gap between confidence and accuracy, over bins of equal width.

    Confidence is the highest probability, and the class that has it (the first of equals) is the prediction; a bin
    holds its upper edge. The value depends on the bins, and with few patches it is biased upwards.

    Args:
        probabilities: (n, C), each row sums to 1.
        labels: (n,), index of the true class.
        bins: how many, at least 1.

    Returns:
        ECE in [0, 1], each bin weighted by its patches.

    Raises:
        InputError: if the arrays do not fit each other, there is no patch, or a row is no distribution.
        ValueError: if ``bins`` is less than 1.

    Source:
        Guo et al., On Calibration of Modern Neural Networks, ICML 2017, equation 3.
    """
    if bins < 1:
        raise ValueError(f"bins must be >= 1, got {bins}.")
    _check(probabilities, labels, "probabilities")
    exact = np.asarray(probabilities, dtype=np.float64)
    sums = exact.sum(axis=1)
    if exact.min() < 0 or not np.allclose(sums, 1, atol=1e-4):  # half precision is near enough
        worst = sums[np.argmax(np.abs(sums - 1))]
        raise InputError("probabilities", f"have a minimum of {exact.min():g} and a sum of {worst:g}; apply softmax.")
    confidence, right = exact.max(axis=1), exact.argmax(axis=1) == labels
    # monai.metrics.calibration_binning sums in float32: a million patches of 0.9001 have a mean of 0.892 there
    index = np.digitize(confidence, np.linspace(0, 1, bins + 1)[1:-1], right=True)
    gaps = np.bincount(index, weights=confidence - right, minlength=bins)
    return float(np.abs(gaps).sum() / len(labels))


def calibration_table(predictions: pd.DataFrame, temperature: float, *, bins: int = 15) -> pd.DataFrame:
    """Calibration of patches as predicted, and with logits divided by a temperature.

    Args:
        predictions: one row a patch, see :mod:`bonemonai.analysis.classification_scores`; not those that the
            temperature was fitted on.
        temperature: from :func:`fit_temperature`, above 0.
        bins: of the calibration error.

    Returns:
        Two rows, ``stage`` "before" and "after": ``temperature``, ``ece`` (in [0, 1]), ``nll`` (mean, nats), and the
        counts of ``patches`` and ``patients``.

    Raises:
        InputError: if predictions are not as :func:`bonemonai.analysis.classes_of` wants them.
        ValueError: if the temperature or ``bins`` is out of range.
    """
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature must be finite and above 0, got {temperature}.")
    logits, labels = logits_and_labels(predictions)
    rows = []
    for stage, divisor in (("before", 1.0), ("after", temperature)):
        error = expected_calibration_error(softmax(logits / divisor, axis=1), labels, bins=bins)
        rows.append({"stage": stage, "temperature": divisor, "ece": error, "nll": _nll(logits / divisor, labels)})
    return pd.DataFrame(rows).assign(patches=len(labels), patients=predictions["subject"].nunique())


def _nll(logits: NDArray[np.float64], labels: NDArray[np.integer]) -> float:
    """Mean negative log-likelihood, nats."""
    return -float(np.take_along_axis(log_softmax(logits, axis=1), labels[:, None], axis=1).mean())


def _check(values: NDArray[np.floating], labels: NDArray[np.integer], name: str) -> None:
    if values.ndim != 2 or labels.shape != values.shape[:1] or not values.size or values.shape[1] < 2:
        rule = "want (n, C) and (n,), n >= 1 and C >= 2"
        raise InputError(name, f"have shape {values.shape} and labels {labels.shape}; {rule}.")
    if not np.isfinite(values).all():
        row = int(np.argwhere(~np.isfinite(values))[0, 0])
        raise InputError(name, f"are not finite in row {row} ({values[row].tolist()}); check the weights.")
    if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0 or labels.max() >= values.shape[1]:
        found = f"labels of {labels.dtype} in [{labels.min()}, {labels.max()}]"
        raise InputError(name, f"come with {found}; labels are integers in [0, {values.shape[1] - 1}].")

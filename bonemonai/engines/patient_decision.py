"""From a map of patch probabilities to one decision a scan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from ignite.engine import Engine, Events

from bonemonai.data.atomic import atomic_path
from bonemonai.data.data_card import NOT_A_DEVICE
from bonemonai.data.json_file import write_json
from bonemonai.inferers.patch_output import read_patch_probabilities
from bonemonai.inferers.ranks import rank
from bonemonai.inferers.result_writer import ResultWriter


class PatientDecision:
    """Handler: majority vote over the patches of a scan, as ``decision.json`` beside its results.

    Over the scans of a manifest ``decisions.csv`` has a row each. The file gives what a vote hides: how many patches
    there were, how they were split, and their mean probability. A tie goes to the larger mean probability, and if that
    is one half, to nobody ("undecided"); without a patch there is no decision.

    Args:
        writer: the results' writer.
        classes: two names; the map holds the probability of the second.
        name: of the map.
        patch_size: pixels.
        weights: card of the classifier's weights: what it was trained on, how it was calibrated.

    Attach to a :class:`StreamingEvaluator`.
    """

    def __init__(
        self,
        writer: ResultWriter,
        classes: Sequence[str],
        *,
        name: str = "probability.ome.zarr",
        patch_size: int = 55,
        weights: Mapping[str, Any] | None = None,
    ) -> None:
        if len(classes) != 2:
            raise ValueError(f"classes must be two, got {list(classes)}.")
        self.writer, self.classes, self.name, self.patch_size = writer, list(classes), name, patch_size
        self.weights = dict(weights or {})
        self._rows: list[dict[str, Any]] = []

    def attach(self, engine: Engine) -> None:
        """Register with the evaluator."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._decide)
        engine.add_event_handler(Events.COMPLETED, self._write)

    def _start(self, engine: Any) -> None:
        self._rows = []

    def _decide(self, engine: Any) -> None:
        scan = engine.state.batch
        failed = isinstance(engine.state.output, dict) and engine.state.output.get("exit_code")
        if rank() > 0 or failed:
            return
        folder = self.writer.output_dir / scan.name
        decision = decide(folder / self.name, self.classes, self.patch_size)
        write_json(folder / "decision.json", {**decision, "note": NOT_A_DEVICE, "weights": self.weights})
        if scan.name:
            self._rows.append({"scan": scan.name, **decision})

    def _write(self, engine: Any) -> None:
        if self._rows:
            with atomic_path(self.writer.output_dir / "decisions.csv") as partial:
                pd.DataFrame(self._rows).to_csv(partial, index=False, float_format="%.6g")


def decide(path: str | Path, classes: Sequence[str], patch_size: int = 55) -> dict[str, Any]:
    """Majority vote over a map of patch probabilities.

    Args:
        path: of the map, see :class:`bonemonai.inferers.PatchProbabilityOutput`.
        classes: two names; the map holds the probability of the second.
        patch_size: pixels.

    Returns:
        ``decision``; ``patches``; ``votes_<class>``, counts, a patch at one half voting for neither;
        ``mean_probability_<second class>``, None without a patch.
    """
    votes, patches, total = np.zeros(2, dtype=np.int64), 0, 0.0
    for _, plane in read_patch_probabilities(path, patch_size):
        found = plane[~np.isnan(plane)].astype(np.float64)
        votes += [np.count_nonzero(found < 0.5), np.count_nonzero(found > 0.5)]
        patches, total = patches + found.size, total + float(found.sum())
    mean = total / patches if patches else None
    lead = float(votes[1] - votes[0]) or (mean - 0.5 if mean is not None else 0.0)
    decision = "undecided" if lead == 0 else classes[int(lead > 0)]
    return {
        "decision": decision,
        "patches": patches,
        **{f"votes_{name}": int(count) for name, count in zip(classes, votes, strict=True)},
        f"mean_probability_{classes[1]}": mean,
    }

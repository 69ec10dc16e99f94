"""Examples of where paper 4's network looks, for its Figs. 11 and 12: cases that it gets right, and wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine, Events
from numpy.typing import NDArray
from scipy.special import softmax

from bonemonai.analysis.screening_scores import SCREENING_CLASSES
from bonemonai.data.atomic import atomic_path
from bonemonai.engines.scan_screening import ScreenedScan

EXAMPLES_FILE = "gradcam_examples.npz"


class GradCAMExamples:
    """Handler: keep crops and Grad-CAM maps of a few cases of each condition, right and wrong ones.

    Writes ``gradcam_examples.npz``: ``image`` and ``map`` (n, 2, H, W) float16, crops of L1 and L2 in [0, 1] and maps
    scaled so that the larger of both has a maximum of 1 (0 where a vertebra is missing), ``diagnosis``, ``decision``
    and ``subject`` (n,) text, ``right`` (n,) bool. Cases without a true condition are left out.

    Args:
        path: the file, replaced whole when the engine ends; removed where there is no case.
        most: of each condition, and of right and wrong ones each.

    Attach to :class:`bonemonai.engines.LumbarMultitask` with ``gradcam=True``.

    Source:
        Zhang et al., Figs. 11 and 12.
    """

    def __init__(self, path: str | Path, most: int = 3) -> None:
        self.path, self.most = Path(path), most
        self._cases: list[dict[str, Any]] = []

    def attach(self, engine: Engine) -> None:
        """Register with the evaluator."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)
        engine.add_event_handler(Events.COMPLETED, self._write)

    def _start(self, engine: Any) -> None:
        self._cases = []

    def _add(self, engine: Any) -> None:
        found: ScreenedScan | None = engine.state.output
        if found is None or not found.attention or not found.scan.label:
            return
        classified = found.table[found.table["refusal"] == ""]
        logits = classified[[f"logit_{name}" for name in SCREENING_CLASSES]].to_numpy(dtype=np.float64)
        decision = SCREENING_CLASSES[int(softmax(logits, axis=1).mean(axis=0).argmax())]
        right = decision == found.scan.label
        case = {"diagnosis": found.scan.label, "decision": decision, "subject": found.scan.subject, "right": right}
        alike = [each for each in self._cases if (each["diagnosis"], each["right"]) == (found.scan.label, right)]
        if len(alike) >= self.most:
            return
        planes = found.table["plane"].tolist()
        self._cases.append({**case, "image": _stacked(found.crops, planes), "map": _stacked(found.attention, planes)})

    def _write(self, engine: Any) -> None:
        if not self._cases:
            self.path.unlink(missing_ok=True)
            return
        peaks = [max(float(case["map"].max()), 1e-30) for case in self._cases]
        maps = [case["map"] / peak for case, peak in zip(self._cases, peaks, strict=True)]
        texts = ("diagnosis", "decision", "subject")
        words: dict[str, Any] = {name: np.array([str(case[name]) for case in self._cases]) for name in texts}
        with atomic_path(self.path) as partial, open(partial, "wb") as stream:
            np.savez_compressed(
                stream,
                image=np.stack([case["image"] for case in self._cases]).astype(np.float16),
                map=np.stack(maps).astype(np.float16),
                right=np.array([case["right"] for case in self._cases], dtype=bool),
                **words,
            )


def _stacked(images: dict[int, NDArray[np.float32]], planes: list[int]) -> NDArray[np.float32]:
    """Images of both vertebrae, 0 for one that is missing."""
    blank = np.zeros_like(next(iter(images.values())))
    return np.stack([images.get(plane, blank) for plane in planes])

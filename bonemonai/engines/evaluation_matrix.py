"""Evaluate several weights on several kinds of scans by a bundle's own configs, resumable."""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from monai.bundle import create_workflow

import bonemonai
from bonemonai.data.fingerprint import fingerprint, full_sha256
from bonemonai.data.json_file import read_json, write_json
from bonemonai.data.manifest import distinct, read_manifest
from bonemonai.engines.provenance import config_digests
from bonemonai.engines.weights import sha256
from bonemonai.errors import InputError, OutputError, ResumeError

logger = logging.getLogger(__name__)

_DONE = "done.json"


class EvaluationMatrix:
    """Run an evaluation config for each of several weights on each of several choices of scans.

    A cell's folder, such as ``femur_on_spine_3``, gets what the evaluation writes. A cell that is done is passed over
    when the same call is given again, one that was cut short is run anew. Several processes may be given the same call:
    each takes cells that no other works on.

    Args:
        evaluate: config files of the evaluation, overlays last.
        weights: name to file of weights.
        cells: options of the evaluation, such as ``{"site": "spine", "frames": 3}``; their values name the folder.
        output_dir: of the cells' folders.
        manifest_path: of the scans.
        options: of every evaluation besides.
        overwrite: begin anew where something has changed.

    Raises:
        InputError: if there are no weights or cells, a file is missing, or two cells have one name.

    Source:
        David et al., 3: a femur's network on spines and the reverse, and on scans of three frame averages.
    """

    def __init__(
        self,
        evaluate: Sequence[str],
        weights: Mapping[str, str | Path],
        cells: Sequence[Mapping[str, Any]],
        output_dir: str | Path,
        manifest_path: str | Path,
        options: Mapping[str, Any] | None = None,
        *,
        overwrite: bool = False,
    ) -> None:
        if not isinstance(weights, Mapping) or not weights:
            raise InputError("weights", "must be name to file, as in {'femur': 'femur.pt'}.")
        if not cells:
            raise InputError("cells", "name no scans to evaluate on.")
        for file in [*evaluate, *weights.values()]:
            if not Path(file).is_file():
                raise InputError(file, "no such file.")
        self.evaluate, self.weights = list(evaluate), {str(name): Path(path) for name, path in weights.items()}
        self.output_dir, self.manifest_path = Path(output_dir), Path(manifest_path)
        self.options, self.overwrite = dict(options or {}), overwrite
        set_by_cells = {name for cell in cells for name in cell}
        own = sorted({"checkpoint", "output_dir", "manifest_path", "overwrite", *set_by_cells} & set(self.options))
        if own:
            raise InputError("options", f"must leave {', '.join(own)} to the matrix.")
        self.cells: dict[str, tuple[str, dict[str, Any]]] = {}
        for name in self.weights:
            for cell in cells:
                words = [str(value) for value in cell.values() if value is not None] or ["all"]
                folder = re.sub(r"[^\w.-]+", "_", "_".join([name, "on", *words]))
                if folder in self.cells:
                    raise InputError("cells", f"name {folder} twice.")
                self.cells[folder] = (name, dict(cell))

    @property
    def folders(self) -> dict[str, Path]:
        """Name of each cell to its folder."""
        return {name: self.output_dir / name for name in self.cells}

    def run(self) -> bool:
        """Run the cells that are left and that no other process works on.

        Returns:
            Whether all cells are done.

        Raises:
            ResumeError: if cells were done with other configs, options, weights or data.
            OutputError: if the folder cannot be written to, or a cell's folder is not one that this made.
        """
        try:
            self.output_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(self.output_dir, f"cannot be written to: {error.strerror or error}.") from error
        for name in self.cells:
            try:
                with FileLock(self.output_dir / f".{name}.lock", timeout=0):
                    self._run(name)
            except Timeout:
                logger.info("%s: another process works on it.", name)
        left = [name for name, folder in self.folders.items() if not (folder / _DONE).is_file()]
        if left:
            logger.warning("%s not done yet: whoever ends last, or the next call, has all.", ", ".join(left))
        return not left

    def _run(self, name: str) -> None:
        folder, (weights, cell) = self.output_dir / name, self.cells[name]
        expected, known = self._fingerprint(weights, cell), read_json(folder / _DONE)
        if known == expected:
            logger.info("%s is done already.", name)
            return
        if known is not None and not self.overwrite:
            changed = ", ".join(key for key in expected if known.get(key) != expected[key])
            raise ResumeError(folder, f"was done with other {changed}; say --overwrite True, or choose another folder.")
        if folder.exists() and any(folder.iterdir()) and known is None and not (folder / "started.json").is_file():
            raise OutputError(folder, "holds files that no matrix made; choose another --output_dir.")
        shutil.rmtree(folder, ignore_errors=True)
        write_json(folder / "started.json", expected)
        logger.info("%s: weights %s on %s.", name, weights, cell)
        create_workflow(
            config_file=self.evaluate, logging_file=False, manifest_path=str(self.manifest_path),
            checkpoint=str(self.weights[weights]), output_dir=str(folder), **self.options, **cell,
        ).run()  # fmt: skip
        write_json(folder / _DONE, expected)

    def _fingerprint(self, weights: str, cell: Mapping[str, Any]) -> dict[str, Any]:
        manifest = read_manifest(self.manifest_path, allow_shared_patient=True)
        scans = hashlib.sha256()
        for column in [name for name in ("image", "lr", "tv") if name in manifest]:
            for path in filter(None, distinct(manifest[column].tolist())):
                # of a mask that is drawn anew neither the size changes nor what samples see
                digest = full_sha256(path) if column == "tv" else fingerprint(path)["sha256_sampled"]
                scans.update(digest.encode())
        # folders are where results go; a path may be written in several ways
        options = {name: value for name, value in {**self.options, **cell}.items() if not name.endswith("_dir")}
        return {
            "bonemonai": bonemonai.__version__,
            "configs": config_digests(self.evaluate),
            # a digest: an option may be a path, and a path may name somebody
            "options": hashlib.sha256(repr(sorted(options.items())).encode()).hexdigest()[:16],
            "weights": sha256(self.weights[weights]),
            "manifest": sha256(self.manifest_path),
            "scans": scans.hexdigest(),
        }

"""Cross-validation by a bundle's own configs: train and evaluate once a fold, resumable, by one process or several."""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from monai.bundle import ConfigParser, create_workflow

from bonemonai.data.fingerprint import Snapshot, fingerprint
from bonemonai.data.json_file import read_json, write_json
from bonemonai.data.manifest import distinct, read_manifest
from bonemonai.data.volume import split_part
from bonemonai.engines.provenance import config_digests
from bonemonai.engines.weights import sha256
from bonemonai.errors import InputError, OutputError, ResumeError

logger = logging.getLogger(__name__)

_STARTED = "started.json"
_RESULTS = ("predictions.csv", "scores.csv", "results.json")
_POOLED = (*_RESULTS, "folds.csv")  # of folds that are to be done again


class CrossValidation:
    """Run a training and an evaluation config for each fold.

    A fold's folder, ``fold_00`` and so on, gets what both write: weights, learning curve, predictions, scores. A fold
    that is done is passed over when the same call is given again, one that was cut short is trained anew; if configs,
    options or the manifest have changed meanwhile, the call is refused. Several processes, on several devices or
    machines with a common disk, may be given the same call: each takes folds that no other works on.

    Args:
        train: config files of the training, overlays last.
        evaluate: config files of the evaluation, overlays last.
        folds: numbers of the folds.
        output_dir: of the fold's folders.
        manifest_path: the manifest; it, and the scans and masks it names, are part of what must not change.
        options: overrides of the configs, for instance ``{"max_epochs": 20}``. Each goes to the training and to the
            evaluation, or to the one of both that knows it.
        label_is_path: of the manifest's column ``label``, see :func:`bonemonai.data.read_manifest`.
        keep_weights: keep each fold's weights; those of VGG16 take half a gigabyte.
        overwrite: begin anew where something has changed.

    Raises:
        InputError: if there is no fold, or an option is one that this class sets.
        OutputError: if the folder cannot be written to.
    """

    def __init__(
        self,
        train: Sequence[str],
        evaluate: Sequence[str],
        folds: Sequence[int],
        output_dir: str | Path,
        manifest_path: str | Path,
        options: Mapping[str, Any] | None = None,
        *,
        label_is_path: bool = True,
        keep_weights: bool = True,
        overwrite: bool = False,
    ) -> None:
        self.train, self.evaluate = list(train), list(evaluate)
        self.folds, self.output_dir = [int(fold) for fold in folds], Path(output_dir)
        self.manifest_path, self.options = Path(manifest_path), dict(options or {})
        self.label_is_path, self.keep_weights, self.overwrite = label_is_path, keep_weights, overwrite
        own = sorted({"fold", "checkpoint", "output_dir", "manifest_path", "overwrite"} & set(self.options))
        if own:
            raise InputError("options", f"must leave {', '.join(own)} to the cross-validation.")
        for file in [*self.train, *self.evaluate]:
            if not Path(file).is_file():
                raise InputError(Path(file).name, "no such config; is --model or --scale mistyped?")
        if not self.folds or min(self.folds) < 0:
            raise InputError("folds", f"must be numbers from 0, at least one, got {self.folds}.")

    def folder(self, fold: int) -> Path:
        """Where a fold's files go."""
        return self.output_dir / f"fold_{fold:02d}"

    @property
    def is_complete(self) -> bool:
        """Whether all folds are done."""
        return all(self._is_done(fold) for fold in self.folds)

    @property
    def done_folders(self) -> list[Path]:
        """Folders of all folds that are done, those of earlier calls among them."""
        numbers = (int(path.name.removeprefix("fold_")) for path in self.output_dir.glob("fold_[0-9][0-9]"))
        return [self.folder(number) for number in sorted(numbers) if self._is_done(number)]

    def run(self, pool: Callable[[Path, list[Path]], Any] | None = None) -> bool:
        """Run the folds that are left and that no other process works on.

        Args:
            pool: called as ``pool(output_dir, folders of folds)`` once all folds are done, by one process at a time.

        Returns:
            Whether all folds are done.

        Raises:
            ResumeError: if folds were done with other configs, options or data.
            OutputError: if the folder cannot be written to, or a fold's folder is not one that this made.
        """
        try:
            self.output_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(self.output_dir, f"cannot be written to: {error.strerror or error}.") from error
        self._check_folder()
        for fold in self.folds:
            try:
                with FileLock(self.output_dir / f".fold_{fold:02d}.lock", timeout=0):
                    self._run(fold)
            except Timeout:
                logger.info("fold %d: another process works on it.", fold)
        left = [fold for fold in self.folds if not self._is_done(fold)]
        if left:
            logger.warning("folds %s are not done yet: whoever ends last pools all, or the next call.", left)
            return False
        if pool is not None:
            with FileLock(self.output_dir / ".pool.lock"):
                pool(self.output_dir, self.done_folders)
        return True

    def _check_folder(self) -> None:
        """One folder holds folds of one kind."""
        record, expected = self.output_dir / "cross_validation.json", self._fingerprint()
        known = read_json(record)
        if known is not None and known != expected and not self.overwrite:
            names = ", ".join(name for name in expected if known.get(name) != expected[name])
            raise ResumeError(
                self.output_dir, f"was done with other {names}; say --overwrite True, or choose another --output_dir."
            )
        if known != expected:
            for pooled in _POOLED if known is not None else ():
                (self.output_dir / pooled).unlink(missing_ok=True)
            write_json(record, expected)

    def _run(self, fold: int) -> None:
        if self._is_done(fold):
            logger.info("fold %d is done already.", fold)
            return
        folder = self.folder(fold)
        if folder.exists() and any(folder.iterdir()) and not (folder / _STARTED).exists():
            raise OutputError(folder, "holds files that no cross-validation made; choose another --output_dir.")
        shutil.rmtree(folder, ignore_errors=True)
        write_json(folder / _STARTED, self._fingerprint())
        common = {"fold": fold, "checkpoint": str(folder / "model.pt"), "manifest_path": str(self.manifest_path)}
        logger.info("fold %d of %s.", fold, self.folds)
        self._workflow(self.train, overwrite=True, **common)
        self._workflow(self.evaluate, output_dir=str(folder), **common)
        if not self.keep_weights:
            (folder / "model.pt").unlink()
        write_json(folder / "done.json", self._fingerprint())

    def _workflow(self, configs: list[str], **own: Any) -> None:
        other = self.evaluate if configs is self.train else self.train
        known, known_to_other = (ConfigParser.load_config_files(files) for files in (configs, other))
        # one that neither knows is passed on, for the run's own check to refuse it by name
        options = {
            name: value
            for name, value in self.options.items()
            if _first(name) in known or _first(name) not in known_to_other
        }
        # a fold that is cut short begins anew, and belongs to one process
        options = {name: False for name in ("resumable", "distributed") if name in known} | options
        create_workflow(config_file=configs, logging_file=False, **options, **own).run()

    def _is_done(self, fold: int) -> bool:
        folder = self.folder(fold)
        there = all((folder / name).is_file() for name in _RESULTS)
        return there and read_json(folder / "done.json") == self._fingerprint()

    def _fingerprint(self) -> dict[str, Any]:
        files = config_digests([*self.train, *self.evaluate])
        # digests: an option may be a path, and a path may name somebody
        options = {name: _digest(value) for name, value in sorted(self.options.items())}
        packages = {name: version(name) for name in ("bonemonai", "monai", "torch")}
        return {"configs": files, "options": options, "packages": packages, **self._data}

    @cached_property
    def _data(self) -> dict[str, str]:
        """Digests of the manifest, its card, and the scans and masks it names: names, sizes, times, samples."""
        manifest = read_manifest(
            self.manifest_path, label_is_path=self.label_is_path, allow_shared_patient=True,
            may_be_empty=("split", "mask", "label"),
        )  # fmt: skip
        digest = hashlib.sha256()
        for column in ("image", "mask", "lacunae"):
            for path in filter(None, distinct(manifest[column].tolist()) if column in manifest else ()):
                digest.update(fingerprint(path)["sha256_sampled"].encode())
                digest.update(Snapshot(split_part(path)[0]).digest.encode())
        card = self.manifest_path.with_suffix(".json")
        return {
            "manifest": sha256(self.manifest_path),
            "data": digest.hexdigest(),
            "card": sha256(card) if card.is_file() else "",
        }


def _first(option: str) -> str:
    """The entry of a config that an option is of."""
    return re.split("#|::", option)[0]


def _digest(value: Any) -> str:
    """Of an option, and of the content of a file it names."""
    content = sha256(value) if isinstance(value, str) and value and Path(value).is_file() else ""
    return hashlib.sha256(f"{value!r} {content}".encode()).hexdigest()[:16]

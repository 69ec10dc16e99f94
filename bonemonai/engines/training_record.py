"""What a training needs to go on after it was stopped, on disk: whole at any moment, and of this very training."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from monai.bundle import ConfigParser

import bonemonai
from bonemonai.data.atomic import atomic_path
from bonemonai.data.fingerprint import fingerprint
from bonemonai.data.json_file import read_json, write_json
from bonemonai.data.manifest import distinct, read_manifest
from bonemonai.engines.provenance import config_digests
from bonemonai.engines.run_check import passed_to_create_workflow
from bonemonai.engines.weights import sha256
from bonemonai.errors import InputError, OutputError, ResumeError
from bonemonai.inferers.ranks import rank, world_size

logger = logging.getLogger(__name__)

_LOCK = ".lock"
_KEPT = 2  # epochs: a damaged file leaves the one before
# options that may change between two parts of one training
_FREE = ("max_epochs", "checkpoint", "learning_curve", "overwrite", "num_workers", "device", "dataset_dir",
         "manifest_path", "output_dir", "bundle_root", "rehearsal", "tensorboard", "mlflow", "cache_workers",
         "cache_dir")  # fmt: skip


class TrainingRecord:
    """A folder beside a training's weights, ``<name>.training``, with the state after each of the last two epochs.

    A training that is stopped, killed or out of power goes on after the last epoch that it finished when the same
    command is given again; more ``--max_epochs`` continue one that was complete, unless something else in the config,
    such as a schedule, depends on them.

    Args:
        checkpoint: file of the training's weights.
        max_epochs: of this run.
        manifest_path: of the data; it and the scans that it names must be those that the training began with.
        overwrite: begin anew; one that is stopped begins anew once more when the same is said again.
        keep: False keeps no state, and goes on with none.

    Attributes:
        checkpoint: file of the training's weights.
        continues: whether there is an unfinished training to go on with.

    Raises:
        ResumeError: if there is one, but of other configs, options, versions or data.
        InputError: if the weights' name does not end in .pt: names of state, card and curve are made of it.
    """

    def __init__(
        self,
        checkpoint: str | Path,
        max_epochs: int,
        manifest_path: str | Path,
        *,
        overwrite: bool = False,
        keep: bool = True,
    ) -> None:
        self.checkpoint, self.keep, self._overwrite = Path(checkpoint), keep, overwrite
        if self.checkpoint.suffix != ".pt":
            raise InputError(checkpoint, "must end in .pt (--checkpoint).")
        self.folder = self.checkpoint.with_suffix(".training")
        self._index = self.folder / "record.json"
        self._files: list[dict[str, Any]] = []
        self.continues = False
        self._about = _fingerprint(Path(manifest_path), max_epochs) if keep else {}
        known = read_json(self._index) if keep and not overwrite else None
        if known is None:
            return
        last = max((int(entry["epoch"]) for entry in known["epochs"]), default=0)
        self.continues = last < max_epochs
        changed = [name for name in self._about if known["of"].get(name) != self._about[name]]
        if self.continues and changed:
            raise ResumeError(
                self.folder, f"is a training with other {', '.join(changed)}; say --overwrite True to begin anew, or "
                "choose another --checkpoint."
            )  # fmt: skip
        if self.continues:
            self._files = list(known["epochs"])

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from training to the same weights.

        Raises:
            OutputError: if one is at work.
        """
        if rank() > 0:
            yield
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.folder / _LOCK, timeout=0)
            lock.acquire()
        except Timeout as error:
            raise OutputError(self.checkpoint, "is being trained by another process; wait, or stop it.") from error
        except OSError as error:
            raise OutputError(self.folder, f"cannot be written to: {error.strerror or error}.") from error
        try:
            yield
        finally:
            lock.release()
            if [path.name for path in self.folder.iterdir()] in ([], [_LOCK]):
                shutil.rmtree(self.folder, ignore_errors=True)

    def begin(self) -> None:
        """Where the training begins anew, forget the earlier one; within :meth:`locked`, when nothing is refused."""
        if self._overwrite and rank() == 0:
            self._remove_state()

    def _remove_state(self) -> None:
        for path in [self._index, *self.folder.glob("epoch_*.pt")]:
            path.unlink(missing_ok=True)

    def load(self) -> dict[str, Any] | None:
        """State after the last epoch whose file is whole; None where nothing is to be continued.

        Raises:
            ResumeError: if all files are damaged.
        """
        for entry in reversed(self._files):
            path = self.folder / entry["file"]
            if path.is_file() and sha256(path) == entry["sha256"]:
                state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
                return state
            logger.warning("%s is damaged or gone; the training goes on from the epoch before.", path.name)
        if self._files:
            raise ResumeError(self.folder, "holds no epoch that is whole; say --overwrite True to begin anew.")
        return None

    def save(self, state: dict[str, Any], epoch: int) -> None:
        """Keep a state; on return it is on disk, and nothing is lost if that fails.

        Args:
            state: tensors, numbers, text, lists and dictionaries of them. Of several processes the first's is kept.
            epoch: that is finished.

        Raises:
            OutputError: if it cannot be written.
        """
        if not self.keep or rank() > 0:
            return
        if not self._files:  # what may be there is of a training that is overwritten
            self._remove_state()
        buffer = io.BytesIO()
        torch.save(state, buffer)
        name = f"epoch_{epoch:05d}.pt"
        with atomic_path(self.folder / name) as partial:
            partial.write_bytes(buffer.getbuffer())
        entry = {"epoch": epoch, "file": name, "sha256": hashlib.sha256(buffer.getbuffer()).hexdigest()}
        self._files = [*(each for each in self._files if each["epoch"] < epoch), entry][-_KEPT:]
        write_json(self._index, {"of": self._about, "epochs": self._files})
        names = {each["file"] for each in self._files}
        for path in self.folder.glob("epoch_*.pt"):
            if path.name not in names:
                path.unlink(missing_ok=True)


def _fingerprint(manifest_path: Path, max_epochs: int) -> dict[str, Any]:
    files, options = passed_to_create_workflow()
    parser = ConfigParser(ConfigParser.load_config_files([str(file) for file in files]) if files else {})
    for name, value in options.items():
        parser[name] = value
    fixed = {name: value for name, value in parser.get().items() if name not in _FREE}
    manifest = read_manifest(
        manifest_path, label_is_path=False, allow_shared_patient=True, may_be_empty=("split", "mask", "label")
    )
    scans = hashlib.sha256()
    for column in ("image", "mask", "lr", "tv", "lacunae"):
        for path in filter(None, distinct(manifest[column].tolist()) if column in manifest else ()):
            scans.update(fingerprint(path)["sha256_sampled"].encode())
    return {
        "configs": config_digests(files),
        # a digest: an option may be a path, and a path may name somebody
        "options": hashlib.sha256(json.dumps(fixed, sort_keys=True, default=str).encode()).hexdigest()[:16],
        "max_epochs": max_epochs if _depends_on_max_epochs(fixed) else None,
        "packages": {"bonemonai": bonemonai.__version__, **{name: version(name) for name in ("monai", "torch")}},
        "processes": world_size(),
        "manifest": sha256(manifest_path),
        "scans": scans.hexdigest(),
    }


def _depends_on_max_epochs(config: Mapping[str, Any]) -> bool:
    """Whether more than the trainer and this record does, such as a schedule that is stretched over all epochs."""
    others = {name: value for name, value in config.items() if name != "record"}
    trainer = dict((others.get("train") or {}).get("trainer") or {})
    trainer.pop("max_epochs", None)
    others["train"] = {**(others.get("train") or {}), "trainer": trainer}
    return re.search(r"@max_epochs\b", json.dumps(others, default=str)) is not None

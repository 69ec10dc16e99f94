"""Network weights on disk: saved whole, loaded strictly, never without a word about where they come from."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import nn

from bonemonai.data.atomic import atomic_path
from bonemonai.data.data_card import NOT_A_DEVICE
from bonemonai.data.json_file import write_json
from bonemonai.errors import InputError, NumericalError, OutputError, ResumeError
from bonemonai.inferers.ranks import rank
from bonemonai.networks.state_dict import read_state_dict

logger = logging.getLogger(__name__)


class SaveLastWeights:
    """Handler: keep the weights of the last epoch, where no patient can be spared to choose another by.

    Writes what :class:`SaveBestWeights` writes, without a score.

    Args:
        network: whose weights to save.
        path: the file, ending in .pt.
        trained_on: description of the training data; JSON values.
        options: what the weights alone do not tell, such as the size that patches are resized to; JSON values.
            :func:`load_weights` refuses others, :func:`stored_option` gives them.
        overwrite: replace weights of an earlier run.

    Raises:
        OutputError: if there are weights already; at construction, before any training.

    Attach to the trainer.
    """

    def __init__(
        self,
        network: nn.Module,
        path: str | Path,
        trained_on: Mapping[str, Any],
        *,
        options: Mapping[str, Any] | None = None,
        overwrite: bool = False,
    ) -> None:
        _refuse_existing(path, overwrite=overwrite)
        self.network, self.path, self._rehearsing = network, Path(path), False
        self.card = {"trained_on": dict(trained_on), "options": dict(options or {})}

    def attach(self, engine: Engine) -> None:
        """Register with MONAI's engine."""
        engine.add_event_handler(Events.COMPLETED, self)

    @contextmanager
    def rehearsed(self, folder: Path) -> Iterator[None]:
        """While this context is open, save at every call, whatever the score, to a folder that is thrown away."""
        path = self.path
        self.path, self._rehearsing = folder / path.name, True
        try:
            yield
        finally:
            self.path, self._rehearsing = path, False

    def __call__(self, engine: Any) -> None:
        """Save."""
        self._save(engine, {})

    def _save(self, engine: Any, score: Mapping[str, float]) -> None:
        if rank() == 0:
            _save(self.network, self.path, {"epoch": engine.state.epoch, **score, **self.card})


class SaveBestWeights(SaveLastWeights):
    """Handler: keep the weights of the epoch that scored best on the validation patients.

    Writes a ``state_dict``, and beside it, as ``<name>.json``, what a user of the weights must know: the score and its
    epoch, what they were trained on, and the file's sha256. Both are replaced whole, never half. Of several processes
    the first writes.

    Args:
        network: whose weights to save.
        path: the file, ending in .pt.
        trained_on: description of the training data; JSON values.
        options: what the weights alone do not tell, such as the size that patches are resized to; JSON values.
            :func:`load_weights` refuses others, :func:`stored_option` gives them.
        overwrite: replace weights of an earlier run.
        counts: says whether an epoch is to be considered, for trainings of which not every epoch trains all; by default
            all are.

    Raises:
        OutputError: if there are weights already; at construction, before any training.
        InputError: if the score is not a number: the validation patients show nothing to find.

    Attach to the validation evaluator; the score is its key metric, larger being better.
    """

    def __init__(
        self,
        network: nn.Module,
        path: str | Path,
        trained_on: Mapping[str, Any],
        *,
        options: Mapping[str, Any] | None = None,
        overwrite: bool = False,
        counts: Callable[[], bool] | None = None,
    ) -> None:
        super().__init__(network, path, trained_on, options=options, overwrite=overwrite)
        self.counts = counts
        self.best = -float("inf")

    def state_dict(self) -> dict[str, float]:
        """What a training that goes on must know."""
        return {"best": self.best}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Go on.

        Args:
            state: see :meth:`state_dict`.

        Raises:
            ResumeError: if the weights that were best are not there any more.
        """
        if state["best"] > -float("inf") and not self.path.is_file():
            raise ResumeError(self.path, "is gone: the best weights so far; put it back, or say --overwrite True.")
        self.best = state["best"]

    def __call__(self, engine: Any) -> None:
        """Save if this epoch is the best so far."""
        if self._rehearsing:
            self._save(engine, {})
            return
        if self.counts is not None and not self.counts():
            return
        name = engine.state.key_metric_name
        score = float(engine.state.metrics[name])
        if math.isnan(score):
            raise InputError("validation", f"{name} is not a number: the validation patients show nothing to find.")
        if score <= self.best:
            return
        self.best = score
        self._save(engine, {name: score})


def _refuse_existing(path: str | Path, *, overwrite: bool) -> None:
    if Path(path).exists() and not overwrite:
        raise OutputError(path, "exists already; say --overwrite True, or choose another --checkpoint.")


def _save(network: nn.Module, path: Path, card: Mapping[str, Any]) -> None:
    for name, value in network.state_dict().items():
        if not torch.isfinite(value).all():
            raise NumericalError(path.name, f"is not saved: {name} holds NaN or infinite weights.")
    # given a file, torch would write the file's name, which may be a patient's, into it
    buffer = io.BytesIO()
    torch.save({key: value.cpu() for key, value in network.state_dict().items()}, buffer)
    with atomic_path(path) as partial:
        partial.write_bytes(buffer.getbuffer())
    write_json(path.with_suffix(".json"), {"sha256": sha256(path), "note": NOT_A_DEVICE, **card})


def add_to_card(path: str | Path, entries: Mapping[str, Any]) -> None:
    """Say more about weights in the card beside them, for instance how they are calibrated.

    Args:
        path: the file of weights.
        entries: JSON values; entries of the same names are replaced.
    """
    write_json(Path(path).with_suffix(".json"), {**weights_card(path), **entries})


def load_weights(
    network: nn.Module,
    path: str | Path,
    device: torch.device | str = "cpu",
    options: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Load weights into a network, all of them, and move it to a device.

    Args:
        network: to fill.
        path: a ``state_dict`` written by :class:`SaveBestWeights`.
        device: where the network goes.
        options: with which the network is used; those that the weights' card states must be the same.

    Raises:
        InputError: if the file is missing, is no file of weights, does not fit the network exactly, or holds NaN or
            infinite numbers.
    """
    if not Path(path).is_file():
        raise InputError(path, "no such weights: train first, or say --checkpoint PATH.")
    state = read_state_dict(path)
    try:
        network.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise InputError(path, f"does not fit the network: {error}") from error
    stated = weights_card(path).get("options") or {}
    for name, value in (options or {}).items():
        if name in stated and json.loads(json.dumps(value)) != stated[name]:
            raise InputError(path, f"was trained with {name} {stated[name]!r}, not {value!r}.")
    return network.to(device)


def require_card(path: str | Path, *, allow_missing: bool = False) -> None:
    """Refuse weights without the card that was written beside them.

    Without it nothing says at which sizes they were trained, for which classes and on whom: what is not known would be
    guessed.

    Args:
        path: the file of weights.
        allow_missing: whether that is wanted; a warning is logged.

    Raises:
        InputError: if there is none, or it belongs to other weights.
    """
    if "options" in weights_card(path):
        return
    if not allow_missing:
        card = Path(path).with_suffix(".json").name
        found = f"has no card of its own beside it ({card}): nobody knows how it was trained"
        cure = "copy the card along, or say --allow_missing_card True and every option that it was trained with."
        raise InputError(path, f"{found}; {cure}")
    logger.warning("weights without a card; options are what was said, or guessed.")


def stored_option(path: str | Path, name: str, default: Any) -> Any:
    """An option that weights were trained with, so that a config need not repeat it.

    Args:
        path: the file of weights.
        name: of the option.
        default: where the file is not there, or its card does not say.
    """
    return (weights_card(path).get("options") or {}).get(name, default) if Path(path).is_file() else default


def weights_card(path: str | Path) -> dict[str, Any]:
    """What is known of a file of weights: its sha256, and what :class:`SaveBestWeights` wrote beside it.

    Args:
        path: the file of weights.

    Returns:
        ``sha256`` and, if the card beside it belongs to this very file, its other entries.
    """
    digest = sha256(path)
    card = Path(path).with_suffix(".json")
    try:
        known = json.loads(card.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    return known if known.get("sha256") == digest else {"sha256": digest, "trained_on": None}


def sha256(path: str | Path) -> str:
    """Digest of a file's content, as hexadecimal digits."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

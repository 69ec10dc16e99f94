"""One batch of everything before a training begins: what would fail after hours fails now."""

from __future__ import annotations

import io
import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

import torch

from bonemonai.errors import BonemonaiError, InputError, OutputError, find_bonemonai_error
from bonemonai.inferers.ranks import rank

_CHECKPOINTS = 3  # two that are kept, and the one being written


def rehearse(trainer: Any, validator: Any, parts: Mapping[str, Any], folder: Path) -> None:
    """Train on one batch, validate on one, save what an epoch saves, and put all back as it was.

    The last epoch is rehearsed, in which every stage of a training in stages has begun. Nothing of it is kept: weights,
    buffers, optimiser, and what of ``parts`` has a state are those of before, and what was written is removed.

    Args:
        trainer: MONAI's, with its handlers.
        validator: MONAI's evaluator, or None.
        parts: name to handlers and others. Those with ``state_dict`` are put back by ``load_state_dict``; those with a
            method ``rehearsed(folder)``, a context in which they write to that folder, are put into it.
        folder: of the weights; a folder in it is used and removed.

    Raises:
        InputError: if a step fails, saying which and why.
        OutputError: if the disk has no room for three checkpoints, or cannot be written to.
    """
    place = folder / f".rehearsal_{rank()}"
    before = _states(trainer, parts)
    _refuse_empty(trainer, validator)
    _refuse_folders(parts)
    try:
        _make(place)
        with ExitStack() as stack:
            for part in parts.values():
                if hasattr(part, "rehearsed"):
                    stack.enter_context(part.rehearsed(place))
            stack.enter_context(_quiet())
            stack.enter_context(_one_batch(trainer, validator))
            _run(trainer, validator)
            torch.save(_states(trainer, parts), place / "state.pt")
        written = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
    finally:
        shutil.rmtree(place, ignore_errors=True)
    _restore(trainer, parts, before)
    _refuse_full_disk(folder, written * _CHECKPOINTS)


def _run(trainer: Any, validator: Any) -> None:
    step = "training on a batch"
    try:
        trainer.run()
        step = "validating on a batch"
        if validator is not None and validator.state.epoch != trainer.state.epoch:
            validator.run(trainer.state.epoch)
    except BonemonaiError:
        raise
    except Exception as error:
        # whatever it is: a network, a transform or a metric that does not fit the data
        refusal = find_bonemonai_error(error)
        raise refusal or InputError(step, f"fails: {type(error).__name__}: {_innermost(error)}") from error


def _innermost(error: BaseException) -> BaseException:
    """MONAI wraps what a transform raises, and the cause says more."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _refuse_empty(trainer: Any, validator: Any) -> None:
    for engine, split in ((trainer, "training"), (validator, "validation")):
        if engine is not None and engine.state.epoch_length == 0:
            raise InputError(f"{split} data", "are empty: no batch comes out.")


@contextmanager
def _one_batch(trainer: Any, validator: Any) -> Iterator[None]:
    engines = [engine for engine in (trainer, validator) if engine is not None]
    lengths = [engine.state.epoch_length for engine in engines]
    epochs = trainer.state.max_epochs
    for engine in engines:
        engine.state.epoch_length = 1
    trainer.state.epoch = trainer.state.iteration = epochs - 1
    try:
        yield
    finally:
        for engine, length in zip(engines, lengths, strict=True):
            engine.state.epoch_length = length
            engine.state.epoch = engine.state.iteration = 0
        trainer.state.max_epochs = epochs


@contextmanager
def _quiet() -> Iterator[None]:
    """Progress bars and the score of one batch would only mislead."""
    level = logging.root.manager.disable
    logging.disable(logging.INFO)
    try:
        with redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(level)


def _states(trainer: Any, parts: Mapping[str, Any]) -> dict[str, Any]:
    own = {name: getattr(trainer, name, None) for name in ("network", "optimizer", "scaler")}
    whole = {**own, **{f"part {name}": part for name, part in parts.items()}}
    return {name: _copied(part.state_dict()) for name, part in whole.items() if hasattr(part, "state_dict")}


def _copied(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, Mapping):
        return {name: _copied(inner) for name, inner in value.items()}
    return [_copied(inner) for inner in value] if isinstance(value, list) else value


def _restore(trainer: Any, parts: Mapping[str, Any], states: Mapping[str, Any]) -> None:
    trainer.optimizer.zero_grad(set_to_none=True)
    for name, state in states.items():
        part = parts[name.removeprefix("part ")] if name.startswith("part ") else getattr(trainer, name)
        part.load_state_dict(state)


def _refuse_folders(parts: Mapping[str, Any]) -> None:
    for part in parts.values():
        path = getattr(part, "path", None)
        if isinstance(path, Path) and path.is_dir():
            raise OutputError(path, "is a folder; a file is to be written there.")


def _make(place: Path) -> None:
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(place.parent, f"cannot be written to: {error.strerror or error}.") from error


def _refuse_full_disk(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        cure = "free some, or choose another --checkpoint."
        raise OutputError(
            folder, f"has {free / 1e6:.0f} MB free, {_CHECKPOINTS} checkpoints take {needed / 1e6:.0f}; {cure}"
        )

"""Weights as torch reads them: the network's state alone, finite, and such that the bundle's network takes it."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from monai.bundle import ConfigParser

from bonemonai.engines.weights import load_weights
from bonemonai.errors import BonemonaiError, InputError
from bonemonai.networks.state_dict import read_state_dict
from bonemonai.sharing.bundle_files import file_sha256, read_configs
from bonemonai.sharing.config_entries import config_entries

# where trainings keep the network's state among other things
_STATES = ("state_dict", "model_state_dict", "network", "model", "net")


def network_state(name: str, content: bytes) -> bytes:
    """Weights as they are if they hold a network's state and nothing else; otherwise that state alone.

    A file that torch has written holds the name that it had then, which may be a patient's; one of another name than
    now is written anew.

    Args:
        name: of the file, for refusals.
        content: of the file.

    Returns:
        The same bytes for the same state.

    Raises:
        InputError: if no network's state is found, or it holds NaN or infinite numbers.
    """
    try:
        loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(name, f"is no file of weights: {str(error).splitlines()[0]}") from error
    state = next((value for value in (loaded, *map(_part(loaded), _STATES)) if _is_state(value)), None)
    if state is None:
        raise InputError(name, f"holds no network's state, as a whole or as one of {', '.join(_STATES)}.")
    for key, value in state.items():
        if not torch.isfinite(value).all():
            raise InputError(name, f"holds NaN or infinite weights in {key}; train again.")
    if state is loaded and not _has_other_name(name, content):
        return content
    buffer = io.BytesIO()
    torch.save({key: value.detach().clone() for key, value in state.items()}, buffer)
    return buffer.getvalue()


def describe_weights(path: Path) -> dict[str, Any]:
    """Tensors of a file of weights, and a digest of them that does not depend on how the file was written.

    Args:
        path: of the file.

    Raises:
        InputError: if it is no state_dict, or holds NaN or infinite numbers.
    """
    state = read_state_dict(path)
    digest = hashlib.sha256()
    for key in sorted(state):
        value = state[key].detach().contiguous()
        digest.update(f"{key}\0{value.dtype}\0{tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes() if value.numel() else b"")
    tensors = {
        key: {"shape": list(value.shape), "dtype": str(value.dtype).removeprefix("torch.")}
        for key, value in state.items()
    }
    return {"sha256": file_sha256(path), "digest": digest.hexdigest(), "tensors": tensors}


def describe_all(files: Mapping[str, Path]) -> dict[str, dict[str, Any]]:
    """What :func:`describe_weights` says of each file of weights.

    Args:
        files: of a bundle.
    """
    return {name: describe_weights(path) for name, path in files.items() if name.endswith((".pt", ".pth"))}


def check_weights(folder: Path, files: Mapping[str, Path]) -> dict[str, dict[str, Any]]:
    """Build the networks of a bundle's inference and load each file of weights, all of it, into the one it is for.

    This evaluates expressions of the config: verify the bundle first.

    Args:
        folder: the bundle.
        files: of the bundle.

    Returns:
        For each file of weights what :func:`describe_weights` says, and ``network``, the class that took it; None for
        weights that no network of the inference is loaded from.

    Raises:
        InputError: if a network cannot be built, or the weights are not finite, or not exactly its own.
    """
    config = next((name for name in ("configs/inference.json", "configs/train.json") if name in files), None)
    if config is None:
        raise InputError("configs/inference.json", "is missing: nothing says which network the weights are for.")
    parser = ConfigParser(read_configs({config: files[config]})[config])
    if "bundle_root" in parser:
        parser["bundle_root"] = str(folder.resolve())
    networks = {path.resolve(): network for network, path in _networks(parser, config, folder)}
    described: dict[str, dict[str, Any]] = {}
    for name in (name for name in files if name.endswith((".pt", ".pth"))):
        network_id = networks.pop(files[name].resolve(), None)
        kind = None
        if network_id is not None:
            kind = type(load_weights(_build(parser, config, network_id), files[name])).__name__
        described[name] = {**describe_weights(files[name]), "network": kind}
    for network_id in networks.values():  # whose weights are not shipped
        _build(parser, config, network_id)
    return described


def _networks(parser: ConfigParser, config: str, folder: Path) -> list[tuple[str, Path]]:
    """Ids of networks, and the files that they are loaded from."""
    found = [("network_def", folder / "models" / "model.pt")]
    for entry in config_entries({config: parser.get()}):
        component = entry.value if isinstance(entry.value, dict) else {}
        network, path = component.get("network"), component.get("path")
        is_load = str(component.get("_target_", "")).endswith(".load_weights")
        if is_load and isinstance(network, str) and isinstance(path, str) and network[:1] == path[:1] == "@":
            found.append((network[1:], Path(str(_resolved(parser, config, path[1:])))))
    return [(name, path) for name, path in found if name in parser]


def _build(parser: ConfigParser, config: str, name: str) -> torch.nn.Module:
    network = _resolved(parser, config, name)
    if not isinstance(network, torch.nn.Module):
        raise InputError(config, f"{name} is no network, but {type(network).__name__}.")
    return network


def _resolved(parser: ConfigParser, config: str, name: str) -> Any:
    try:
        return parser.get_parsed_content(name)
    except BonemonaiError:
        raise
    except Exception as error:
        cause = error
        while isinstance(cause.__cause__, Exception):
            cause = cause.__cause__
        raise InputError(config, f"{name} cannot be built: {type(cause).__name__}: {cause}") from error


def _has_other_name(name: str, content: bytes) -> bool:
    if not zipfile.is_zipfile(io.BytesIO(content)):
        return False
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        folders = {PurePosixPath(member).parts[0] for member in archive.namelist()}
    file = PurePosixPath(name)
    return not folders <= {"archive", file.stem, f".{file.name}"}


def _part(loaded: Any) -> Any:
    return lambda name: loaded.get(name) if isinstance(loaded, Mapping) else None


def _is_state(value: Any) -> bool:
    return isinstance(value, Mapping) and bool(value) and all(isinstance(each, torch.Tensor) for each in value.values())

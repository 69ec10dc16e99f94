"""Files of weights as torch writes them, looked at without torch: only tensors, and no training's state."""

from __future__ import annotations

import pickletools
import re
import zipfile
import zlib
from pathlib import Path

from bonemonai.errors import InputError

# what the pickle of a plain state_dict names
_NAMES = re.compile(
    r"collections OrderedDict|torch\._utils _rebuild_(?:tensor_v2|parameter)|torch\.storage UntypedStorage|"
    r"torch (?:[A-Z]\w*Storage|Size|bool|bfloat16|float(?:16|32|64)|u?int8|int(?:16|32|64))"
)
_MEMBERS = re.compile(r"[^/]+/(?:data\.pkl|data/\d+|version|byteorder|\.?data/serialization_id|\.\w+)")
_OF_OPTIMISERS = frozenset({"param_groups", "exp_avg", "exp_avg_sq", "momentum_buffer", "optimizer_state_dict"})
_LARGEST = 50_000_000  # bytes of a pickle, which holds names and sizes only


def scan_weights(name: str, path: Path) -> list[str]:
    """Refuse weights whose pickle names anything but tensors.

    Args:
        name: of the file, for refusals.
        path: where it lies.

    Returns:
        Texts that it holds beside names of classes: keys of its dictionaries.

    Raises:
        InputError: if it is not of the format that torch writes, or would call something when it is unpickled.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            pickles = [member for member in members if member.filename.endswith("/data.pkl")]
            strange = [member.filename for member in members if not _MEMBERS.fullmatch(member.filename)]
            if strange or len(pickles) != 1 or pickles[0].file_size > _LARGEST:
                raise InputError(name, f"is no file of weights: it holds {(strange or ['no data.pkl'])[0]!r}.")
            content = archive.read(pickles[0])
        return _texts(name, content)
    except (zipfile.BadZipFile, OSError, ValueError, EOFError, NotImplementedError, RuntimeError, zlib.error) as error:
        raise InputError(name, f"is no file of weights as torch writes them: {error}.") from error


def refuse_training_state(name: str, texts: list[str]) -> None:
    """Refuse weights that hold an optimiser's state, which a bundle that is handed over does not need.

    Args:
        name: of the file, for refusals.
        texts: see :func:`scan_weights`.

    Raises:
        InputError: naming the state.
    """
    found = sorted(_OF_OPTIMISERS & set(texts))
    if found:
        raise InputError(name, f"holds the state of an optimiser ({found[0]}); bonemonai bundle pack leaves it out.")


def _texts(name: str, content: bytes) -> list[str]:
    texts = []
    for operation, argument, _ in pickletools.genops(content):
        if operation.name in ("STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4", "NEWOBJ_EX"):
            raise InputError(name, f"is no file of weights as torch writes them: it uses {operation.name}.")
        if operation.name == "GLOBAL" and not _NAMES.fullmatch(str(argument)):
            raise InputError(name, f"would run {argument} when it is unpickled; do not load it.")
        if isinstance(argument, str):
            texts.append(argument)
    return texts

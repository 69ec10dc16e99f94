"""Archives of bundles, signed with a key of one's own, by OpenSSF's model-signing; without a network."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from bonemonai.data.atomic import atomic_path
from bonemonai.errors import InputError

_LARGEST = 1_000_000  # bytes; a signature has about 1300


def signature_path(archive: Path) -> Path:
    """Where an archive's signature lies: beside it, ``.sig`` after its name."""
    return archive.with_name(f"{archive.name}.sig")


class ArchiveSigner:
    """Signs archives; the signature is a Sigstore bundle, which model-signing's own command verifies too.

    The archive is signed as it is, so that it can be verified before anything opens it, and is the same with and
    without a key. What is unpacked has no signature.

    Args:
        key: private, of the elliptic curve P-256, P-384 or P-521, as PEM, not encrypted.

    Raises:
        InputError: if there is no such key, or the extra ``signing`` is not installed.
    """

    def __init__(self, key: Path) -> None:
        config = _model_signing("--sign").signing.Config()
        self._config = _with_key(key, "private", lambda: config.use_elliptic_key_signer(private_key=key))

    def sign(self, archive: Path, *, overwrite: bool = False) -> Path:
        """Write the signature beside the archive.

        Args:
            archive: the file.
            overwrite: replace a signature.

        Returns:
            Its path.

        Raises:
            OutputError: if there is one already, or it cannot be written.
        """
        path = signature_path(archive)
        with atomic_path(path, overwrite=overwrite) as partial:
            self._config.sign(archive, partial)
        return path


def verify_signature(archive: Path, public_key: Path) -> str:
    """Refuse an archive that is not, byte for byte, what the owner of a key signed; nothing of it is opened.

    Args:
        archive: the file; its signature lies beside it, see :func:`signature_path`.
        public_key: of the one who is said to have signed it, as PEM, from a source that you trust.

    Returns:
        What was found.

    Raises:
        InputError: if the signature is missing, of another key or of another archive; if there is no such key, or the
            extra ``signing`` is not installed.
    """
    if archive.is_dir():
        raise InputError(archive, "is a folder; what is signed is the archive: verify that.")
    if not archive.is_file():
        raise InputError(archive, "no such file.")
    config = _model_signing("--public-key").verifying.Config()
    config = _with_key(public_key, "public", lambda: config.use_elliptic_key_verifier(public_key=public_key))
    signature = signature_path(archive)
    if not signature.is_file():
        raise InputError(signature, "no such signature; ask for it, or for an archive that is signed.")
    if signature.stat().st_size > _LARGEST:
        raise InputError(signature, "is larger than any signature.")
    try:
        with redirect_stdout(StringIO()):  # it prints where a signature does not name its key
            config.verify(archive, signature)
    except Exception as error:  # whatever it is that others put there, it is no valid signature
        if str(error).startswith("Signature mismatch"):
            raise InputError(archive, f"is not what {signature.name} was made of; ask for both again.") from error
        reason = f"was not made with the key that {public_key} belongs to, or was changed; do not trust the archive."
        raise InputError(signature, reason) from error
    return f"{signature}, made with the key that {public_key} belongs to"


def _with_key(key: Path, kind: str, configure: Callable[[], Any]) -> Any:
    """What a configuration becomes with a key, whose errors are of as many types as there are wrong files."""
    if not key.is_file():
        raise InputError(key, f"no such {kind} key.")
    try:
        return configure()
    except OSError:
        raise
    except Exception as error:
        needs = "of the elliptic curve P-256, P-384 or P-521, as PEM" + ", not encrypted" * (kind == "private")
        raise InputError(key, f"is no {kind} key that can be used; it must be {needs}.") from error


def _model_signing(option: str) -> Any:
    try:
        import model_signing
    except ImportError:
        raise InputError(option, "needs the extra signing: pip install 'bonemonai[signing]'.") from None
    return model_signing

from __future__ import annotations

import base64
import hashlib
import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bonemonai.errors import InputError, OutputError
from bonemonai.sharing.pack import pack_bundle
from bonemonai.sharing.signing import ArchiveSigner, signature_path, verify_signature
from tests.command_line import call
from tests.sharing.small_bundle import write_bundle

pytest.importorskip("model_signing", reason="model-signing is not installed (extra signing)")
serialization = pytest.importorskip("cryptography.hazmat.primitives.serialization")
asymmetric = pytest.importorskip("cryptography.hazmat.primitives.asymmetric")
from cryptography.hazmat.primitives.asymmetric import ec, rsa  # noqa: E402

PLAIN = serialization.NoEncryption()


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> None:
        raise AssertionError(f"asks the network: {args}")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


def write_keys(folder: Path, name: str, key: Any = None, encryption: Any = PLAIN) -> tuple[Path, Path]:
    """Private and public key, as PEM."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    pem, public = folder / f"{name}.pem", folder / f"{name}.pub.pem"
    pem.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption))
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    public.write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, form))
    return pem, public


@pytest.fixture
def signed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a bundle, its archive, the signature, the keys, and the keys of another one."""
    monkeypatch.chdir(tmp_path)
    write_keys(tmp_path, "mine")
    write_keys(tmp_path, "other")
    pack_bundle(write_bundle(tmp_path / "small"), tmp_path / "a.zip", sign=tmp_path / "mine.pem")
    return tmp_path


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=lambda curve: curve.name)
def test_what_is_signed_verifies(curve: Any, tmp_path: Path) -> None:
    pem, public = write_keys(tmp_path, "k", ec.generate_private_key(curve))
    archive = tmp_path / "a.tar.gz"
    archive.write_bytes(b"any bytes")
    assert ArchiveSigner(pem).sign(archive) == signature_path(archive) == tmp_path / "a.tar.gz.sig"
    assert verify_signature(archive, public) == f"{archive}.sig, made with the key that {public} belongs to"


def test_the_archive_is_the_same_without_a_key(signed: Path) -> None:
    lines = pack_bundle(signed / "small", signed / "b.zip")
    assert "signature" not in lines
    assert not signature_path(signed / "b.zip").exists()
    assert (signed / "a.zip").read_bytes() == (signed / "b.zip").read_bytes()


def test_the_signature_is_one_of_dsse_over_the_archives_sha256(signed: Path) -> None:
    """Checked with cryptography alone: the pre-authentication encoding of DSSE 1.0, ECDSA over SHA-256."""
    envelope = json.loads((signed / "a.zip.sig").read_text())["dsseEnvelope"]
    payload, kind = base64.b64decode(envelope["payload"]), envelope["payloadType"]
    message = f"DSSEv1 {len(kind)} {kind} {len(payload)} ".encode() + payload
    key = serialization.load_pem_public_key((signed / "mine.pub.pem").read_bytes())
    from cryptography.hazmat.primitives.hashes import SHA256

    key.verify(base64.b64decode(envelope["signatures"][0]["sig"]), message, ec.ECDSA(SHA256()))
    resources = json.loads(payload)["predicate"]["resources"]
    assert [each["digest"] for each in resources] == [hashlib.sha256((signed / "a.zip").read_bytes()).hexdigest()]
    assert str(signed) not in payload.decode()


def test_a_renamed_archive_verifies_with_its_signature(signed: Path) -> None:
    (signed / "a.zip").rename(signed / "b.zip")
    (signed / "a.zip.sig").rename(signed / "b.zip.sig")
    verify_signature(signed / "b.zip", signed / "mine.pub.pem")
    (signed / "b.zip.sig").rename(signed / "c.zip.sig")
    with pytest.raises(InputError):
        verify_signature(signed / "b.zip", signed / "mine.pub.pem")


def test_commands(signed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("bundle", "pack", "small", "-o", "b.zip", "--sign", "mine.pem") == 0
    assert "signature:   b.zip.sig\n" in capsys.readouterr().out
    assert call("bundle", "verify", "b.zip", "--public-key", "mine.pub.pem") == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("signature:   b.zip.sig, made with the key that mine.pub.pem belongs to\nbundle:")
    assert shown.err == ""


def other_key(folder: Path) -> str:
    ArchiveSigner(folder / "other.pem").sign(folder / "a.zip", overwrite=True)
    return "a.zip.sig: was not made with the key that mine.pub.pem belongs to"


def changed(folder: Path) -> str:
    content = bytearray((folder / "a.zip").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "a.zip").write_bytes(content)
    return "a.zip: is not what a.zip.sig was made of"


def of_another_archive(folder: Path) -> str:
    (folder / "b.txt").write_text("other")
    ArchiveSigner(folder / "mine.pem").sign(folder / "b.txt").replace(folder / "a.zip.sig")
    return "a.zip: is not what a.zip.sig was made of"


def missing(folder: Path) -> str:
    (folder / "a.zip.sig").unlink()
    return "a.zip.sig: no such signature"


def rewritten(folder: Path) -> str:
    """The payload made to name a changed archive, under the signature that was there."""
    (folder / "a.zip").write_bytes(b"PK")
    bundle = json.loads((folder / "a.zip.sig").read_text())
    statement = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    statement["predicate"]["resources"][0]["digest"] = hashlib.sha256(b"PK").hexdigest()
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()
    (folder / "a.zip.sig").write_text(json.dumps(bundle))
    return "a.zip.sig: was not made with the key that mine.pub.pem belongs to, or was changed"


def without_signatures(folder: Path) -> str:
    bundle = json.loads((folder / "a.zip.sig").read_text())
    bundle["dsseEnvelope"]["signatures"] = []
    (folder / "a.zip.sig").write_text(json.dumps(bundle))
    return "a.zip.sig: was not made with the key"


def hint_of_the_right_key(folder: Path) -> str:
    """The name of the key that a signature states is no proof."""
    bundle = json.loads((folder / "a.zip.sig").read_text())
    other_key(folder)
    forged = json.loads((folder / "a.zip.sig").read_text())
    (folder / "a.zip.sig").write_text(json.dumps({**forged, "verificationMaterial": bundle["verificationMaterial"]}))
    return "a.zip.sig: was not made with the key"


def other_key_unnamed(folder: Path) -> str:
    other_key(folder)
    bundle = json.loads((folder / "a.zip.sig").read_text())
    del bundle["verificationMaterial"]["publicKey"]["hint"]
    (folder / "a.zip.sig").write_text(json.dumps(bundle))
    return "a.zip.sig: was not made with the key"


def no_json(folder: Path) -> str:
    (folder / "a.zip.sig").write_bytes(b"\xff\x00")
    return "a.zip.sig: was not made with the key"


def large(folder: Path) -> str:
    (folder / "a.zip.sig").write_bytes(bytes(1_000_001))
    return "a.zip.sig: is larger than any signature"


def no_key(folder: Path) -> str:
    (folder / "mine.pub.pem").unlink()
    return "mine.pub.pem: no such public key"


def private_for_public(folder: Path) -> str:
    (folder / "mine.pub.pem").write_bytes((folder / "mine.pem").read_bytes())
    return "mine.pub.pem: is no public key that can be used"


def key_of_rsa(folder: Path) -> str:
    write_keys(folder, "mine", rsa.generate_private_key(65537, 2048))
    return "mine.pub.pem: is no public key that can be used; it must be of the elliptic curve P-256"


def a_folder(folder: Path) -> str:
    (folder / "a.zip").unlink()
    (folder / "small").rename(folder / "a.zip")
    return "a.zip: is a folder; what is signed is the archive"


def no_archive(folder: Path) -> str:
    (folder / "a.zip").unlink()
    return "a.zip: no such file"


@pytest.mark.parametrize(
    "spoil",
    [
        other_key, changed, of_another_archive, missing, rewritten, without_signatures, hint_of_the_right_key,
        other_key_unnamed, no_json, large, no_key, private_for_public, key_of_rsa, a_folder, no_archive,
    ],
    ids=lambda spoil: spoil.__name__,
)  # fmt: skip
def test_refused_before_the_archive_is_opened(
    spoil: Any, signed: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    line = spoil(signed)
    monkeypatch.setattr("bonemonai.sharing.archive_extraction.opened_bundle", None)
    assert call("bundle", "verify", "a.zip", "--public-key", "mine.pub.pem") == 2
    shown = capfd.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(f"bonemonai: error: {line}")
    assert shown.err.count("\n") == 1


@pytest.mark.parametrize("kind", ["gone", "encrypted", "public", "rsa", "other curve", "text"])
def test_keys_that_cannot_sign_are_refused_before_anything_is_written(kind: str, tmp_path: Path) -> None:
    pem, public = write_keys(tmp_path, "k")
    if kind == "gone":
        pem.unlink()
    elif kind == "encrypted":
        write_keys(tmp_path, "k", encryption=serialization.BestAvailableEncryption(b"secret"))
    elif kind == "public":
        pem = public
    elif kind == "rsa":
        write_keys(tmp_path, "k", rsa.generate_private_key(65537, 2048))
    elif kind == "other curve":
        write_keys(tmp_path, "k", ec.generate_private_key(ec.SECP256K1()))
    else:
        pem.write_text("no key")
    with pytest.raises(InputError, match=r"no such private key|is no private key that can be used.*not encrypted"):
        pack_bundle(write_bundle(tmp_path / "small"), tmp_path / "a.zip", sign=pem)
    assert not (tmp_path / "a.zip").exists()


def test_a_signature_is_not_replaced_unasked(signed: Path) -> None:
    (signed / "a.zip").unlink()
    before = (signed / "a.zip.sig").read_bytes()
    with pytest.raises(OutputError, match=r"a\.zip\.sig: exists already"):
        pack_bundle(signed / "small", signed / "a.zip", sign=signed / "mine.pem")
    assert not (signed / "a.zip").exists()
    assert (signed / "a.zip.sig").read_bytes() == before
    pack_bundle(signed / "small", signed / "a.zip", sign=signed / "other.pem", overwrite=True)
    verify_signature(signed / "a.zip", signed / "other.pub.pem")


def test_without_the_extra_only_signing_is_refused(signed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "model_signing", None)
    with pytest.raises(InputError, match=r"--public-key: needs the extra signing: pip install 'bonemonai\[signing\]'"):
        verify_signature(signed / "a.zip", signed / "mine.pub.pem")
    with pytest.raises(InputError, match="--sign: needs the extra signing"):
        pack_bundle(signed / "small", signed / "b.zip", sign=signed / "mine.pem")
    assert not (signed / "b.zip").exists()
    assert call("bundle", "verify", "a.zip") == 0


def test_verifying_without_a_key_imports_none_of_it(signed: Path) -> None:
    code = (
        "import sys\nfrom bonemonai.__main__ import main\n"
        "try:\n    main(['bundle', 'verify', 'a.zip'])\nexcept SystemExit as stop:\n    assert not stop.code\n"
        "print('signing:', [name for name in ('model_signing', 'sigstore', 'cryptography') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=signed)
    assert "signing: []" in run.stdout

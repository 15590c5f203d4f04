"""Certificates for tests, made with openssl: an authority, and what it signs."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Authority", "Signed"]

_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")


def _openssl(*arguments: str, folder: Path) -> None:
    done = subprocess.run(
        ["openssl", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@dataclass(frozen=True, slots=True)
class Signed:
    """A certificate and its key; ``both`` is a file with the key, then the certificate."""

    cert: Path
    key: Path
    both: Path


class Authority:
    """An authority of its own; ``cert`` is the file that clients trust."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._folder = folder
        self._name = name
        folder.mkdir(parents=True, exist_ok=True)
        self.cert = folder / f"{name}.pem"
        _openssl(
            *("req", "-x509", *_NEW_KEY, "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.pem"),
            *("-subj", f"/CN={name}", "-days", "2"),
            folder=folder,
        )

    def sign(
        self,
        name: str,
        *,
        host: str = "IP:127.0.0.1,DNS:localhost",
        days: int = 2,
        key_password: str = "",
    ) -> Signed:
        """Sign a new key; ``days`` below 0 gives a certificate that has expired."""
        secret = ("-passout", f"pass:{key_password}") if key_password else ("-nodes",)
        _openssl(
            *("req", "-new", *_NEW_KEY, *secret, "-keyout", f"{name}.key", "-out", f"{name}.csr"),
            *("-subj", f"/CN={name}"),
            folder=self._folder,
        )
        (self._folder / f"{name}.ext").write_text(f"subjectAltName={host}\n")
        _openssl(
            *("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", "-days", str(days)),
            *("-CA", f"{self._name}.pem", "-CAkey", f"{self._name}.key", "-CAcreateserial"),
            *("-extfile", f"{name}.ext"),
            folder=self._folder,
        )
        signed = Signed(*(self._folder / f"{name}.{end}" for end in ("pem", "key", "both")))
        signed.both.write_text(signed.key.read_text() + signed.cert.read_text())
        return signed

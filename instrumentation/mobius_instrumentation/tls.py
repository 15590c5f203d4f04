"""Contexts of TLS connections, whose handshake ends: one that a peer never answers fails after some seconds."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from mobius_instrumentation.zone_variables import VariableError

__all__ = ["HANDSHAKE_SECONDS", "certificate_remedy", "client_context", "context_from"]

HANDSHAKE_SECONDS: Final = 10.0
"""Longest time of one handshake."""


class _ClientSocket(ssl.SSLSocket):
    """Mends two habits of kafka-python.

    It waits for the peer's part of a handshake without an end: a broker that takes a connection and never answers
    would hold the client's thread for good. So the socket ends its own handshake when time is up.

    And it throws away what it read when the connection's end was read with it: that a password is wrong, for one,
    which a broker says before it hangs up. So the end is told by itself, at the next read.
    """

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        """Do what the base class does; without blocking, the end does not follow data at once."""
        gave, self._gave = getattr(self, "_gave", False), False
        try:
            data = super().recv(buflen, flags)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except OSError:
            if gave and self.gettimeout() == 0:
                raise ssl.SSLWantReadError from None
            raise
        if not data and gave and self.gettimeout() == 0:
            raise ssl.SSLWantReadError
        self._gave = bool(data)
        return data

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002  # as the base class has it
        """Do what the base class does; the first call starts the clock."""
        watch = getattr(self, "_watch", None)
        if watch is None:
            watch = self._watch = _Watch(self)
        try:
            super().do_handshake(block)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except OSError as error:
            watch.cancel()
            if watch.over:
                raise TimeoutError(f"no TLS handshake within {HANDSHAKE_SECONDS:.0f} s") from error
            raise
        watch.cancel()


class _Watch:
    """Shuts a socket down when time is up, which wakes whoever waits for it."""

    def __init__(self, watched: socket.socket) -> None:
        self.over = False
        self._watched = watched
        self._timer = threading.Timer(HANDSHAKE_SECONDS, self._end)
        self._timer.daemon = True
        self._timer.start()

    def cancel(self) -> None:
        self._timer.cancel()

    def _end(self) -> None:
        self.over = True
        try:
            # The kernel's shutdown alone; that of an SSLSocket drops its state under the other thread.
            socket.socket.shutdown(self._watched, socket.SHUT_RDWR)
        except OSError:
            return  # closed meanwhile


def client_context(
    *,
    ca_file: Path | None = None,
    cert_file: Path | None = None,
    key_file: Path | None = None,
    key_password: str = "",
    check_hostname: bool = True,
) -> ssl.SSLContext:
    """Make a context that checks the server's certificate; TLS 1.2 or later.

    Parameters
    ----------
    ca_file
        Certificates (PEM) that the server's must be signed by; the system's when None.
    cert_file, key_file
        Own certificate with its chain, and its key where it is not in the same file (PEM).
    key_password
        Password of the key.
    check_hostname
        Whether the certificate must name the host that was connected to.

    Raises
    ------
    ssl.SSLError
        A file has no certificate or key, or the password is wrong.
    OSError
        A file cannot be read.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = check_hostname
    context.sslsocket_class = _ClientSocket
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    else:
        context.load_default_certs()
    if cert_file is not None:
        # As a function: without a password OpenSSL would ask for one on the terminal.
        context.load_cert_chain(cert_file, key_file, password=key_password.encode)
    return context


def context_from(begin: str, found: Mapping[str, Any], *, check_hostname: bool) -> ssl.SSLContext:
    """Make a context from the variables ``CA_FILE``, ``CERT_FILE``, ``KEY_FILE`` and ``KEY_PASSWORD``.

    ``begin`` is what their names begin with, such as ``MOBIUS_EU_CLICKHOUSE_``.

    Raises
    ------
    VariableError
        A file is not what it should be.
    """
    try:
        # In two steps, because OpenSSL does not say which file it means.
        client_context(ca_file=found["CA_FILE"])
    except ssl.SSLError:
        raise VariableError(f"{begin}CA_FILE", "holds no certificate in PEM form") from None
    try:
        return client_context(
            ca_file=found["CA_FILE"],
            cert_file=found["CERT_FILE"],
            key_file=found["KEY_FILE"],
            key_password=found["KEY_PASSWORD"],
            check_hostname=check_hostname,
        )
    except (OSError, ValueError):
        raise VariableError(
            f"{begin}CERT_FILE",
            f"holds no certificate in PEM form, or the key (there, or in {begin}KEY_FILE) is not its own, or "
            f"{begin}KEY_PASSWORD is wrong",
        ) from None


def certificate_remedy(error: BaseException, *, ca: str, cert: str, host: str) -> str:
    """Say what to do about a failed handshake; "" for what is none.

    ``ca``, ``cert`` and ``host`` are the names of the variables, or other advice, for an unknown issuer, a client's
    certificate and a wrong host name.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        code: Any = error.verify_code
        if code == 10:
            return "the server's certificate has expired: renew it there"
        if code in (62, 64):
            return f"its certificate is another host's: use the name that it has in zones.toml, or {host}"
        return f"its certificate is signed by none of the known authorities: name the right one in {ca}"
    if isinstance(error, ssl.SSLError) and "ALERT" in str(error.reason or ""):
        return f"it refuses our certificate, or the lack of one: see {cert}"
    if isinstance(error, ssl.SSLError):
        return f"is it a port of TLS? does it want a certificate of ours ({cert})?"
    return ""

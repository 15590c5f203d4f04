"""The file that Streamlit reads its login's secrets from, without a disk that would keep them."""

from __future__ import annotations

import atexit
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import MutableMapping
from pathlib import Path

from mobius_dashboards.oidc_options import oidc_options, oidc_secrets
from mobius_pipeline.errors import UsageError

__all__ = ["secrets_file"]


def secrets_file(environment: MutableMapping[str, str]) -> Path:
    """Make a ``secrets.toml`` for this process, and take the secrets out of ``environment``.

    It lies in memory; in a private folder, removed with the process, there is but a link to it, because Streamlit
    wants the name to end so.

    Raises
    ------
    UsageError
        The configuration of the login is wrong or incomplete; names the variable.
    """
    options = oidc_options(environment)
    client_secret, cookie_secret = oidc_secrets(environment)
    if options is None:
        raise UsageError("is missing", field="MOBIUS_OIDC_ISSUER")
    values = {
        "redirect_uri": options.redirect_uri,
        "cookie_secret": cookie_secret or secrets.token_urlsafe(48),
        "client_id": options.client_id,
        "client_secret": client_secret,
        "server_metadata_url": options.issuer.rstrip("/") + "/.well-known/openid-configuration",
    }
    # A basic string of TOML is written as JSON writes it.
    lines = [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in values.items()]
    text = "\n".join(
        ["[auth]", *lines, "[auth.client_kwargs]", f"scope = {json.dumps(options.scope)}"]
    )
    memory = os.memfd_create("secrets")
    os.write(memory, text.encode())
    folder = Path(tempfile.mkdtemp(prefix="mobius-login-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    link = folder / "secrets.toml"
    link.symlink_to(f"/proc/self/fd/{memory}")
    for name in ("MOBIUS_OIDC_CLIENT_SECRET", "MOBIUS_OIDC_COOKIE_SECRET"):
        environment.pop(name, None)
    return link

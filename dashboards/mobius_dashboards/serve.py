"""Streamlit's own command line, after the libraries of the pages: the first page does not wait for them."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Final

from streamlit.web.cli import main

from mobius_dashboards.login_secrets import secrets_file
from mobius_dashboards.oidc_options import oidc_options

__all__ = ["PRELOADED"]

# Seconds to load together. The pages themselves are left out: their caches belong to a running server.
PRELOADED: Final = (
    "altair",
    "mobius_analysis.cells",
    "mobius_analysis.findings",
    "mobius_analysis.releases",
    "mobius_analysis.series",
    "mobius_pipeline.status",
    "pandas",
    "scipy.stats",
)

if __name__ == "__main__":
    if oidc_options(os.environ) is not None:
        sys.argv.append(f"--secrets.files={secrets_file(os.environ)}")
    for name in PRELOADED:
        import_module(name)
    sys.exit(main(prog_name="streamlit"))

"""Streamlit's own command line, after the libraries of the pages: the first page does not wait for them."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Final

from streamlit.web.cli import main

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
    for name in PRELOADED:
        import_module(name)
    sys.exit(main(prog_name="streamlit"))

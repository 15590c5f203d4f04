"""`python -m mobius_infra.benchmarks [NAME...]`: prints one JSON document."""

from __future__ import annotations

import sys

from mobius_infra.benchmarks.commands import run_all
from mobius_pipeline.options import print_json

if __name__ == "__main__":
    print_json(run_all(sys.argv[1:]))

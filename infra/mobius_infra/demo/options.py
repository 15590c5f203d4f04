"""Options that several commands of the demo take."""

from __future__ import annotations

import argparse

from mobius_infra.demo import shop

__all__ = ["Target", "add_targets"]

Target = tuple[str, str]
"""A region and the address of its storefront."""


def add_targets(parser: argparse.ArgumentParser) -> None:
    """Add ``--target REGION=URL``, which may be given once a region."""
    parser.add_argument(
        "--target",
        action="append",
        required=True,
        type=_target,
        metavar="REGION=URL",
        help="a region of the shop and the address of its storefront; once a region",
    )


def _target(text: str) -> Target:
    region, _, url = text.partition("=")
    if region not in shop.REGIONS or not url.startswith(("http://", "https://")):
        known = ", ".join(shop.REGIONS)
        raise argparse.ArgumentTypeError(
            f"{text!r} is not REGION=URL with one of the regions {known} and an http address"
        )
    return region, url.rstrip("/")

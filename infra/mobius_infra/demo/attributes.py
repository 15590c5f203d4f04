"""Which attributes of the shop's spans leave its processes."""

from __future__ import annotations

__all__ = ["ATTRIBUTES"]

ATTRIBUTES = ("peer.service", "shop.basket.lines", "shop.cache.hit", "shop.customer.returning")
"""What the shop's spans carry beyond the product's allow-list."""

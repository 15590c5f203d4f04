"""Errors of the instrumentation. They are raised while a service starts, never while it serves."""

from __future__ import annotations

__all__ = ["ConfigurationError"]


class ConfigurationError(ValueError):
    """``instrument()`` cannot work as configured; the text says what to set, and where.

    Attributes
    ----------
    option
        Name of the argument of ``instrument()`` that is wrong or missing.
    """

    def __init__(self, option: str, problem: str) -> None:
        self.option = option
        self.problem = problem
        super().__init__(f"{option}: {problem}")

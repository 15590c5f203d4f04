"""What a fuzz target is, and the list of all of them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

__all__ = ["ENGINE_TARGETS", "TARGETS", "Target", "load"]

TARGETS: Final = {
    "wire": "tests.fuzz.wire_target",
    "span-files": "tests.fuzz.span_file_target",
    "result-files": "tests.fuzz.result_file_target",
    "texts": "tests.fuzz.text_target",
    "encoder": "tests.fuzz.encoder_target",
}
"""Targets that need nothing but this process."""

ENGINE_TARGETS: Final = {
    "engine-spans": "tests.fuzz.engine_span_target",
    "engine-results": "tests.fuzz.engine_result_target",
}
"""Targets that write into a real store, which they start."""


@dataclass(frozen=True, slots=True)
class Target:
    """One thing that must hold for every input.

    Attributes
    ----------
    check
        Raises on an input for which a property does not hold; says whether the code under test accepted it.
    seeds
        Inputs to begin with.
    close
        Ends what the target started; CPU seconds of other processes than this one.
    """

    check: Callable[[bytes], bool]
    seeds: Callable[[], Sequence[bytes]]
    close: Callable[[], float] = lambda: 0.0


def load(name: str) -> Target:
    """Import the module of a target, which has it as ``TARGET``."""
    module = importlib.import_module((TARGETS | ENGINE_TARGETS)[name])
    target: Target = module.TARGET
    return target

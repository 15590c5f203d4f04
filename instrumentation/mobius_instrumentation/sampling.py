"""Samplers that say in the span how many requests it stands for.

``OTEL_TRACES_SAMPLER`` keeps its meaning. For the two samplers by ratio the SDK's own do not record
the ratio, so that counts and quantiles would be too small or skewed without anybody noticing. In their
place come OpenTelemetry's consistent ones, which write the rejection threshold into ``tracestate``
(``ot=th:...``, OTEP 235), from which the pipeline takes each span's weight.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

from opentelemetry.sdk.trace.sampling import Sampler

__all__ = ["sampler_from_environment"]

_log: Final = logging.getLogger("mobius_instrumentation")


def sampler_from_environment(environ: Mapping[str, str]) -> Sampler | None:
    """Return the consistent form of a sampler by ratio, None where the SDK's own choice is right."""
    name = environ.get("OTEL_TRACES_SAMPLER", "").strip().lower()
    if name not in ("traceidratio", "parentbased_traceidratio"):
        return None
    try:
        ratio = float(environ.get("OTEL_TRACES_SAMPLER_ARG", ""))
        from opentelemetry.sdk.trace import _sampling_experimental as consistent

        sampler = consistent.composable_traceid_ratio_based(ratio)
    except ValueError:
        return None  # the SDK warns of it, and samples everything
    except (ImportError, AttributeError):
        _log.warning(
            "this OpenTelemetry SDK has no consistent samplers: sampled spans count once each"
        )
        return None
    if name.startswith("parentbased"):
        sampler = consistent.composable_parent_threshold(sampler)
    return consistent.composite_sampler(sampler)

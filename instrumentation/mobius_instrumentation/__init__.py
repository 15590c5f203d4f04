"""Enrich, filter and export the spans of a FastAPI service to Mobius RUM.

>>> from fastapi import FastAPI
>>> from mobius_instrumentation import instrument
>>> app = FastAPI()
>>> instrument(app)  # doctest: +SKIP
"""

from mobius_instrumentation.asgi import instrument_asgi
from mobius_instrumentation.errors import ConfigurationError
from mobius_instrumentation.instrumentation import Instrumentation, instrument
from mobius_instrumentation.stats import ExportStats
from mobius_instrumentation.subjects import identify

__all__ = [
    "ConfigurationError",
    "ExportStats",
    "Instrumentation",
    "identify",
    "instrument",
    "instrument_asgi",
]

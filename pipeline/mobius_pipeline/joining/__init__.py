"""Joins the requests of test runs with their server spans by trace id, and takes those spans out of production.

Pure: :mod:`~mobius_pipeline.joining.pairing` (which span answers which request) and
:mod:`~mobius_pipeline.joining.parts` (where a request's time went). Thin: :mod:`~mobius_pipeline.joining.load` reads,
:mod:`~mobius_pipeline.joining.corrections` writes, :mod:`~mobius_pipeline.joining.join` does both for a run.
"""

"""Numbered SQL files, one folder a kind of store: ``zone`` and ``hub``. :mod:`mobius_pipeline.migrate` applies them."""

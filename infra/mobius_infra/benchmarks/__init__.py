"""Measurements against a named peer or limit; each module offers ``run() -> dict``."""

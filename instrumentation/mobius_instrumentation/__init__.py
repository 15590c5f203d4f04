"""Enrich, filter and export the spans of a FastAPI service to Mobius RUM."""

"""Residency: the whole policy of zones.toml, what contradicts in it, who sees what and why, and its ClickHouse form."""

"""A small shop that shows what Mobius RUM is for: services, users, tests and a past of all three."""

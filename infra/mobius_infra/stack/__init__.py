"""The local stack: what `mobius-rum up` starts, watches and stops."""

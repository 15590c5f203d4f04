"""The `mobius-rum` command, the local stack and everything that runs the parts."""

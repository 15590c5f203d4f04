"""Importers: files of spans go through Kafka like everything else, results of test tools go to the store.

Both check a whole file before the first byte of it leaves the process, so that a bad file changes
nothing, and both know a file again by the SHA-256 of its decompressed content.
"""

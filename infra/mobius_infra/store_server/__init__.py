"""ClickHouse's HTTP protocol over the embedded engine (chDB), for the local stack and for tests.

Production talks to a real ClickHouse server over HTTP. This server speaks the part of that protocol which
clickhouse-connect, curl and browsers use, so every process of the local stack takes exactly the client path of
production. One process owns a data folder; every request runs on an engine connection of its own, so settings
(``readonly`` above all) and the current database never leak from one request into another.

Not offered, and refused by name: sessions across requests, external data tables, ClickHouse's own block
compression (``compress=1``), more than one statement a request, files of the server (``INTO OUTFILE``,
``FROM INFILE``).
"""

from mobius_infra.store_server.server import ServerOptions, serve

__all__ = ["ServerOptions", "serve"]

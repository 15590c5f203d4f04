"""As what a content is imported: settled once, before its first request, whoever imports it and how often.

The settings of the first stand in the store beside the data. Their row carries a deduplication token that names the
content only, so of two imports at once the store keeps one row and each reads back what it says. Both then insert the
same batches under the same tokens, which count once; so does an import that was cut off and is repeated with other
options, or after production got other routes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from clickhouse_connect.driver.client import Client

from mobius_pipeline.imports.formats.given import Given
from mobius_pipeline.imports.routes import Match
from mobius_pipeline.imports.tally import Name

__all__ = ["Settings", "claim"]


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that decides what the rows of a run look like, besides its content."""

    run: str
    test: str
    region: str
    service: str | None
    release: str | None
    environment: str | None
    given: Given
    matches: Mapping[Name, Match]

    def text(self) -> str:
        """Write the settings as they are stored."""
        names = [[*name, m.method, m.route, m.service] for name, m in self.matches.items()]
        fields = ("run", "test", "region", "service", "release", "environment")
        document: dict[str, Any] = {field: getattr(self, field) for field in fields}
        return json.dumps(document | {"given": asdict(self.given), "names": names})

    @classmethod
    def of(cls, text: str) -> Settings:
        """Read what :meth:`text` wrote."""
        document = json.loads(text)
        names = document.pop("names")
        matches = {(method, name): Match(*rest) for method, name, *rest in names}
        return cls(**document | {"given": Given(**document["given"]), "matches": matches})


def claim(client: Client, digest: str, writer: str, wanted: Settings) -> Settings:
    """Write as what a content is to be imported; return as what it is, which the first import decided.

    Parameters
    ----------
    digest
        SHA-256 of the content, in hexadecimal.
    writer
        Name of this import, unlike that of any other.
    """
    client.insert(
        "synthetic_imports",
        [[digest, writer, wanted.text()]],
        ["digest", "writer", "settings"],
        settings={"insert_deduplication_token": f"synthetic-import/{digest}"},
    )
    rows = client.query(
        "SELECT settings FROM synthetic_imports WHERE digest = {digest:String} ORDER BY at, writer LIMIT 1",
        parameters={"digest": digest},
    ).result_rows
    return Settings.of(rows[0][0])

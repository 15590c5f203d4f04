"""What a SQL statement does, without its values: ``SELECT orders lines`` (semantic conventions, ``db.query.summary``).

Only the verb and the names of tables, in the order of the statement, at most 255 characters. Literals and comments are
taken out before anything is looked for, so that no text inside of them can pass for a name.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

__all__ = ["query_summary"]

_LONGEST_STATEMENT: Final = 20_000  # the rest is not looked at
_LONGEST_SUMMARY: Final = 255
_LITERALS: Final = re.compile(
    r"'(?:[^']|'')*(?:'|\Z)"  # text
    r"|\$([A-Za-z_]*)\$.*?(?:\$\1\$|\Z)"  # PostgreSQL's
    r"|/\*.*?(?:\*/|\Z)|--[^\n]*|\#[^\n]*"  # comments, which may hold anything
    r"|\b\d[\w.]*",
    re.DOTALL,
)
_VERB: Final = re.compile(r"[\s(;]*([A-Za-z]{2,20})\b")
_VERBS: Final = frozenset(
    [
        "SELECT",
        "INSERT",
        "UPDATE",
        "DELETE",
        "MERGE",
        "REPLACE",
        "UPSERT",
        "WITH",
        "CALL",
        "EXEC",
        "EXECUTE",
        "CREATE",
        "ALTER",
        "DROP",
        "TRUNCATE",
        "BEGIN",
        "COMMIT",
        "ROLLBACK",
        "SAVEPOINT",
        "RELEASE",
        "SET",
        "SHOW",
        "EXPLAIN",
        "PRAGMA",
        "VACUUM",
        "ANALYZE",
        "COPY",
        "LOCK",
        "DECLARE",
        "FETCH",
        "CLOSE",
        "VALUES",
    ]
)
# A quoted name may hold anything too, so that only one of plain characters counts.
_NAME: Final = r"[\"`\[]?[A-Za-z_][\w$]{0,62}[\"`\]]?"
_TABLES: Final = re.compile(
    rf"\b(?:FROM|JOIN|INTO|UPDATE|TABLE)\s+(?:ONLY\s+|IF\s+(?:NOT\s+)?EXISTS\s+)?({_NAME}(?:\.{_NAME}){{0,2}})",
    re.IGNORECASE,
)
_QUOTES: Final = str.maketrans("", "", '"`[]')
_NO_TABLES: Final = frozenset({"select", "set", "lateral", "unnest", "values", "only"})


@lru_cache(maxsize=1024)
def query_summary(statement: str) -> str | None:
    """Return the summary of a statement, None where it begins with no verb of SQL."""
    bare = _LITERALS.sub(" ? ", statement[:_LONGEST_STATEMENT])
    verb = _VERB.match(bare)
    if verb is None or verb[1].upper() not in _VERBS:
        return None
    words = [verb[1].upper()]
    for found in _TABLES.finditer(bare):
        name = found[1].translate(_QUOTES)
        if name.lower() not in _NO_TABLES and name not in words:
            words.append(name)
    summary = words[0]
    for word in words[1:]:
        if len(summary) + 1 + len(word) > _LONGEST_SUMMARY:
            break
        summary += f" {word}"
    return summary

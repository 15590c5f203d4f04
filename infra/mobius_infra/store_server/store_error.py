"""A refused request: ClickHouse's error code, its text, and the HTTP status that a ClickHouse server would send."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["StoreError", "error_from_engine"]

_CODE: Final = re.compile(r"Code:\s*(\d+)\.")

# HTTP status by ClickHouse error code; every other code is 500, as a ClickHouse server answers
# (src/Server/HTTP/exceptionCodeToHTTPStatus.cpp).
_STATUS: Final[dict[int, int]] = {
    **dict.fromkeys((194,), 401),  # REQUIRED_PASSWORD
    **dict.fromkeys((192, 193, 291, 497, 516), 403),  # unknown user, wrong password, access denied
    # cannot parse, bad or mistyped arguments, syntax
    **dict.fromkeys(
        (6, 25, 26, 27, 36, 38, 41, 43, 53, 62, 69, 72, 117, 167, 168, 427, 441, 456, 467), 400
    ),
    # unknown identifier, function, type, table, format, aggregate, database, setting
    **dict.fromkeys((46, 47, 50, 56, 60, 63, 73, 81, 83, 115), 404),
    159: 408,  # TIMEOUT_EXCEEDED
    48: 501,  # NOT_IMPLEMENTED
    **dict.fromkeys((76, 209), 503),  # CANNOT_OPEN_FILE, SOCKET_TIMEOUT
}


class StoreError(Exception):
    """The request is refused; carries ClickHouse's error code and the HTTP status."""

    def __init__(self, code: int, name: str, problem: str, *, status: int | None = None) -> None:
        self.code = code
        self.status = status if status is not None else _STATUS.get(code, 500)
        super().__init__(f"Code: {code}. DB::Exception: {problem} ({name})")


def error_from_engine(error: Exception) -> StoreError:
    """Take the code out of an error of the engine; its text stays as it is."""
    text = str(error)
    found = _CODE.search(text)
    refusal = StoreError(int(found[1]) if found else 1002, "UNKNOWN_EXCEPTION", text)
    refusal.args = (text[found.start() :] if found else text,)
    return refusal

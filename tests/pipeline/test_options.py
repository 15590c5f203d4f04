"""Times and documents that all commands share."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

import pytest

from mobius_pipeline.config import read_credentials_file
from mobius_pipeline.errors import UsageError
from mobius_pipeline.options import format_time, parse_time, print_json, progress

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", NOW),
        ("90m", NOW - timedelta(minutes=90)),
        ("24h", NOW - timedelta(days=1)),
        ("7d", NOW - timedelta(days=7)),
        (" 1.5 H ", NOW - timedelta(minutes=90)),
        ("2026-11-23T10:00:00Z", NOW - timedelta(hours=2)),
        ("2026-11-23T11:00:00+01:00", NOW - timedelta(hours=2)),
        ("2026-11-23 10:00", NOW - timedelta(hours=2)),
        ("2026-11-23", datetime(2026, 11, 23, tzinfo=UTC)),
    ],
)
def test_times_are_read(text: str, expected: datetime) -> None:
    found = parse_time(text, NOW.astimezone(timezone(timedelta(hours=5))))
    assert (found, found.utcoffset()) == (expected, timedelta(0))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "-5m",
        "5",
        "999999999w",
        "2026-13-01",
        "24:00",
        "1e3h",
        "0001-01-01T00:00+23:59",
        "9999-12-31T23:59:59-23:59",
    ],
)
def test_what_is_no_time_names_the_option(text: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_time(text, NOW, field="--since")
    assert error.value.field == "--since"
    assert "90m" in str(error.value)


def test_credentials_that_are_no_utf_8_are_their_bytes(tmp_path: Path) -> None:
    file = tmp_path / "credentials.env"
    file.write_bytes(b"# ours\nA = b\nPASSWORD=p\x80q\n")
    assert read_credentials_file(file) == {"A": "b", "PASSWORD": "p\udc80q"}


def test_times_are_written_in_utc() -> None:
    assert format_time(NOW) == "2026-11-23T12:00:00Z"
    assert (
        format_time(datetime(2026, 1, 1, 1, 0, 0, 123_456, timezone(timedelta(hours=1))))
        == "2026-01-01T00:00:00.123Z"
    )


def test_json_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"at": NOW, "day": date(2026, 1, 2), "path": Path("a/b"), "text": "ü", "none": None})
    assert json.loads(capsys.readouterr().out) == {
        "at": "2026-11-23T12:00:00Z",
        "day": "2026-01-02",
        "path": "a/b",
        "text": "ü",
        "none": None,
    }
    with pytest.raises(ValueError, match="not JSON compliant"):
        print_json({"value": float("nan")})


def test_progress_is_silent_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("work", 3) as advance:
        advance(3)
    assert capsys.readouterr() == ("", "")

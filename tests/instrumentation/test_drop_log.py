from __future__ import annotations

import logging

import pytest

from mobius_instrumentation.drop_log import DropLog


def test_one_line_a_minute_adds_up_to_every_drop(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    log = DropLog("topic t at b:1", lambda: now)
    with caplog.at_level(logging.WARNING):
        log.report({}, 0, "")
        assert not caplog.records
        log.report({"queue_full": 3}, 7, "refused")
        now = 59.0
        log.report({"queue_full": 10}, 7, "ConnectionError: refused")
        assert len(caplog.records) == 1
        now = 60.0
        log.report({"queue_full": 12, "shutdown": 1}, 7, "")
        now = 61.0
        log.report({"queue_full": 12, "shutdown": 5}, 0, "", final=True)
    assert caplog.messages == [
        "3 spans were dropped instead of sent to topic t at b:1 (queue_full: 3); last problem: refused",
        "10 spans were dropped instead of sent to topic t at b:1 (queue_full: 9, shutdown: 1)",
        "4 spans were dropped instead of sent to topic t at b:1 (shutdown: 4)",
    ]


def test_spans_that_wait_are_mentioned_before_any_is_dropped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = DropLog("t", lambda: 0.0)
    with caplog.at_level(logging.WARNING):
        log.report({}, 7, "ConnectionError: refused")
        log.report({}, 9, "ConnectionError: refused", final=True)
    assert caplog.messages == ["7 spans wait for t; last problem: ConnectionError: refused"]

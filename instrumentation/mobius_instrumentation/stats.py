"""What became of the spans: an exact account, and the file that other processes read it from."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

__all__ = ["DropReason", "ExportStats", "StatsFile"]

DropReason = Literal[
    "queue_full",
    "spool_full",
    "too_large",
    "encode_error",
    "refused",
    "shutdown",
    "after_shutdown",
]
"""Why a span was not sent.

- ``queue_full``: the buffer's bound in spans or bytes was reached, because the broker is away or slow;
- ``spool_full``: as ``queue_full``, and the spool on the disk was full as well;
- ``too_large``: the span alone exceeds the size of a message;
- ``encode_error``: the span holds what cannot be written as OTLP;
- ``refused``: the broker refuses the message for good;
- ``shutdown``: the deadline of the shutdown passed first. The broker may have stored it nevertheless:
  only its acknowledgement is missing;
- ``after_shutdown``: the span ended after the exporter did.
"""

_INTERVAL_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class ExportStats:
    """Account of one exporter since it was made. Always: accepted = sent + dropped + pending + spooled.

    Attributes
    ----------
    accepted
        Sampled spans that ended and were handed to the exporter, and those taken over from the spool of a dead process.
    sent
        Spans that the broker acknowledged (from every in-sync replica).
    dropped
        Spans that will never be sent, by reason (see :data:`DropReason`).
    pending
        Spans that wait in the buffer or for an acknowledgement.
    spooled
        Spans that wait on the disk. At the end of the process they are left to the next one.
    spool_torn
        Messages of the spool that were cut off by a kill or damaged, and are lost. How many spans they held is unknown.
    markers_rejected
        Requests whose synthetic marker was expired or wrongly signed (or could not be checked, because
        no key is configured); they count as users' traffic.
    attributes_removed
        Attributes that were not on the allow-list, of spans, events, links and the resource.
    values_redacted
        Values and names in which something was replaced or cut, because it looked like what must not leave.
    unsampled
        Requests that left no span because the sampler said so, for instance at a caller's wish.
    """

    accepted: int
    sent: int
    dropped: Mapping[str, int]
    pending: int
    spooled: int = 0
    spool_torn: int = 0
    markers_rejected: int = 0
    attributes_removed: int = 0
    values_redacted: int = 0
    unsampled: int = 0

    @property
    def dropped_total(self) -> int:
        """Dropped spans of all reasons."""
        return sum(self.dropped.values())

    def document(self) -> dict[str, object]:
        """Document for JSON, as in the stats file."""
        return {
            "accepted": self.accepted,
            "sent": self.sent,
            "dropped": dict(self.dropped),
            "pending": self.pending,
            "spooled": self.spooled,
            "spool_torn": self.spool_torn,
            "markers_rejected": self.markers_rejected,
            "attributes_removed": self.attributes_removed,
            "values_redacted": self.values_redacted,
            "unsampled": self.unsampled,
        }


@dataclass(slots=True)
class StatsFile:
    """Writes an account to a file once a second, by atomic rename, so that readers see it whole.

    A file that cannot be written is given up silently on each try: an account must not stop a service.
    ``{pid}`` in the path becomes the process id; use it when a server starts several worker processes.
    """

    path: str
    account: Callable[[], ExportStats]
    _stop: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self) -> None:
        """Write now, and go on in a background thread."""
        self.write()
        threading.Thread(target=self._run, name="mobius-stats", daemon=True).start()

    def write(self) -> None:
        """Write the present account."""
        pid = os.getpid()
        target = Path(self.path.replace("{pid}", str(pid)))
        part = target.with_name(f".{target.name}.{pid}")
        with self._lock, contextlib.suppress(OSError):
            part.write_text(json.dumps(self.account().document()) + "\n", encoding="utf-8")
            part.replace(target)

    def stop(self) -> None:
        """Stop the background thread after a last write."""
        self._stop.set()
        self.write()

    def _run(self) -> None:
        while not self._stop.wait(_INTERVAL_SECONDS):
            self.write()

"""What an import holds does not grow with its file; the figure for over a gigabyte is in docs/importing.md."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

READ = """
import sys
from mobius_pipeline.imports.content import open_sources
from mobius_pipeline.imports.synthetic_read import read_again, read_run
with open_sources(sys.argv[1:]) as sources:
    read = read_run(sources, None)
    again = sum(1 for _ in read_again(read))
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(read.totals()[0], again, status["VmHWM"].split()[0])
"""
# A latency is kept in eight bytes, up to four million of them; a request as an object takes some 300.
BYTES_A_REQUEST = 100


def rows_of(count: int) -> bytes:
    row = "17954460{:02}.{:06},{}.5,GET,/catalog/{},200,time-out number {}\n"
    lines = (row.format(n // 10**6, n % 10**6, n % 97, n % 50, n % 7) for n in range(count))
    return b"start_epoch_s,duration_ms,method,name,status,error\n" + "".join(lines).encode()


def test_five_times_the_requests_take_no_more_memory(tmp_path: Path) -> None:
    peaks = []
    for count in (15_000, 75_000):
        path = tmp_path / f"{count}.csv"
        path.write_bytes(gzip.compress(rows_of(count), 1))
        done = subprocess.run(
            [sys.executable, "-c", READ, str(path)], capture_output=True, text=True, check=True
        )
        requests, again, kilobytes = map(int, done.stdout.split())
        assert requests == again == count
        peaks.append(kilobytes * 1024)
    assert peaks[1] - peaks[0] < 60_000 * BYTES_A_REQUEST

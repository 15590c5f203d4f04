"""The data folder of a local stack: what lies where, who holds it, and its secrets."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from mobius_pipeline.config import CREDENTIALS_FILE, read_credentials_file, state_folder
from mobius_pipeline.errors import UsageError

__all__ = ["SUBJECT_KEY", "SYNTHETIC_KEY", "DataFolder", "default_data_folder", "subject_key_of"]

# Name in the environment of the key that signs test traffic.
SYNTHETIC_KEY: Final = "MOBIUS_SYNTHETIC_KEY"
SUBJECT_KEY: Final = "MOBIUS_SUBJECT_KEY"
"""What a service of the demo gets its zone's key as."""


def default_data_folder(environment: Mapping[str, str] | None = None) -> Path:
    """Where data go unless ``--data`` says otherwise (XDG base directory specification)."""
    values = os.environ if environment is None else environment
    base = values.get("XDG_DATA_HOME") or str(
        Path(values.get("HOME", "~")).expanduser() / ".local" / "share"
    )
    return Path(base) / "mobius-rum"


def subject_key_of(zone: str) -> str:
    """Name under which the folder keeps the secret of a zone's pseudonyms."""
    return f"MOBIUS_{zone.upper()}_SUBJECT_KEY"


class DataFolder:
    """Paths below the folder that ``--data`` names; see each property."""

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().absolute()

    @property
    def zones_file(self) -> Path:
        """The residency map of this stack, written anew at each start."""
        return self.root / "zones.toml"

    @property
    def state_file(self) -> Path:
        """What runs at the moment: parts, process ids, ports."""
        return self.root / "state.json"

    @property
    def stats(self) -> Path:
        """Folder where the exporters of the demo services count their spans."""
        return self.root / "stats"

    @property
    def runs(self) -> Path:
        """Folder where the load tool leaves its results until they are imported."""
        return self.root / "runs"

    @property
    def kafka(self) -> Path:
        """Data folder of the real Kafka, kept between runs."""
        return self.root / "kafka"

    def store(self, name: str) -> Path:
        """Folder of the database of a zone, or of the hub."""
        return self.root / name / "clickhouse"

    def log(self, name: str) -> Path:
        """Log of one part."""
        return self.root / "logs" / f"{name}.log"

    def prepare(self) -> None:
        """Make the folder, for nobody else's eyes.

        Raises
        ------
        UsageError
            It cannot be made or written.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            for folder in (self.stats, self.runs, self.root / "logs"):
                folder.mkdir(exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"cannot write the data folder {self.root} ({error.strerror})", field="--data"
            ) from error

    @contextlib.contextmanager
    def held(self, dashboard: str) -> Iterator[None]:
        """Hold the folder; the kernel lets go of it when this process ends, however it ends.

        Raises
        ------
        UsageError
            Another stack holds it; says which and where its dashboard is.
        """
        with (self.root / "lock").open("a+", encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError(self._holder(lock.name)) from None
            lock.truncate(0)
            lock.write(json.dumps({"pid": os.getpid(), "dashboard": dashboard}))
            lock.flush()
            yield
            lock.truncate(0)

    def _holder(self, lock: str) -> str:
        try:
            holder = json.loads(Path(lock).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            holder = {}
        who = (
            f"process {holder['pid']}"
            if "pid" in holder
            else "a process that starts or ends at this moment"
        )
        where = f"; its dashboard: {holder['dashboard']}" if "dashboard" in holder else ""
        return (
            f"another `mobius-rum up` ({who}) runs on {self.root}{where}. "
            "Use that one, end it, or choose another folder with --data"
        )

    def secrets(self, stores: Sequence[str]) -> dict[str, str]:
        """Key of the test traffic, passwords of ``stores`` and keys of the zones' pseudonyms: random once, then kept beside zones.toml."""
        file = self.root / CREDENTIALS_FILE
        known = read_credentials_file(file)
        wanted = [
            SYNTHETIC_KEY,
            *(f"MOBIUS_{store.upper()}_CLICKHOUSE_PASSWORD" for store in stores),
            *(subject_key_of(store) for store in stores if store != "hub"),
        ]
        known |= {name: secrets.token_urlsafe(24) for name in wanted if name not in known}
        text = "# Made by `mobius-rum up` for this data folder alone. Keep it to yourself.\n"
        text += "".join(f"{name}={value}\n" for name, value in known.items())
        write_atomically(file, text, mode=0o600)
        return known

    def write_state(self, state: Mapping[str, Any]) -> None:
        """Replace the state file."""
        write_atomically(self.state_file, json.dumps(state, indent=1) + "\n")

    def history_reaches(self) -> float:
        """Return the end of the generated history that the stores hold; seconds since the epoch, 0 for none."""
        try:
            return float(
                json.loads((self.root / "history.json").read_text(encoding="utf-8"))["until"]
            )
        except (OSError, ValueError, KeyError):
            return 0.0

    def remember_history(self, until: float) -> None:
        """Note that the stores hold a complete generated history that ends at ``until``."""
        write_atomically(self.root / "history.json", json.dumps({"until": until}) + "\n")

    def begin(self) -> None:
        """Put the last run's counts away and keep its logs under another name."""
        for file in self.stats.glob("*/*.json"):
            file.unlink()
        for file in (self.root / "logs").glob("*.log"):
            file.replace(file.with_suffix(".log.last"))

    def remember(self) -> None:
        """Make this stack the one that commands use when nothing else is named."""
        folder = state_folder()
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "current-stack", f"{self.zones_file}\n")


def write_atomically(file: Path, text: str, *, mode: int = 0o644) -> None:
    """Replace a file so that readers see the old text or the new one, never a part."""
    beside = file.with_name(f"{file.name}.{os.getpid()}.new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as output:
        output.write(text)
    beside.replace(file)

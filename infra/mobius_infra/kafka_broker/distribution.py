"""Java, and the jars of the pinned Kafka: looked up, or fetched once with Maven and kept in the user's cache."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mobius_pipeline.errors import DependencyError

__all__ = [
    "Distribution",
    "KafkaMissingError",
    "cache_folder",
    "definition_folder",
    "find_jars",
    "find_java",
    "lay_out",
    "require",
]

_OLDEST_JAVA: Final = 17
_JAVA_VERSION: Final = re.compile(r'version "(\d+)')
_KAFKA_VERSION: Final = re.compile(r"<kafka\.version>([\w.-]+)</kafka\.version>")


class KafkaMissingError(DependencyError):
    """Something that Apache Kafka needs is not on this machine; says what, and how to get it."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__("Apache Kafka", "this machine", reason=reason, remedy=remedy)
        text = f"Apache Kafka cannot be started here: {reason}. {remedy}"
        self.args = (f"{text}, or use the embedded broker (`--broker embedded`)",)


@dataclass(frozen=True, slots=True)
class Distribution:
    """A Kafka that can be started: a Java that is new enough, and the folder of the jars."""

    java: Path
    jars: Path

    def command(self, main: str, *arguments: str) -> list[str]:
        """Command line that runs a Java class of Kafka."""
        return [
            str(self.java),
            # A guest on this machine: it starts small, and ends rather than limps when half a gigabyte is not enough.
            *("-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError"),
            # Less compiling and one thread of collection halve the CPU time of a start (1.7 s against 3.1 s).
            *("-XX:TieredStopAtLevel=1", "-Xshare:auto", "-Djava.awt.headless=true"),
            "-Djava.net.preferIPv4Stack=true",
            f"-Dlog4j2.configurationFile={definition_folder() / 'log4j2.properties'}",
            *("-cp", f"{self.jars}/*", main, *arguments),
        ]


def definition_folder() -> Path:
    """Folder of ``pom.xml``, ``server.properties`` and ``log4j2.properties``: in the wheel, or in the repository."""
    package = Path(__file__).resolve().parent
    packed = package / "definition"
    return packed if packed.is_dir() else package.parents[1] / "kafka"


def cache_folder(environment: Mapping[str, str] | None = None) -> Path:
    """Where fetched jars are kept (XDG base directory specification)."""
    values = os.environ if environment is None else environment
    base = values.get("XDG_CACHE_HOME") or str(
        Path(values.get("HOME", "~")).expanduser() / ".cache"
    )
    return Path(base) / "mobius-rum"


def find_java() -> Path:
    """Return the Java of ``JAVA_HOME``, else of the ``PATH``.

    Raises
    ------
    KafkaMissingError
        There is none, or it is older than Java 17.
    """
    remedy = f"Install Java {_OLDEST_JAVA} or later (Debian: openjdk-17-jre-headless)"
    home = os.environ.get("JAVA_HOME")
    name = str(Path(home) / "bin" / "java") if home else "java"
    found = shutil.which(name)
    if found is None:
        raise KafkaMissingError(f"there is no {name if home else 'java on the PATH'}", remedy)
    try:
        said = subprocess.run(
            [found, "-version"], capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise KafkaMissingError(f"{found} does not run ({error})", remedy) from error
    version = _JAVA_VERSION.search(said.stderr + said.stdout)
    if version is None or int(version[1]) < _OLDEST_JAVA:
        is_what = f"is Java {version[1]}" if version else "does not tell its version"
        raise KafkaMissingError(f"{found} {is_what}", remedy)
    return Path(found)


def find_jars() -> Path | None:
    """Return the folder of the pinned jars if it was laid out before."""
    folder = _jars_folder()
    return folder if folder.is_dir() else None


def require() -> None:
    """Make sure that Kafka can be started here, or fetched and started; takes no time and changes nothing.

    Raises
    ------
    KafkaMissingError
        Java is missing, or Maven is and the jars are not there yet.
    """
    find_java()
    if find_jars() is None:
        _find_maven()


def lay_out(*, seconds: float = 900.0, say: Callable[[str], None] = lambda _: None) -> Distribution:
    """Return a Kafka that can be started; the first time, its jars (about 45 MB) are fetched with Maven.

    Processes that ask at the same time fetch once. ``say`` takes one line before something is fetched.

    Raises
    ------
    KafkaMissingError
        Java or Maven is missing, or Maven cannot fetch the jars within ``seconds``.
    """
    java = find_java()
    folder = _jars_folder()
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with (folder.parent / "kafka.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.is_dir():
                say(f"fetching {folder.name} with Maven into {folder.parent}")
                _fetch(folder, seconds)
    return Distribution(java, folder)


def _jars_folder() -> Path:
    # Named after the definition too: another pom.xml never finds the jars of this one.
    pom = (definition_folder() / "pom.xml").read_bytes()
    version = _KAFKA_VERSION.search(pom.decode("utf-8"))
    if version is None:
        raise ValueError("pom.xml has no kafka.version")
    return cache_folder() / f"kafka-{version[1]}-{hashlib.sha256(pom).hexdigest()[:8]}"


def _find_maven() -> str:
    maven = shutil.which("mvn")
    if maven is None:
        raise KafkaMissingError(
            "its jars were not fetched yet, and there is no mvn on the PATH",
            "Install Maven (Debian: maven), which is needed once",
        )
    return maven


def _fetch(folder: Path, seconds: float) -> None:
    maven = _find_maven()
    with tempfile.TemporaryDirectory(prefix=f"{folder.name}.", dir=folder.parent) as beside:
        jars = Path(beside) / "jars"
        command = [
            maven,
            *("--quiet", "--batch-mode", "--strict-checksums"),
            *("--file", str(definition_folder() / "pom.xml")),
            "dependency:copy-dependencies",
            *(f"-DoutputDirectory={jars}", "-DincludeScope=runtime"),
        ]
        remedy = "Let Maven reach a repository (~/.m2/settings.xml)"
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=seconds, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise KafkaMissingError(f"Maven was not done after {seconds:.0f} s", remedy) from error
        if done.returncode or not any(jars.glob("kafka_*.jar")):
            lines = [line for line in done.stdout.splitlines() if "ERROR" in line]
            why = lines[0][:400] if lines else f"exit code {done.returncode}"
            raise KafkaMissingError(f"Maven could not fetch its jars ({why})", remedy)
        jars.rename(folder)

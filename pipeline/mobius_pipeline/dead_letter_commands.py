"""``mobius-rum dead-letters``: list, show, replay."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mobius_pipeline.config import find_zones_file, load_config, pick_zones
from mobius_pipeline.errors import UsageError
from mobius_pipeline.options import ConfigOption, JsonOption, ZoneOption, format_time, print_json
from mobius_pipeline.system_user import system_user

if TYPE_CHECKING:
    from mobius_pipeline.dead_letter_replay import Letter

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command("list")(list_letters)
    app.command("show")(show)
    app.command("replay")(replay_letters)


def list_letters(
    *,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many of the newest.")] = 100,
    zone: ZoneOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """List messages that could not be stored, the newest last."""
    from mobius_pipeline.dead_letter_replay import find_letters

    found = {each.name: find_letters(each) for each in pick_zones(load_config(config), zone)}
    if json:
        print_json(
            {
                "zones": {
                    name: {
                        "total": len(letters),
                        "dead_letters": [_document(letter) for letter in letters[-limit:]],
                    }
                    for name, letters in found.items()
                }
            }
        )
        return
    for name, letters in found.items():
        typer.echo(f"{name}: {len(letters):,} dead letters")
        for letter in letters[-limit:]:
            typer.echo(
                f"  {letter.id}  {format_time(letter.at)}  {letter.bytes:,} B  {letter.state}: {letter.reason}"
            )


def show(
    *,
    name: Annotated[str, typer.Argument(metavar="ID", help="Identity, as `list` prints it.")],
    reason: Annotated[
        str,
        typer.Option(
            "--reason", help="Why you look, for the zone's audit log.", show_default=False
        ),
    ] = "",
    zone: ZoneOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Show one dead letter with its bytes; the zone writes down who looked."""
    from mobius_pipeline.dead_letter_replay import find_letters, letter_value
    from mobius_pipeline.residency.audit import RowRead, record_read
    from mobius_pipeline.residency.contradictions import load_policy

    file = find_zones_file(config)
    policy = load_policy(file)
    for each in pick_zones(load_config(file), zone):
        for letter in find_letters(each):
            if letter.id == name:
                read = RowRead(system_user(), "", "dead_letter", {"dead_letter": name}, reason)
                record_read(each, read, reason_needed=policy.zones[each.name].reason_for_rows)
                _show(each.name, letter, letter_value(each, letter), json=json)
                return
    raise UsageError(f"no dead letter {name}")


def replay_letters(
    *,
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ID]...", help="Which; all that were not replayed yet when left out."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be published; change nothing.")
    ] = False,
    zone: ZoneOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Publish dead letters again, each at most once; after what refused them was corrected."""
    from mobius_pipeline.dead_letter_replay import replay

    zones = pick_zones(load_config(config), zone)
    if names and len(zones) != 1:
        raise UsageError("ids are of one zone: name it", field="--zone")
    done = {each.name: replay(each, names or (), dry_run=dry_run) for each in zones}
    if json:
        print_json(
            {"dry_run": dry_run, "zones": {name: asdict(result) for name, result in done.items()}}
        )
        return
    verb = "would replay" if dry_run else "replayed"
    for name, result in done.items():
        typer.echo(
            f"{name}: {verb} {len(result.replayed):,}; {len(result.already):,} were before, "
            f"{len(result.interrupted):,} were interrupted (published or not: look for the header replay-of), "
            f"{len(result.missing):,} have no bytes in the dead-letter topic"
        )


def _document(letter: Letter) -> dict[str, Any]:
    return {"id": letter.id, **asdict(letter), "topic_id": str(letter.topic_id)}


def _show(zone: str, letter: Letter, value: tuple[bytes, str] | None, *, json: bool) -> None:
    data, encoding = value or (None, "")
    if json:
        text = None if data is None else b64encode(data).decode()
        print_json(
            {"zone": zone, **_document(letter), "content_encoding": encoding, "value_base64": text}
        )
        return
    typer.echo(f"{letter.id} of {letter.topic} in zone {zone}, {letter.state}: {letter.reason}")
    if data is None:
        typer.echo("the dead-letter topic has no bytes of it")
        return
    typer.echo(f"{len(data):,} B{f', {encoding}' if encoding else ''}; the first 256:")
    for begin in range(0, min(256, len(data)), 16):
        part = data[begin : begin + 16]
        plain = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        typer.echo(f"  {begin:04x}  {part.hex(' '):47}  {plain}")

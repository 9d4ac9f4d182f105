"""`q2o dead-letters`: lists the records that no consumer could process, shows one, and sends them again once the cause is mended."""

from __future__ import annotations

import json
import sys
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from workers.cli_errors import AsJson, err, out, plain_errors, refuse_together, settings_of
from workers.runtime.counting import counted
from workers.runtime.settings import SettingError

if TYPE_CHECKING:
    from workers.kafka.letters import Letter, Letters

EXIT_NOT_SENT = 1
SHOWN = 10_000  # bytes of a value that are printed; --json has all
HEX_LINE = 32
SHORT = 80  # characters of a reason in the list
dead_letters = typer.Typer(no_args_is_help=True, help="Records that no consumer could process: list, show, send again.")
PLACE = Annotated[str, typer.Argument(help="The letter: topic/partition/offset, as the list names it.")]
TOPIC = Annotated[str | None, typer.Option(help="Only letters of this topic. Default: of all topics.")]


@dead_letters.command("list")
def list_letters(
    *,
    topic: TOPIC = None,
    reason: Annotated[str, typer.Option(help="Only letters whose reason has this text.")] = "",
    of: Annotated[str, typer.Option("--id", help="Only letters whose key, event id or event type has this text.")] = "",
    waiting: Annotated[bool, typer.Option("--waiting", help="Only letters that were not sent again.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the dead letters, the oldest first."""
    from workers.kafka.letters import Replay

    with _letters() as letters:
        found = [
            letter
            for letter in letters.all(_topics(topic))
            if reason in letter.reason
            and any(of in text for text in ("", *letter.ids.values()))
            and not (waiting and letter.replay is Replay.DONE)
        ]
    if as_json:
        sys.stdout.write(json.dumps([_as_json(letter) for letter in found], indent=2) + "\n")
        return
    table = Table(title=counted(len(found), "dead letter"), title_justify="left")
    # However narrow the terminal is: `show` and `replay` need the whole place.
    table.add_column("letter", no_wrap=True, min_width=max((len(str(letter.place)) for letter in found), default=0))
    for name in ("since", "reason", "ids", "bytes", "sent again"):
        table.add_column(name, overflow="fold")
    for letter in found:
        ids = ", ".join(f"{name} {value}" for name, value in letter.ids.items())
        cells = str(letter.place), f"{letter.written_at:%Y-%m-%d %H:%M:%S}", letter.reason[:SHORT], ids, str(letter.whole_size)
        table.add_row(*(Text(safe(cell)) for cell in cells), Text(_sent(letter)))
    out.print(table)


@dead_letters.command("show")
def show_letter(
    place: PLACE, *, as_hex: Annotated[bool, typer.Option("--hex", help="Print the value as hex.")] = False, as_json: AsJson = False
) -> None:
    """Show one dead letter: why nobody could process it, its headers and its value, with every control character spelled out."""
    with plain_errors():
        if as_json:
            refuse_together("--json", {"--hex": as_hex}, "it has the value as base64, so leave --hex out")
    with _letters() as letters:
        letter = letters.find(place)
    if as_json:
        value = None if letter.value is None else b64encode(letter.value).decode()
        told = {
            **_as_json(letter),
            "headers": [[name, safe(_text(content))] for name, content in letter.headers],
            "valueBase64": value,
        }
        sys.stdout.write(json.dumps(told, indent=2) + "\n")
        return
    source = str(letter.source) if letter.source else "unknown"
    facts = {"letter": str(letter.place), "record": source, "since": letter.written_at.isoformat(), "reason": letter.reason}
    facts |= {"key": _text(letter.key), "bytes": str(letter.whole_size), "left out": letter.left_out, "sent again": _sent(letter)}
    known = {name: fact for name, fact in facts.items() if fact}
    for name, fact in (*known.items(), *((f"header {name}", _text(content)) for name, content in letter.headers)):
        out.print(Text(f"{safe(name)}: {safe(fact)}"))
    for line in _value_lines(letter.value, as_hex=as_hex):
        out.print(Text(line))


@dead_letters.command("replay")
def replay_letters(
    place: Annotated[str, typer.Argument(help="The letter: topic/partition/offset. Empty: all of --topic.")] = "",
    *,
    topic: TOPIC = None,
    again: Annotated[bool, typer.Option("--again", help="Also what was sent again before.")] = False,
    as_json: AsJson = False,
) -> None:
    """Send the record of one letter, or of all letters of a topic, to its topic once more: key, headers and value as they were.

    Exit code 1: a record was not sent, or Kafka did not confirm it.
    """
    from workers.kafka.letters import Replay, Sent

    if bool(place) == bool(topic):
        with plain_errors():
            raise SettingError("give one letter, or all letters of a topic by --topic")
    told: list[dict[str, str]] = []
    with _letters() as letters:
        for letter in [letters.find(place)] if place else _of_topic(letters, topic, again=again):
            sent, sentence = letters.replay(letter, again=again)
            told.append({"letter": str(letter.place), "outcome": sent, "detail": sentence})
            if not as_json:
                out.print(Text(safe(f"{letter.place} {sentence}: {sent}")))
            is_away = sent is Sent.UNKNOWN and (again or letter.replay is not Replay.BEGUN)
            if is_away or sent is Sent.TOPIC_REFUSED:
                break  # every other record would wait for Kafka or its topic, and come to nothing, too
    if as_json:
        sys.stdout.write(json.dumps(told, indent=2) + "\n")
    if any(each["outcome"] in {Sent.UNKNOWN, Sent.REFUSED, Sent.TOPIC_REFUSED} for each in told):
        raise typer.Exit(EXIT_NOT_SENT)


@contextmanager
def _letters() -> Iterator[Letters]:
    """The letters in the Kafka of the settings. What a person can put right is one line, and exit code 2."""
    from workers.kafka.letters import Letters, NoSuchLetterError

    with plain_errors():
        try:
            yield Letters(settings_of("dead-letters").kafka)
        except NoSuchLetterError as error:
            raise SettingError(str(error)) from error


def _topics(topic: str | None) -> Sequence[str]:
    from workers.kafka.letters import NAMES, topic_named

    return [topic_named(topic)] if topic else NAMES


def _of_topic(letters: Letters, topic: str | None, *, again: bool) -> list[Letter]:
    from workers.kafka.letters import Replay

    found = letters.all(_topics(topic))
    chosen = [letter for letter in found if again or letter.replay is not Replay.DONE]
    err.print(f"{len(chosen)} of {counted(len(found), 'letter')} to send", markup=False)
    return chosen


def _as_json(letter: Letter) -> dict[str, Any]:
    return {
        "letter": str(letter.place),
        "record": str(letter.source) if letter.source else None,
        "since": letter.written_at.isoformat(),
        "reason": letter.reason,
        "ids": letter.ids,
        "bytes": letter.whole_size,
        "leftOut": letter.left_out or None,
        "isWhole": letter.is_whole,
        "replay": letter.replay,
        "replayedAt": letter.replayed_at and letter.replayed_at.isoformat(),
    }


def _sent(letter: Letter) -> str:
    from workers.kafka.letters import Replay

    at = f"{letter.replayed_at:%Y-%m-%d %H:%M:%S}" if letter.replayed_at else ""
    return {Replay.NONE: "no", Replay.BEGUN: f"unknown, begun at {at}", Replay.DONE: f"at {at}"}[letter.replay]


def _value_lines(value: bytes | None, *, as_hex: bool) -> Iterator[str]:
    if value is None:
        yield "no value"
        return
    shown = value[:SHOWN]
    try:
        text = None if as_hex else shown.decode(errors="strict")
    except UnicodeDecodeError:
        text = None
    if text is None:
        yield "value as hex:"
        yield from (f"{at:08x}  {shown[at : at + HEX_LINE].hex(' ', 2)}" for at in range(0, len(shown), HEX_LINE))
    else:
        yield "value:"
        yield safe(text)
    if len(value) > SHOWN:
        yield f"… and {len(value) - SHOWN} bytes more: --json has all"


def _text(value: bytes | None) -> str:
    return "" if value is None else value.decode(errors="backslashreplace")


def safe(text: str) -> str:
    """A text that does nothing to the terminal, and deceives nobody: what is no visible character is spelled out."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)

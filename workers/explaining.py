"""Tells the story of an order in sentences (`q2o explain`). Pure: entries in, one sentence for each out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from domain.texts import reason_of

Entry = Mapping[str, Any]
SUBJECTS: Mapping[str, str] = {
    "quote": "The quote",
    "approval_request": "The approval of the quote",
    "approval_requirement": "A signature on the quote",
    "sales_order": "The order",
    "cancellation_request": "The cancellation",
    "workflow_correlation": "The process",
}
IDS = ("id", "aggregateId", "externalEventId", "idempotencyKey", "caseNumber", "stepId")
"""What names an entry, the narrowest first."""


class Sentence(NamedTuple):
    """When something happened by our clock, and what."""

    at: datetime
    text: str


def sentences(story: Iterable[Entry]) -> Iterator[Sentence]:
    """One sentence for each entry of `domain.stories.story`, in its order. An entry that cannot be told is one that says so."""
    return (Sentence(datetime.fromisoformat(entry["at"]), _told(entry)) for entry in story)


def _told(entry: Entry) -> str:
    try:
        return SENTENCES[entry["kind"]](entry)
    except Exception as error:  # noqa: BLE001 - an odd row must not keep the others from being told
        named = next((f" {entry[name]}" for name in IDS if name in entry), "")
        return f"The entry {entry['kind']}{named} cannot be told: {type(error).__name__}: {reason_of(error)}."


def _transition(entry: Entry) -> str:
    old, new = entry.get("transitionFrom"), entry["transitionTo"]
    by = f"by {entry['actor']}"
    if old is None:
        return f"{_subject(entry)} was made, {by}: it is {new}."
    why = _words(entry["reason"])
    if old == new:
        return f"{_subject(entry)} stayed {new} ({why}), {by}."
    return f"{_subject(entry)} went from {old} to {new} ({why}), {by}."


def _subject(entry: Entry) -> str:
    if "caseNumber" in entry:
        return f"Case {entry['caseNumber']}"
    if "stepCode" in entry:
        return f"Step {entry['stepCode']}"
    if "workflow" in entry:
        return f"The process {entry['workflow']}"
    kind = str(entry.get("aggregateType", ""))
    if kind == "jeopardy_alert" and "level" in entry:
        return f"The alert that the order may be late ({_words(entry['level'])})"
    return SUBJECTS.get(kind, _words(kind).capitalize())


def _sent(entry: Entry) -> str:
    return (
        f"Worker {entry['actor']} sent {entry['command']} of step {entry['stepCode']} to its provider, "
        f"as attempt {entry['attemptNo']} under the key {entry['idempotencyKey']}."
    )


def _settled(entry: Entry) -> str:
    source = f", as its {_words(entry['source'])} says" if "source" in entry else ""
    return f"Attempt {entry['attemptNo']} of step {entry['stepCode']} ({entry['command']}) is {entry['status']}{source}{_because(entry)}."


def _callback(entry: Entry) -> str:
    when = f", at {entry['providerAt']} by its own clock" if "providerAt" in entry else ""
    said = f"{entry['actor']} reported {entry['eventType']} of step {entry['stepCode']}{when}"
    return f"{said} (event {entry['externalEventId']}): {_words(entry['status'])}."


def _callback_conflict(entry: Entry) -> str:
    return f"{entry['actor']} sent event {entry['externalEventId']} again with another content: refused, and a case was opened."


def _contradiction(entry: Entry) -> str:
    return f"A {_words(entry['source'])} says {entry['said']} of step {entry['stepCode']}, which was {entry['known']}: both facts stay."


def _contradiction_answered(entry: Entry) -> str:
    return f"Whether {entry['said']} of step {entry['stepCode']} holds was settled: {_words(entry['status'])}."


def _note(entry: Entry) -> str:
    return f"{entry['actor']} wrote on case {entry['caseNumber']} ({_words(entry['status'])}): {entry.get('reason', '')}"


def _decision(entry: Entry) -> str:
    authority = f", with the authority of {entry['authority']}" if "authority" in entry else ""
    return f"{entry['actor']} decided {entry['status']} on the {_words(entry['signature'])} of level {entry['level']}{authority}{_because(entry)}."


def _acceptance(entry: Entry) -> str:
    own, active = entry["priceBookVersion"], entry["activeVersion"]
    beside = "which was active" if own == active else f"when {active} was active"
    return f"{entry['actor']} accepted the offer at the prices of {own}, {beside}; the policy is {entry['policy']}."


def _case(entry: Entry) -> str:
    return (
        f"Case {entry['caseNumber']} ({_words(entry['type'])}, severity {_words(entry['severity'])}) "
        f"is in the queue {entry['queue']}: {entry['detail']}"
    )


def _refusal(entry: Entry) -> str:
    expected, found = entry.get("expectedVersion"), entry.get("actualVersion")
    versions = f": it expected version {expected}, and found {found}" if expected and found and expected != found else ""
    return f"{_subject(entry)} refused `{entry['command']}` of {entry['actor']} with {entry['code']}{versions}."


def _finding(entry: Entry) -> str:
    evidence = ", ".join(f"{name} {value}" for name, value in entry["evidence"].items() if value is not None)
    about = f" of step {entry['stepCode']}" if "stepCode" in entry else ""
    about = f" of the process {entry['workflow']}" if "workflow" in entry else about
    left = "; it is not over yet" if entry["findingStatus"] == "OPEN" else ""
    return f"Reconciliation ({entry['sweep']}){about}: {_words(entry['status'])}; it saw {evidence}{left}."


def _process(entry: Entry) -> str:
    instance = f", instance {entry['processInstanceId']}" if "processInstanceId" in entry else ""
    return f"The process {entry['workflow']} is {entry['status']}{instance}."


def _repair(entry: Entry) -> str:
    return f"{entry['actor']} repaired {entry['field']} of {entry['stepCode']}: {entry.get('old')} became {entry.get('new')}."


def _because(entry: Entry) -> str:
    return f": {entry['reason']}" if entry.get("reason") else ""


def _words(identifier: str) -> str:
    return identifier.replace("_", " ").lower()


SENTENCES: Mapping[str, Callable[[Entry], str]] = {
    "TRANSITION": _transition,
    "ATTEMPT_SENT": _sent,
    "ATTEMPT_SETTLED": _settled,
    "CALLBACK": _callback,
    "CALLBACK_CONFLICT": _callback_conflict,
    "CONTRADICTION": _contradiction,
    "CONTRADICTION_ANSWERED": _contradiction_answered,
    "NOTE": _note,
    "REPAIR": _repair,
    "DECISION": _decision,
    "ACCEPTANCE": _acceptance,
    "CASE": _case,
    "REFUSAL": _refusal,
    "FINDING": _finding,
    "PROCESS": _process,
}
"""Kind of entry -> its sentence."""

"""Every invariant of the audit: what must hold, where it is looked up, and what a violation means to the person who reads it.

docs/audit.md is made from this table, and the audit takes its titles from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Side(StrEnum):
    """What an invariant is looked up in, beside the database."""

    DATABASE = "the database"
    ENGINE = "the engine"
    KAFKA = "Kafka"
    LEDGER = "the provider's ledger"
    CLIENTS = "the clients' record"
    ARCHIVE = "the archive"


@dataclass(frozen=True, slots=True, kw_only=True)
class Invariant:
    """`means`: what has happened when it is violated. `remedy`: what a person does then."""

    code: str
    title: str
    side: Side
    means: str
    remedy: str


def _of(side: Side, code: str, title: str, means: str, remedy: str) -> Invariant:
    return Invariant(code=code, title=title, side=side, means=means, remedy=remedy)


DATABASE, ENGINE, KAFKA, LEDGER, CLIENTS = Side.DATABASE, Side.ENGINE, Side.KAFKA, Side.LEDGER, Side.CLIENTS
INVARIANTS: Final[Mapping[str, Invariant]] = {
    each.code: each
    for each in (
        _of(
            DATABASE,
            "I1",
            "one order per accepted revision",
            "A customer has two orders for one acceptance, or an order that nobody accepted.",
            "Cancel the order that is too much; find out who wrote to the tables past the product.",
        ),
        _of(
            DATABASE,
            "I2",
            "every idempotency key has its one stored answer",
            "A client that repeats its command would get no answer, or run it again.",
            "Tell the client to look at the aggregate before it repeats the command.",
        ),
        _of(
            DATABASE,
            "I3",
            "what was ordered is what was approved, priced and shown",
            "The order differs from what the customer saw or the approver signed.",
            "Hold the order, and have sales confirm it with the customer.",
        ),
        _of(
            DATABASE,
            "I4",
            "one decision per signature, within authority, and for no other revision",
            "Somebody signed twice, beyond their authority, or for something else.",
            "Have the revision approved again by somebody who may.",
        ),
        _of(
            DATABASE,
            "I5",
            "no change was lost: versions and revisions without a gap",
            "A change was overwritten, or a row was changed past the product.",
            "Compare the row with its log (`transition_log`; for an order `q2o explain`), and enter the lost change again.",
        ),
        _of(
            DATABASE,
            "I6",
            "accepted only while the offer and its price were valid",
            "An order has a price that was no longer offered.",
            "Let sales decide whether the price stands; look for clocks of the database that were set back.",
        ),
        _of(
            DATABASE,
            "I7",
            "every refusal has its code, every change its event",
            "Other systems never hear of a change, or nobody can tell why a command was refused.",
            "Run `q2o rebuild` for the lists; tell the consumers of the topic which aggregate they have missed.",
        ),
        _of(
            LEDGER,
            "I8",
            "one effect at the provider per idempotency key, and none unknown to us",
            "The provider did something twice, did what nobody asked for, or did not do what we count as done.",
            "Call the provider with the key; then resolve the step in a fallout case.",
        ),
        _of(
            DATABASE,
            "I9",
            "every change is one that its matrix allows, and together they give the state",
            "A row was changed past the product, or by a release with other matrices.",
            "Find the writer by the actor in the log; do not correct the row by hand.",
        ),
        _of(
            DATABASE,
            "I10",
            "what is final stays final, and a contradiction keeps both facts",
            "Something that was over has gone on.",
            "Find the writer by the actor in the log; treat the aggregate as a case.",
        ),
        _of(
            DATABASE,
            "I11",
            "an order ends as its steps did: fulfilled when all are done, cancelled when nothing of it is left",
            "An order is reported as done although something is missing, or stays open although all is done.",
            "See that `q2o reconcile` and `q2o tasks` run; if they do, open a case for the order.",
        ),
        _of(
            LEDGER,
            "I12",
            "what was reserved at the provider is confirmed, released or still held, and nothing is released after it was confirmed",
            "Stock is held for nobody, or a customer's stock was given away.",
            "Have the provider correct the reservation by its key.",
        ),
        _of(
            DATABASE,
            "I13",
            "a provider's event acts at most once",
            "A callback changed a step twice, or was never acted on.",
            "Compare the step with the provider; see whether `q2o reconcile` sets callbacks aside.",
        ),
        _of(
            ENGINE,
            "I14",
            "one process instance per business key did the work",
            "A process ran twice, so people may have been asked twice.",
            "End the instance that is not the registered one in Cockpit.",
        ),
        _of(
            DATABASE,
            "I15",
            "no outcome is left unknown",
            "Nobody knows whether a process was started, or whether a provider acted.",
            "See that `q2o reconcile` runs and reaches the engine and the provider; then resolve what is left as a case.",
        ),
        _of(
            ENGINE,
            "I16",
            "engine and database agree on which processes there are and which are over",
            "An instance was ended or started by hand, or its business was decided without it.",
            "Resolve the case that reconciliation has opened: RETRY restarts the process.",
        ),
        _of(
            DATABASE,
            "I17",
            "what waits for a person has a case, and a case has one owner",
            "Something waits for a person whom nobody has called.",
            "See that `q2o reconcile` runs: its sweep of cases opens what is missing.",
        ),
        _of(
            KAFKA,
            "I18",
            "every published event is in Kafka, as long as Kafka keeps the records of its partition",
            "Kafka has lost a record, so other systems have not heard of a change.",
            "Run `q2o rebuild` for the lists; see that topics have three replicas and that two must confirm.",
        ),
        _of(
            KAFKA,
            "I19",
            "an aggregate's events are in one partition and in order, but for what a person had sent again",
            "A consumer may see an older state last; the number of partitions was changed.",
            "Run `q2o rebuild` for the lists; never add partitions to a topic that has records.",
        ),
        _of(
            DATABASE,
            "I20",
            "consumers saw every event once, and their views are what the authority and the events say",
            "Lists show something else than the quotes and orders themselves.",
            "Run `q2o rebuild` for the view that is named.",
        ),
        _of(
            DATABASE,
            "I21",
            "a view never moves back to a version that its consumer had left behind",
            "A list showed a newer state before than it shows now.",
            "Run `q2o rebuild` for the view that is named; find out who restored the table.",
        ),
        _of(
            KAFKA,
            "I22",
            "nothing is in Kafka that was not committed",
            "Other systems have heard of something that never happened.",
            "Find the program that writes to the topic; only `q2o relay` and `q2o dead-letters replay` may.",
        ),
        _of(
            DATABASE,
            "I23",
            "nothing waits to be sent, and every incident is explained",
            "Events or commands are stuck, or a process stands still and nobody knows.",
            "`q2o status` shows which process does not run: start it.",
        ),
        _of(
            CLIENTS,
            "I24",
            "no client was told of a race in the words of the database",
            "A client got a fault of ours where it should have been told what to do.",
            "Report the command and its answer as a fault of the product.",
        ),
        _of(
            CLIENTS,
            "I25",
            "what a client was told is done is done",
            "A confirmed command is lost: the database was restored to an earlier time, or lost its last commits.",
            "Ask the client to send the command again; see that `synchronous_commit` is on.",
        ),
        _of(
            CLIENTS,
            "I26",
            "what a client was told is refused has changed nothing",
            "A command that was refused has had an effect.",
            "Undo the effect with the customer; report the command as a fault of the product.",
        ),
        _of(
            CLIENTS,
            "I27",
            "a command whose outcome a client does not know was carried out once or never, and a repeat tells which",
            "A command that was repeated under its key was carried out twice.",
            "Undo one of the two; report the command as a fault of the product.",
        ),
        _of(
            DATABASE,
            "I28",
            "no row of this tenant reaches into another tenant",
            "A tenant's data are mixed with those of another one.",
            "Stop the tenant's access, and look for rows written past row level security.",
        ),
        _of(
            CLIENTS,
            "I29",
            "each refused race is counted by its metric, once",
            "Graphs and alerts show fewer or more races than there were.",
            "Report the metric as a fault of the product.",
        ),
        _of(
            DATABASE,
            "I30",
            "no transaction is open while its process waits for another service",
            "A process keeps rows locked while it waits, so that commands of others time out.",
            "End the session with `pg_terminate_backend`; report its process as a fault of the product.",
        ),
        _of(
            DATABASE,
            "I31",
            "people decide in the process that asked them, about what they were shown, in their own name",
            "Somebody decided about something else than they saw, or in the name of somebody else.",
            "Have the decision made again; look at the rights in the engine ([rights-engine.md](rights-engine.md)).",
        ),
        _of(
            Side.ARCHIVE,
            "I32",
            "the archive is as it was written",
            "An archive file was changed, lost, or is not reached from here.",
            "Restore the file from its copy; see that `Q2O_ARCHIVE_DIR` is the directory of `q2o retain`.",
        ),
    )
}

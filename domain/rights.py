"""Which process may do what in the database, and whose rows it may see: one table, from which `q2o migrate` makes grants (decision 0026).

The rights of a process belong to a group role, `q2o_http` for `q2o http`; the login of a process is a member of its group. Only the owner of
the tables, who is the login of `q2o migrate`, may change the schema.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

PROCESSES: Final = ("http", "tasks", "dispatch", "relay", "inbox", "reconcile", "retain", "audit")
"""The processes in the order of the columns below. `audit` reads for the audit and for reports."""
ACROSS_TENANTS: Final = frozenset({"dispatch", "relay", "reconcile", "retain", "audit"})
"""They may work for every tenant at once; the others act for one tenant at a time."""

# S: SELECT, I: INSERT, U: UPDATE, D: DELETE, u: UPDATE of the columns in COLUMNS alone.
_TABLES = """
                             http  tasks dispatch relay inbox reconcile retain audit
approval_decision            SI    SI    -        -     -     S         SD     S
approval_request             SU    SIU   S        -     -     SU        SD     S
approval_requirement         SU    SIU   S        -     -     SU        SD     S
archive_file                 -     -     -        -     -     -         SIu    S
authority_grant              SIU   Su    -        -     -     S         -      S
cancellation_request         SIU   SU    S        -     -     SU        SD     S
configuration_result         SI    S     -        -     -     -         SD     S
conflict_log                 I     I     I        -     I     I         SD     S
consumer_inbox               -     -     -        -     SI    S         SuD    S
customer_key                 -     -     -        -     -     -         SI     S
external_callback_conflict   SI    S     -        -     -     S         SD     S
external_callback_record     SIU   S     -        -     -     SU        SuD    S
fallout_case                 SIU   SIU   SIU      -     -     SIU       SuD    S
fallout_note                 SI    SI    -        -     -     SI        SD     S
fulfillment_plan             S     SI    -        -     -     S         SD     S
fulfillment_step             SIU   SIU   S        -     -     SIU       SuD    S
fulfillment_step_dependency  SI    SI    -        -     -     SI        SD     S
idempotency_record           SIU   -     -        -     -     -         SuD    S
jeopardy_alert               S     SIU   -        -     -     SU        SD     S
order_search_projection      S     -     -        -     SIU   SIUD      SD     S
outbox_event                 SIu   SIu   I        SuD   -     SI        SuD    S
price_book_entry             SI    S     -        -     -     -         -      S
price_book_head              SIU   S     -        -     -     -         -      S
price_book_version           SI    S     -        -     -     S         -      S
price_result                 SI    S     -        -     -     S         SD     S
provider_attempt             SU    SIU   -        -     -     SU        SD     S
quote                        SIU   SU    -        -     -     SU        SuD    S
quote_acceptance             SI    S     -        -     -     S         SD     S
quote_approval_projection_decision S -  -        -     SIU   SIUD      SD     S
quote_document               SI    S     -        -     -     S         SD     S
quote_line                   SID   S     -        -     -     S         SD     S
quote_revision               SIU   S     -        -     -     S         SD     S
quote_search                 S     -     -        -     SIU   SIUD      SD     S
reconciliation_finding       -     -     -        -     -     SIu       SD     S
reconciliation_lease         -     -     -        -     -     SIUD      -      S
resolution_proposal          SI    SI    -        -     -     S         SD     S
sales_order                  SIU   SU    S        -     -     SU        SuD    S
sales_order_line             SI    S     -        -     -     S         SD     S
shown_form                   SI    SI    -        -     -     S         SD     S
step_contradiction           SIU   SIU   -        -     -     SIU       SD     S
step_repair                  SI    SI    -        -     -     S         SD     S
transition_log               SI    SI    I        -     -     SI        SD     S
workflow_command             SIU   SIU   SIU      -     -     SIU       SuD    S
workflow_correlation         SIU   SIU   SIU      -     -     SIU       SD     S
workflow_instance            S     SI    SI       -     -     SI        SD     S
"""
FUNCTIONS: Final[Mapping[str, tuple[str, ...]]] = {"next_number": ("http", "tasks", "dispatch", "reconcile")}
"""Function -> the processes that may call it: those that make quotes, orders or cases, which have numbers."""
AGAIN: Final = ("status", "due_at", "refused_since")
COLUMNS: Final[Mapping[tuple[str, str], tuple[str, ...]]] = {
    # To lock a grant FOR SHARE; PostgreSQL demands the UPDATE of some column for that.
    ("authority_grant", "tasks"): ("updated_at",),
    # A relay of the release before marks what it has published.
    ("outbox_event", "relay"): ("status", "attempts", "due_at", "published_at", "refused_since", "last_reason"),
    # To send an event again that Kafka has refused, when a person says so.
    **{("outbox_event", process): AGAIN for process in ("http", "tasks")},
    # To say that nothing is left to do about a finding.
    ("reconciliation_finding", "reconcile"): ("status",),
    # To lock old rows before they are deleted.
    **{
        (table, "retain"): ("updated_at",)
        for table in ("fallout_case", "fulfillment_step", "idempotency_record", "quote", "sales_order", "workflow_command")
    },
    ("outbox_event", "retain"): ("due_at",),
    ("consumer_inbox", "retain"): ("processed_at",),
    ("external_callback_record", "retain"): ("payload",),
    ("archive_file", "retain"): ("settled_at",),
}
"""Table and process -> the columns that the process may change."""
_PRIVILEGES: Final = {"S": "SELECT", "I": "INSERT", "U": "UPDATE", "D": "DELETE", "u": "UPDATE"}


class Right(NamedTuple):
    """What a process may do with a table, with one of its columns, or with a function."""

    process: str
    privilege: str
    name: str
    column: str | None = None


@dataclass(frozen=True, slots=True)
class Login:
    """A role with which a process connects. Without a password, an administrator says how it logs in."""

    name: str
    password: str | None = field(default=None, repr=False)


class RolesMissingError(Exception):
    """The role that migrates may not make the roles. `sql`: what an administrator runs instead; it has no password."""

    def __init__(self, sql: str) -> None:
        super().__init__(
            "the database lacks roles of the processes, and the role that migrates may not make them: nothing has changed; "
            "let an administrator run the SQL that `q2o migrate` prints, then run it again"
        )
        self.sql = sql


def group_of(process: str) -> str:
    """The role that has the rights of a process; logins are members of it."""
    return f"q2o_{process}"


def rights() -> frozenset[Right]:
    """Every right of every process."""
    functions = (Right(process, "EXECUTE", name) for name, processes in FUNCTIONS.items() for process in processes)
    return frozenset((*_of_tables(), *functions))


def _of_tables() -> Iterator[Right]:
    head, *rows = (line.split() for line in _TABLES.strip().splitlines())
    for name, *cells in rows:
        for process, cell in zip(head, cells, strict=True):
            yield from _cell(process, name, cell)


def _cell(process: str, name: str, cell: str) -> Iterator[Right]:
    for letter in cell.strip("-"):
        columns = COLUMNS[name, process] if letter == "u" else (None,)
        yield from (Right(process, _PRIVILEGES[letter], name, column) for column in columns)

"""The names under which callers act. They stand in every row of the log, beside the names of the product's own parts.

The rule: no caller can have a name that the product writes itself. Names of the product either have a colon (`worker:…`, `provider:…`) or
stand in `OF_THE_PRODUCT`; a person's name has no colon and is not one of these. A machine is `client:` and its id.
"""

from __future__ import annotations

import re

from domain.texts import LONGEST_IDENTIFIER

OF_THE_PRODUCT = frozenset(
    {
        "audit",
        "demo",
        "deploy",
        "dispatch",
        "http",
        "inbox",
        "retain",
        "migrate",
        "policy",
        "q2o",
        "reconcile",
        "reconciliation",
        "relay",
        "restart-instances",
        "sandbox",
        "system",
        "tasks",
    }
)
MACHINE = "client:"
# OpenID Connect Core, section 2: a subject is ASCII. So no letter looks like another one, and none changes the direction of a line.
_VISIBLE = re.compile(r"[!-~](?:[ -~]*[!-~])?")
_WORKER_ID = "q2o-"


class UnusableNameError(Exception):
    """A caller cannot act under this name; the text is a sentence for the caller."""


def person(subject: str) -> str:
    """The actor that a person's subject stands for. Raises UnusableNameError."""
    if len(subject) > LONGEST_IDENTIFIER or not _VISIBLE.fullmatch(subject):
        raise UnusableNameError(f"A subject must have 1 to {LONGEST_IDENTIFIER} visible ASCII characters.")
    name = subject.lower()
    if ":" in name or name in OF_THE_PRODUCT or name.startswith(_WORKER_ID):
        raise UnusableNameError(
            "This subject could be taken for a part of the product: it must not have a colon, nor a reserved name."
        )
    return subject


def machine(client: str) -> str:
    """The actor that the id of a client stands for. Raises UnusableNameError."""
    if len(client) > LONGEST_IDENTIFIER - len(MACHINE) or not _VISIBLE.fullmatch(client):
        raise UnusableNameError(f"The id of a client must have 1 to {LONGEST_IDENTIFIER - len(MACHINE)} visible ASCII characters.")
    return MACHINE + client

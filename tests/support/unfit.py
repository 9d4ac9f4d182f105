"""JSON that no door takes: it cannot be stored, or costs its reader the stack (`domain.texts`)."""

from __future__ import annotations


def nested(levels: int) -> str:
    """A document of so many levels."""
    return "[" * (levels - 1) + "7" + "]" * (levels - 1)


MANY_DIGITS = f'{{"number": {"9" * 5000}}}'
DEEP = nested(3000)
"""PostgreSQL stores these two, and Python reads neither."""
UNFIT = {
    "a NUL": r'"a\u0000b"',
    "half of a pair": r'"\ud83d"',
    "the other half": r'"\udc00 and more"',
    "a name with a NUL": r'{"\u0000": 1}',
    "a name with half of a pair": r'{"\ud83d": 1}',
    "levels enough for the parser": nested(500),
    "levels at the end of the stack": nested(985),
    "levels beyond the stack": nested(100_000),
    "a number beyond 64 bits": "9" * 20,
    "a number that no parser takes": "9" * 5000,
    "a number beyond a double": "1e999",
    "a float that the database writes as a whole number beyond 64 bits": "1.5e300",
    "such a float just below the range": "-9.3e18",
    "no number": "NaN",
    "infinity": "-Infinity",
}
"""Documents by what is wrong with them, to stand where a value is expected."""
SIGNABLE = {name: document for name, document in UNFIT.items() if len(document) < 15_000}
"""Those that a callback has room for."""

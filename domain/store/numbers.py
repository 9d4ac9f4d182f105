"""The numbers that people use, such as Q-75: counted for each tenant, so that no tenant can see how much business another does.

Each tenant has a sequence for each kind of number, which the first use makes. A sequence locks nothing until the transaction ends, as a row
with the last number would; so a number that a failed command has taken stays unused (docs/decisions/0028-numbers-per-tenant.md).
"""

from __future__ import annotations

from sqlalchemy import TextClause, event, text

from domain.store.base import Base, ddl

NEXT_NUMBER = """
CREATE FUNCTION next_number(prefix TEXT) RETURNS TEXT LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    series TEXT := format('numbers.%I', prefix || '-' || current_setting('q2o.tenant')::UUID);
BEGIN
    IF prefix NOT IN ('Q', 'O', 'F') THEN
        RAISE EXCEPTION 'nothing has a number that begins with %', prefix;
    END IF;
    IF to_regclass(series) IS NULL THEN
        -- Of two transactions that need the first number, one waits here for the other.
        PERFORM pg_advisory_xact_lock(hashtext(series));
        EXECUTE 'CREATE SEQUENCE IF NOT EXISTS ' || series;
    END IF;
    RETURN prefix || '-' || nextval(series::REGCLASS);
END $$
"""


def next_number(prefix: str) -> TextClause:
    """The default of a column that holds such a number: the next one of the tenant."""
    return text(f"next_number('{prefix}')")


event.listen(Base.metadata, "before_create", ddl("CREATE SCHEMA numbers"))
event.listen(Base.metadata, "before_create", ddl(NEXT_NUMBER))

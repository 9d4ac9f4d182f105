-- An open finding becomes REPAIRED when nothing is left to do about it. Nothing else of a finding ever changes.

DROP TRIGGER reconciliation_finding_append_only ON reconciliation_finding;
CREATE TRIGGER reconciliation_finding_append_only BEFORE UPDATE ON reconciliation_finding FOR EACH ROW
    WHEN (NOT (OLD.status = 'OPEN' AND NEW.status = 'REPAIRED' AND to_jsonb(OLD) - 'status' = to_jsonb(NEW) - 'status'))
    EXECUTE FUNCTION refuse_change();

CREATE INDEX ix_reconciliation_finding_open ON reconciliation_finding (id) WHERE status = 'OPEN';

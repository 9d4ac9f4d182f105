-- Registered process instances are looked at in turn; what should be impossible is found by partial indexes; alerts end.

CREATE INDEX ix_workflow_correlation_watched ON workflow_correlation (tenant_id, next_check_at) WHERE status IN ('STARTED', 'LOST');
CREATE INDEX ix_reconciliation_finding_instance ON reconciliation_finding ((evidence ->> 'processInstanceId')) WHERE kind IN ('instance', 'duplicate');
CREATE INDEX ix_external_callback_record_unmatched ON external_callback_record (received_at) WHERE processed_status = 'UNMATCHED' AND step_id IS NOT NULL;
CREATE INDEX ix_fallout_case_untouched ON fallout_case (created_at) WHERE status = 'OPEN';
CREATE INDEX ix_fallout_case_incident ON fallout_case (id) WHERE type = 'WORKFLOW_INCIDENT' AND status NOT IN ('CLOSED', 'CANCELLED');
CREATE INDEX ix_quote_submitted ON quote (updated_at) WHERE status = 'SUBMITTED_FOR_APPROVAL';
CREATE INDEX ix_quote_accepted ON quote (updated_at) WHERE status = 'ACCEPTED';
CREATE INDEX ix_sales_order_created ON sales_order (created_at) WHERE status = 'CREATED';
CREATE INDEX ix_sales_order_live ON sales_order (created_at) WHERE status IN ('CREATED', 'SUBMITTED', 'IN_PROGRESS', 'HELD', 'CANCEL_REQUESTED', 'CANCELLING');
CREATE INDEX ix_jeopardy_alert_raised ON jeopardy_alert (updated_at) WHERE status = 'RAISED';

ALTER TABLE jeopardy_alert DROP CONSTRAINT ck_jeopardy_alert_status;
ALTER TABLE jeopardy_alert ADD CONSTRAINT ck_jeopardy_alert_status CHECK (status IN ('RAISED', 'CLEARED'));

-- Every order was accepted; the order is written first, so the constraint waits for the end of the transaction.
ALTER TABLE sales_order ADD CONSTRAINT fk_sales_order_acceptance
    FOREIGN KEY (tenant_id, quote_revision_id) REFERENCES quote_acceptance (tenant_id, quote_revision_id) DEFERRABLE INITIALLY DEFERRED;

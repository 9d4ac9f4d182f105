-- Rows that are not settled are found by tenant (and provider), and by the time of their next check.

ALTER TABLE provider_attempt
    ADD COLUMN provider_name TEXT DEFAULT '' NOT NULL,
    ADD COLUMN next_check_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    ADD COLUMN checks INTEGER DEFAULT 0 NOT NULL;
-- Nobody asks about the attempts that are settled.
UPDATE provider_attempt SET provider_name = fulfillment_step.provider_name FROM fulfillment_step
WHERE fulfillment_step.tenant_id = provider_attempt.tenant_id AND fulfillment_step.id = provider_attempt.step_id
AND provider_attempt.status IN ('SENT', 'ACKNOWLEDGED', 'UNKNOWN');
CREATE INDEX ix_provider_attempt_check ON provider_attempt (provider_name, tenant_id, next_check_at) WHERE status IN ('SENT', 'ACKNOWLEDGED', 'UNKNOWN');

ALTER TABLE step_contradiction
    ADD COLUMN provider_name TEXT DEFAULT '' NOT NULL,
    ADD COLUMN next_check_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    ADD COLUMN checks INTEGER DEFAULT 0 NOT NULL;
UPDATE step_contradiction SET provider_name = fulfillment_step.provider_name FROM fulfillment_step
WHERE fulfillment_step.tenant_id = step_contradiction.tenant_id AND fulfillment_step.id = step_contradiction.step_id AND answer IS NULL;
DROP INDEX ix_step_contradiction_unanswered;
CREATE INDEX ix_step_contradiction_unanswered ON step_contradiction (provider_name, tenant_id, next_check_at) WHERE answer IS NULL;

ALTER TABLE workflow_correlation ADD COLUMN checks INTEGER DEFAULT 0 NOT NULL;
DROP INDEX ix_workflow_correlation_unresolved;
CREATE INDEX ix_workflow_correlation_unresolved ON workflow_correlation (tenant_id, next_check_at) WHERE status IN ('REQUESTED', 'START_UNKNOWN');

DROP INDEX ix_fulfillment_step_unsettled, ix_fulfillment_step_held, ix_sales_order_unsettled, ix_fallout_case_claimed, ix_quote_expiring;
CREATE INDEX ix_fulfillment_step_held ON fulfillment_step (tenant_id, updated_at) WHERE status = 'HELD';
CREATE INDEX ix_sales_order_unsettled ON sales_order (tenant_id, updated_at) WHERE status IN ('IN_PROGRESS', 'HELD', 'CANCEL_REQUESTED', 'CANCELLING');
CREATE INDEX ix_fallout_case_claimed ON fallout_case (tenant_id, claim_expires_at) WHERE status = 'IN_PROGRESS';
CREATE INDEX ix_quote_expiring ON quote (tenant_id, valid_until) WHERE status IN ('DRAFT', 'PRICED', 'SUBMITTED_FOR_APPROVAL', 'APPROVAL_IN_PROGRESS', 'APPROVED', 'REWORK_REQUIRED', 'REJECTED', 'DECLINED');

DROP INDEX ix_workflow_command_due;
CREATE INDEX ix_workflow_command_due ON workflow_command (tenant_id, due_at) WHERE status = 'PENDING';
CREATE INDEX ix_workflow_command_start ON workflow_command (tenant_id, business_key) WHERE status = 'PENDING' AND kind = 'START';
CREATE INDEX ix_outbox_event_turn ON outbox_event (tenant_id, position) WHERE status = 'PENDING';

-- What a sweep has found, and nobody else takes meanwhile.

CREATE TABLE reconciliation_lease (
    tenant_id UUID NOT NULL,
    kind TEXT NOT NULL,
    subject_id UUID NOT NULL,
    next_check_at TIMESTAMP WITH TIME ZONE NOT NULL,
    checks INTEGER DEFAULT 1 NOT NULL,
    CONSTRAINT pk_reconciliation_lease PRIMARY KEY (tenant_id, kind, subject_id)
);

ALTER TABLE reconciliation_lease ENABLE ROW LEVEL SECURITY;
ALTER TABLE reconciliation_lease FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON reconciliation_lease USING (tenant_id::text = current_setting('q2o.tenant', true));
CREATE POLICY every_tenant ON reconciliation_lease TO q2o_every_tenant USING (current_setting('q2o.tenant', true) = '*');

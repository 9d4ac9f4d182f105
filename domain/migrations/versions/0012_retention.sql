-- Old rows are archived and deleted. A change keeps the id of its event, because the outbox loses it.

CREATE TABLE archive_file (
    tenant_id UUID NOT NULL,
    id UUID NOT NULL,
    sequence INTEGER NOT NULL,
    name TEXT NOT NULL,
    lines INTEGER NOT NULL,
    first_hash TEXT NOT NULL,
    last_hash TEXT NOT NULL,
    settled_at TIMESTAMP WITH TIME ZONE,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_archive_file PRIMARY KEY (tenant_id, id),
    CONSTRAINT uq_archive_file_tenant_id_sequence UNIQUE (tenant_id, sequence)
);

CREATE INDEX ix_archive_file_unsettled ON archive_file (tenant_id) WHERE settled_at IS NULL;

ALTER TABLE archive_file ENABLE ROW LEVEL SECURITY;
ALTER TABLE archive_file FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON archive_file USING (tenant_id::text = current_setting('q2o.tenant', true));
CREATE POLICY every_tenant ON archive_file TO q2o_every_tenant USING (current_setting('q2o.tenant', true) = '*');

CREATE TABLE customer_key (
    tenant_id UUID NOT NULL,
    id UUID NOT NULL,
    customer_id TEXT NOT NULL,
    key BYTEA NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_customer_key PRIMARY KEY (tenant_id, id),
    CONSTRAINT uq_customer_key_tenant_id_customer_id UNIQUE (tenant_id, customer_id)
);

ALTER TABLE customer_key ENABLE ROW LEVEL SECURITY;
ALTER TABLE customer_key FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON customer_key USING (tenant_id::text = current_setting('q2o.tenant', true));
CREATE POLICY every_tenant ON customer_key TO q2o_every_tenant USING (current_setting('q2o.tenant', true) = '*');

CREATE OR REPLACE FUNCTION deletes_archived() RETURNS BOOLEAN LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN EXISTS (SELECT FROM archive_file WHERE settled_at IS NULL AND id::TEXT = current_setting('q2o.archive_file', true));
END $$;

CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND deletes_archived() THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION 'evidence in % is never changed', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END $$;

CREATE OR REPLACE FUNCTION refuse_frozen_content() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    tenant uuid := CASE TG_OP WHEN 'DELETE' THEN OLD.tenant_id ELSE NEW.tenant_id END;
BEGIN
    -- A line that moves is taken from one revision and given to another.
    IF EXISTS (SELECT FROM quote_revision WHERE tenant_id = tenant AND id IN (OLD.revision_id, NEW.revision_id) AND status <> 'WORKING') THEN
        IF TG_OP = 'DELETE' AND deletes_archived() THEN
            RETURN OLD;
        END IF;
        RAISE EXCEPTION 'lines of a revision that is not WORKING are never changed' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END $$;

DROP TRIGGER conflict_log_append_only ON conflict_log;
CREATE TRIGGER conflict_log_append_only BEFORE UPDATE ON conflict_log FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
DROP TRIGGER reconciliation_finding_append_only ON reconciliation_finding;
CREATE TRIGGER reconciliation_finding_append_only BEFORE UPDATE ON reconciliation_finding FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

ALTER TABLE external_callback_record ALTER COLUMN payload DROP NOT NULL;

ALTER TABLE transition_log ADD COLUMN emitted_event_id UUID, ADD COLUMN emitted_event_type TEXT;
ALTER TABLE transition_log DISABLE TRIGGER transition_log_append_only;
UPDATE transition_log l SET emitted_event_id = o.id, emitted_event_type = o.event_type
FROM outbox_event o
WHERE o.tenant_id = l.tenant_id AND o.aggregate_type = l.aggregate_type AND o.aggregate_id = l.aggregate_id
    AND o.aggregate_version = l.aggregate_version AND o.command_id = l.command_id;
ALTER TABLE transition_log ENABLE TRIGGER transition_log_append_only;

-- What a foreign key, a read or a deletion looks for.

CREATE INDEX ix_conflict_log_old ON conflict_log (created_at);
CREATE INDEX ix_consumer_inbox_old ON consumer_inbox (processed_at);
CREATE INDEX ix_external_callback_conflict_event ON external_callback_conflict (tenant_id, provider_name, external_event_id);
CREATE INDEX ix_external_callback_record_old ON external_callback_record (received_at) WHERE payload IS NOT NULL AND processed_status <> 'UNMATCHED';
CREATE INDEX ix_external_callback_record_step ON external_callback_record (tenant_id, step_id);
CREATE INDEX ix_idempotency_record_old ON idempotency_record (expires_at);
CREATE INDEX ix_outbox_event_old ON outbox_event (published_at) WHERE status = 'PUBLISHED';
CREATE INDEX ix_reconciliation_finding_old ON reconciliation_finding (created_at) WHERE status = 'REPAIRED';
CREATE INDEX ix_transition_log_commands ON transition_log (created_at) WHERE aggregate_type = 'workflow_command';
CREATE INDEX ix_workflow_command_old ON workflow_command (updated_at) WHERE status <> 'PENDING';
CREATE INDEX ix_workflow_instance_caller ON workflow_instance (tenant_id, caller_instance_id);
CREATE INDEX ix_workflow_instance_subject ON workflow_instance (tenant_id, subject_id);
CREATE INDEX ix_configuration_result_revision ON configuration_result (tenant_id, revision_id);
CREATE INDEX ix_sales_order_quote ON sales_order (tenant_id, quote_id);
CREATE INDEX ix_sales_order_acceptance ON sales_order (tenant_id, quote_revision_id);
CREATE INDEX ix_cancellation_request_order ON cancellation_request (tenant_id, order_id);
CREATE INDEX ix_price_result_configuration ON price_result (tenant_id, config_result_id);
CREATE INDEX ix_fulfillment_step_line ON fulfillment_step (tenant_id, line_id);
CREATE INDEX ix_fallout_case_of_no_order ON fallout_case (updated_at) WHERE order_id IS NULL;
CREATE INDEX ix_fallout_case_step ON fallout_case (tenant_id, step_id);
CREATE INDEX ix_fulfillment_step_dependency_other_side ON fulfillment_step_dependency (tenant_id, depends_on_step_id);
CREATE INDEX ix_provider_attempt_step ON provider_attempt (tenant_id, step_id);
CREATE INDEX ix_quote_acceptance_document ON quote_acceptance (tenant_id, document_id);
CREATE INDEX ix_quote_acceptance_order ON quote_acceptance (tenant_id, order_id);
CREATE INDEX ix_approval_decision_basis ON approval_decision (tenant_id, basis_decision_id);
CREATE INDEX ix_approval_decision_revision ON approval_decision (tenant_id, quote_revision_id);

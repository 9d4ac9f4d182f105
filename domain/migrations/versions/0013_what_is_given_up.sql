-- What is given up after its bound, and left to a person: since when it was tried, how often, and the last reason.

ALTER TABLE fallout_case ADD COLUMN business_key TEXT;

ALTER TABLE workflow_command
    ADD COLUMN refusals INTEGER DEFAULT '0' NOT NULL,
    ADD COLUMN refused_since TIMESTAMP WITH TIME ZONE,
    ADD COLUMN last_reason TEXT,
    DROP CONSTRAINT ck_workflow_command_status,
    ADD CONSTRAINT ck_workflow_command_status CHECK (status IN ('PENDING', 'DONE', 'EXPIRED', 'GIVEN_UP'));
CREATE INDEX ix_workflow_command_given_up ON workflow_command (tenant_id, business_key) WHERE status = 'GIVEN_UP';

CREATE INDEX ix_workflow_correlation_failed ON workflow_correlation (tenant_id, next_check_at) WHERE status = 'START_FAILED';

ALTER TABLE outbox_event
    ADD COLUMN refused_since TIMESTAMP WITH TIME ZONE,
    ADD COLUMN last_reason TEXT,
    DROP CONSTRAINT ck_outbox_event_status,
    ADD CONSTRAINT ck_outbox_event_status CHECK (status IN ('PENDING', 'PUBLISHED', 'REFUSED'));
CREATE INDEX ix_outbox_event_refused ON outbox_event (tenant_id, aggregate_id) WHERE status = 'REFUSED';

-- What a person has repaired in a request to a provider, as a difference.

ALTER TABLE fulfillment_step ADD COLUMN request_changes JSONB DEFAULT '{}' NOT NULL;

CREATE TABLE step_repair (
    tenant_id UUID NOT NULL,
    id UUID NOT NULL,
    step_id UUID NOT NULL,
    case_id UUID NOT NULL,
    request_no INTEGER NOT NULL,
    field TEXT NOT NULL,
    old JSONB,
    new JSONB,
    repaired_by TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_step_repair PRIMARY KEY (tenant_id, id),
    CONSTRAINT fk_step_repair_tenant_id_step_id FOREIGN KEY (tenant_id, step_id) REFERENCES fulfillment_step (tenant_id, id),
    CONSTRAINT fk_step_repair_tenant_id_case_id FOREIGN KEY (tenant_id, case_id) REFERENCES fallout_case (tenant_id, id),
    CONSTRAINT uq_step_repair_tenant_id_step_id_request_no_field UNIQUE (tenant_id, step_id, request_no, field)
);
CREATE INDEX ix_step_repair_case ON step_repair (tenant_id, case_id);

CREATE TRIGGER step_repair_append_only BEFORE UPDATE OR DELETE ON step_repair FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

ALTER TABLE step_repair ENABLE ROW LEVEL SECURITY;
ALTER TABLE step_repair FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON step_repair USING (tenant_id::text = current_setting('q2o.tenant', true));
CREATE POLICY every_tenant ON step_repair TO q2o_every_tenant USING (current_setting('q2o.tenant', true) = '*');

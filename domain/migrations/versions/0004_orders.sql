-- Orders, whole: requests to cancel, contradictions and what came of them, fallout cases, alerts; what may be counted on with a provider.

ALTER TABLE fulfillment_step
    ADD COLUMN idempotent BOOLEAN DEFAULT 'true' NOT NULL,
    ADD COLUMN has_lookup BOOLEAN DEFAULT 'true' NOT NULL,
    ADD COLUMN cancellable BOOLEAN DEFAULT 'true' NOT NULL,
    ADD COLUMN key_window_seconds INTEGER DEFAULT '86400' NOT NULL,
    ADD COLUMN request_no INTEGER DEFAULT '1' NOT NULL,
    ADD COLUMN failure_class TEXT DEFAULT 'NONE' NOT NULL;
ALTER TABLE fulfillment_step ADD CONSTRAINT ck_fulfillment_step_failure_class CHECK (failure_class IN ('NONE', 'UNAVAILABLE', 'REJECTED', 'CONTRACT', 'TIME_OUT', 'ABSENT', 'UNCLEAR', 'CONTRADICTION', 'RELEASED'));
CREATE INDEX ix_fulfillment_step_held ON fulfillment_step (updated_at) WHERE status = 'HELD';
CREATE INDEX ix_workflow_correlation_instance ON workflow_correlation (process_instance_id);
DROP INDEX ix_sales_order_running;
ALTER TABLE sales_order DROP COLUMN ponr_reached;
CREATE INDEX ix_sales_order_unsettled ON sales_order (updated_at) WHERE status IN ('IN_PROGRESS', 'HELD', 'CANCEL_REQUESTED', 'CANCELLING');
ALTER TABLE provider_attempt ADD COLUMN settled_at TIMESTAMP WITH TIME ZONE;

CREATE SEQUENCE fallout_case_number;

CREATE TABLE cancellation_request (
    tenant_id UUID NOT NULL, 
    id UUID NOT NULL, 
    version BIGINT NOT NULL, 
    status TEXT NOT NULL, 
    prior_status TEXT, 
    order_id UUID NOT NULL, 
    reason_code TEXT NOT NULL, 
    requested_by TEXT NOT NULL, 
    expected_order_version BIGINT NOT NULL, 
    decided_by TEXT, 
    decision_reason TEXT, 
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL, 
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL, 
    CONSTRAINT pk_cancellation_request PRIMARY KEY (tenant_id, id), 
    CONSTRAINT ck_cancellation_request_status CHECK (status IN ('ACKNOWLEDGED', 'ASSESSING', 'DECLINED', 'EXECUTING', 'DONE', 'DONE_PARTIAL')), 
    CONSTRAINT fk_cancellation_request_tenant_id_order_id FOREIGN KEY(tenant_id, order_id) REFERENCES sales_order (tenant_id, id)
);

CREATE UNIQUE INDEX uq_cancellation_request_open ON cancellation_request (tenant_id, order_id) WHERE status IN ('ACKNOWLEDGED', 'ASSESSING', 'EXECUTING');

CREATE TABLE jeopardy_alert (
    tenant_id UUID NOT NULL, 
    id UUID NOT NULL, 
    version BIGINT NOT NULL, 
    status TEXT NOT NULL, 
    prior_status TEXT, 
    order_id UUID NOT NULL, 
    level TEXT NOT NULL, 
    used_percent NUMERIC(10, 1) NOT NULL, 
    open_steps INTEGER NOT NULL, 
    held_steps INTEGER NOT NULL, 
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL, 
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL, 
    CONSTRAINT pk_jeopardy_alert PRIMARY KEY (tenant_id, id), 
    CONSTRAINT ck_jeopardy_alert_status CHECK (status IN ('RAISED')), 
    CONSTRAINT ck_jeopardy_alert_level CHECK (level IN ('NORMAL', 'HAZARD', 'CRITICAL')), 
    CONSTRAINT fk_jeopardy_alert_tenant_id_order_id FOREIGN KEY(tenant_id, order_id) REFERENCES sales_order (tenant_id, id), 
    CONSTRAINT uq_jeopardy_alert_tenant_id_order_id_level UNIQUE (tenant_id, order_id, level)
);


CREATE TABLE fallout_case (
    tenant_id UUID NOT NULL, 
    id UUID NOT NULL, 
    version BIGINT NOT NULL, 
    status TEXT NOT NULL, 
    prior_status TEXT, 
    case_number TEXT DEFAULT 'F-' || nextval('fallout_case_number') NOT NULL, 
    order_id UUID, 
    step_id UUID, 
    type TEXT NOT NULL, 
    severity TEXT NOT NULL, 
    queue TEXT NOT NULL, 
    detail TEXT NOT NULL, 
    evidence JSONB NOT NULL, 
    dedupe_key TEXT NOT NULL, 
    owner_user_id TEXT, 
    claim_expires_at TIMESTAMP WITH TIME ZONE, 
    claim_due_at TIMESTAMP WITH TIME ZONE NOT NULL, 
    due_at TIMESTAMP WITH TIME ZONE NOT NULL, 
    escalation_level INTEGER DEFAULT '0' NOT NULL, 
    reopen_count INTEGER DEFAULT '0' NOT NULL, 
    resolution TEXT, 
    resolved_by TEXT, 
    external_ref TEXT, 
    resolution_evidence TEXT, 
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL, 
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL, 
    CONSTRAINT pk_fallout_case PRIMARY KEY (tenant_id, id), 
    CONSTRAINT ck_fallout_case_status CHECK (status IN ('OPEN', 'IN_PROGRESS', 'AWAITING_INFORMATION', 'ON_HOLD', 'RESOLVED', 'CLOSED', 'CANCELLED')), 
    CONSTRAINT ck_fallout_case_type CHECK (type IN ('TECHNICAL', 'PROVIDER_REJECTED', 'PROVIDER_CONFLICT', 'CONTRADICTORY_CALLBACK', 'UNSOLICITED_CALLBACK', 'OUTCOME_UNKNOWN', 'COMPENSATION_FAILED', 'DATA_INVALID', 'DECOMPOSITION_FAILED', 'SLA_BREACH', 'WORKFLOW_INCIDENT')), 
    CONSTRAINT ck_fallout_case_severity CHECK (severity IN ('LOW', 'MEDIUM', 'HIGH', 'CRITICAL')), 
    CONSTRAINT ck_fallout_case_queue CHECK (queue IN ('falloutL1', 'falloutL2', 'falloutManagers')), 
    CONSTRAINT ck_fallout_case_owner CHECK ((status IN ('IN_PROGRESS', 'AWAITING_INFORMATION', 'ON_HOLD')) = (owner_user_id IS NOT NULL)), 
    CONSTRAINT ck_fallout_case_lease CHECK ((status = 'IN_PROGRESS') = (claim_expires_at IS NOT NULL)), 
    CONSTRAINT fk_fallout_case_tenant_id_order_id FOREIGN KEY(tenant_id, order_id) REFERENCES sales_order (tenant_id, id), 
    CONSTRAINT fk_fallout_case_tenant_id_step_id FOREIGN KEY(tenant_id, step_id) REFERENCES fulfillment_step (tenant_id, id), 
    CONSTRAINT uq_fallout_case_tenant_id_case_number UNIQUE (tenant_id, case_number)
);

CREATE INDEX ix_fallout_case_claimed ON fallout_case (claim_expires_at) WHERE status = 'IN_PROGRESS';
CREATE INDEX ix_fallout_case_order ON fallout_case (tenant_id, order_id);
CREATE UNIQUE INDEX uq_fallout_case_open ON fallout_case (tenant_id, dedupe_key) WHERE status NOT IN ('CLOSED', 'CANCELLED');

CREATE TABLE step_contradiction (
    tenant_id UUID NOT NULL, 
    id UUID NOT NULL, 
    step_id UUID NOT NULL, 
    said TEXT NOT NULL, 
    known TEXT NOT NULL, 
    source TEXT NOT NULL, 
    external_ref TEXT, 
    external_event_id TEXT, 
    external_event_at TIMESTAMP WITH TIME ZONE, 
    reason TEXT, 
    answer TEXT, 
    answered_at TIMESTAMP WITH TIME ZONE, 
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL, 
    CONSTRAINT pk_step_contradiction PRIMARY KEY (tenant_id, id), 
    CONSTRAINT fk_step_contradiction_tenant_id_step_id FOREIGN KEY(tenant_id, step_id) REFERENCES fulfillment_step (tenant_id, id), 
    CONSTRAINT ck_step_contradiction_answer CHECK (answer IN ('IN_EFFECT', 'REVERSED', 'LEFT_TO_A_PERSON')), 
    CONSTRAINT ck_step_contradiction_answered CHECK ((answer IS NULL) = (answered_at IS NULL))
);

CREATE INDEX ix_step_contradiction_step ON step_contradiction (tenant_id, step_id);
CREATE INDEX ix_step_contradiction_unanswered ON step_contradiction (created_at) WHERE answer IS NULL;

CREATE TABLE fallout_note (
    tenant_id UUID NOT NULL, 
    id UUID NOT NULL, 
    case_id UUID NOT NULL, 
    kind TEXT NOT NULL, 
    author TEXT NOT NULL, 
    text TEXT NOT NULL, 
    external_ref TEXT, 
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL, 
    CONSTRAINT pk_fallout_note PRIMARY KEY (tenant_id, id), 
    CONSTRAINT ck_fallout_note_kind CHECK (kind IN ('INFORMATION_REQUEST', 'INFORMATION', 'HOLD', 'COMMENT', 'CONFIRMATION')), 
    CONSTRAINT ck_fallout_note_confirmation CHECK ((kind = 'CONFIRMATION') = (external_ref IS NOT NULL)), 
    CONSTRAINT fk_fallout_note_tenant_id_case_id FOREIGN KEY(tenant_id, case_id) REFERENCES fallout_case (tenant_id, id)
);

CREATE INDEX ix_fallout_note_case ON fallout_note (tenant_id, case_id);

CREATE TRIGGER fallout_note_append_only BEFORE UPDATE OR DELETE ON fallout_note FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

ALTER TABLE cancellation_request ENABLE ROW LEVEL SECURITY;
ALTER TABLE cancellation_request FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON cancellation_request USING (tenant_id::text = current_setting('q2o.tenant', true) OR current_setting('q2o.tenant', true) = '*');

ALTER TABLE fallout_case ENABLE ROW LEVEL SECURITY;
ALTER TABLE fallout_case FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON fallout_case USING (tenant_id::text = current_setting('q2o.tenant', true) OR current_setting('q2o.tenant', true) = '*');

ALTER TABLE fallout_note ENABLE ROW LEVEL SECURITY;
ALTER TABLE fallout_note FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON fallout_note USING (tenant_id::text = current_setting('q2o.tenant', true) OR current_setting('q2o.tenant', true) = '*');

ALTER TABLE jeopardy_alert ENABLE ROW LEVEL SECURITY;
ALTER TABLE jeopardy_alert FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON jeopardy_alert USING (tenant_id::text = current_setting('q2o.tenant', true) OR current_setting('q2o.tenant', true) = '*');

ALTER TABLE step_contradiction ENABLE ROW LEVEL SECURITY;
ALTER TABLE step_contradiction FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON step_contradiction USING (tenant_id::text = current_setting('q2o.tenant', true) OR current_setting('q2o.tenant', true) = '*');


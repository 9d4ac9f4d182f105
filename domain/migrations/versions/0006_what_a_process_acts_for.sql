-- Which process instance acts for what. Process variables may be written by whoever completes a user task; these rows never change.

CREATE TABLE workflow_instance (
    tenant_id UUID NOT NULL,
    id UUID NOT NULL,
    process_instance_id TEXT NOT NULL,
    caller_instance_id TEXT,
    business_key TEXT NOT NULL,
    subject_id UUID NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_workflow_instance PRIMARY KEY (tenant_id, id),
    CONSTRAINT uq_workflow_instance_tenant_id_process_instance_id UNIQUE (tenant_id, process_instance_id),
    CONSTRAINT fk_workflow_instance_tenant_id_caller_instance_id FOREIGN KEY (tenant_id, caller_instance_id)
        REFERENCES workflow_instance (tenant_id, process_instance_id)
);

CREATE INDEX ix_workflow_instance_key ON workflow_instance (tenant_id, business_key);

CREATE TRIGGER workflow_instance_append_only BEFORE UPDATE OR DELETE ON workflow_instance FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

ALTER TABLE workflow_instance ENABLE ROW LEVEL SECURITY;
ALTER TABLE workflow_instance FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON workflow_instance USING (tenant_id::text = current_setting('q2o.tenant', true) OR current_setting('q2o.tenant', true) = '*');

-- What a person was shown, kept with the decision.

CREATE TABLE shown_form (
    tenant_id UUID NOT NULL,
    id UUID NOT NULL,
    subject_id UUID NOT NULL,
    process_instance_id TEXT,
    facts JSONB NOT NULL,
    facts_hash TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_shown_form PRIMARY KEY (tenant_id, id),
    CONSTRAINT uq_shown_form_tenant_id_subject_id_id UNIQUE (tenant_id, subject_id, id)
);

CREATE INDEX ix_shown_form_instance ON shown_form (tenant_id, process_instance_id, created_at);

CREATE TRIGGER shown_form_append_only BEFORE UPDATE OR DELETE ON shown_form FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

ALTER TABLE shown_form ENABLE ROW LEVEL SECURITY;
ALTER TABLE shown_form FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON shown_form USING (tenant_id::text = current_setting('q2o.tenant', true) OR current_setting('q2o.tenant', true) = '*');

ALTER TABLE approval_decision ADD COLUMN shown_form_id UUID;
ALTER TABLE approval_decision ADD CONSTRAINT fk_approval_decision_tenant_id_requirement_id_shown_form_id
    FOREIGN KEY (tenant_id, requirement_id, shown_form_id) REFERENCES shown_form (tenant_id, subject_id, id);

-- Why an approver is asked now: written by the domain alone, because a process variable may be anybody's word.

ALTER TABLE approval_requirement ADD COLUMN escalation_notice TEXT, ADD COLUMN refusal_notice TEXT;

-- What two people answer for, exactly as the first has proposed it.

CREATE TABLE resolution_proposal (
    tenant_id UUID NOT NULL,
    id UUID NOT NULL,
    case_id UUID NOT NULL,
    case_version BIGINT NOT NULL,
    step_version BIGINT,
    resolution TEXT NOT NULL,
    external_ref TEXT NOT NULL,
    evidence TEXT NOT NULL,
    proposed_by TEXT NOT NULL,
    roles JSONB NOT NULL,
    shown_form_id UUID,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_resolution_proposal PRIMARY KEY (tenant_id, id),
    CONSTRAINT uq_resolution_proposal_tenant_id_case_id_id UNIQUE (tenant_id, case_id, id),
    CONSTRAINT fk_resolution_proposal_tenant_id_case_id FOREIGN KEY (tenant_id, case_id) REFERENCES fallout_case (tenant_id, id),
    CONSTRAINT fk_resolution_proposal_tenant_id_case_id_shown_form_id FOREIGN KEY (tenant_id, case_id, shown_form_id)
        REFERENCES shown_form (tenant_id, subject_id, id)
);

CREATE TRIGGER resolution_proposal_append_only BEFORE UPDATE OR DELETE ON resolution_proposal
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

ALTER TABLE resolution_proposal ENABLE ROW LEVEL SECURITY;
ALTER TABLE resolution_proposal FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON resolution_proposal USING (tenant_id::text = current_setting('q2o.tenant', true) OR current_setting('q2o.tenant', true) = '*');

ALTER TABLE fallout_case ADD COLUMN shown_form_id UUID;
ALTER TABLE fallout_case ADD CONSTRAINT fk_fallout_case_tenant_id_id_shown_form_id
    FOREIGN KEY (tenant_id, id, shown_form_id) REFERENCES shown_form (tenant_id, subject_id, id);
ALTER TABLE fallout_note
    ADD COLUMN proposal_id UUID,
    ADD CONSTRAINT fk_fallout_note_tenant_id_case_id_proposal_id
        FOREIGN KEY (tenant_id, case_id, proposal_id) REFERENCES resolution_proposal (tenant_id, case_id, id),
    DROP CONSTRAINT ck_fallout_note_kind,
    ADD CONSTRAINT ck_fallout_note_kind CHECK (kind IN ('INFORMATION_REQUEST', 'INFORMATION', 'HOLD', 'CONFIRMATION', 'DECLINED'));

ALTER TABLE cancellation_request ADD COLUMN shown_form_id UUID;
ALTER TABLE cancellation_request ADD CONSTRAINT fk_cancellation_request_tenant_id_id_shown_form_id
    FOREIGN KEY (tenant_id, id, shown_form_id) REFERENCES shown_form (tenant_id, subject_id, id);

-- Nobody grants authority to themselves; a wide grant counts only after a second person has confirmed it.

ALTER TABLE authority_grant
    ADD COLUMN granted_by TEXT,
    ADD COLUMN confirmed_by TEXT,
    ADD CONSTRAINT ck_authority_grant_second_person CHECK (granted_by <> subject AND confirmed_by <> subject AND confirmed_by <> granted_by),
    DROP CONSTRAINT ck_authority_grant_status,
    ADD CONSTRAINT ck_authority_grant_status CHECK (status IN ('PROPOSED', 'ACTIVE', 'REVOKED'));

-- The instances that run already: each passed the registration gate.
INSERT INTO workflow_instance (tenant_id, id, process_instance_id, business_key, subject_id, created_at)
SELECT tenant_id, gen_random_uuid(), process_instance_id, business_key,
    CASE workflow_name WHEN 'quote-approval' THEN split_part(business_key, ':', 4)::uuid ELSE aggregate_id END, updated_at
FROM workflow_correlation WHERE process_instance_id IS NOT NULL;

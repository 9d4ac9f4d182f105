-- The schema of the first release: tables, indexes, and the triggers that keep evidence and frozen content as they are.

CREATE SEQUENCE order_number;

CREATE SEQUENCE quote_number;

CREATE TABLE transition_log (
    tenant_id UUID NOT NULL,
    id UUID NOT NULL,
    aggregate_type TEXT NOT NULL,
    aggregate_id UUID NOT NULL,
    aggregate_version BIGINT NOT NULL,
    transition_from TEXT,
    transition_to TEXT NOT NULL,
    reason TEXT NOT NULL,
    actor TEXT NOT NULL,
    command_id UUID NOT NULL,
    idempotency_key TEXT,
    event_id UUID,
    external_event_id TEXT,
    process_instance_id TEXT,
    business_key TEXT,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_transition_log PRIMARY KEY (tenant_id, id),
    CONSTRAINT uq_transition_log_tenant_id_aggregate_type_aggregate_id_d6b0 UNIQUE (tenant_id, aggregate_type, aggregate_id, aggregate_version)
);

CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'evidence in % is never changed', TG_TABLE_NAME USING ERRCODE = 'restrict_violation'; END $$;

CREATE TRIGGER transition_log_append_only BEFORE UPDATE OR DELETE ON transition_log FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TABLE conflict_log (
    tenant_id UUID NOT NULL,
    id UUID NOT NULL,
    conflict_code TEXT NOT NULL,
    command TEXT NOT NULL,
    aggregate_type TEXT,
    aggregate_id UUID,
    expected_version BIGINT,
    actual_version BIGINT,
    actor TEXT NOT NULL,
    command_id UUID NOT NULL,
    idempotency_key TEXT,
    process_instance_id TEXT,
    business_key TEXT,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_conflict_log PRIMARY KEY (tenant_id, id)
);

CREATE TRIGGER conflict_log_append_only BEFORE UPDATE OR DELETE ON conflict_log FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TABLE outbox_event (
    tenant_id UUID NOT NULL,
    id UUID NOT NULL,
    position BIGINT GENERATED ALWAYS AS IDENTITY,
    event_type TEXT NOT NULL,
    topic TEXT NOT NULL,
    aggregate_type TEXT NOT NULL,
    aggregate_id UUID NOT NULL,
    aggregate_version BIGINT NOT NULL,
    payload JSONB NOT NULL,
    command_id UUID NOT NULL,
    causation_id UUID,
    business_key TEXT,
    status TEXT DEFAULT 'PENDING' NOT NULL,
    attempts INTEGER DEFAULT '0' NOT NULL,
    due_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    published_at TIMESTAMP WITH TIME ZONE,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_outbox_event PRIMARY KEY (tenant_id, id),
    CONSTRAINT uq_outbox_event_tenant_id_aggregate_type_aggregate_id_a_1d6a UNIQUE (tenant_id, aggregate_type, aggregate_id, aggregate_version, event_type),
    CONSTRAINT ck_outbox_event_status CHECK (status IN ('PENDING', 'PUBLISHED'))
);

CREATE INDEX ix_outbox_event_oldest ON outbox_event (position) WHERE status = 'PENDING';

CREATE INDEX ix_outbox_event_pending ON outbox_event (aggregate_id, position) WHERE status = 'PENDING';

CREATE TABLE workflow_command (
    tenant_id UUID NOT NULL,
    id UUID NOT NULL,
    version BIGINT NOT NULL,
    status TEXT NOT NULL,
    prior_status TEXT,
    position BIGINT GENERATED ALWAYS AS IDENTITY,
    kind TEXT NOT NULL,
    business_key TEXT NOT NULL,
    name TEXT NOT NULL,
    variables JSONB NOT NULL,
    attempts INTEGER DEFAULT '0' NOT NULL,
    due_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE,
    outcome TEXT,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_workflow_command PRIMARY KEY (tenant_id, id),
    CONSTRAINT ck_workflow_command_status CHECK (status IN ('PENDING', 'DONE', 'EXPIRED'))
);

CREATE INDEX ix_workflow_command_due ON workflow_command (due_at) WHERE status = 'PENDING';

CREATE TABLE idempotency_record (
    tenant_id UUID NOT NULL,
    command_name TEXT NOT NULL,
    idempotency_key TEXT NOT NULL,
    request_hash TEXT NOT NULL,
    status TEXT NOT NULL,
    actor TEXT NOT NULL,
    response_status INTEGER,
    response_body JSONB,
    response_version INTEGER,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() + interval '72 hours' NOT NULL,
    CONSTRAINT pk_idempotency_record PRIMARY KEY (tenant_id, command_name, idempotency_key),
    CONSTRAINT ck_idempotency_record_status CHECK (status IN ('IN_PROGRESS', 'COMPLETED'))
);

CREATE TABLE quote (
    tenant_id UUID NOT NULL,
    id UUID NOT NULL,
    version BIGINT NOT NULL,
    status TEXT NOT NULL,
    prior_status TEXT,
    quote_number TEXT DEFAULT 'Q-' || nextval('quote_number') NOT NULL,
    customer_id TEXT NOT NULL,
    owner_user_id TEXT NOT NULL,
    region TEXT NOT NULL,
    currency TEXT NOT NULL,
    payment_term_days INTEGER NOT NULL,
    current_revision_id UUID NOT NULL,
    valid_until TIMESTAMP WITH TIME ZONE NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_quote PRIMARY KEY (tenant_id, id),
    CONSTRAINT ck_quote_status CHECK (status IN ('DRAFT', 'PRICED', 'SUBMITTED_FOR_APPROVAL', 'APPROVAL_IN_PROGRESS', 'APPROVED', 'REWORK_REQUIRED', 'REJECTED', 'ACCEPTED', 'DECLINED', 'EXPIRED', 'CANCELLED')),
    CONSTRAINT uq_quote_tenant_id_quote_number UNIQUE (tenant_id, quote_number)
);

CREATE TABLE price_book_head (
    tenant_id UUID NOT NULL,
    price_book TEXT NOT NULL,
    active_version TEXT NOT NULL,
    published_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_price_book_head PRIMARY KEY (tenant_id, price_book)
);

CREATE TABLE price_book_version (
    tenant_id UUID NOT NULL,
    price_book TEXT NOT NULL,
    price_book_version TEXT NOT NULL,
    material_offering_ids JSONB NOT NULL,
    published_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_price_book_version PRIMARY KEY (tenant_id, price_book, price_book_version)
);

CREATE TRIGGER price_book_version_append_only BEFORE UPDATE OR DELETE ON price_book_version FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TABLE price_book_entry (
    tenant_id UUID NOT NULL,
    price_book TEXT NOT NULL,
    price_book_version TEXT NOT NULL,
    product_offering_id TEXT NOT NULL,
    list_price NUMERIC(14, 2) NOT NULL,
    unit_cost NUMERIC(14, 2) NOT NULL,
    CONSTRAINT pk_price_book_entry PRIMARY KEY (tenant_id, price_book, price_book_version, product_offering_id)
);

CREATE TRIGGER price_book_entry_append_only BEFORE UPDATE OR DELETE ON price_book_entry FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TABLE workflow_correlation (
    tenant_id UUID NOT NULL,
    id UUID NOT NULL,
    version BIGINT NOT NULL,
    status TEXT NOT NULL,
    prior_status TEXT,
    aggregate_type TEXT NOT NULL,
    aggregate_id UUID NOT NULL,
    workflow_name TEXT NOT NULL,
    business_key TEXT NOT NULL,
    start_token UUID NOT NULL,
    process_instance_id TEXT,
    variables JSONB NOT NULL,
    attempts INTEGER DEFAULT '1' NOT NULL,
    requested_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    next_check_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_workflow_correlation PRIMARY KEY (tenant_id, id),
    CONSTRAINT ck_workflow_correlation_status CHECK (status IN ('REQUESTED', 'START_UNKNOWN', 'STARTED', 'START_FAILED', 'ENDED', 'LOST')),
    CONSTRAINT uq_workflow_correlation_tenant_id_aggregate_type_aggreg_8e5d UNIQUE (tenant_id, aggregate_type, aggregate_id, workflow_name),
    CONSTRAINT uq_workflow_correlation_tenant_id_business_key UNIQUE (tenant_id, business_key)
);

CREATE INDEX ix_workflow_correlation_unresolved ON workflow_correlation (next_check_at) WHERE status IN ('REQUESTED', 'START_UNKNOWN');

CREATE TABLE external_callback_record (
    tenant_id UUID NOT NULL,
    provider_name TEXT NOT NULL,
    external_event_id TEXT NOT NULL,
    received_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    payload_hash TEXT NOT NULL,
    processed_status TEXT NOT NULL,
    event_type TEXT NOT NULL,
    external_event_at TIMESTAMP WITH TIME ZONE,
    step_id UUID,
    payload JSONB NOT NULL,
    CONSTRAINT pk_external_callback_record PRIMARY KEY (tenant_id, provider_name, external_event_id),
    CONSTRAINT ck_external_callback_record_processed_status CHECK (processed_status IN ('RECEIVED', 'APPLIED', 'NO_EFFECT', 'CONTRADICTION', 'UNMATCHED'))
);

CREATE TABLE external_callback_conflict (
    tenant_id UUID NOT NULL,
    id UUID NOT NULL,
    provider_name TEXT NOT NULL,
    external_event_id TEXT NOT NULL,
    first_hash TEXT NOT NULL,
    second_hash TEXT NOT NULL,
    payload JSONB NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_external_callback_conflict PRIMARY KEY (tenant_id, id)
);

CREATE TRIGGER external_callback_conflict_append_only BEFORE UPDATE OR DELETE ON external_callback_conflict FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TABLE reconciliation_finding (
    tenant_id UUID NOT NULL,
    id UUID NOT NULL,
    kind TEXT NOT NULL,
    aggregate_type TEXT NOT NULL,
    aggregate_id UUID NOT NULL,
    business_key TEXT,
    evidence JSONB NOT NULL,
    action TEXT NOT NULL,
    status TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_reconciliation_finding PRIMARY KEY (tenant_id, id),
    CONSTRAINT ck_reconciliation_finding_status CHECK (status IN ('REPAIRED', 'OPEN'))
);

CREATE INDEX ix_reconciliation_finding_aggregate ON reconciliation_finding (tenant_id, aggregate_id);

CREATE TRIGGER reconciliation_finding_append_only BEFORE UPDATE OR DELETE ON reconciliation_finding FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TABLE consumer_inbox (
    consumer_name TEXT NOT NULL,
    event_id UUID NOT NULL,
    tenant_id UUID NOT NULL,
    processed_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    event_type TEXT NOT NULL,
    aggregate_id UUID NOT NULL,
    CONSTRAINT pk_consumer_inbox PRIMARY KEY (consumer_name, event_id)
);

CREATE TABLE order_search_projection (
    tenant_id UUID NOT NULL,
    order_id UUID NOT NULL,
    order_number TEXT NOT NULL,
    quote_id UUID NOT NULL,
    customer_id TEXT NOT NULL,
    status TEXT NOT NULL,
    aggregate_version BIGINT NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_order_search_projection PRIMARY KEY (tenant_id, order_id)
);

CREATE TABLE quote_revision (
    tenant_id UUID NOT NULL,
    id UUID NOT NULL,
    quote_id UUID NOT NULL,
    revision_no INTEGER NOT NULL,
    status TEXT NOT NULL,
    config_result_id UUID,
    price_result_id UUID,
    content_hash TEXT NOT NULL,
    frozen_at TIMESTAMP WITH TIME ZONE,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_quote_revision PRIMARY KEY (tenant_id, id),
    CONSTRAINT fk_quote_revision_tenant_id_quote_id FOREIGN KEY(tenant_id, quote_id) REFERENCES quote (tenant_id, id),
    CONSTRAINT uq_quote_revision_tenant_id_quote_id_revision_no UNIQUE (tenant_id, quote_id, revision_no),
    CONSTRAINT ck_quote_revision_status CHECK (status IN ('WORKING', 'FROZEN', 'SUPERSEDED', 'ACCEPTED'))
);

CREATE UNIQUE INDEX uq_quote_revision_accepted ON quote_revision (tenant_id, quote_id) WHERE status = 'ACCEPTED';

CREATE UNIQUE INDEX uq_quote_revision_working ON quote_revision (tenant_id, quote_id) WHERE status = 'WORKING';

CREATE FUNCTION refuse_frozen_revision() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.status <> 'WORKING' AND (NEW.content_hash, NEW.price_result_id, NEW.config_result_id, NEW.quote_id, NEW.revision_no)
        IS DISTINCT FROM (OLD.content_hash, OLD.price_result_id, OLD.config_result_id, OLD.quote_id, OLD.revision_no) THEN
        RAISE EXCEPTION 'a revision that is not WORKING is never changed' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER quote_revision_frozen BEFORE UPDATE ON quote_revision
FOR EACH ROW EXECUTE FUNCTION refuse_frozen_revision();

CREATE TABLE sales_order (
    tenant_id UUID NOT NULL,
    id UUID NOT NULL,
    version BIGINT NOT NULL,
    status TEXT NOT NULL,
    prior_status TEXT,
    order_number TEXT DEFAULT 'O-' || nextval('order_number') NOT NULL,
    order_kind TEXT NOT NULL,
    quote_id UUID NOT NULL,
    quote_revision_id UUID NOT NULL,
    customer_id TEXT NOT NULL,
    ponr_reached BOOLEAN DEFAULT 'false' NOT NULL,
    priority INTEGER DEFAULT '4' NOT NULL,
    requested_completion TIMESTAMP WITH TIME ZONE,
    hold_reason TEXT,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_sales_order PRIMARY KEY (tenant_id, id),
    CONSTRAINT ck_sales_order_status CHECK (status IN ('CREATED', 'SUBMITTED', 'IN_PROGRESS', 'HELD', 'CANCEL_REQUESTED', 'CANCELLING', 'FULFILLED', 'PARTIALLY_FULFILLED', 'FAILED', 'CANCELLED', 'REJECTED')),
    CONSTRAINT ck_sales_order_kind CHECK (order_kind IN ('PRIMARY', 'CHANGE', 'RETURN')),
    CONSTRAINT uq_sales_order_tenant_id_order_number UNIQUE (tenant_id, order_number),
    CONSTRAINT fk_sales_order_tenant_id_quote_id FOREIGN KEY(tenant_id, quote_id) REFERENCES quote (tenant_id, id),
    CONSTRAINT fk_sales_order_tenant_id_quote_revision_id FOREIGN KEY(tenant_id, quote_revision_id) REFERENCES quote_revision (tenant_id, id)
);

CREATE INDEX ix_sales_order_running ON sales_order (updated_at) WHERE status IN ('IN_PROGRESS', 'HELD', 'CANCEL_REQUESTED');

CREATE UNIQUE INDEX uq_order_quote_revision_primary ON sales_order (tenant_id, quote_revision_id) WHERE order_kind = 'PRIMARY';

CREATE TABLE quote_line (
    tenant_id UUID NOT NULL,
    id UUID NOT NULL,
    revision_id UUID NOT NULL,
    line_no INTEGER NOT NULL,
    product_offering_id TEXT NOT NULL,
    action TEXT NOT NULL,
    quantity INTEGER NOT NULL,
    term_months INTEGER NOT NULL,
    discount_percent NUMERIC(5, 2) NOT NULL,
    reason_code TEXT,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_quote_line PRIMARY KEY (tenant_id, id),
    CONSTRAINT fk_quote_line_tenant_id_revision_id FOREIGN KEY(tenant_id, revision_id) REFERENCES quote_revision (tenant_id, id),
    CONSTRAINT uq_quote_line_tenant_id_revision_id_line_no UNIQUE (tenant_id, revision_id, line_no),
    CONSTRAINT ck_quote_line_quantity CHECK (quantity > 0),
    CONSTRAINT ck_quote_line_discount CHECK (discount_percent BETWEEN 0 AND 100)
);

CREATE FUNCTION refuse_frozen_content() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    revision uuid := CASE TG_OP WHEN 'DELETE' THEN OLD.revision_id ELSE NEW.revision_id END;
    tenant uuid := CASE TG_OP WHEN 'DELETE' THEN OLD.tenant_id ELSE NEW.tenant_id END;
BEGIN
    IF EXISTS (SELECT FROM quote_revision WHERE tenant_id = tenant AND id = revision AND status <> 'WORKING') THEN
        RAISE EXCEPTION 'lines of a revision that is not WORKING are never changed' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END $$;
CREATE TRIGGER quote_line_frozen BEFORE INSERT OR UPDATE OR DELETE ON quote_line
FOR EACH ROW EXECUTE FUNCTION refuse_frozen_content();

CREATE TABLE configuration_result (
    tenant_id UUID NOT NULL,
    id UUID NOT NULL,
    revision_id UUID NOT NULL,
    catalog_version TEXT NOT NULL,
    input_hash TEXT NOT NULL,
    valid BOOLEAN NOT NULL,
    messages JSONB NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_configuration_result PRIMARY KEY (tenant_id, id),
    CONSTRAINT fk_configuration_result_tenant_id_revision_id FOREIGN KEY(tenant_id, revision_id) REFERENCES quote_revision (tenant_id, id)
);

CREATE TRIGGER configuration_result_append_only BEFORE UPDATE OR DELETE ON configuration_result FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TABLE sales_order_line (
    tenant_id UUID NOT NULL,
    id UUID NOT NULL,
    order_id UUID NOT NULL,
    line_no INTEGER NOT NULL,
    product_offering_id TEXT NOT NULL,
    action TEXT NOT NULL,
    quantity INTEGER NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_sales_order_line PRIMARY KEY (tenant_id, id),
    CONSTRAINT fk_sales_order_line_tenant_id_order_id FOREIGN KEY(tenant_id, order_id) REFERENCES sales_order (tenant_id, id),
    CONSTRAINT uq_sales_order_line_tenant_id_order_id_line_no UNIQUE (tenant_id, order_id, line_no)
);

CREATE TABLE price_result (
    tenant_id UUID NOT NULL,
    id UUID NOT NULL,
    revision_id UUID NOT NULL,
    config_result_id UUID NOT NULL,
    price_book TEXT NOT NULL,
    price_book_version TEXT NOT NULL,
    catalog_version TEXT NOT NULL,
    priced_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    valid_until TIMESTAMP WITH TIME ZONE NOT NULL,
    staleness_policy TEXT NOT NULL,
    input_hash TEXT NOT NULL,
    currency TEXT NOT NULL,
    list_total NUMERIC(14, 2) NOT NULL,
    net_total NUMERIC(14, 2) NOT NULL,
    max_discount_percent NUMERIC(5, 2) NOT NULL,
    margin_percent NUMERIC(7, 2) NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_price_result PRIMARY KEY (tenant_id, id),
    CONSTRAINT fk_price_result_tenant_id_revision_id FOREIGN KEY(tenant_id, revision_id) REFERENCES quote_revision (tenant_id, id),
    CONSTRAINT fk_price_result_tenant_id_config_result_id FOREIGN KEY(tenant_id, config_result_id) REFERENCES configuration_result (tenant_id, id),
    CONSTRAINT uq_price_result_tenant_id_revision_id_id UNIQUE (tenant_id, revision_id, id),
    CONSTRAINT ck_price_result_policy CHECK (staleness_policy IN ('VALID_UNTIL_QUOTE_EXPIRY', 'REPRICE_REQUIRED_ON_PUBLISH', 'REPRICE_ON_MATERIAL_CHANGE', 'APPROVAL_REQUIRED_IF_STALE'))
);

CREATE TRIGGER price_result_append_only BEFORE UPDATE OR DELETE ON price_result FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TABLE fulfillment_plan (
    tenant_id UUID NOT NULL,
    id UUID NOT NULL,
    order_id UUID NOT NULL,
    plan_no INTEGER NOT NULL,
    decomposition_hash TEXT NOT NULL,
    catalog_version TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_fulfillment_plan PRIMARY KEY (tenant_id, id),
    CONSTRAINT fk_fulfillment_plan_tenant_id_order_id FOREIGN KEY(tenant_id, order_id) REFERENCES sales_order (tenant_id, id),
    CONSTRAINT uq_fulfillment_plan_tenant_id_order_id_plan_no UNIQUE (tenant_id, order_id, plan_no)
);

CREATE TABLE approval_request (
    tenant_id UUID NOT NULL,
    id UUID NOT NULL,
    version BIGINT NOT NULL,
    status TEXT NOT NULL,
    prior_status TEXT,
    quote_id UUID NOT NULL,
    quote_revision_id UUID NOT NULL,
    price_result_id UUID NOT NULL,
    policy_definition_id TEXT NOT NULL,
    process_instance_id TEXT,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_approval_request PRIMARY KEY (tenant_id, id),
    CONSTRAINT ck_approval_request_status CHECK (status IN ('OPEN', 'APPROVED', 'REJECTED', 'REWORK', 'RECALLED', 'INVALIDATED', 'EXPIRED')),
    CONSTRAINT fk_approval_request_tenant_id_quote_id FOREIGN KEY(tenant_id, quote_id) REFERENCES quote (tenant_id, id),
    CONSTRAINT fk_approval_request_tenant_id_quote_revision_id_price_result_id FOREIGN KEY(tenant_id, quote_revision_id, price_result_id) REFERENCES price_result (tenant_id, revision_id, id)
);

CREATE UNIQUE INDEX uq_approval_request_open ON approval_request (tenant_id, quote_revision_id) WHERE status = 'OPEN';

CREATE TABLE quote_document (
    tenant_id UUID NOT NULL,
    id UUID NOT NULL,
    quote_id UUID NOT NULL,
    quote_revision_id UUID NOT NULL,
    price_result_id UUID NOT NULL,
    sha256 TEXT NOT NULL,
    content TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_quote_document PRIMARY KEY (tenant_id, id),
    CONSTRAINT fk_quote_document_tenant_id_quote_id FOREIGN KEY(tenant_id, quote_id) REFERENCES quote (tenant_id, id),
    CONSTRAINT fk_quote_document_tenant_id_quote_revision_id FOREIGN KEY(tenant_id, quote_revision_id) REFERENCES quote_revision (tenant_id, id),
    CONSTRAINT fk_quote_document_tenant_id_price_result_id FOREIGN KEY(tenant_id, price_result_id) REFERENCES price_result (tenant_id, id),
    CONSTRAINT uq_quote_document_tenant_id_quote_revision_id_sha256 UNIQUE (tenant_id, quote_revision_id, sha256)
);

CREATE TRIGGER quote_document_append_only BEFORE UPDATE OR DELETE ON quote_document FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TABLE fulfillment_step (
    tenant_id UUID NOT NULL,
    id UUID NOT NULL,
    version BIGINT NOT NULL,
    status TEXT NOT NULL,
    prior_status TEXT,
    plan_id UUID NOT NULL,
    order_id UUID NOT NULL,
    line_id UUID NOT NULL,
    step_code TEXT NOT NULL,
    kind TEXT NOT NULL,
    compensates_step_id UUID,
    provider_name TEXT NOT NULL,
    required BOOLEAN NOT NULL,
    compensable BOOLEAN NOT NULL,
    is_ponr BOOLEAN NOT NULL,
    attempt_no INTEGER DEFAULT '0' NOT NULL,
    ready_at TIMESTAMP WITH TIME ZONE,
    external_ref TEXT,
    cancel_requested_at TIMESTAMP WITH TIME ZONE,
    external_complete_received_at TIMESTAMP WITH TIME ZONE,
    external_event_id TEXT,
    external_event_at TIMESTAMP WITH TIME ZONE,
    final_reason TEXT,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_fulfillment_step PRIMARY KEY (tenant_id, id),
    CONSTRAINT ck_fulfillment_step_status CHECK (status IN ('PENDING', 'IN_PROGRESS', 'UNKNOWN', 'RETRYABLE', 'HELD', 'CANCEL_REQUESTED', 'COMPLETED', 'CANCELLED', 'SKIPPED', 'FAILED')),
    CONSTRAINT fk_fulfillment_step_tenant_id_plan_id FOREIGN KEY(tenant_id, plan_id) REFERENCES fulfillment_plan (tenant_id, id),
    CONSTRAINT fk_fulfillment_step_tenant_id_order_id FOREIGN KEY(tenant_id, order_id) REFERENCES sales_order (tenant_id, id),
    CONSTRAINT fk_fulfillment_step_tenant_id_line_id FOREIGN KEY(tenant_id, line_id) REFERENCES sales_order_line (tenant_id, id),
    CONSTRAINT fk_fulfillment_step_tenant_id_compensates_step_id FOREIGN KEY(tenant_id, compensates_step_id) REFERENCES fulfillment_step (tenant_id, id),
    CONSTRAINT uq_fulfillment_step_tenant_id_plan_id_line_id_step_code_kind UNIQUE (tenant_id, plan_id, line_id, step_code, kind),
    CONSTRAINT uq_fulfillment_step_tenant_id_compensates_step_id UNIQUE (tenant_id, compensates_step_id),
    CONSTRAINT ck_fulfillment_step_compensation CHECK ((kind = 'COMPENSATE') = (compensates_step_id IS NOT NULL)),
    CONSTRAINT ck_fulfillment_step_kind CHECK (kind IN ('FULFILL', 'COMPENSATE'))
);

CREATE INDEX ix_fulfillment_step_order ON fulfillment_step (tenant_id, order_id);

CREATE INDEX ix_fulfillment_step_unsettled ON fulfillment_step (updated_at) WHERE status IN ('IN_PROGRESS', 'UNKNOWN');

CREATE TABLE approval_requirement (
    tenant_id UUID NOT NULL,
    id UUID NOT NULL,
    version BIGINT NOT NULL,
    status TEXT NOT NULL,
    prior_status TEXT,
    request_id UUID NOT NULL,
    type TEXT NOT NULL,
    level INTEGER NOT NULL,
    approver_group TEXT NOT NULL,
    min_authority NUMERIC(5, 2) NOT NULL,
    due_at TIMESTAMP WITH TIME ZONE NOT NULL,
    escalation_level INTEGER DEFAULT '0' NOT NULL,
    camunda_task_id TEXT,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_approval_requirement PRIMARY KEY (tenant_id, id),
    CONSTRAINT ck_approval_requirement_status CHECK (status IN ('PENDING', 'APPROVED', 'REJECTED', 'REWORK', 'WAIVED', 'INVALIDATED')),
    CONSTRAINT fk_approval_requirement_tenant_id_request_id FOREIGN KEY(tenant_id, request_id) REFERENCES approval_request (tenant_id, id),
    CONSTRAINT uq_approval_requirement_tenant_id_request_id_type_level UNIQUE (tenant_id, request_id, type, level)
);

CREATE TABLE quote_acceptance (
    tenant_id UUID NOT NULL,
    id UUID NOT NULL,
    quote_id UUID NOT NULL,
    quote_revision_id UUID NOT NULL,
    price_result_id UUID NOT NULL,
    approval_request_id UUID NOT NULL,
    document_id UUID NOT NULL,
    price_book_version TEXT NOT NULL,
    active_price_book_version_seen TEXT NOT NULL,
    staleness_policy TEXT NOT NULL,
    accepted_by TEXT NOT NULL,
    channel TEXT NOT NULL,
    order_id UUID NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_quote_acceptance PRIMARY KEY (tenant_id, id),
    CONSTRAINT fk_quote_acceptance_tenant_id_quote_id FOREIGN KEY(tenant_id, quote_id) REFERENCES quote (tenant_id, id),
    CONSTRAINT fk_quote_acceptance_tenant_id_quote_revision_id FOREIGN KEY(tenant_id, quote_revision_id) REFERENCES quote_revision (tenant_id, id),
    CONSTRAINT fk_quote_acceptance_tenant_id_price_result_id FOREIGN KEY(tenant_id, price_result_id) REFERENCES price_result (tenant_id, id),
    CONSTRAINT fk_quote_acceptance_tenant_id_approval_request_id FOREIGN KEY(tenant_id, approval_request_id) REFERENCES approval_request (tenant_id, id),
    CONSTRAINT fk_quote_acceptance_tenant_id_document_id FOREIGN KEY(tenant_id, document_id) REFERENCES quote_document (tenant_id, id),
    CONSTRAINT fk_quote_acceptance_tenant_id_order_id FOREIGN KEY(tenant_id, order_id) REFERENCES sales_order (tenant_id, id),
    CONSTRAINT uq_quote_acceptance_tenant_id_quote_revision_id UNIQUE (tenant_id, quote_revision_id)
);

CREATE TRIGGER quote_acceptance_append_only BEFORE UPDATE OR DELETE ON quote_acceptance FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TABLE fulfillment_step_dependency (
    tenant_id UUID NOT NULL,
    step_id UUID NOT NULL,
    depends_on_step_id UUID NOT NULL,
    CONSTRAINT pk_fulfillment_step_dependency PRIMARY KEY (tenant_id, step_id, depends_on_step_id),
    CONSTRAINT fk_fulfillment_step_dependency_tenant_id_step_id FOREIGN KEY(tenant_id, step_id) REFERENCES fulfillment_step (tenant_id, id),
    CONSTRAINT fk_fulfillment_step_dependency_tenant_id_depends_on_step_id FOREIGN KEY(tenant_id, depends_on_step_id) REFERENCES fulfillment_step (tenant_id, id)
);

CREATE TABLE provider_attempt (
    tenant_id UUID NOT NULL,
    id UUID NOT NULL,
    step_id UUID NOT NULL,
    command TEXT NOT NULL,
    attempt_no INTEGER NOT NULL,
    idempotency_key TEXT NOT NULL,
    request_hash TEXT NOT NULL,
    status TEXT NOT NULL,
    worker_id TEXT NOT NULL,
    external_task_id TEXT,
    sent_at TIMESTAMP WITH TIME ZONE NOT NULL,
    heartbeat_at TIMESTAMP WITH TIME ZONE NOT NULL,
    external_request_id TEXT,
    outcome_source TEXT,
    reason TEXT,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_provider_attempt PRIMARY KEY (tenant_id, id),
    CONSTRAINT fk_provider_attempt_tenant_id_step_id FOREIGN KEY(tenant_id, step_id) REFERENCES fulfillment_step (tenant_id, id),
    CONSTRAINT ck_provider_attempt_status CHECK (status IN ('SENT', 'ACKNOWLEDGED', 'UNKNOWN', 'SUCCEEDED', 'FAILED', 'ABSENT')),
    CONSTRAINT ck_provider_attempt_command CHECK (command IN ('EXECUTE', 'CANCEL', 'QUERY'))
);

CREATE UNIQUE INDEX uq_provider_attempt_live ON provider_attempt (tenant_id, step_id, command) WHERE status IN ('SENT', 'ACKNOWLEDGED', 'UNKNOWN');

CREATE TABLE approval_decision (
    tenant_id UUID NOT NULL,
    id UUID NOT NULL,
    requirement_id UUID NOT NULL,
    quote_id UUID NOT NULL,
    quote_revision_id UUID NOT NULL,
    price_result_id UUID NOT NULL,
    decision TEXT NOT NULL,
    decided_by TEXT NOT NULL,
    authority_snapshot JSONB NOT NULL,
    reason_code TEXT NOT NULL,
    comment TEXT,
    approval_task_id TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_approval_decision PRIMARY KEY (tenant_id, id),
    CONSTRAINT fk_approval_decision_tenant_id_requirement_id FOREIGN KEY(tenant_id, requirement_id) REFERENCES approval_requirement (tenant_id, id),
    CONSTRAINT fk_approval_decision_tenant_id_quote_id FOREIGN KEY(tenant_id, quote_id) REFERENCES quote (tenant_id, id),
    CONSTRAINT fk_approval_decision_tenant_id_quote_revision_id_price__6a38 FOREIGN KEY(tenant_id, quote_revision_id, price_result_id) REFERENCES price_result (tenant_id, revision_id, id),
    CONSTRAINT uq_approval_decision_tenant_id_requirement_id UNIQUE (tenant_id, requirement_id),
    CONSTRAINT uq_approval_decision_tenant_id_approval_task_id UNIQUE (tenant_id, approval_task_id),
    CONSTRAINT ck_approval_decision_decision CHECK (decision IN ('APPROVE', 'REJECT', 'REWORK'))
);

CREATE TRIGGER approval_decision_append_only BEFORE UPDATE OR DELETE ON approval_decision FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

ALTER TABLE quote ADD CONSTRAINT fk_quote_tenant_id_current_revision_id FOREIGN KEY(tenant_id, current_revision_id) REFERENCES quote_revision (tenant_id, id) DEFERRABLE INITIALLY DEFERRED;

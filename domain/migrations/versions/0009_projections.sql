-- Lists read projections: quotes, orders and decisions as their events show them; what there is by now is taken from the authority.

ALTER TABLE quote ADD COLUMN net_total NUMERIC(14, 2);
UPDATE quote SET net_total = p.net_total
FROM quote_revision r JOIN price_result p ON p.tenant_id = r.tenant_id AND p.id = r.price_result_id
WHERE r.tenant_id = quote.tenant_id AND r.id = quote.current_revision_id;
ALTER TABLE sales_order ADD COLUMN currency TEXT, ADD COLUMN net_total NUMERIC(14, 2);
UPDATE sales_order SET currency = p.currency, net_total = p.net_total
FROM quote_acceptance a JOIN price_result p ON p.tenant_id = a.tenant_id AND p.id = a.price_result_id
WHERE a.tenant_id = sales_order.tenant_id AND a.order_id = sales_order.id;

-- Reconciliation looks at changes in their order.
CREATE INDEX ix_quote_changed ON quote (updated_at, id);
CREATE INDEX ix_sales_order_changed ON sales_order (updated_at, id);
CREATE INDEX ix_approval_decision_made ON approval_decision (created_at, id);

DROP TABLE order_search_projection;

CREATE TABLE quote_search (
    tenant_id UUID NOT NULL,
    quote_id UUID NOT NULL,
    quote_number TEXT NOT NULL,
    status TEXT NOT NULL,
    customer_id TEXT NOT NULL,
    owner_user_id TEXT NOT NULL,
    region TEXT NOT NULL,
    currency TEXT NOT NULL,
    payment_term_days INTEGER NOT NULL,
    current_revision_id UUID NOT NULL,
    valid_until TIMESTAMP WITH TIME ZONE NOT NULL,
    reason_code TEXT,
    net_total NUMERIC(14, 2),
    aggregate_version BIGINT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
    missing INT8MULTIRANGE DEFAULT '{}' NOT NULL,
    gap_since TIMESTAMP WITH TIME ZONE,
    projected_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_quote_search PRIMARY KEY (tenant_id, quote_id)
);
CREATE INDEX ix_quote_search_created_at ON quote_search (tenant_id, created_at, quote_id);
CREATE INDEX ix_quote_search_customer_id_created_at ON quote_search (tenant_id, customer_id, created_at, quote_id);
CREATE INDEX ix_quote_search_gap ON quote_search (gap_since) WHERE gap_since IS NOT NULL;
CREATE INDEX ix_quote_search_quote_number ON quote_search (tenant_id, quote_number, quote_id);
CREATE INDEX ix_quote_search_status_created_at ON quote_search (tenant_id, status, created_at, quote_id);
CREATE INDEX ix_quote_search_updated_at ON quote_search (tenant_id, updated_at, quote_id);
CREATE INDEX ix_quote_search_valid_until ON quote_search (tenant_id, valid_until, quote_id);
ALTER TABLE quote_search ENABLE ROW LEVEL SECURITY;
ALTER TABLE quote_search FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON quote_search USING (tenant_id::text = current_setting('q2o.tenant', true));
CREATE POLICY every_tenant ON quote_search TO q2o_every_tenant USING (current_setting('q2o.tenant', true) = '*');

CREATE TABLE order_search_projection (
    tenant_id UUID NOT NULL,
    order_id UUID NOT NULL,
    order_number TEXT NOT NULL,
    order_kind TEXT NOT NULL,
    status TEXT NOT NULL,
    quote_id UUID NOT NULL,
    quote_revision_id UUID NOT NULL,
    customer_id TEXT NOT NULL,
    priority INTEGER NOT NULL,
    requested_completion TIMESTAMP WITH TIME ZONE,
    hold_reason TEXT,
    currency TEXT,
    net_total NUMERIC(14, 2),
    aggregate_version BIGINT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
    missing INT8MULTIRANGE DEFAULT '{}' NOT NULL,
    gap_since TIMESTAMP WITH TIME ZONE,
    projected_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_order_search_projection PRIMARY KEY (tenant_id, order_id)
);
CREATE INDEX ix_order_search_projection_created_at ON order_search_projection (tenant_id, created_at, order_id);
CREATE INDEX ix_order_search_projection_customer_id_created_at ON order_search_projection (tenant_id, customer_id, created_at, order_id);
CREATE INDEX ix_order_search_projection_gap ON order_search_projection (gap_since) WHERE gap_since IS NOT NULL;
CREATE INDEX ix_order_search_projection_order_number ON order_search_projection (tenant_id, order_number, order_id);
CREATE INDEX ix_order_search_projection_quote_id ON order_search_projection (tenant_id, quote_id, order_id);
CREATE INDEX ix_order_search_projection_requested_completion ON order_search_projection (tenant_id, requested_completion, order_id);
CREATE INDEX ix_order_search_projection_status_created_at ON order_search_projection (tenant_id, status, created_at, order_id);
CREATE INDEX ix_order_search_projection_updated_at ON order_search_projection (tenant_id, updated_at, order_id);
ALTER TABLE order_search_projection ENABLE ROW LEVEL SECURITY;
ALTER TABLE order_search_projection FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON order_search_projection USING (tenant_id::text = current_setting('q2o.tenant', true));
CREATE POLICY every_tenant ON order_search_projection TO q2o_every_tenant USING (current_setting('q2o.tenant', true) = '*');

CREATE TABLE quote_approval_projection_decision (
    tenant_id UUID NOT NULL,
    approval_decision_id UUID NOT NULL,
    quote_id UUID NOT NULL,
    quote_revision_id UUID NOT NULL,
    price_result_id UUID NOT NULL,
    requirement_id UUID NOT NULL,
    type TEXT NOT NULL,
    level INTEGER NOT NULL,
    decision TEXT NOT NULL,
    decided_by TEXT NOT NULL,
    reason_code TEXT NOT NULL,
    decided_at TIMESTAMP WITH TIME ZONE NOT NULL,
    projected_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_quote_approval_projection_decision PRIMARY KEY (tenant_id, approval_decision_id)
);
CREATE INDEX ix_quote_approval_projection_decision_revision ON quote_approval_projection_decision (tenant_id, quote_id, quote_revision_id, decision);
ALTER TABLE quote_approval_projection_decision ENABLE ROW LEVEL SECURITY;
ALTER TABLE quote_approval_projection_decision FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON quote_approval_projection_decision USING (tenant_id::text = current_setting('q2o.tenant', true));
CREATE POLICY every_tenant ON quote_approval_projection_decision TO q2o_every_tenant USING (current_setting('q2o.tenant', true) = '*');

INSERT INTO quote_search (
    tenant_id, quote_id, quote_number, status, customer_id, owner_user_id, region, currency, payment_term_days,
    current_revision_id, valid_until, reason_code, net_total, aggregate_version, created_at, updated_at
)
SELECT
    tenant_id, id, quote_number, status, customer_id, owner_user_id, region, currency, payment_term_days, current_revision_id,
    valid_until, reason_code, net_total, version, created_at, updated_at
FROM quote;

INSERT INTO order_search_projection (
    tenant_id, order_id, order_number, order_kind, status, quote_id, quote_revision_id, customer_id, priority,
    requested_completion, hold_reason, currency, net_total, aggregate_version, created_at, updated_at
)
SELECT
    tenant_id, id, order_number, order_kind, status, quote_id, quote_revision_id, customer_id, priority, requested_completion,
    hold_reason, currency, net_total, version, created_at, updated_at
FROM sales_order;

INSERT INTO quote_approval_projection_decision (
    tenant_id, approval_decision_id, quote_id, quote_revision_id, price_result_id, requirement_id, type, level, decision,
    decided_by, reason_code, decided_at
)
SELECT
    d.tenant_id, d.id, d.quote_id, d.quote_revision_id, d.price_result_id, d.requirement_id, q.type, q.level, d.decision,
    d.decided_by, d.reason_code, d.created_at
FROM approval_decision d JOIN approval_requirement q ON q.tenant_id = d.tenant_id AND q.id = d.requirement_id;

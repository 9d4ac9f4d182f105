-- Late orders, alerts that are over, what lacks its process, and gaps of projections are found in turns between tenants.

DROP INDEX ix_sales_order_live, ix_sales_order_created, ix_jeopardy_alert_raised, ix_quote_submitted, ix_fallout_case_untouched;
DROP INDEX ix_quote_search_gap, ix_order_search_projection_gap;

CREATE INDEX ix_sales_order_live ON sales_order (tenant_id, created_at)
    WHERE status IN ('CREATED', 'SUBMITTED', 'IN_PROGRESS', 'HELD', 'CANCEL_REQUESTED', 'CANCELLING');
CREATE INDEX ix_sales_order_created ON sales_order (tenant_id, created_at) WHERE status = 'CREATED';
CREATE INDEX ix_jeopardy_alert_raised ON jeopardy_alert (tenant_id, updated_at) WHERE status = 'RAISED';
CREATE INDEX ix_quote_submitted ON quote (tenant_id, updated_at) WHERE status = 'SUBMITTED_FOR_APPROVAL';
CREATE INDEX ix_fallout_case_untouched ON fallout_case (tenant_id, created_at) WHERE status = 'OPEN';
CREATE INDEX ix_quote_search_gap ON quote_search (tenant_id, gap_since) WHERE gap_since IS NOT NULL;
CREATE INDEX ix_order_search_projection_gap ON order_search_projection (tenant_id, gap_since) WHERE gap_since IS NOT NULL;

-- Tenants are kept apart by the database too: a transaction sees the rows of the tenant that it names, and none before it names one.

ALTER TABLE approval_decision ENABLE ROW LEVEL SECURITY;
ALTER TABLE approval_decision FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON approval_decision USING (tenant_id::text = current_setting('q2o.tenant', true) OR current_setting('q2o.tenant', true) = '*');

ALTER TABLE approval_request ENABLE ROW LEVEL SECURITY;
ALTER TABLE approval_request FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON approval_request USING (tenant_id::text = current_setting('q2o.tenant', true) OR current_setting('q2o.tenant', true) = '*');

ALTER TABLE approval_requirement ENABLE ROW LEVEL SECURITY;
ALTER TABLE approval_requirement FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON approval_requirement USING (tenant_id::text = current_setting('q2o.tenant', true) OR current_setting('q2o.tenant', true) = '*');

ALTER TABLE authority_grant ENABLE ROW LEVEL SECURITY;
ALTER TABLE authority_grant FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON authority_grant USING (tenant_id::text = current_setting('q2o.tenant', true) OR current_setting('q2o.tenant', true) = '*');

ALTER TABLE configuration_result ENABLE ROW LEVEL SECURITY;
ALTER TABLE configuration_result FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON configuration_result USING (tenant_id::text = current_setting('q2o.tenant', true) OR current_setting('q2o.tenant', true) = '*');

ALTER TABLE conflict_log ENABLE ROW LEVEL SECURITY;
ALTER TABLE conflict_log FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON conflict_log USING (tenant_id::text = current_setting('q2o.tenant', true) OR current_setting('q2o.tenant', true) = '*');

ALTER TABLE consumer_inbox ENABLE ROW LEVEL SECURITY;
ALTER TABLE consumer_inbox FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON consumer_inbox USING (tenant_id::text = current_setting('q2o.tenant', true) OR current_setting('q2o.tenant', true) = '*');

ALTER TABLE external_callback_conflict ENABLE ROW LEVEL SECURITY;
ALTER TABLE external_callback_conflict FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON external_callback_conflict USING (tenant_id::text = current_setting('q2o.tenant', true) OR current_setting('q2o.tenant', true) = '*');

ALTER TABLE external_callback_record ENABLE ROW LEVEL SECURITY;
ALTER TABLE external_callback_record FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON external_callback_record USING (tenant_id::text = current_setting('q2o.tenant', true) OR current_setting('q2o.tenant', true) = '*');

ALTER TABLE fulfillment_plan ENABLE ROW LEVEL SECURITY;
ALTER TABLE fulfillment_plan FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON fulfillment_plan USING (tenant_id::text = current_setting('q2o.tenant', true) OR current_setting('q2o.tenant', true) = '*');

ALTER TABLE fulfillment_step ENABLE ROW LEVEL SECURITY;
ALTER TABLE fulfillment_step FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON fulfillment_step USING (tenant_id::text = current_setting('q2o.tenant', true) OR current_setting('q2o.tenant', true) = '*');

ALTER TABLE fulfillment_step_dependency ENABLE ROW LEVEL SECURITY;
ALTER TABLE fulfillment_step_dependency FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON fulfillment_step_dependency USING (tenant_id::text = current_setting('q2o.tenant', true) OR current_setting('q2o.tenant', true) = '*');

ALTER TABLE idempotency_record ENABLE ROW LEVEL SECURITY;
ALTER TABLE idempotency_record FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON idempotency_record USING (tenant_id::text = current_setting('q2o.tenant', true) OR current_setting('q2o.tenant', true) = '*');

ALTER TABLE order_search_projection ENABLE ROW LEVEL SECURITY;
ALTER TABLE order_search_projection FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON order_search_projection USING (tenant_id::text = current_setting('q2o.tenant', true) OR current_setting('q2o.tenant', true) = '*');

ALTER TABLE outbox_event ENABLE ROW LEVEL SECURITY;
ALTER TABLE outbox_event FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON outbox_event USING (tenant_id::text = current_setting('q2o.tenant', true) OR current_setting('q2o.tenant', true) = '*');

ALTER TABLE price_book_entry ENABLE ROW LEVEL SECURITY;
ALTER TABLE price_book_entry FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON price_book_entry USING (tenant_id::text = current_setting('q2o.tenant', true) OR current_setting('q2o.tenant', true) = '*');

ALTER TABLE price_book_head ENABLE ROW LEVEL SECURITY;
ALTER TABLE price_book_head FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON price_book_head USING (tenant_id::text = current_setting('q2o.tenant', true) OR current_setting('q2o.tenant', true) = '*');

ALTER TABLE price_book_version ENABLE ROW LEVEL SECURITY;
ALTER TABLE price_book_version FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON price_book_version USING (tenant_id::text = current_setting('q2o.tenant', true) OR current_setting('q2o.tenant', true) = '*');

ALTER TABLE price_result ENABLE ROW LEVEL SECURITY;
ALTER TABLE price_result FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON price_result USING (tenant_id::text = current_setting('q2o.tenant', true) OR current_setting('q2o.tenant', true) = '*');

ALTER TABLE provider_attempt ENABLE ROW LEVEL SECURITY;
ALTER TABLE provider_attempt FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON provider_attempt USING (tenant_id::text = current_setting('q2o.tenant', true) OR current_setting('q2o.tenant', true) = '*');

ALTER TABLE quote ENABLE ROW LEVEL SECURITY;
ALTER TABLE quote FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON quote USING (tenant_id::text = current_setting('q2o.tenant', true) OR current_setting('q2o.tenant', true) = '*');

ALTER TABLE quote_acceptance ENABLE ROW LEVEL SECURITY;
ALTER TABLE quote_acceptance FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON quote_acceptance USING (tenant_id::text = current_setting('q2o.tenant', true) OR current_setting('q2o.tenant', true) = '*');

ALTER TABLE quote_document ENABLE ROW LEVEL SECURITY;
ALTER TABLE quote_document FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON quote_document USING (tenant_id::text = current_setting('q2o.tenant', true) OR current_setting('q2o.tenant', true) = '*');

ALTER TABLE quote_line ENABLE ROW LEVEL SECURITY;
ALTER TABLE quote_line FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON quote_line USING (tenant_id::text = current_setting('q2o.tenant', true) OR current_setting('q2o.tenant', true) = '*');

ALTER TABLE quote_revision ENABLE ROW LEVEL SECURITY;
ALTER TABLE quote_revision FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON quote_revision USING (tenant_id::text = current_setting('q2o.tenant', true) OR current_setting('q2o.tenant', true) = '*');

ALTER TABLE reconciliation_finding ENABLE ROW LEVEL SECURITY;
ALTER TABLE reconciliation_finding FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON reconciliation_finding USING (tenant_id::text = current_setting('q2o.tenant', true) OR current_setting('q2o.tenant', true) = '*');

ALTER TABLE sales_order ENABLE ROW LEVEL SECURITY;
ALTER TABLE sales_order FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON sales_order USING (tenant_id::text = current_setting('q2o.tenant', true) OR current_setting('q2o.tenant', true) = '*');

ALTER TABLE sales_order_line ENABLE ROW LEVEL SECURITY;
ALTER TABLE sales_order_line FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON sales_order_line USING (tenant_id::text = current_setting('q2o.tenant', true) OR current_setting('q2o.tenant', true) = '*');

ALTER TABLE transition_log ENABLE ROW LEVEL SECURITY;
ALTER TABLE transition_log FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON transition_log USING (tenant_id::text = current_setting('q2o.tenant', true) OR current_setting('q2o.tenant', true) = '*');

ALTER TABLE workflow_command ENABLE ROW LEVEL SECURITY;
ALTER TABLE workflow_command FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON workflow_command USING (tenant_id::text = current_setting('q2o.tenant', true) OR current_setting('q2o.tenant', true) = '*');

ALTER TABLE workflow_correlation ENABLE ROW LEVEL SECURITY;
ALTER TABLE workflow_correlation FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON workflow_correlation USING (tenant_id::text = current_setting('q2o.tenant', true) OR current_setting('q2o.tenant', true) = '*');


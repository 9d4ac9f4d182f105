-- What is open is found beside any number of finished orders.

-- Not of starts alone: the sweeps of cases and approvals ask whether a command for a process is on its way.
DROP INDEX ix_workflow_command_start;
CREATE INDEX ix_workflow_command_pending ON workflow_command (tenant_id, business_key) WHERE status = 'PENDING';

CREATE INDEX ix_fallout_case_process ON fallout_case (tenant_id, business_key) WHERE business_key IS NOT NULL;
CREATE INDEX ix_fulfillment_step_retryable ON fulfillment_step (updated_at) WHERE status = 'RETRYABLE';

-- What the engine lists names no tenant.
CREATE INDEX ix_workflow_instance_process ON workflow_instance (process_instance_id);

-- Row level security keeps the planner from searching by an expression on JSON.
DROP INDEX ix_reconciliation_finding_instance;

-- The walk to finished business goes on behind the last row of a page.
DROP INDEX ix_fallout_case_of_no_order, ix_transition_log_commands;
CREATE INDEX ix_fallout_case_of_no_order ON fallout_case (updated_at, id) WHERE order_id IS NULL;
CREATE INDEX ix_transition_log_commands ON transition_log (created_at, id) WHERE aggregate_type = 'workflow_command';

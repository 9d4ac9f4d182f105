-- Steps that are ready and were not sent: reconciliation asks whether their process is still there.

CREATE INDEX ix_fulfillment_step_ready ON fulfillment_step (tenant_id, ready_at)
    WHERE status IN ('PENDING', 'RETRYABLE') AND ready_at IS NOT NULL;

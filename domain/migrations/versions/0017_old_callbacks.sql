-- Unmatched callbacks that are old are deleted, also those that name no step.

CREATE INDEX ix_external_callback_record_unmatched_old ON external_callback_record (received_at) WHERE processed_status = 'UNMATCHED';

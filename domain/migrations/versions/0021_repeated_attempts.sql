-- A person may let a request be sent again of which nobody knows what became: until the provider tells, that stays written at its attempt.

ALTER TABLE provider_attempt
    DROP CONSTRAINT ck_provider_attempt_status,
    ADD CONSTRAINT ck_provider_attempt_status
        CHECK (status IN ('SENT', 'ACKNOWLEDGED', 'UNKNOWN', 'SUCCEEDED', 'FAILED', 'ABSENT', 'REPEATED'));

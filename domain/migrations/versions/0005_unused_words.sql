-- What no command ever wrote: the status WAIVED of a requirement, the command QUERY of an attempt, the note kind COMMENT. A row that has one of
-- them was written by hand, and stops this migration.

ALTER TABLE approval_requirement
    DROP CONSTRAINT ck_approval_requirement_status,
    ADD CONSTRAINT ck_approval_requirement_status CHECK (status IN ('PENDING', 'APPROVED', 'REJECTED', 'REWORK', 'INVALIDATED'));
ALTER TABLE provider_attempt
    DROP CONSTRAINT ck_provider_attempt_command,
    ADD CONSTRAINT ck_provider_attempt_command CHECK (command IN ('EXECUTE', 'CANCEL'));
ALTER TABLE fallout_note
    DROP CONSTRAINT ck_fallout_note_kind,
    ADD CONSTRAINT ck_fallout_note_kind CHECK (kind IN ('INFORMATION_REQUEST', 'INFORMATION', 'HOLD', 'CONFIRMATION'));

-- Every step is required, so nothing reads this column. Pods of the release before still write it: this release only stops to, and a later one
-- drops the column when no such pod runs any more.
ALTER TABLE fulfillment_step ALTER COLUMN required SET DEFAULT true;

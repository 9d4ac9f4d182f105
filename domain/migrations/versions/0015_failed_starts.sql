-- Since when the start of a process has failed, however often it was asked for again; a registered instance ends that.

ALTER TABLE workflow_correlation ADD COLUMN failed_since TIMESTAMP WITH TIME ZONE;

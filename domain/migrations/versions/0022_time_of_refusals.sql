-- How long the engine has not carried out a command, for each class of failure, without the outages in between.

ALTER TABLE workflow_command
    ADD COLUMN refused_at TIMESTAMP WITH TIME ZONE,
    ADD COLUMN refused_ms INTEGER DEFAULT '0' NOT NULL,
    ADD COLUMN failed_ms INTEGER DEFAULT '0' NOT NULL;

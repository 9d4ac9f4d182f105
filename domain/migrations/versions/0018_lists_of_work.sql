-- Lists of cases, approval tasks and grants read the rows of a page, and not those of the tenant.

CREATE INDEX ix_fallout_case_status ON fallout_case (tenant_id, status, id);
CREATE INDEX ix_fallout_case_queue ON fallout_case (tenant_id, queue, status, id);
CREATE INDEX ix_approval_requirement_pending ON approval_requirement (tenant_id, due_at, id) WHERE status = 'PENDING';
CREATE INDEX ix_authority_grant_subject ON authority_grant (tenant_id, subject, id);
CREATE INDEX ix_authority_grant_delegated_by ON authority_grant (tenant_id, delegated_by) WHERE delegated_by IS NOT NULL;

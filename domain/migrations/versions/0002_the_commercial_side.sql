-- Authority grants, reminders and escalation of approvals, reused decisions, expiring quotes, price books with a history; quote, revision, price
-- and approval that are named together belong together.

CREATE TABLE authority_grant (
    tenant_id UUID NOT NULL,
    id UUID NOT NULL,
    version BIGINT NOT NULL,
    status TEXT NOT NULL,
    prior_status TEXT,
    subject TEXT NOT NULL,
    role TEXT NOT NULL,
    region TEXT,
    product_family TEXT,
    max_discount_percent NUMERIC(5, 2) NOT NULL,
    max_deal_amount NUMERIC(14, 2),
    valid_from TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    valid_until TIMESTAMP WITH TIME ZONE,
    delegated_from UUID,
    delegated_by TEXT,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_authority_grant PRIMARY KEY (tenant_id, id),
    CONSTRAINT ck_authority_grant_status CHECK (status IN ('ACTIVE', 'REVOKED')),
    CONSTRAINT fk_authority_grant_tenant_id_delegated_from FOREIGN KEY (tenant_id, delegated_from) REFERENCES authority_grant (tenant_id, id),
    CONSTRAINT ck_authority_grant_discount CHECK (max_discount_percent BETWEEN 0 AND 100),
    CONSTRAINT ck_authority_grant_validity CHECK (valid_until > valid_from),
    CONSTRAINT ck_authority_grant_delegation CHECK ((delegated_from IS NULL) = (delegated_by IS NULL))
);

CREATE INDEX ix_authority_grant_active ON authority_grant (tenant_id, subject, role) WHERE status = 'ACTIVE';

ALTER TABLE quote ADD COLUMN reason_code TEXT;

CREATE INDEX ix_quote_expiring ON quote (valid_until) WHERE status IN ('DRAFT', 'PRICED', 'SUBMITTED_FOR_APPROVAL', 'APPROVAL_IN_PROGRESS', 'APPROVED', 'REWORK_REQUIRED', 'REJECTED', 'DECLINED');

-- Requirements that were asked for before this version know neither their rule nor a time to remind: nobody is reminded of them.
ALTER TABLE approval_requirement
    ADD COLUMN because TEXT,
    ADD COLUMN remind_at TIMESTAMP WITH TIME ZONE,
    ADD COLUMN reminded_at TIMESTAMP WITH TIME ZONE;
UPDATE approval_requirement SET because = type, remind_at = due_at;
ALTER TABLE approval_requirement
    ALTER COLUMN because SET NOT NULL,
    ALTER COLUMN remind_at SET NOT NULL;

ALTER TABLE approval_decision
    ADD COLUMN basis_decision_id UUID,
    ADD CONSTRAINT fk_approval_decision_tenant_id_basis_decision_id FOREIGN KEY (tenant_id, basis_decision_id) REFERENCES approval_decision (tenant_id, id),
    DROP CONSTRAINT ck_approval_decision_decision,
    ADD CONSTRAINT ck_approval_decision_decision CHECK (decision IN ('APPROVE', 'REJECT', 'REWORK', 'REUSED')),
    ADD CONSTRAINT ck_approval_decision_basis CHECK ((decision = 'REUSED') = (basis_decision_id IS NOT NULL));

CREATE FUNCTION refuse_own_approval() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- The quote that is asked about counts, whichever one the decision names.
    IF EXISTS (
        SELECT FROM approval_requirement requirement
        JOIN approval_request request ON request.tenant_id = requirement.tenant_id AND request.id = requirement.request_id
        JOIN quote ON quote.tenant_id = request.tenant_id AND quote.id IN (request.quote_id, NEW.quote_id)
        WHERE requirement.tenant_id = NEW.tenant_id AND requirement.id = NEW.requirement_id AND quote.owner_user_id = NEW.decided_by
    ) THEN
        RAISE EXCEPTION 'the owner of a quote does not decide on it' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER approval_decision_four_eyes BEFORE INSERT ON approval_decision
FOR EACH ROW EXECUTE FUNCTION refuse_own_approval();

-- Neither may a line be moved out of a frozen revision, nor a frozen revision be thawed.
CREATE OR REPLACE FUNCTION refuse_frozen_content() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    tenant uuid := CASE TG_OP WHEN 'DELETE' THEN OLD.tenant_id ELSE NEW.tenant_id END;
BEGIN
    -- A line that moves is taken from one revision and given to another.
    IF EXISTS (SELECT FROM quote_revision WHERE tenant_id = tenant AND id IN (OLD.revision_id, NEW.revision_id) AND status <> 'WORKING') THEN
        RAISE EXCEPTION 'lines of a revision that is not WORKING are never changed' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END $$;

CREATE OR REPLACE FUNCTION refuse_frozen_revision() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.status <> 'WORKING' AND (NEW.status = 'WORKING'
        OR (NEW.content_hash, NEW.price_result_id, NEW.config_result_id, NEW.quote_id, NEW.revision_no)
        IS DISTINCT FROM (OLD.content_hash, OLD.price_result_id, OLD.config_result_id, OLD.quote_id, OLD.revision_no)) THEN
        RAISE EXCEPTION 'a revision that is not WORKING is never changed' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;

ALTER TABLE price_book_head
    ADD COLUMN id UUID DEFAULT gen_random_uuid() NOT NULL,
    ADD COLUMN version BIGINT DEFAULT 1 NOT NULL,
    ADD COLUMN status TEXT DEFAULT 'ACTIVE' NOT NULL,
    ADD COLUMN prior_status TEXT,
    ADD COLUMN created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    ADD COLUMN updated_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    DROP CONSTRAINT pk_price_book_head,
    ADD CONSTRAINT pk_price_book_head PRIMARY KEY (tenant_id, id),
    ADD CONSTRAINT uq_price_book_head_tenant_id_price_book UNIQUE (tenant_id, price_book),
    ADD CONSTRAINT ck_price_book_head_status CHECK (status IN ('ACTIVE'));
ALTER TABLE price_book_head
    ALTER COLUMN id DROP DEFAULT,
    ALTER COLUMN version DROP DEFAULT,
    ALTER COLUMN status DROP DEFAULT;

ALTER TABLE price_book_entry ADD CONSTRAINT ck_price_book_entry_amounts CHECK (list_price >= 0 AND unit_cost >= 0);

-- Evidence is completed once, by what it was made from: an acceptance was written in the same moment as its row.
ALTER TABLE quote_acceptance DISABLE TRIGGER quote_acceptance_append_only;
ALTER TABLE quote_acceptance
    ADD COLUMN accepted_at TIMESTAMP WITH TIME ZONE,
    ADD COLUMN active_version_published_at TIMESTAMP WITH TIME ZONE;
UPDATE quote_acceptance a SET accepted_at = a.created_at, active_version_published_at = coalesce(
    (SELECT max(v.published_at) FROM price_book_version v
     WHERE v.tenant_id = a.tenant_id AND v.price_book_version = a.active_price_book_version_seen), a.created_at);
ALTER TABLE quote_acceptance
    ALTER COLUMN accepted_at SET NOT NULL,
    ALTER COLUMN active_version_published_at SET NOT NULL;
ALTER TABLE quote_acceptance ENABLE TRIGGER quote_acceptance_append_only;

-- A key that ties a revision to its quote, or a price or an approval to its revision, takes the place of the keys that knew only each of them.
ALTER TABLE quote_revision ADD CONSTRAINT uq_quote_revision_tenant_id_quote_id_id UNIQUE (tenant_id, quote_id, id);

ALTER TABLE quote
    DROP CONSTRAINT fk_quote_tenant_id_current_revision_id,
    ADD CONSTRAINT fk_quote_tenant_id_id_current_revision_id FOREIGN KEY (tenant_id, id, current_revision_id) REFERENCES quote_revision (tenant_id, quote_id, id) DEFERRABLE INITIALLY DEFERRED;

ALTER TABLE approval_request
    DROP CONSTRAINT fk_approval_request_tenant_id_quote_id,
    ADD CONSTRAINT fk_approval_request_tenant_id_quote_id_quote_revision_id FOREIGN KEY (tenant_id, quote_id, quote_revision_id) REFERENCES quote_revision (tenant_id, quote_id, id),
    ADD CONSTRAINT uq_approval_request_tenant_id_quote_revision_id_id UNIQUE (tenant_id, quote_revision_id, id);

ALTER TABLE approval_decision
    DROP CONSTRAINT fk_approval_decision_tenant_id_quote_id,
    ADD CONSTRAINT fk_approval_decision_tenant_id_quote_id_quote_revision_id FOREIGN KEY (tenant_id, quote_id, quote_revision_id) REFERENCES quote_revision (tenant_id, quote_id, id);

ALTER TABLE quote_document
    DROP CONSTRAINT fk_quote_document_tenant_id_quote_id,
    DROP CONSTRAINT fk_quote_document_tenant_id_quote_revision_id,
    DROP CONSTRAINT fk_quote_document_tenant_id_price_result_id,
    ADD CONSTRAINT fk_quote_document_tenant_id_quote_id_quote_revision_id FOREIGN KEY (tenant_id, quote_id, quote_revision_id) REFERENCES quote_revision (tenant_id, quote_id, id),
    ADD CONSTRAINT fk_quote_document_tenant_id_quote_revision_id_price_result_id FOREIGN KEY (tenant_id, quote_revision_id, price_result_id) REFERENCES price_result (tenant_id, revision_id, id);

ALTER TABLE sales_order
    DROP CONSTRAINT fk_sales_order_tenant_id_quote_id,
    DROP CONSTRAINT fk_sales_order_tenant_id_quote_revision_id,
    ADD CONSTRAINT fk_sales_order_tenant_id_quote_id_quote_revision_id FOREIGN KEY (tenant_id, quote_id, quote_revision_id) REFERENCES quote_revision (tenant_id, quote_id, id);

ALTER TABLE quote_acceptance
    DROP CONSTRAINT fk_quote_acceptance_tenant_id_quote_id,
    DROP CONSTRAINT fk_quote_acceptance_tenant_id_quote_revision_id,
    DROP CONSTRAINT fk_quote_acceptance_tenant_id_price_result_id,
    DROP CONSTRAINT fk_quote_acceptance_tenant_id_approval_request_id,
    ADD CONSTRAINT fk_quote_acceptance_tenant_id_quote_id_quote_revision_id FOREIGN KEY (tenant_id, quote_id, quote_revision_id) REFERENCES quote_revision (tenant_id, quote_id, id),
    ADD CONSTRAINT fk_quote_acceptance_tenant_id_quote_revision_id_price_result_id FOREIGN KEY (tenant_id, quote_revision_id, price_result_id) REFERENCES price_result (tenant_id, revision_id, id),
    ADD CONSTRAINT fk_quote_acceptance_tenant_id_quote_revision_id_approva_801a FOREIGN KEY (tenant_id, quote_revision_id, approval_request_id) REFERENCES approval_request (tenant_id, quote_revision_id, id);

-- Numbers count per tenant: each tenant goes on after its highest number.

CREATE SCHEMA numbers;

CREATE FUNCTION next_number(prefix TEXT) RETURNS TEXT LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    series TEXT := format('numbers.%I', prefix || '-' || current_setting('q2o.tenant')::UUID);
BEGIN
    IF prefix NOT IN ('Q', 'O', 'F') THEN
        RAISE EXCEPTION 'nothing has a number that begins with %', prefix;
    END IF;
    IF to_regclass(series) IS NULL THEN
        -- Of two transactions that need the first number, one waits here for the other.
        PERFORM pg_advisory_xact_lock(hashtext(series));
        EXECUTE 'CREATE SEQUENCE IF NOT EXISTS ' || series;
    END IF;
    RETURN prefix || '-' || nextval(series::REGCLASS);
END $$;

DO $$
DECLARE
    used RECORD;
BEGIN
    FOR used IN
        SELECT tenant_id, split_part(number, '-', 1) AS prefix, max(split_part(number, '-', 2)::BIGINT) AS last
        FROM (
            SELECT tenant_id, quote_number AS number FROM quote
            UNION ALL SELECT tenant_id, order_number FROM sales_order
            UNION ALL SELECT tenant_id, case_number FROM fallout_case
        ) AS given
        WHERE number ~ '^[QOF]-[0-9]{1,18}$'
        GROUP BY 1, 2
    LOOP
        EXECUTE format('CREATE SEQUENCE numbers.%I START WITH %s', used.prefix || '-' || used.tenant_id, used.last + 1);
    END LOOP;
END $$;

ALTER TABLE quote ALTER COLUMN quote_number SET DEFAULT next_number('Q');
ALTER TABLE sales_order ALTER COLUMN order_number SET DEFAULT next_number('O');
ALTER TABLE fallout_case ALTER COLUMN case_number SET DEFAULT next_number('F');

DROP SEQUENCE quote_number, order_number, fallout_case_number;

-- `*` counts only for members of q2o_every_tenant, which `domain.migrations` has made before.

DO $$
DECLARE isolated regclass;
BEGIN
    FOR isolated IN SELECT polrelid FROM pg_policy WHERE polname = 'tenant' ORDER BY polrelid::regclass::text LOOP
        EXECUTE format('DROP POLICY tenant ON %s', isolated);
        EXECUTE format('CREATE POLICY tenant ON %s USING (tenant_id::text = current_setting(''q2o.tenant'', true))', isolated);
        EXECUTE format('CREATE POLICY every_tenant ON %s TO q2o_every_tenant USING (current_setting(''q2o.tenant'', true) = ''*'')', isolated);
    END LOOP;
END $$;

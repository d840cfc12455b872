-- Finds the tenant of a dialog, and runs the rest of the transaction as that tenant. Called by common/tenant_cache.rs.
CREATE FUNCTION sql.find_tenant_of_dialog(_dialog_id bigint) RETURNS TABLE (client_id text)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    -- lookup: tenant_of_dialog
    SELECT set_config('app.client_id', client_id::text, true) FROM dialogs WHERE id = _dialog_id
    -- end
    ;
END $$;

-- What each role may do. Append-only tables refuse update, delete and truncate twice: by grant and by trigger.
-- depends: 0003_audit

GRANT SELECT ON ALL TABLES IN SCHEMA finance_os TO finance_os_reader, finance_os_application;

GRANT INSERT ON
    finance_os.scheduled_syncs, finance_os.raw_source_records, finance_os.source_sync_sightings,
    finance_os.source_sync_partitions, finance_os.raw_record_changes, finance_os.check_results,
    finance_os.finance_audit_events
    TO finance_os_application;

GRANT INSERT, UPDATE ON
    finance_os.businesses, finance_os.connections, finance_os.source_sync_runs,
    finance_os.raw_record_heads, finance_os.drops
    TO finance_os_application;

GRANT USAGE ON ALL SEQUENCES IN SCHEMA finance_os TO finance_os_application;

CREATE FUNCTION finance_os.refuse_rewrite() RETURNS trigger
    LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%.% is append-only: % is refused', TG_TABLE_SCHEMA, TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'insufficient_privilege',
              HINT = 'Record a new version or a new event instead.';
END
$$;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON finance_os.raw_source_records
    FOR EACH STATEMENT EXECUTE FUNCTION finance_os.refuse_rewrite();

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON finance_os.source_sync_sightings
    FOR EACH STATEMENT EXECUTE FUNCTION finance_os.refuse_rewrite();

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON finance_os.source_sync_partitions
    FOR EACH STATEMENT EXECUTE FUNCTION finance_os.refuse_rewrite();

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON finance_os.raw_record_changes
    FOR EACH STATEMENT EXECUTE FUNCTION finance_os.refuse_rewrite();

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON finance_os.check_results
    FOR EACH STATEMENT EXECUTE FUNCTION finance_os.refuse_rewrite();

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON finance_os.finance_audit_events
    FOR EACH STATEMENT EXECUTE FUNCTION finance_os.refuse_rewrite();

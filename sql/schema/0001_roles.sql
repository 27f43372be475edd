-- The schema and the two group roles that a login joins; the login that runs the migrations is the owner.
-- No superuser and no extension is needed: CREATEROLE and CREATE on the database are enough (Supabase's `postgres` has both).

CREATE SCHEMA IF NOT EXISTS finance_os;

DO $$
DECLARE
    wanted text;
    -- From PostgreSQL 16 on, who makes a role is a member that may not yet act as it.
    needed text := CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['finance_os_application', 'finance_os_reader'] LOOP
        BEGIN
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
                EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
            END IF;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;  -- roles belong to the whole cluster: another database's migration made it just now
        END;
        IF NOT pg_has_role(current_user, wanted, needed) THEN
            BEGIN
                EXECUTE format('GRANT %I TO CURRENT_USER', wanted);
            EXCEPTION WHEN insufficient_privilege THEN
                RAISE EXCEPTION 'role % exists, and % may not act as it', wanted, current_user
                    USING ERRCODE = 'insufficient_privilege',
                          HINT = format('Have its administrator run: GRANT %I TO %I', wanted, current_user);
            END;
        END IF;
    END LOOP;
END
$$;

GRANT USAGE ON SCHEMA finance_os TO finance_os_application, finance_os_reader;

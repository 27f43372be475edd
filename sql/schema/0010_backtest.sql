-- The Phase 5 backtest: what each month came to, and who signed which result of it.
-- depends: 0009_alerts

CREATE TABLE finance_os.backtest_results (
    result_id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    business_id       text COLLATE "C" NOT NULL REFERENCES finance_os.businesses,
    month             date NOT NULL CHECK (extract(day FROM month) = 1),
    result_hash       text COLLATE "C" NOT NULL CHECK (result_hash ~ '^[0-9a-f]{64}$'),
    result            jsonb NOT NULL,
    totals            jsonb NOT NULL,
    classes           jsonb NOT NULL,
    sign_off_blockers text[] NOT NULL,
    dagster_run_id    text,
    computed_by       text NOT NULL,
    computed_at       timestamptz NOT NULL,
    audit_sequence    bigint NOT NULL,
    UNIQUE (business_id, audit_sequence)
);
COMMENT ON TABLE finance_os.backtest_results IS
    'What the evidence of a month came to; the latest of a month counts. Append-only.';
COMMENT ON COLUMN finance_os.backtest_results.month IS 'Its first day.';
COMMENT ON COLUMN finance_os.backtest_results.result IS
    'Rules, days and rows with the hashes of their records. Amounts are microdollars. result_hash is the SHA-256 of its '
    'canonical JSON.';
COMMENT ON COLUMN finance_os.backtest_results.sign_off_blockers IS 'Why nobody may sign it.';
CREATE INDEX backtest_results_latest ON finance_os.backtest_results (business_id, month, result_id DESC);

CREATE TABLE finance_os.backtest_sign_offs (
    sign_off_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    result_id      bigint NOT NULL,
    business_id    text COLLATE "C" NOT NULL REFERENCES finance_os.businesses,
    month          date NOT NULL,
    result_hash    text COLLATE "C" NOT NULL,
    reason         text NOT NULL CHECK (btrim(reason) <> ''),
    signed_by      text NOT NULL,
    signed_at      timestamptz NOT NULL,
    audit_sequence bigint NOT NULL,
    UNIQUE (business_id, audit_sequence)
);
COMMENT ON TABLE finance_os.backtest_sign_offs IS
    'Who approved which result by its hash. The latest of a month holds while the evidence gives that hash. Append-only.';
CREATE INDEX backtest_sign_offs_latest ON finance_os.backtest_sign_offs (business_id, month, sign_off_id DESC);

-- As with policies: who and when are facts of the session, and nothing is there without its event in the audit chain.
-- What concerns one month comes one after the other; backtest/results.py takes the same lock.
CREATE FUNCTION finance_os.backtest_month_lock(business_id text, month date) RETURNS void
    LANGUAGE sql VOLATILE
    RETURN pg_advisory_xact_lock(hashtextextended(
        'finance_os/backtest/' || business_id || '/' || to_char(month::timestamp, 'YYYY-MM'), 0));

CREATE FUNCTION finance_os.backtest_event_exists(
    business_id text, sequence bigint, event_type text, month date, result_hash text
) RETURNS boolean
    LANGUAGE sql STABLE
    RETURN EXISTS (
        SELECT FROM finance_os.finance_audit_events AS event
        WHERE event.business_id = $1 AND event.sequence = $2 AND event.event_type = $3
          AND event.subject = 'backtest:' || to_char($4::timestamp, 'YYYY-MM')
          AND event.details ->> 'result_hash' = $5);

CREATE FUNCTION finance_os.backtest_result_rules() RETURNS trigger
    LANGUAGE plpgsql AS $$
BEGIN
    PERFORM finance_os.backtest_month_lock(NEW.business_id, NEW.month);
    NEW.computed_by := session_user;
    NEW.computed_at := clock_timestamp();
    IF NOT finance_os.backtest_event_exists(
        NEW.business_id, NEW.audit_sequence, 'backtest.computed', NEW.month, NEW.result_hash
    ) THEN
        RAISE EXCEPTION 'a result of % needs its audit event, backtest.computed', NEW.month
            USING ERRCODE = 'check_violation', HINT = 'Materialize backtest/publisher_month_backtest.';
    END IF;
    RETURN NEW;
END
$$;

CREATE FUNCTION finance_os.backtest_sign_off_rules() RETURNS trigger
    LANGUAGE plpgsql AS $$
DECLARE
    stored finance_os.backtest_results;
    latest bigint;
BEGIN
    PERFORM finance_os.backtest_month_lock(NEW.business_id, NEW.month);
    NEW.signed_by := session_user;
    NEW.signed_at := clock_timestamp();
    -- Owners may act as the application: they were made its members.
    IF pg_has_role(session_user, 'finance_os_application', 'MEMBER')
        OR pg_has_role(session_user, (SELECT relowner FROM pg_class WHERE oid = TG_RELID), 'MEMBER') THEN
        RAISE EXCEPTION '% may act as the application that computes results, or as its owner, and signs nothing',
            session_user
            USING ERRCODE = 'insufficient_privilege',
                  HINT = 'Sign as a login of its own: CREATE ROLE bob LOGIN IN ROLE finance_os_approver.';
    END IF;
    SELECT * INTO stored FROM finance_os.backtest_results AS result
    WHERE result.result_id = NEW.result_id AND result.business_id = NEW.business_id
      AND result.month = NEW.month AND result.result_hash = NEW.result_hash;
    IF NOT FOUND THEN
        RAISE EXCEPTION '% of % has no result % with the hash %',
            to_char(NEW.month::timestamp, 'YYYY-MM'), NEW.business_id, NEW.result_id, left(NEW.result_hash, 12)
            USING ERRCODE = 'check_violation', HINT = 'Use finance-os backtest sign.';
    END IF;
    IF stored.computed_by = session_user THEN
        RAISE EXCEPTION 'result % was computed by %, who cannot sign it', stored.result_id, session_user
            USING ERRCODE = 'insufficient_privilege', HINT = 'Another login of finance_os_approver has to.';
    END IF;
    SELECT max(result.result_id) INTO latest FROM finance_os.backtest_results AS result
    WHERE result.business_id = NEW.business_id AND result.month = NEW.month;
    IF latest <> stored.result_id THEN
        RAISE EXCEPTION 'result % is not the latest of its month, which is %', stored.result_id, latest
            USING ERRCODE = 'check_violation', HINT = 'Look at the latest one: finance-os backtest show.';
    END IF;
    IF cardinality(stored.sign_off_blockers) > 0 THEN
        RAISE EXCEPTION 'result % cannot be signed: %',
            stored.result_id, array_to_string(stored.sign_off_blockers, ', ')
            USING ERRCODE = 'check_violation', HINT = 'Mend the evidence, and materialize the month again.';
    END IF;
    IF NOT finance_os.backtest_event_exists(
        NEW.business_id, NEW.audit_sequence, 'backtest.signed_off', NEW.month, NEW.result_hash
    ) THEN
        RAISE EXCEPTION 'a sign-off of % needs its audit event, backtest.signed_off', NEW.month
            USING ERRCODE = 'check_violation', HINT = 'Use finance-os backtest sign.';
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER rules BEFORE INSERT ON finance_os.backtest_results
    FOR EACH ROW EXECUTE FUNCTION finance_os.backtest_result_rules();
CREATE TRIGGER rules BEFORE INSERT ON finance_os.backtest_sign_offs
    FOR EACH ROW EXECUTE FUNCTION finance_os.backtest_sign_off_rules();

GRANT SELECT ON finance_os.backtest_results, finance_os.backtest_sign_offs
    TO finance_os_reader, finance_os_application, finance_os_approver;
GRANT INSERT ON finance_os.backtest_results TO finance_os_application;
-- By column: who signed, and when, is nobody's to say.
GRANT INSERT (result_id, business_id, month, result_hash, reason, audit_sequence) ON finance_os.backtest_sign_offs
    TO finance_os_approver;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON finance_os.backtest_results
    FOR EACH STATEMENT EXECUTE FUNCTION finance_os.refuse_rewrite();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON finance_os.backtest_sign_offs
    FOR EACH STATEMENT EXECUTE FUNCTION finance_os.refuse_rewrite();

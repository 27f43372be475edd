-- Policies: what is asked for, approved and revoked, by whom, and what was done outside under an approval.
-- depends: 0007_readiness

-- Approvers are logins of their own. The login that runs the migrations, and the application's, are not made members.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'finance_os_approver') THEN
        CREATE ROLE finance_os_approver NOLOGIN;
    END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    NULL;  -- roles belong to the whole cluster: another database's migration made it just now
END
$$;

CREATE TABLE finance_os.policy_records (
    business_id    text COLLATE "C" NOT NULL REFERENCES finance_os.businesses,
    policy         text COLLATE "C" NOT NULL CHECK (policy ~ '^[a-z][a-z0-9_]*$'),
    gated_status   text NOT NULL,
    actor          text NOT NULL,
    at             timestamptz NOT NULL,
    audit_sequence bigint NOT NULL,
    PRIMARY KEY (business_id, policy)
);
COMMENT ON TABLE finance_os.policy_records IS 'That a policy was put in force, gated. Append-only.';

CREATE TABLE finance_os.policy_requests (
    request_id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    business_id    text COLLATE "C" NOT NULL REFERENCES finance_os.businesses,
    policy         text COLLATE "C" NOT NULL CHECK (policy ~ '^[a-z][a-z0-9_]*$'),
    reason         text NOT NULL CHECK (btrim(reason) <> ''),
    scope          text COLLATE "C" NOT NULL CHECK (scope <> '' AND scope = btrim(scope)),
    expires_at     timestamptz NOT NULL CHECK (isfinite(expires_at)),
    actor          text NOT NULL,
    at             timestamptz NOT NULL,
    audit_sequence bigint NOT NULL,
    UNIQUE (business_id, audit_sequence)
);
COMMENT ON TABLE finance_os.policy_requests IS
    'What somebody asks leave for. A later request of the same policy and scope supersedes it. Append-only.';
COMMENT ON COLUMN finance_os.policy_requests.scope IS
    'The target that is to be allowed, with all below it (target/…); * for any; action:ID explains one past action.';
CREATE INDEX policy_requests_open ON finance_os.policy_requests (business_id, policy, expires_at);

CREATE TABLE finance_os.policy_approvals (
    approval_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    request_id     bigint NOT NULL UNIQUE,
    business_id    text COLLATE "C" NOT NULL REFERENCES finance_os.businesses,
    policy         text COLLATE "C" NOT NULL,
    reason         text NOT NULL CHECK (btrim(reason) <> ''),
    scope          text COLLATE "C" NOT NULL,
    expires_at     timestamptz NOT NULL CHECK (isfinite(expires_at)),
    actor          text NOT NULL,
    at             timestamptz NOT NULL,
    audit_sequence bigint NOT NULL,
    UNIQUE (business_id, audit_sequence)
);
COMMENT ON TABLE finance_os.policy_approvals IS
    'Leave that was given. In force until it expires or its request is revoked. Append-only.';
COMMENT ON COLUMN finance_os.policy_approvals.scope IS 'That of the request, whatever is inserted.';
CREATE INDEX policy_approvals_in_force ON finance_os.policy_approvals (business_id, policy, expires_at);
CREATE INDEX policy_approvals_of_actions ON finance_os.policy_approvals (business_id, policy, scope)
    WHERE starts_with(scope, 'action:');

CREATE TABLE finance_os.policy_revocations (
    request_id     bigint PRIMARY KEY,
    business_id    text COLLATE "C" NOT NULL REFERENCES finance_os.businesses,
    policy         text COLLATE "C" NOT NULL,
    reason         text NOT NULL CHECK (btrim(reason) <> ''),
    actor          text NOT NULL,
    at             timestamptz NOT NULL,
    audit_sequence bigint NOT NULL,
    UNIQUE (business_id, audit_sequence)
);
COMMENT ON TABLE finance_os.policy_revocations IS
    'Requests that count no longer, and with them the approvals that they got. Append-only.';

CREATE TABLE finance_os.external_actions (
    action_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    business_id  text COLLATE "C" NOT NULL REFERENCES finance_os.businesses,
    policy       text COLLATE "C" NOT NULL CHECK (policy ~ '^[a-z][a-z0-9_]*$'),
    intent_key   text COLLATE "C" NOT NULL CHECK (intent_key <> ''),
    target       text COLLATE "C" NOT NULL CHECK (target <> ''),
    payload_hash text COLLATE "C" NOT NULL CHECK (payload_hash ~ '^[0-9a-f]{12,64}$'),
    approval_id  bigint,
    actor        text NOT NULL,
    requested_at timestamptz NOT NULL,
    UNIQUE (business_id, policy, intent_key)
);
COMMENT ON TABLE finance_os.external_actions IS
    'What is done outside under a policy, committed before the call is made. Append-only.';
COMMENT ON COLUMN finance_os.external_actions.approval_id IS
    'The approval that was in force for the target then; without one the action is unexplained.';
CREATE INDEX external_actions_unexplained ON finance_os.external_actions (business_id, policy, action_id)
    WHERE approval_id IS NULL;

CREATE TABLE finance_os.external_action_outcomes (
    outcome_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    business_id text COLLATE "C" NOT NULL REFERENCES finance_os.businesses,
    action_id   bigint NOT NULL,
    outcome     text NOT NULL CHECK (outcome IN ('delivered', 'failed', 'unknown')),
    detail      text NOT NULL DEFAULT '',
    at          timestamptz NOT NULL
);
COMMENT ON TABLE finance_os.external_action_outcomes IS
    'How each attempt at an external action ended; the latest counts. Append-only.';
CREATE INDEX external_action_outcomes_latest ON finance_os.external_action_outcomes (action_id, outcome_id DESC);

CREATE FUNCTION finance_os.policy_covers(scope text, target text) RETURNS boolean
    LANGUAGE sql IMMUTABLE
    RETURN NOT starts_with(scope, 'action:') AND (scope = '*' OR target = scope OR starts_with(target, scope || '/'));

-- Who and when are facts of the session, not of what is typed; the changes of a policy come one after the other; and
-- none of them exists without its event in the audit chain.
CREATE FUNCTION finance_os.policy_event() RETURNS trigger
    LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(
        hashtextextended('finance_os/policy/' || NEW.business_id || '/' || NEW.policy, 0));
    NEW.actor := session_user;
    NEW.at := clock_timestamp();
    IF NOT EXISTS (
        SELECT FROM finance_os.finance_audit_events AS event
        WHERE event.business_id = NEW.business_id AND event.sequence = NEW.audit_sequence
          AND event.event_type = TG_ARGV[0] AND event.subject = 'policy:' || NEW.policy
    ) THEN
        RAISE EXCEPTION 'a change of policy % needs its audit event, %', NEW.policy, TG_ARGV[0]
            USING ERRCODE = 'check_violation', HINT = 'Use finance-os policy.';
    END IF;
    RETURN NEW;
END
$$;

CREATE FUNCTION finance_os.policy_request_rules() RETURNS trigger
    LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.expires_at <= NEW.at THEN
        RAISE EXCEPTION 'the request would expire at %, which is past', NEW.expires_at
            USING ERRCODE = 'check_violation', HINT = 'Ask for a time to come.';
    END IF;
    RETURN NEW;
END
$$;

CREATE FUNCTION finance_os.policy_approval_rules() RETURNS trigger
    LANGUAGE plpgsql AS $$
DECLARE
    asked finance_os.policy_requests;
    other text;
BEGIN
    SELECT * INTO asked FROM finance_os.policy_requests AS request
    WHERE request.request_id = NEW.request_id AND request.business_id = NEW.business_id
      AND request.policy = NEW.policy;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'policy % of % has no request %', NEW.policy, NEW.business_id, NEW.request_id
            USING ERRCODE = 'check_violation', HINT = 'An approval answers a request of the same policy and business.';
    END IF;
    IF asked.actor = session_user THEN
        RAISE EXCEPTION 'request % was made by %, who cannot approve it', asked.request_id, session_user
            USING ERRCODE = 'insufficient_privilege', HINT = 'Another login of finance_os_approver has to.';
    END IF;
    -- The application may run as the owner; who could act as it would let the application answer itself.
    IF pg_has_role(session_user, (SELECT relowner FROM pg_class WHERE oid = TG_RELID), 'MEMBER') THEN
        RAISE EXCEPTION '% owns the finance database, or may act as its owner, and approves nothing', session_user
            USING ERRCODE = 'insufficient_privilege',
                  HINT = 'Approve as a login of its own: CREATE ROLE bob LOGIN IN ROLE finance_os_approver.';
    END IF;
    SELECT 'was approved by ' || approval.actor INTO other
    FROM finance_os.policy_approvals AS approval WHERE approval.request_id = asked.request_id;
    IF other IS NULL THEN
        SELECT 'was revoked by ' || revocation.actor INTO other
        FROM finance_os.policy_revocations AS revocation WHERE revocation.request_id = asked.request_id;
    END IF;
    IF other IS NULL THEN
        SELECT 'was superseded by request ' || max(later.request_id) INTO other
        FROM finance_os.policy_requests AS later
        WHERE later.business_id = asked.business_id AND later.policy = asked.policy AND later.scope = asked.scope
          AND later.request_id > asked.request_id;
    END IF;
    IF other IS NULL AND asked.expires_at <= NEW.at THEN
        other := 'expired at ' || asked.expires_at;
    END IF;
    IF other IS NOT NULL THEN
        RAISE EXCEPTION 'request % %', asked.request_id, other
            USING ERRCODE = 'check_violation', HINT = 'It takes a new request.';
    END IF;
    IF NEW.expires_at <= NEW.at OR NEW.expires_at > asked.expires_at THEN
        RAISE EXCEPTION 'an approval of request % expires between now and %, not at %',
            asked.request_id, asked.expires_at, NEW.expires_at
            USING ERRCODE = 'check_violation', HINT = 'An approval cannot outlive what was asked for.';
    END IF;
    NEW.scope := asked.scope;
    RETURN NEW;
END
$$;

CREATE FUNCTION finance_os.policy_revocation_rules() RETURNS trigger
    LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM finance_os.policy_requests AS request
        WHERE request.request_id = NEW.request_id AND request.business_id = NEW.business_id
          AND request.policy = NEW.policy
    ) THEN
        RAISE EXCEPTION 'policy % of % has no request %', NEW.policy, NEW.business_id, NEW.request_id
            USING ERRCODE = 'check_violation', HINT = 'See finance-os policy list.';
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER event_of_session BEFORE INSERT ON finance_os.policy_records
    FOR EACH ROW EXECUTE FUNCTION finance_os.policy_event('policy.recorded');
CREATE TRIGGER event_of_session BEFORE INSERT ON finance_os.policy_requests
    FOR EACH ROW EXECUTE FUNCTION finance_os.policy_event('policy.requested');
CREATE TRIGGER event_of_session BEFORE INSERT ON finance_os.policy_approvals
    FOR EACH ROW EXECUTE FUNCTION finance_os.policy_event('policy.approved');
CREATE TRIGGER event_of_session BEFORE INSERT ON finance_os.policy_revocations
    FOR EACH ROW EXECUTE FUNCTION finance_os.policy_event('policy.revoked');
-- Triggers fire in the order of their names: these know NEW.at.
CREATE TRIGGER rules BEFORE INSERT ON finance_os.policy_requests
    FOR EACH ROW EXECUTE FUNCTION finance_os.policy_request_rules();
CREATE TRIGGER rules BEFORE INSERT ON finance_os.policy_approvals
    FOR EACH ROW EXECUTE FUNCTION finance_os.policy_approval_rules();
CREATE TRIGGER rules BEFORE INSERT ON finance_os.policy_revocations
    FOR EACH ROW EXECUTE FUNCTION finance_os.policy_revocation_rules();

-- An action that names an approval has one: in force at that moment, of that policy, for that target.
CREATE FUNCTION finance_os.external_action_rules() RETURNS trigger
    LANGUAGE plpgsql AS $$
BEGIN
    IF pg_trigger_depth() = 1 THEN
        -- A revocation that has begun comes first.
        PERFORM pg_advisory_xact_lock_shared(
            hashtextextended('finance_os/policy/' || NEW.business_id || '/' || NEW.policy, 0));
    END IF;
    NEW.actor := session_user;
    NEW.requested_at := clock_timestamp();
    IF NEW.approval_id IS NOT NULL AND NOT EXISTS (
        SELECT FROM finance_os.policy_approvals AS approval
        WHERE approval.approval_id = NEW.approval_id AND approval.business_id = NEW.business_id
          AND approval.policy = NEW.policy AND approval.expires_at > NEW.requested_at
          AND finance_os.policy_covers(approval.scope, NEW.target)
          AND NOT EXISTS (SELECT FROM finance_os.policy_revocations AS revocation
                          WHERE revocation.request_id = approval.request_id)
    ) THEN
        IF pg_trigger_depth() > 1 THEN
            NEW.approval_id := NULL;  -- it has happened, and is recorded by a trigger: see record_plaid_production()
        ELSE
            RAISE EXCEPTION 'approval % of policy % is not in force for %', NEW.approval_id, NEW.policy, NEW.target
                USING ERRCODE = 'insufficient_privilege';
        END IF;
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER rules BEFORE INSERT ON finance_os.external_actions
    FOR EACH ROW EXECUTE FUNCTION finance_os.external_action_rules();

CREATE FUNCTION finance_os.external_action_outcome_rules() RETURNS trigger
    LANGUAGE plpgsql AS $$
BEGIN
    NEW.at := clock_timestamp();
    IF NOT EXISTS (SELECT FROM finance_os.external_actions AS action
                   WHERE action.action_id = NEW.action_id AND action.business_id = NEW.business_id) THEN
        RAISE EXCEPTION '% has no external action %', NEW.business_id, NEW.action_id
            USING ERRCODE = 'foreign_key_violation';
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER rules BEFORE INSERT ON finance_os.external_action_outcomes
    FOR EACH ROW EXECUTE FUNCTION finance_os.external_action_outcome_rules();

-- A sync run that asked Plaid's live hosts is an external action too: explained if an approval was in force when it
-- began, and one is when its requests are written down. No lock is waited for here: the run's completion goes on to
-- the audit chain, which who changes a policy has locked before.
CREATE FUNCTION finance_os.record_plaid_production() RETURNS trigger
    LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO finance_os.external_actions (business_id, policy, intent_key, target, payload_hash, approval_id)
    SELECT NEW.business_id, 'plaid_production', format('sync_run:%s/%s/%s', NEW.sync_run_id, NEW.attempts, host), host,
           encode(sha256(convert_to(NEW.sync_run_id || '/' || host, 'UTF8')), 'hex'),
           (SELECT approval.approval_id FROM finance_os.policy_approvals AS approval
            WHERE approval.business_id = NEW.business_id AND approval.policy = 'plaid_production'
              AND approval.expires_at > clock_timestamp() AND finance_os.policy_covers(approval.scope, host)
              AND NOT EXISTS (SELECT FROM finance_os.policy_revocations AS revocation
                              WHERE revocation.request_id = approval.request_id)
              AND EXISTS (SELECT FROM finance_os.policy_approvals AS earlier
                          LEFT JOIN finance_os.policy_revocations AS revocation USING (request_id)
                          WHERE earlier.business_id = NEW.business_id AND earlier.policy = 'plaid_production'
                            AND earlier.at <= NEW.started_at AND earlier.expires_at > NEW.started_at
                            AND coalesce(revocation.at > NEW.started_at, true)
                            AND finance_os.policy_covers(earlier.scope, host))
            ORDER BY approval.expires_at DESC, approval.approval_id DESC LIMIT 1)
    FROM (SELECT DISTINCT substring(request FROM '(?:production|development)\.plaid\.com') AS host
          FROM jsonb_object_keys(NEW.requested) AS request) AS hosts
    WHERE host IS NOT NULL
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;

CREATE TRIGGER plaid_production AFTER INSERT OR UPDATE OF requested ON finance_os.source_sync_runs
    FOR EACH ROW
    WHEN (NEW.source_system = 'plaid' AND NEW.requested::text ~ '(production|development)\.plaid\.com')
    EXECUTE FUNCTION finance_os.record_plaid_production();

-- Runs from before there were approvals.
INSERT INTO finance_os.external_actions (business_id, policy, intent_key, target, payload_hash)
SELECT DISTINCT run.business_id, 'plaid_production', format('sync_run:%s/%s/%s', run.sync_run_id, run.attempts, host),
       host, encode(sha256(convert_to(run.sync_run_id || '/' || host, 'UTF8')), 'hex')
FROM finance_os.source_sync_runs AS run
CROSS JOIN LATERAL jsonb_object_keys(run.requested) AS request
CROSS JOIN LATERAL substring(request FROM '(?:production|development)\.plaid\.com') AS host
WHERE run.source_system = 'plaid' AND host IS NOT NULL;

GRANT USAGE ON SCHEMA finance_os TO finance_os_approver;
GRANT SELECT ON
    finance_os.policy_records, finance_os.policy_requests, finance_os.policy_approvals, finance_os.policy_revocations,
    finance_os.external_actions, finance_os.external_action_outcomes
    TO finance_os_reader, finance_os_application;
GRANT INSERT ON
    finance_os.policy_records, finance_os.policy_requests, finance_os.policy_revocations,
    finance_os.external_actions, finance_os.external_action_outcomes
    TO finance_os_application;
GRANT SELECT ON
    finance_os.businesses, finance_os.policy_requests, finance_os.policy_approvals, finance_os.policy_revocations
    TO finance_os_approver;
GRANT SELECT, INSERT ON finance_os.policy_approvals, finance_os.finance_audit_events TO finance_os_approver;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON finance_os.policy_records
    FOR EACH STATEMENT EXECUTE FUNCTION finance_os.refuse_rewrite();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON finance_os.policy_requests
    FOR EACH STATEMENT EXECUTE FUNCTION finance_os.refuse_rewrite();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON finance_os.policy_approvals
    FOR EACH STATEMENT EXECUTE FUNCTION finance_os.refuse_rewrite();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON finance_os.policy_revocations
    FOR EACH STATEMENT EXECUTE FUNCTION finance_os.refuse_rewrite();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON finance_os.external_actions
    FOR EACH STATEMENT EXECUTE FUNCTION finance_os.refuse_rewrite();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON finance_os.external_action_outcomes
    FOR EACH STATEMENT EXECUTE FUNCTION finance_os.refuse_rewrite();

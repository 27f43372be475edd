-- Webhooks: what vendors sent, signed, and the reads that were requested because of it.
-- depends: 0011_lookups

CREATE TABLE finance_os.webhook_bodies (
    body_id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    business_id   text COLLATE "C" NOT NULL REFERENCES finance_os.businesses,
    connection_id bigint NOT NULL,
    body_hash     bytea NOT NULL CHECK (octet_length(body_hash) = 32),
    body          bytea NOT NULL CHECK (octet_length(body) <= 1048576),
    received_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (connection_id, body_hash),
    FOREIGN KEY (connection_id, business_id) REFERENCES finance_os.connections (connection_id, business_id)
);
COMMENT ON TABLE finance_os.webhook_bodies IS
    'Raw bodies, byte for byte as they were signed; of the connection that they were sent to. Append-only.';
COMMENT ON COLUMN finance_os.webhook_bodies.body_hash IS 'SHA-256 of body.';

DO $$
BEGIN
    ALTER TABLE finance_os.webhook_bodies ALTER COLUMN body SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN
    RAISE NOTICE 'this server was built without lz4: bodies are compressed with pglz';
END
$$;

CREATE TABLE finance_os.webhook_requests (
    request_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    business_id   text COLLATE "C" NOT NULL REFERENCES finance_os.businesses,
    source_system text COLLATE "C" NOT NULL,
    connection_id bigint NOT NULL,
    reads         jsonb NOT NULL CHECK (jsonb_typeof(reads) = 'object' AND reads <> '{}'),
    events        integer NOT NULL CHECK (events > 0),
    state         text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'succeeded', 'failed', 'held_up')),
    error         text,
    requested_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at      timestamptz,
    CHECK ((state = 'open') = (ended_at IS NULL)),
    FOREIGN KEY (connection_id, business_id) REFERENCES finance_os.connections (connection_id, business_id)
);
COMMENT ON TABLE finance_os.webhook_requests IS
    'One Dagster run each: the reads that many events of a connection ask for, each object once.';
COMMENT ON COLUMN finance_os.webhook_requests.reads IS
    'Object type → the source IDs to read, or null for its present day.';
COMMENT ON COLUMN finance_os.webhook_requests.state IS
    'failed: a read of it failed; held_up: for a reason that is the connection''s (a vendor that is down, a key).';
CREATE INDEX webhook_requests_open ON finance_os.webhook_requests (request_id) WHERE state = 'open';
CREATE INDEX webhook_requests_latest ON finance_os.webhook_requests (connection_id, request_id DESC);

CREATE TABLE finance_os.webhook_events (
    event_number  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    business_id   text COLLATE "C" NOT NULL REFERENCES finance_os.businesses,
    source_system text COLLATE "C" NOT NULL,
    connection_id bigint NOT NULL,
    event_key     text COLLATE "C" NOT NULL CHECK (length(event_key) BETWEEN 1 AND 400),
    event_type    text COLLATE "C" NOT NULL CHECK (length(event_type) BETWEEN 1 AND 200),
    body_id       bigint NOT NULL REFERENCES finance_os.webhook_bodies,
    received_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    delivered_at  timestamptz,
    deliveries    integer NOT NULL DEFAULT 0 CHECK (deliveries >= 0),
    state         text NOT NULL DEFAULT 'received' CHECK (state IN ('received', 'requested', 'done', 'poisoned')),
    tries         integer NOT NULL DEFAULT 0 CHECK (tries >= 0),
    wait_until    timestamptz,
    failed_at     timestamptz,
    last_error    text,
    reads         jsonb NOT NULL DEFAULT '{}',
    request_id    bigint REFERENCES finance_os.webhook_requests,
    sync_run_ids  bigint[] NOT NULL DEFAULT '{}',
    replays       integer NOT NULL DEFAULT 0 CHECK (replays >= 0),
    settled_at    timestamptz,
    UNIQUE (business_id, source_system, event_key),
    CHECK ((state IN ('done', 'poisoned')) = (settled_at IS NOT NULL)),
    CHECK (state <> 'requested' OR request_id IS NOT NULL),
    CHECK ((delivered_at IS NULL) = (deliveries = 0)),
    FOREIGN KEY (connection_id, business_id) REFERENCES finance_os.connections (connection_id, business_id)
);
COMMENT ON TABLE finance_os.webhook_events IS
    'The inbox: every event once, however often it came. received → requested (its objects are being read) → done, '
    'back to received where a read failed, or poisoned: set aside after too many tries.';
COMMENT ON COLUMN finance_os.webhook_events.event_key IS
    'The vendor''s event ID; where it gives none, the SHA-256 of the signed body, and the entity that it speaks of.';
COMMENT ON COLUMN finance_os.webhook_events.delivered_at IS
    'When it first came as a webhook; null for one that the gap check found in the evidence, and that never came.';
COMMENT ON COLUMN finance_os.webhook_events.tries IS
    'Reads that failed and may have failed because of this event; what is the connection''s own trouble is not counted.';
COMMENT ON COLUMN finance_os.webhook_events.failed_at IS 'When a read for it failed last.';
COMMENT ON COLUMN finance_os.webhook_events.reads IS
    'Object type → source IDs, or null for its present day: what the event asks to be read. Empty: nothing.';
COMMENT ON COLUMN finance_os.webhook_events.sync_run_ids IS 'The sync runs that read what it asks for.';
CREATE INDEX webhook_events_waiting ON finance_os.webhook_events (connection_id, tries, event_number)
    WHERE state = 'received';
CREATE INDEX webhook_events_requested ON finance_os.webhook_events (request_id) WHERE state = 'requested';
CREATE INDEX webhook_events_poisoned ON finance_os.webhook_events (business_id, event_number)
    WHERE state = 'poisoned';
CREATE INDEX webhook_events_latest ON finance_os.webhook_events (business_id, event_number DESC);

CREATE TABLE finance_os.webhook_refusals (
    business_id   text COLLATE "C" REFERENCES finance_os.businesses,
    connection_id bigint,
    reason        text COLLATE "C" NOT NULL,
    day           date NOT NULL,
    count         bigint NOT NULL CHECK (count > 0),
    latest_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE NULLS NOT DISTINCT (business_id, connection_id, reason, day),
    FOREIGN KEY (connection_id, business_id) REFERENCES finance_os.connections (connection_id, business_id)
);
COMMENT ON TABLE finance_os.webhook_refusals IS
    'How many requests were refused, by UTC day and reason; nothing of what they held is kept. Without a connection '
    'where the address led to none.';

CREATE TABLE finance_os.webhook_gap_checks (
    connection_id bigint PRIMARY KEY,
    business_id   text COLLATE "C" NOT NULL REFERENCES finance_os.businesses,
    since         timestamptz NOT NULL DEFAULT clock_timestamp(),
    sync_run_id   bigint NOT NULL DEFAULT 0,
    found         bigint NOT NULL DEFAULT 0 CHECK (found >= 0),
    checked_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    FOREIGN KEY (connection_id, business_id) REFERENCES finance_os.connections (connection_id, business_id)
);
COMMENT ON TABLE finance_os.webhook_gap_checks IS
    'Up to which sync run of its event log a connection was compared with its inbox. Events from `since` on, when '
    'webhooks were first expected of it, should have come.';

-- Bodies hold what vendors say of people: they are not for the reader, whatever the owner's default privileges are.
REVOKE ALL ON finance_os.webhook_bodies FROM PUBLIC, finance_os_reader;
GRANT SELECT, INSERT ON finance_os.webhook_bodies TO finance_os_application;
GRANT SELECT ON
    finance_os.webhook_requests, finance_os.webhook_events, finance_os.webhook_refusals, finance_os.webhook_gap_checks
    TO finance_os_reader, finance_os_application;
GRANT INSERT ON
    finance_os.webhook_requests, finance_os.webhook_events, finance_os.webhook_refusals, finance_os.webhook_gap_checks
    TO finance_os_application;
-- By column: what came, and when, is nobody's to change.
GRANT UPDATE (state, error, ended_at) ON finance_os.webhook_requests TO finance_os_application;
GRANT UPDATE (delivered_at, deliveries, state, tries, wait_until, failed_at, last_error, reads, request_id,
              sync_run_ids, replays, settled_at) ON finance_os.webhook_events TO finance_os_application;
GRANT UPDATE (count, latest_at) ON finance_os.webhook_refusals TO finance_os_application;
GRANT UPDATE (sync_run_id, found, checked_at) ON finance_os.webhook_gap_checks TO finance_os_application;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON finance_os.webhook_bodies
    FOR EACH STATEMENT EXECUTE FUNCTION finance_os.refuse_rewrite();

-- Intents: what is to be written outside, persisted before it is sent; what came of it; and what stands for what there.
-- depends: 0012_webhooks

CREATE TABLE finance_os.intents (
    intent_id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    business_id   text COLLATE "C" NOT NULL REFERENCES finance_os.businesses,
    rail          text COLLATE "C" NOT NULL CHECK (rail ~ '^[a-z][a-z0-9_]*$'),
    realm         text COLLATE "C" NOT NULL CHECK (realm <> ''),
    stripe_object text COLLATE "C" NOT NULL CHECK (stripe_object <> ''),
    stripe_id     text COLLATE "C" NOT NULL CHECK (stripe_id <> ''),
    role          text COLLATE "C" NOT NULL CHECK (role <> ''),
    key           text COLLATE "C" GENERATED ALWAYS AS (stripe_object || ':' || stripe_id || ':' || role) STORED,
    operation     text COLLATE "C" NOT NULL CHECK (operation IN ('create', 'update', 'void')),
    version       integer NOT NULL CHECK (version > 0),
    entity        text COLLATE "C" NOT NULL CHECK (entity <> ''),
    payload       jsonb NOT NULL,
    input_hash    text COLLATE "C" NOT NULL CHECK (input_hash ~ '^[0-9a-f]{64}$'),
    marker        text COLLATE "C" NOT NULL CHECK (marker <> ''),
    dated         date NOT NULL,
    depends_on    text[] COLLATE "C" NOT NULL,
    evidence      jsonb NOT NULL,
    plan_run      text NOT NULL,
    due           date NOT NULL,
    place         integer NOT NULL CHECK (place >= 0),
    state         text COLLATE "C" NOT NULL DEFAULT 'planned'
        CHECK (state IN ('planned', 'sending', 'applied', 'failed', 'superseded', 'conflicted')),
    requestid     text COLLATE "C" CHECK (length(requestid) BETWEEN 1 AND 50),
    resolved      jsonb,
    refusals      integer NOT NULL DEFAULT 0 CHECK (refusals >= 0),
    code          text COLLATE "C" NOT NULL DEFAULT '',
    planned_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    sent_at       timestamptz,
    settled_at    timestamptz,
    UNIQUE (business_id, rail, realm, key, operation, version),
    CHECK (state NOT IN ('sending', 'applied') OR (requestid IS NOT NULL AND resolved IS NOT NULL))
);
COMMENT ON TABLE finance_os.intents IS
    'Planned writes. What is planned never changes; another payload is another version. Only the state moves.';
COMMENT ON COLUMN finance_os.intents.payload IS
    'QuickBooks'' JSON with references in place of IDs that were not known. It may name a customer: not for readers.';
COMMENT ON COLUMN finance_os.intents.state IS
    'planned: not sent; sending: committed before the call, its answer unknown; applied: the object is linked; '
    'failed: refused, nothing was written; conflicted: something else stands in its place, nothing was written; '
    'superseded: another version, or the plan''s silence, took its place before it was sent.';
COMMENT ON COLUMN finance_os.intents.due IS
    'The latest date in its plan up to it: by due and then by place, the intents of one plan are in the plan''s order.';
COMMENT ON COLUMN finance_os.intents.place IS 'Where it stands in the last plan that had it.';
COMMENT ON COLUMN finance_os.intents.resolved IS 'What is sent, with every ID in its place; the same as long as its requestid.';
COMMENT ON COLUMN finance_os.intents.refusals IS 'How often it was refused for good; each gives the next try another requestid.';

-- One version of an operation waits at a time, and an object is made once.
CREATE UNIQUE INDEX intents_open ON finance_os.intents (business_id, rail, realm, key, operation)
    WHERE state IN ('planned', 'sending', 'failed', 'conflicted');
CREATE UNIQUE INDEX intents_made_once ON finance_os.intents (business_id, rail, realm, key)
    WHERE operation = 'create' AND state IN ('sending', 'applied');
CREATE INDEX intents_to_send ON finance_os.intents (business_id, rail, realm, due, place, intent_id)
    WHERE state IN ('planned', 'sending');
-- What an object is still needed for.
CREATE INDEX intents_needing ON finance_os.intents USING gin (depends_on)
    WHERE state IN ('planned', 'sending', 'failed', 'conflicted');

CREATE TABLE finance_os.intent_attempts (
    attempt_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    business_id text COLLATE "C" NOT NULL REFERENCES finance_os.businesses,
    intent_id   bigint NOT NULL REFERENCES finance_os.intents,
    step        text COLLATE "C" NOT NULL CHECK (step IN ('sending', 'answered', 'refused', 'unknown', 'found', 'absent', 'conflicted')),
    requestid   text COLLATE "C" NOT NULL DEFAULT '',
    qbo_id      text COLLATE "C" NOT NULL DEFAULT '',
    sync_token  text COLLATE "C" NOT NULL DEFAULT '',
    code        text COLLATE "C" NOT NULL DEFAULT '',
    intuit_tid  text COLLATE "C" NOT NULL DEFAULT '',
    at          timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE finance_os.intent_attempts IS 'Each step of each attempt at an intent, as it happened. Append-only.';
COMMENT ON COLUMN finance_os.intent_attempts.step IS
    'sending: committed before the call; answered: written; refused: not written; unknown: no answer that can be read; '
    'found, absent: what looking it up gave; conflicted: something else stands in its place.';
COMMENT ON COLUMN finance_os.intent_attempts.intuit_tid IS 'Intuit''s own ID of the exchange, for their support.';
CREATE INDEX intent_attempts_of_intent ON finance_os.intent_attempts (intent_id, attempt_id);

CREATE TABLE finance_os.links (
    link_id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    business_id   text COLLATE "C" NOT NULL REFERENCES finance_os.businesses,
    rail          text COLLATE "C" NOT NULL CHECK (rail ~ '^[a-z][a-z0-9_]*$'),
    stripe_object text COLLATE "C" NOT NULL CHECK (stripe_object <> ''),
    stripe_id     text COLLATE "C" NOT NULL CHECK (stripe_id <> ''),
    role          text COLLATE "C" NOT NULL CHECK (role <> ''),
    key           text COLLATE "C" GENERATED ALWAYS AS (stripe_object || ':' || stripe_id || ':' || role) STORED,
    realm         text COLLATE "C" NOT NULL CHECK (realm <> ''),
    entity        text COLLATE "C" NOT NULL CHECK (entity <> ''),
    qbo_id        text COLLATE "C" NOT NULL CHECK (qbo_id <> ''),
    sync_token    text COLLATE "C" NOT NULL CHECK (sync_token ~ '^[0-9]{1,18}$'),
    origin        text COLLATE "C" NOT NULL CHECK (origin IN ('created', 'adopted')),
    input_hash    text COLLATE "C" CHECK (input_hash ~ '^[0-9a-f]{64}$'),
    linked_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    verified_at   timestamptz,
    UNIQUE (business_id, rail, realm, key),
    CHECK ((origin = 'created') <= (input_hash IS NOT NULL))
);
COMMENT ON TABLE finance_os.links IS
    'Which object in QuickBooks stands for which object of Stripe, in which role. Committed with the answer to its write.';
COMMENT ON COLUMN finance_os.links.origin IS 'created: by an intent; adopted: it was in QuickBooks before.';
COMMENT ON COLUMN finance_os.links.input_hash IS 'Of the intent that was applied to it last; none while it is only adopted.';
COMMENT ON COLUMN finance_os.links.verified_at IS 'When QuickBooks last showed it as planned; none since it showed it otherwise.';
CREATE UNIQUE INDEX links_made_once ON finance_os.links (business_id, rail, realm, entity, qbo_id)
    WHERE origin = 'created';
CREATE INDEX links_by_object ON finance_os.links (business_id, rail, realm, entity, qbo_id);

-- The payloads and what was sent name customers: the reader sees every other column.
REVOKE ALL ON finance_os.intents FROM PUBLIC, finance_os_reader;
GRANT SELECT (intent_id, business_id, rail, realm, stripe_object, stripe_id, role, key, operation, version, entity,
              input_hash, marker, dated, depends_on, evidence, plan_run, due, place, state, requestid, refusals, code,
              planned_at, sent_at, settled_at)
    ON finance_os.intents TO finance_os_reader;
GRANT SELECT ON finance_os.intent_attempts, finance_os.links TO finance_os_reader, finance_os_application;
GRANT SELECT, INSERT ON finance_os.intents TO finance_os_application;
GRANT UPDATE (due, place, state, requestid, resolved, refusals, code, sent_at, settled_at)
    ON finance_os.intents TO finance_os_application;
GRANT INSERT ON finance_os.intent_attempts, finance_os.links TO finance_os_application;
GRANT UPDATE (sync_token, input_hash, updated_at, verified_at) ON finance_os.links TO finance_os_application;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON finance_os.intent_attempts
    FOR EACH STATEMENT EXECUTE FUNCTION finance_os.refuse_rewrite();

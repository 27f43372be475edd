-- The audit chain: one hash chain a business.
-- depends: 0002_evidence

CREATE TABLE finance_os.finance_audit_events (
    business_id   text COLLATE "C" NOT NULL REFERENCES finance_os.businesses,
    sequence      bigint NOT NULL CHECK (sequence > 0),
    event_type    text NOT NULL,
    subject       text NOT NULL,
    actor         text NOT NULL,
    details       jsonb NOT NULL,
    occurred_at   timestamptz NOT NULL,
    canonical     bytea NOT NULL,
    previous_hash bytea NOT NULL CHECK (octet_length(previous_hash) = 32),
    event_hash    bytea NOT NULL CHECK (event_hash = sha256(canonical)),
    PRIMARY KEY (business_id, sequence),
    UNIQUE (business_id, previous_hash),
    CHECK ((sequence = 1) = (previous_hash = decode(repeat('00', 32), 'hex')))
);
COMMENT ON COLUMN finance_os.finance_audit_events.canonical IS
    'The canonical JSON of the event with its predecessor''s hash; event_hash is its SHA-256.';

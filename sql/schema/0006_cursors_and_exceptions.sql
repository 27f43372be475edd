-- Where a source goes on from at its next read, and what sources and checks found to be wrong.
-- depends: 0005_kept_secrets

CREATE TABLE finance_os.source_cursors (
    connection_id bigint NOT NULL REFERENCES finance_os.connections,
    object_type   text COLLATE "C" NOT NULL,
    business_id   text COLLATE "C" NOT NULL REFERENCES finance_os.businesses,
    cursor        jsonb NOT NULL,
    sync_run_id   bigint NOT NULL REFERENCES finance_os.source_sync_runs,
    saved_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (connection_id, object_type)
);
COMMENT ON TABLE finance_os.source_cursors IS
    'Where the vendor''s own change feed goes on; saved in the transaction that stages what was read up to there.';

CREATE TABLE finance_os.finance_exceptions (
    exception_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    business_id     text COLLATE "C" NOT NULL REFERENCES finance_os.businesses,
    source_system   text COLLATE "C" NOT NULL,
    object_type     text COLLATE "C" NOT NULL,
    connection_id   bigint REFERENCES finance_os.connections,
    code            text COLLATE "C" NOT NULL CHECK (code ~ '^[a-z][a-z0-9_]*$'),
    severity        text NOT NULL CHECK (severity IN ('low', 'medium', 'high', 'critical')),
    subject         text NOT NULL,
    partition_day   date NOT NULL,
    detail          text NOT NULL,
    evidence_hash   text NOT NULL,
    status          text NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'resolved')),
    opened_by_run   bigint REFERENCES finance_os.source_sync_runs,
    resolved_by_run bigint REFERENCES finance_os.source_sync_runs,
    opened_at       timestamptz NOT NULL DEFAULT now(),
    resolved_at     timestamptz,
    CHECK ((status = 'resolved') = (resolved_at IS NOT NULL))
);
COMMENT ON TABLE finance_os.finance_exceptions IS
    'What sources and checks found to be wrong. A finding that comes back after it was resolved is a new row.';
CREATE UNIQUE INDEX finance_exceptions_open ON finance_os.finance_exceptions
    (business_id, source_system, object_type, connection_id, code, subject, partition_day) NULLS NOT DISTINCT
    WHERE status = 'open';

GRANT SELECT ON finance_os.source_cursors, finance_os.finance_exceptions
    TO finance_os_reader, finance_os_application;
GRANT INSERT, UPDATE ON finance_os.source_cursors, finance_os.finance_exceptions TO finance_os_application;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA finance_os TO finance_os_application;

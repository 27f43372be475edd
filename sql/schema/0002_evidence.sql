-- Raw evidence: who it belongs to, how it was read, every version ever seen, and which version is current.
-- depends: 0001_roles

CREATE TABLE finance_os.businesses (
    business_id text COLLATE "C" PRIMARY KEY CHECK (business_id ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
    name        text NOT NULL,
    time_zone   text NOT NULL CHECK (timestamptz '2000-01-01 00:00Z' AT TIME ZONE time_zone IS NOT NULL),
    created_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE finance_os.connections (
    connection_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    business_id      text COLLATE "C" NOT NULL REFERENCES finance_os.businesses,
    source_system    text COLLATE "C" NOT NULL,
    external_account text NOT NULL,
    secret_reference text NOT NULL,
    time_zone        text NOT NULL CHECK (timestamptz '2000-01-01 00:00Z' AT TIME ZONE time_zone IS NOT NULL),
    active           boolean NOT NULL DEFAULT true,
    created_at       timestamptz NOT NULL DEFAULT now(),
    UNIQUE (business_id, source_system, external_account)
);

CREATE TABLE finance_os.scheduled_syncs (
    scheduled_sync_id   text NOT NULL,
    business_id         text COLLATE "C" NOT NULL REFERENCES finance_os.businesses,
    requested_for       date NOT NULL,
    requested_at        timestamptz NOT NULL DEFAULT now(),
    expected_connectors text[] NOT NULL,
    PRIMARY KEY (business_id, scheduled_sync_id)
);
CREATE INDEX scheduled_syncs_latest ON finance_os.scheduled_syncs (business_id, requested_at DESC);

CREATE TABLE finance_os.source_sync_runs (
    sync_run_id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    business_id       text COLLATE "C" NOT NULL REFERENCES finance_os.businesses,
    source_system     text COLLATE "C" NOT NULL,
    object_type       text COLLATE "C" NOT NULL,
    connection_id     bigint REFERENCES finance_os.connections,
    kind              text NOT NULL CHECK (kind IN ('window', 'snapshot', 'targeted', 'drop')),
    trigger           text NOT NULL
                      CHECK (trigger IN ('schedule', 'backfill', 'webhook', 'drop', 'manual', 'probe')),
    status            text NOT NULL DEFAULT 'running'
                      CHECK (status IN ('running', 'succeeded', 'failed', 'skipped')),
    window_start      timestamptz,
    window_end        timestamptz,
    first_day         date,
    last_day          date,
    scheduled_sync_id text,
    dagster_run_id    text,
    rows_extracted    bigint NOT NULL DEFAULT 0,
    rows_new          bigint NOT NULL DEFAULT 0,
    rows_changed      bigint NOT NULL DEFAULT 0,
    rows_unchanged    bigint NOT NULL DEFAULT 0,
    rows_stale        bigint NOT NULL DEFAULT 0,
    rows_removed      bigint NOT NULL DEFAULT 0,
    remote_count      bigint,
    batch_hash        bytea,
    targets           text[] NOT NULL DEFAULT '{}',
    checkpoint        jsonb,
    chunks            integer NOT NULL DEFAULT 0,
    query_name        text,
    query_version     text,
    api_version       text,
    requested         jsonb NOT NULL DEFAULT '{}',
    notices           text[] NOT NULL DEFAULT '{}',
    error_code        text,
    error_message     text,
    attempts          integer NOT NULL DEFAULT 1,
    worker            uuid NOT NULL,
    worker_host       text NOT NULL,
    worker_process    bigint NOT NULL,
    progressed_at     timestamptz NOT NULL DEFAULT now(),
    started_at        timestamptz NOT NULL DEFAULT now(),
    completed_at      timestamptz,
    CHECK ((status = 'running') = (completed_at IS NULL)),
    CHECK (rows_extracted = rows_new + rows_changed + rows_unchanged + rows_stale)
);
COMMENT ON COLUMN finance_os.source_sync_runs.rows_stale IS
    'Reads that were older than the current version: kept as versions, never made current.';
COMMENT ON COLUMN finance_os.source_sync_runs.worker IS
    'Who may write to this run. A worker that takes over a crashed run changes it, so the old one cannot go on.';
CREATE INDEX source_sync_runs_latest
    ON finance_os.source_sync_runs (business_id, source_system, object_type, sync_run_id DESC);
CREATE INDEX source_sync_runs_same_read
    ON finance_os.source_sync_runs (business_id, source_system, object_type, first_day, last_day, sync_run_id DESC);
CREATE INDEX source_sync_runs_recent ON finance_os.source_sync_runs (business_id, started_at DESC);
CREATE INDEX source_sync_runs_scheduled ON finance_os.source_sync_runs (business_id, scheduled_sync_id)
    WHERE scheduled_sync_id IS NOT NULL;

CREATE SEQUENCE finance_os.record_ids AS bigint INCREMENT BY 1000;
COMMENT ON SEQUENCE finance_os.record_ids IS 'Each value opens a block of 1,000 IDs, for records and for changes.';

CREATE TABLE finance_os.raw_source_records (
    record_id         bigint NOT NULL PRIMARY KEY,
    business_id       text COLLATE "C" NOT NULL,
    source_system     text COLLATE "C" NOT NULL,
    object_type       text COLLATE "C" NOT NULL,
    source_id         text COLLATE "C" NOT NULL,
    payload_hash      bytea NOT NULL,
    payload           jsonb NOT NULL,
    source_version    bigint,
    source_created_at timestamptz,
    source_updated_at timestamptz,
    first_sync_run_id bigint NOT NULL,
    first_seen_at     timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT raw_source_records_idempotency_key
        UNIQUE (business_id, source_system, object_type, source_id, payload_hash)
);
COMMENT ON TABLE finance_os.raw_source_records IS 'Every version of every source record ever seen. Append-only.';
COMMENT ON COLUMN finance_os.raw_source_records.payload_hash IS
    'SHA-256 of the canonical JSON of payload, which is the source''s payload without its volatile fields.';

DO $$
BEGIN
    ALTER TABLE finance_os.raw_source_records ALTER COLUMN payload SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN
    RAISE NOTICE 'this server was built without lz4: payloads are compressed with pglz';
END
$$;

CREATE TABLE finance_os.source_sync_sightings (
    sync_run_id    bigint NOT NULL,
    chunk          integer NOT NULL,
    ordinal        integer NOT NULL,
    business_id    text COLLATE "C" NOT NULL,
    source_system  text COLLATE "C" NOT NULL,
    object_type    text COLLATE "C" NOT NULL,
    partition_day  date NOT NULL,
    requested_at   timestamptz NOT NULL,
    record_ids     bigint[] NOT NULL,
    rows_new       integer NOT NULL,
    rows_changed   integer NOT NULL,
    rows_unchanged integer NOT NULL,
    rows_stale     integer NOT NULL,
    digest         bytea NOT NULL,
    provenance     jsonb,
    PRIMARY KEY (sync_run_id, chunk, ordinal)
);
COMMENT ON TABLE finance_os.source_sync_sightings IS
    'Which versions a sync run saw, in the order seen; a row holds consecutive records of one page and one day.';
COMMENT ON COLUMN finance_os.source_sync_sightings.digest IS
    'Sum of the payload hashes of record_ids, as integers modulo 2^256: adds up to a batch hash in any order.';
CREATE INDEX source_sync_sightings_day ON finance_os.source_sync_sightings (sync_run_id, partition_day);
CREATE INDEX source_sync_sightings_time
    ON finance_os.source_sync_sightings (business_id, source_system, object_type, requested_at);

CREATE TABLE finance_os.source_sync_partitions (
    business_id    text COLLATE "C" NOT NULL,
    source_system  text COLLATE "C" NOT NULL,
    object_type    text COLLATE "C" NOT NULL,
    partition_day  date NOT NULL,
    sync_run_id    bigint NOT NULL REFERENCES finance_os.source_sync_runs,
    connection_id  bigint NOT NULL REFERENCES finance_os.connections,
    kind           text NOT NULL,
    state          text NOT NULL CHECK (state IN ('whole', 'created', 'partial', 'unobservable')),
    rows_extracted bigint NOT NULL,
    rows_new       bigint NOT NULL,
    rows_changed   bigint NOT NULL,
    rows_unchanged bigint NOT NULL,
    rows_stale     bigint NOT NULL,
    rows_removed   bigint NOT NULL,
    remote_count   bigint,
    batch_hash     bytea NOT NULL,
    completed_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (business_id, source_system, object_type, partition_day, sync_run_id)
);
COMMENT ON TABLE finance_os.source_sync_partitions IS
    'What a finished sync run says of each day it covered; written in the transaction that ends the run.';
COMMENT ON COLUMN finance_os.source_sync_partitions.state IS
    'whole: the day was over and read to its end; created: likewise, but the source only tells what was created in it, '
    'not what changed; partial: the day was not over; unobservable: the source no longer tells.';
CREATE INDEX source_sync_partitions_run ON finance_os.source_sync_partitions (sync_run_id);

CREATE TABLE finance_os.raw_record_heads (
    business_id    text COLLATE "C" NOT NULL,
    source_system  text COLLATE "C" NOT NULL,
    object_type    text COLLATE "C" NOT NULL,
    source_id      text COLLATE "C" NOT NULL,
    record_id      bigint NOT NULL,
    payload_hash   bytea NOT NULL,
    connection_id  bigint NOT NULL,
    source_version bigint,
    requested_at   timestamptz NOT NULL,
    removed        boolean NOT NULL DEFAULT false,
    sync_run_id    bigint NOT NULL,
    PRIMARY KEY (business_id, source_system, object_type, source_id)
);
COMMENT ON TABLE finance_os.raw_record_heads IS
    'The current version of each source ID, or its removal. Touched only when that changes.';
COMMENT ON COLUMN finance_os.raw_record_heads.requested_at IS
    'When the page that moved this head was asked for, on the database''s clock.';

CREATE TABLE finance_os.raw_record_changes (
    change_id          bigint NOT NULL PRIMARY KEY,
    business_id        text COLLATE "C" NOT NULL,
    source_system      text COLLATE "C" NOT NULL,
    object_type        text COLLATE "C" NOT NULL,
    source_id          text COLLATE "C" NOT NULL,
    change             text COLLATE "C" NOT NULL CHECK (change IN ('added', 'changed', 'removed', 'restored')),
    record_id          bigint NOT NULL,
    previous_record_id bigint,
    sync_run_id        bigint NOT NULL,
    partition_day      date NOT NULL,
    changed_at         timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE finance_os.raw_record_changes IS
    'Each time a head moved, and by which sync run. A removal names the version that was removed. Append-only.';
CREATE INDEX raw_record_changes_record ON finance_os.raw_record_changes (record_id);
CREATE INDEX raw_record_changes_run ON finance_os.raw_record_changes (sync_run_id);

CREATE TABLE finance_os.drops (
    business_id   text COLLATE "C" NOT NULL REFERENCES finance_os.businesses,
    source_system text COLLATE "C" NOT NULL,
    content_hash  bytea NOT NULL,
    connection_id bigint NOT NULL REFERENCES finance_os.connections,
    file_name     text NOT NULL,
    size_bytes    bigint NOT NULL,
    kept_as       text NOT NULL,
    verdict       text NOT NULL CHECK (verdict IN ('accepted', 'quarantined')),
    report        jsonb NOT NULL,
    row_count     bigint NOT NULL,
    first_day     date,
    last_day      date,
    received_at   timestamptz NOT NULL DEFAULT now(),
    judged_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (business_id, source_system, content_hash)
);
COMMENT ON TABLE finance_os.drops IS 'Each file handed in, once by its bytes, and what was decided about it.';

CREATE TABLE finance_os.check_results (
    check_result_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    business_id     text COLLATE "C" NOT NULL REFERENCES finance_os.businesses,
    source_system   text COLLATE "C" NOT NULL,
    object_type     text COLLATE "C" NOT NULL,
    check_name      text COLLATE "C" NOT NULL,
    partition_day   date,
    status          text NOT NULL CHECK (status IN ('ready', 'stale', 'pending', 'blocked')),
    blocker         text,
    evidence_hash   text NOT NULL,
    details         jsonb NOT NULL,
    dagster_run_id  text,
    recorded_at     timestamptz NOT NULL DEFAULT now(),
    CHECK ((status = 'ready') = (blocker IS NULL))
);
COMMENT ON TABLE finance_os.check_results IS 'Every verdict of every check, with the hash of what it looked at. Append-only.';
CREATE INDEX check_results_latest ON finance_os.check_results
    (business_id, source_system, object_type, check_name, partition_day, check_result_id DESC);

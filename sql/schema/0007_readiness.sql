-- Checkpoints, and what readiness looks up instead of walking through history.
-- depends: 0006_cursors_and_exceptions

-- A line that speaks of a checkpoint which was never recorded has no evidence to hash.
ALTER TABLE finance_os.check_results ALTER COLUMN evidence_hash DROP NOT NULL;

ALTER TABLE finance_os.check_results ADD COLUMN basis text;
COMMENT ON COLUMN finance_os.check_results.basis IS
    'How often the day had been read, and through which connections, when the check began to look; of days only.';

CREATE TABLE finance_os.checkpoints (
    checkpoint_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    business_id    text COLLATE "C" NOT NULL REFERENCES finance_os.businesses,
    name           text COLLATE "C" NOT NULL,
    status         text NOT NULL CHECK (status IN ('ready', 'blocked')),
    evidence_hash  text NOT NULL,
    lines          jsonb NOT NULL,
    facts          jsonb NOT NULL DEFAULT '{}',
    dagster_run_id text,
    recorded_by    text NOT NULL DEFAULT session_user,
    recorded_at    timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE finance_os.checkpoints IS
    'Recorded verdicts of sets of checks. The latest of a name counts, while its hash is what the evidence gives now.';
COMMENT ON COLUMN finance_os.checkpoints.facts IS 'What only the recording process could see, such as a daemon''s heartbeat.';
CREATE INDEX checkpoints_latest ON finance_os.checkpoints (business_id, name, checkpoint_id DESC);

CREATE TABLE finance_os.raw_record_counts (
    business_id   text COLLATE "C" NOT NULL REFERENCES finance_os.businesses,
    source_system text COLLATE "C" NOT NULL,
    object_type   text COLLATE "C" NOT NULL,
    versions      bigint NOT NULL CHECK (versions >= 0),
    current       bigint NOT NULL CHECK (current >= 0),
    PRIMARY KEY (business_id, source_system, object_type)
);
COMMENT ON TABLE finance_os.raw_record_counts IS
    'How many versions are staged and how many records are current; counted in the transaction that stages them.';

INSERT INTO finance_os.raw_record_counts (business_id, source_system, object_type, versions, current)
SELECT business_id, source_system, object_type, sum(versions), sum(current)
FROM (SELECT business_id, source_system, object_type, count(*) AS versions, 0 AS current
      FROM finance_os.raw_source_records GROUP BY 1, 2, 3
      UNION ALL
      SELECT business_id, source_system, object_type, 0, count(*) FILTER (WHERE NOT removed)
      FROM finance_os.raw_record_heads GROUP BY 1, 2, 3) AS counted
GROUP BY 1, 2, 3;

ALTER TABLE finance_os.source_sync_runs ADD COLUMN reaches_to timestamptz;
COMMENT ON COLUMN finance_os.source_sync_runs.reaches_to IS
    'Up to when a successful read says what the source holds: the end of its window; of files, when the newest was '
    'received. Empty where it says nothing of the other objects, or of nothing at all.';

UPDATE finance_os.source_sync_runs AS run
SET reaches_to = CASE kind
    WHEN 'drop' THEN coalesce(
        (SELECT max((target::jsonb ->> 'received_at')::timestamptz) FROM unnest(run.targets) AS target
         WHERE target LIKE '{%'), completed_at)
    ELSE least(window_end, completed_at) END
WHERE status = 'succeeded' AND kind <> 'targeted' AND window_start < window_end
  AND EXISTS (SELECT FROM finance_os.source_sync_partitions AS day
              WHERE day.sync_run_id = run.sync_run_id AND day.state <> 'unobservable');

CREATE INDEX source_sync_runs_reach
    ON finance_os.source_sync_runs (business_id, source_system, object_type, connection_id, reaches_to DESC)
    WHERE reaches_to IS NOT NULL;

ALTER TABLE finance_os.source_sync_runs
    ADD COLUMN reading text NOT NULL GENERATED ALWAYS AS (coalesce(dagster_run_id, sync_run_id::text)) STORED;
COMMENT ON COLUMN finance_os.source_sync_runs.reading IS
    'What one Dagster run reads of a source is one reading, however many sync runs it takes.';
CREATE INDEX source_sync_runs_readings ON finance_os.source_sync_runs (business_id, source_system, object_type, reading)
    WHERE status IN ('succeeded', 'failed') AND kind <> 'targeted';

-- What is blocked now is found without walking through all that was ever ready.
CREATE INDEX check_results_blocked_latest ON finance_os.check_results
    (business_id, source_system, object_type, check_name, partition_day, check_result_id DESC)
    WHERE status = 'blocked';

GRANT SELECT ON finance_os.checkpoints, finance_os.raw_record_counts TO finance_os_reader, finance_os_application;
GRANT INSERT ON finance_os.checkpoints TO finance_os_application;
GRANT INSERT, UPDATE ON finance_os.raw_record_counts TO finance_os_application;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA finance_os TO finance_os_application;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON finance_os.checkpoints
    FOR EACH STATEMENT EXECUTE FUNCTION finance_os.refuse_rewrite();

-- What readiness looks up, however long the history is that it does not look at.
-- depends: 0010_backtest

-- Webhooks' targeted reads come in thousands between two readings.
CREATE INDEX source_sync_runs_latest_reading
    ON finance_os.source_sync_runs (business_id, source_system, object_type, sync_run_id DESC)
    WHERE status IN ('succeeded', 'failed') AND kind <> 'targeted';
CREATE INDEX source_sync_partitions_read
    ON finance_os.source_sync_partitions (business_id, source_system, object_type, partition_day, sync_run_id)
    WHERE kind <> 'targeted';

-- One business's latest runs, beside another's that has many more.
CREATE INDEX source_sync_runs_of_business ON finance_os.source_sync_runs (business_id, sync_run_id DESC);

-- Of the verdicts of a day, only whether a blocked one is the last matters, and blocked ones are few.
CREATE INDEX check_results_blocked_days ON finance_os.check_results
    (business_id, source_system, object_type, check_name, partition_day, check_result_id) WHERE status = 'blocked';

-- Most runs sent the same kinds of requests: of thousands, a handful has to be looked at.
CREATE FUNCTION finance_os.request_kinds(requested jsonb) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN (SELECT md5(coalesce(string_agg(sent.target, E'\n' ORDER BY sent.target COLLATE "C"), ''))
            FROM jsonb_object_keys(requested) AS sent (target));
COMMENT ON FUNCTION finance_os.request_kinds IS
    'The same for the same names of requests, whatever their counts: method and host of each.';
CREATE INDEX source_sync_runs_request_kinds ON finance_os.source_sync_runs
    (business_id, source_system, finance_os.request_kinds(requested) COLLATE "C", started_at DESC);

GRANT EXECUTE ON FUNCTION finance_os.request_kinds TO finance_os_application, finance_os_reader;

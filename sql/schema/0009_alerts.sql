-- Alerts: what went wrong and has not recovered yet, and the messages that told of it.
-- depends: 0008_policies

CREATE TABLE finance_os.alerts (
    alert_id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    business_id   text COLLATE "C" NOT NULL REFERENCES finance_os.businesses,
    alert_key     text COLLATE "C" NOT NULL,
    kind          text NOT NULL CHECK (kind IN ('check', 'run', 'freshness', 'exception')),
    severity      text NOT NULL CHECK (severity IN ('low', 'medium', 'high', 'critical')),
    subject       text NOT NULL,
    code          text COLLATE "C" NOT NULL,
    message       text NOT NULL,
    evidence_hash text,
    source_system text COLLATE "C",
    object_type   text COLLATE "C",
    check_name    text COLLATE "C",
    failing       jsonb NOT NULL,
    count         bigint NOT NULL CHECK (count > 0),
    first_seen    timestamptz NOT NULL,
    last_seen     timestamptz NOT NULL,
    raised_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    resolved_at   timestamptz,
    CHECK (first_seen <= last_seen)
);
COMMENT ON TABLE finance_os.alerts IS
    'One row from the first failure of a key to its recovery; a key that fails again after that is a new row.';
COMMENT ON COLUMN finance_os.alerts.failing IS
    'What still fails under this key, by name: days of a check, objects and connections of a job. Empty once resolved.';
COMMENT ON COLUMN finance_os.alerts.count IS 'How many failures were counted, one for each event that was read.';
CREATE UNIQUE INDEX alerts_open ON finance_os.alerts (business_id, alert_key) WHERE resolved_at IS NULL;
CREATE INDEX alerts_latest ON finance_os.alerts (business_id, alert_id DESC);

CREATE TABLE finance_os.alert_cursors (
    feed        text COLLATE "C" NOT NULL,
    business_id text COLLATE "C" REFERENCES finance_os.businesses,
    position    bigint NOT NULL CHECK (position >= 0),
    missing     jsonb NOT NULL DEFAULT '[]',
    taken       jsonb NOT NULL DEFAULT '[]',
    moved_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE NULLS NOT DISTINCT (feed, business_id)
);
COMMENT ON TABLE finance_os.alert_cursors IS
    'Up to where each feed was read; moved in the transaction that writes the alerts. Without a business where the '
    'feed counts over all of them.';
COMMENT ON COLUMN finance_os.alert_cursors.missing IS
    'IDs below the position that were not there: their transactions may commit later. Each with when it was missed.';
COMMENT ON COLUMN finance_os.alert_cursors.taken IS
    'IDs above the position that were taken already, of a feed that is read again for a while.';

CREATE TABLE finance_os.alert_messages (
    message_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    business_id  text COLLATE "C" NOT NULL REFERENCES finance_os.businesses,
    channel      text COLLATE "C" NOT NULL CHECK (channel IN ('slack', 'smtp')),
    target       text COLLATE "C" NOT NULL,
    intent_key   text COLLATE "C" NOT NULL UNIQUE,
    purpose      text NOT NULL CHECK (purpose IN ('digest', 'test')),
    opened       integer NOT NULL CHECK (opened >= 0),
    recovered    integer NOT NULL CHECK (recovered >= 0),
    payload_hash text NOT NULL,
    status       text NOT NULL DEFAULT 'sending' CHECK (status IN ('sending', 'delivered', 'failed', 'unknown')),
    detail       text,
    begun_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at     timestamptz,
    CHECK ((status = 'sending') = (ended_at IS NULL))
);
COMMENT ON TABLE finance_os.alert_messages IS
    'Each message, recorded before it is sent and never sent again. failed: surely not delivered; unknown: nobody can '
    'say (the process died, or the answer did not come), and it counts as delivered.';
CREATE INDEX alert_messages_latest ON finance_os.alert_messages (business_id, channel, message_id DESC);

CREATE INDEX alert_messages_sending ON finance_os.alert_messages (business_id, channel) WHERE status = 'sending';

CREATE TABLE finance_os.alert_announcements (
    alert_id     bigint NOT NULL REFERENCES finance_os.alerts,
    channel      text COLLATE "C" NOT NULL,
    business_id  text COLLATE "C" NOT NULL REFERENCES finance_os.businesses,
    opened_in    bigint REFERENCES finance_os.alert_messages,
    recovered_in bigint REFERENCES finance_os.alert_messages,
    PRIMARY KEY (alert_id, channel)
);
COMMENT ON TABLE finance_os.alert_announcements IS 'Which message told of an alert, and which of its recovery.';
CREATE INDEX alert_announcements_due ON finance_os.alert_announcements (business_id, channel)
    WHERE recovered_in IS NULL;
CREATE INDEX alert_announcements_opened ON finance_os.alert_announcements (opened_in);
CREATE INDEX alert_announcements_recovered ON finance_os.alert_announcements (recovered_in);

CREATE INDEX source_sync_runs_failed ON finance_os.source_sync_runs (dagster_run_id)
    WHERE status = 'failed' AND dagster_run_id IS NOT NULL;
CREATE INDEX check_results_blocked ON finance_os.check_results (dagster_run_id)
    WHERE status = 'blocked' AND dagster_run_id IS NOT NULL;

GRANT SELECT ON
    finance_os.alerts, finance_os.alert_cursors, finance_os.alert_messages, finance_os.alert_announcements
    TO finance_os_reader, finance_os_application;
GRANT INSERT, UPDATE ON
    finance_os.alerts, finance_os.alert_cursors, finance_os.alert_messages, finance_os.alert_announcements
    TO finance_os_application;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA finance_os TO finance_os_application;

-- query: engine_events
-- version: 1
-- title: What the ad engine decided about campaigns within a span of time
-- key: event_id
-- created: occurred_at
-- updated: ingested_at
-- parameters: start, end
--
-- The span is half-open and in UTC, as all times are. Times are text of one length without separators, as clients
-- print timestamps differently.

SELECT
    event_id,
    event_type,
    campaign_id,
    publisher_id,
    TO_CHAR(occurred_at, 'YYYYMMDDHH24MISSUS') AS occurred_at,
    TO_CHAR(ingested_at, 'YYYYMMDDHH24MISSUS') AS ingested_at
FROM engine_events
WHERE occurred_at >= CAST(:start AS timestamp)
    AND occurred_at < CAST(:end AS timestamp)

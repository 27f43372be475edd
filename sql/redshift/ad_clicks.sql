-- query: ad_clicks
-- version: 1
-- title: Clicks on ads within a span of time
-- key: click_id
-- created: clicked_at
-- updated: ingested_at
-- parameters: start, end
--
-- The span is half-open and in UTC, as all times are. Who clicked (address, browser) stays in Redshift: no check and
-- no sum needs it. Times are text of one length without separators, as clients print timestamps differently.

SELECT
    click_id,
    impression_id,
    campaign_id,
    publisher_id,
    advertiser_id,
    TO_CHAR(clicked_at, 'YYYYMMDDHH24MISSUS') AS clicked_at,
    TO_CHAR(ingested_at, 'YYYYMMDDHH24MISSUS') AS ingested_at
FROM ad_clicks
WHERE clicked_at >= CAST(:start AS timestamp)
    AND clicked_at < CAST(:end AS timestamp)

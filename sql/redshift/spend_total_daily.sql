-- query: spend_total_daily
-- version: 1
-- title: What all impressions cost within a span of time: what the sums by publisher and by campaign must add up to
-- key: currency
-- parameters: start, end
--
-- The span is half-open and in UTC, as occurred_at is.

SELECT
    CAST('usd' AS varchar(3)) AS currency,
    SUM(price) AS spend,
    COUNT(*) AS impressions
FROM ad_impressions
WHERE occurred_at >= CAST(:start AS timestamp)
    AND occurred_at < CAST(:end AS timestamp)

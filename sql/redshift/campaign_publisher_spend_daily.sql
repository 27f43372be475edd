-- query: campaign_publisher_spend_daily
-- version: 1
-- title: What the impressions of each campaign at each publisher cost within a span of time
-- key: campaign_id, publisher_id
-- parameters: start, end
--
-- The span is half-open and in UTC, as occurred_at is. Prices are US dollars; an impression without a price adds
-- nothing to a sum, so it is counted.

SELECT
    campaign_id,
    publisher_id,
    CAST('usd' AS varchar(3)) AS currency,
    SUM(price) AS spend,
    COUNT(*) AS impressions,
    COUNT(*) - COUNT(price) AS unpriced
FROM ad_impressions
WHERE occurred_at >= CAST(:start AS timestamp)
    AND occurred_at < CAST(:end AS timestamp)
GROUP BY campaign_id, publisher_id

-- query: gravity_campaign_advertiser
-- version: 1
-- title: Campaigns with the advertiser who pays for them
-- key: campaign_id
-- created: created_at
-- updated: updated_at
--
-- A campaign without its advertiser is a finding, so it is kept. A row is as new as the newer of its two sides.

SELECT
    c.campaign_id,
    c.advertiser_id,
    c.name,
    c.status,
    c.starts_on,
    c.ends_on,
    c.daily_budget_microdollars,
    c.stripe_customer_id,
    a.name AS advertiser_name,
    a.status AS advertiser_status,
    a.stripe_customer_id AS advertiser_stripe_customer_id,
    a.currency AS advertiser_currency,
    a.billing_cycle AS advertiser_billing_cycle,
    c.created_at,
    greatest(c.updated_at, a.updated_at) AS updated_at
FROM campaigns AS c
LEFT JOIN advertisers AS a ON a.advertiser_id = c.advertiser_id

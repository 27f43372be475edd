-- query: gravity_canonical_entities
-- version: 1
-- title: Publishers under their canonical IDs
-- key: publisher_id
-- created: created_at
-- updated: updated_at
--
-- E-mail addresses stay in Gravity: no check and no sum needs them.

SELECT
    publisher_id,
    name,
    legal_name,
    payout_currency,
    revenue_share_bps,
    status,
    created_at,
    updated_at
FROM publishers

-- query: gravity_advertiser_billing
-- version: 1
-- title: What each advertiser spent, was billed and paid, by billing period
-- key: billing_id
-- created: created_at
-- updated: updated_at

SELECT
    billing_id,
    advertiser_id,
    period_start,
    period_end,
    currency,
    spend_microdollars,
    billed_microdollars,
    paid_microdollars,
    state,
    stripe_invoice_id,
    due_on,
    created_at,
    updated_at
FROM advertiser_billing

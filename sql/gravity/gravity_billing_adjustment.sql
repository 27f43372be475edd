-- query: gravity_billing_adjustment
-- version: 1
-- title: Ledger of credits and other adjustments to what advertisers owe
-- key: adjustment_id
-- created: created_at
-- updated: updated_at

SELECT
    adjustment_id,
    advertiser_id,
    kind,
    state,
    amount_microdollars,
    currency,
    reason,
    stripe_reference,
    stripe_invoice_id,
    effective_on,
    created_at,
    updated_at
FROM billing_adjustments

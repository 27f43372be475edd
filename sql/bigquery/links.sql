-- Links for BigQuery, as `finance-os artifacts rows links` gives its rows (one JSON object a line).
-- Written by `finance-os artifacts write`; a test holds it against PostgreSQL's catalogue. Not to be edited by hand.
CREATE TABLE IF NOT EXISTS finance_os.links (
  `link_id` INT64 NOT NULL OPTIONS (description = "Its number."),
  `business_id` STRING NOT NULL OPTIONS (description = "The business (tenant) that it belongs to."),
  `rail` STRING NOT NULL OPTIONS (description = "What it is written through: `qbo` is QuickBooks Online."),
  `stripe_object` STRING NOT NULL OPTIONS (description = "Stripe's word for the object, such as invoice."),
  `stripe_id` STRING NOT NULL OPTIONS (description = "Stripe's ID of the object."),
  `role` STRING NOT NULL OPTIONS (description = "Tells apart the QuickBooks objects that one Stripe object has."),
  `key` STRING NOT NULL OPTIONS (description = "stripe_object, stripe_id and role, joined by colons."),
  `realm` STRING NOT NULL OPTIONS (description = "The QuickBooks company."),
  `entity` STRING NOT NULL OPTIONS (description = "QuickBooks' word for the kind of object."),
  `qbo_id` STRING NOT NULL OPTIONS (description = "QuickBooks' ID of the object."),
  `sync_token` STRING NOT NULL OPTIONS (description = "The version of the object that was seen last."),
  `origin` STRING NOT NULL OPTIONS (description = "created: by an intent; adopted: it was in QuickBooks before."),
  `input_hash` STRING OPTIONS (description = "Of the intent that was applied to it last; none while it is only adopted."),
  `linked_at` TIMESTAMP NOT NULL OPTIONS (description = "When the link was made."),
  `updated_at` TIMESTAMP NOT NULL OPTIONS (description = "When an intent was last applied to it."),
  `verified_at` TIMESTAMP OPTIONS (description = "When QuickBooks last showed it as planned; none since it showed it otherwise."),
  PRIMARY KEY (`link_id`) NOT ENFORCED
)
PARTITION BY DATE(`linked_at`)
CLUSTER BY `business_id`, `realm`, `key`
OPTIONS (description = "Which object in QuickBooks stands for which object of Stripe, in which role. Committed with the answer to its write.");

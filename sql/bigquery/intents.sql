-- Intents for BigQuery, as `finance-os artifacts rows intents` gives its rows (one JSON object a line).
-- Written by `finance-os artifacts write`; a test holds it against PostgreSQL's catalogue. Not to be edited by hand.
CREATE TABLE IF NOT EXISTS finance_os.intents (
  `intent_id` INT64 NOT NULL OPTIONS (description = "Its number."),
  `business_id` STRING NOT NULL OPTIONS (description = "The business (tenant) that it belongs to."),
  `rail` STRING NOT NULL OPTIONS (description = "What it is written through: `qbo` is QuickBooks Online."),
  `realm` STRING NOT NULL OPTIONS (description = "The QuickBooks company."),
  `stripe_object` STRING NOT NULL OPTIONS (description = "Stripe's word for the object, such as invoice."),
  `stripe_id` STRING NOT NULL OPTIONS (description = "Stripe's ID of the object."),
  `role` STRING NOT NULL OPTIONS (description = "Tells apart the QuickBooks objects that one Stripe object has."),
  `key` STRING NOT NULL OPTIONS (description = "stripe_object, stripe_id and role, joined by colons."),
  `operation` STRING NOT NULL OPTIONS (description = "What it does to its QuickBooks object; nothing is deleted."),
  `version` INT64 NOT NULL OPTIONS (description = "Counts the versions of one operation on one key."),
  `entity` STRING NOT NULL OPTIONS (description = "QuickBooks' word for the kind of object."),
  `payload` JSON NOT NULL OPTIONS (description = "QuickBooks' JSON with references in place of IDs that were not known. It may name a customer: not for readers."),
  `input_hash` STRING NOT NULL OPTIONS (description = "SHA-256 in hex over what is to be written."),
  `marker` STRING NOT NULL OPTIONS (description = "The word that its object is found by after an unknown answer."),
  `dated` DATE NOT NULL OPTIONS (description = "The accounting date of what is written."),
  `depends_on` ARRAY<STRING> OPTIONS (description = "The keys of the links that must be there before it is sent."),
  `evidence` JSON NOT NULL OPTIONS (description = "Payload hashes of the source records that it was planned from, by object and ID."),
  `plan_run` STRING NOT NULL OPTIONS (description = "Who planned it: a Dagster run, or the command line."),
  `due` DATE NOT NULL OPTIONS (description = "The latest date in its plan up to it: by due and then by place, the intents of one plan are in the plan's order."),
  `place` INT64 NOT NULL OPTIONS (description = "Where it stands in the last plan that had it."),
  `state` STRING NOT NULL OPTIONS (description = "planned: not sent; sending: committed before the call, its answer unknown; applied: the object is linked; failed: refused, nothing was written; conflicted: something else stands in its place, nothing more is written, and its code says over what: a create with qbo_object_doubled, qbo_object_missing or qbo_link_conflict was written; superseded: another version, or the plan's silence, took its place before it was sent."),
  `requestid` STRING OPTIONS (description = "What QuickBooks knows a repetition of the request by."),
  `resolved` JSON OPTIONS (description = "What is sent, with every ID in its place; the same as long as its requestid."),
  `refusals` INT64 NOT NULL OPTIONS (description = "How often it was refused for good; each gives the next try another requestid."),
  `code` STRING NOT NULL OPTIONS (description = "Why it ended as it did; empty where there is nothing to say."),
  `planned_at` TIMESTAMP NOT NULL OPTIONS (description = "When it was kept."),
  `sent_at` TIMESTAMP OPTIONS (description = "When it was first about to be sent."),
  `settled_at` TIMESTAMP OPTIONS (description = "When its state was last settled."),
  PRIMARY KEY (`intent_id`) NOT ENFORCED
)
PARTITION BY `dated`
CLUSTER BY `business_id`, `realm`, `key`
OPTIONS (description = "Planned writes. What is planned never changes; another payload is another version. Only the state moves.");

-- Intent attempts for BigQuery, as `finance-os artifacts rows intent_attempts` gives its rows (one JSON object a line).
-- Written by `finance-os artifacts write`; a test holds it against PostgreSQL's catalogue. Not to be edited by hand.
CREATE TABLE IF NOT EXISTS finance_os.intent_attempts (
  `attempt_id` INT64 NOT NULL OPTIONS (description = "Its number."),
  `business_id` STRING NOT NULL OPTIONS (description = "The business (tenant) that it belongs to."),
  `intent_id` INT64 NOT NULL OPTIONS (description = "The intent."),
  `step` STRING NOT NULL OPTIONS (description = "sending: committed before the call; answered: written; refused: not written; unknown: no answer that can be read; found, absent: what looking it up gave; conflicted: something else stands in its place."),
  `requestid` STRING NOT NULL OPTIONS (description = "The requestid that was sent; empty before there was one."),
  `qbo_id` STRING NOT NULL OPTIONS (description = "QuickBooks' ID of the object; empty where none was shown."),
  `sync_token` STRING NOT NULL OPTIONS (description = "The version of the object; empty where none was shown."),
  `code` STRING NOT NULL OPTIONS (description = "QuickBooks' fault, or a code of the export's; empty where all was well."),
  `intuit_tid` STRING NOT NULL OPTIONS (description = "Intuit's own ID of the exchange, for their support."),
  `at` TIMESTAMP NOT NULL OPTIONS (description = "When it happened."),
  PRIMARY KEY (`attempt_id`) NOT ENFORCED,
  FOREIGN KEY (`intent_id`) REFERENCES finance_os.intents (`intent_id`) NOT ENFORCED
)
PARTITION BY DATE(`at`)
CLUSTER BY `business_id`, `intent_id`
OPTIONS (description = "Each step of each attempt at an intent, as it happened. Append-only.");

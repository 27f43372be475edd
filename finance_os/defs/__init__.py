"""Top floor: thin Dagster, one module a concept. No logic lives here."""

"""Finance OS on one machine: the embedded database, the vendor sandbox and Dagster, started and stopped together."""

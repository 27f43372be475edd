"""Ground floor: the raw-record contract. Canonical JSON, staging, sync runs, replay, the audit chain, money, windows."""

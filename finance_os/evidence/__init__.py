"""Ground floor: the raw-record contract: canonical JSON, staging, sync runs, replay, audit chain, money, windows."""

"""Top floor: thin Dagster, one module a concept. No logic lives here."""

import gc

# Each run is a process of its own, which imports thousands of modules before it begins. A collection finds nothing to
# collect in them, and by default there are so many that they take a fifth of that time.
gc.set_threshold(50_000, 10, 10)

"""Assets, one module a kind."""

"""Finance OS: what a company's systems say about its money, kept as evidence that can be replayed and verified."""

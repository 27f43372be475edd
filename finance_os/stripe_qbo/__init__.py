"""Stripe → QuickBooks Online, one way: what is to be booked is planned as intents, applied once each, and verified."""

"""Webhooks: signed events taken into an inbox, and the reads of the affected objects that they ask for.

An event is only a reason to look: what is staged is always read from the vendor, so that the order of events does not
matter.
"""

"""The vendors on localhost: one synthetic ad-network company behind Stripe's API, a product database and bank exports.

Nothing else in finance_os imports this package; it is reached through the vendors' own wire formats.
"""

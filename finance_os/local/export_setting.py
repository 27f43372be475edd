"""What points the QuickBooks export at the sandbox's company: the app that writes, and the rules of the business."""

from datetime import date, timedelta

import msgspec

from finance_os.sandbox.process import Running

RULES = "FINANCE_OS_QBO_RULES"


def export_variables(sandbox: Running, business_id: str, time_zone: str) -> dict[str, str]:
    """Connect the writing app; its secrets, and rules that begin on the day after the books were kept by hand."""
    writer = sandbox.room("quickbooks", "connect_writer")
    rules = {
        "balance_date": (date.fromisoformat(writer["books_until"]) + timedelta(days=1)).isoformat(),
        "time_zone": time_zone,
        "opening_account": "Undeposited Funds",  # where who kept the books put what Stripe had not paid out yet
    }
    return {
        "FINANCE_OS_QUICKBOOKS_WRITE_CLIENT_ID": writer["client_id"],
        "FINANCE_OS_QUICKBOOKS_WRITE_CLIENT_SECRET": writer["client_secret"],
        "FINANCE_OS_QUICKBOOKS_WRITE_REFRESH_TOKEN": writer["refresh_token"],
        RULES: msgspec.json.encode({business_id: rules}).decode(),
    }

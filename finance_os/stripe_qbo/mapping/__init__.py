"""How Stripe is booked in QuickBooks: pure functions from evidence and rules to intents; one module a rule.

The objects that a plan makes or adopts, by the keys of their links (object : role), with the entity in QuickBooks:

| key | entity | module |
|---|---|---|
| customer : customer_<currency> | Customer | customers |
| invoice : invoice | Invoice | invoices |
| invoice : credit_memo (an invoice below zero) | CreditMemo | invoices |
| invoice : void_correction (with void_correction_application) | CreditMemo (Payment of nothing) | invoices |
| invoice : write_off, write_off_2, … (each with an _application) | CreditMemo (Payment of nothing) | losses |
| credit_note : credit_memo (with application) | CreditMemo (Payment of nothing) | credits |
| credit_note : refund_receipt (paid back outside of Stripe) | RefundReceipt | outside_credits |
| customer_balance_transaction : credit_memo | CreditMemo | balances |
| customer_balance_transaction : debit | Invoice | balances |
| customer_balance_transaction : application | Payment of nothing | balances |
| invoice_payment : payment | Payment | payments |
| charge : payment | Payment that is not applied | payments |
| refund : refund_receipt | RefundReceipt | refunds |
| balance_transaction : journal | JournalEntry | movements |
| payout : payout | Deposit (JournalEntry where it is negative) | payouts |
| payout : failure | JournalEntry | payouts |
| balance : opening (its ID is the currency) | JournalEntry | opening_clearing |
"""

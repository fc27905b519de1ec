"""consent-ledger."""

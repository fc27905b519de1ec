"""A report of runs and audits for people: what their signed statements say, and what the ledger adds to it."""

"""All that the ledger has of one person, in one file: for people and courts. `verify.py` in it checks it without this program."""

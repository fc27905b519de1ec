"""A person's export, and the one file that checks it."""

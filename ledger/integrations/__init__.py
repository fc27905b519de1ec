"""The filter inside other engines: one file a framework, and each imports its framework itself."""

"""The database: tables, the one writer, readers, fsck."""

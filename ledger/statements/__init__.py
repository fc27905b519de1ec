"""Signed documents: run statements, receipts, and their verification."""

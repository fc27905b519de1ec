"""Coverage-guided fuzzing of whatever reads foreign bytes: `python -m tests.fuzz --seconds N [TARGET...]`."""

"""JSONL files to rows and back: reading with line-numbered complaints, splits, leakage checks, importers."""

"""`wastestream export`: results of any time, from archive and feed, as CSV, JSONL or Parquet."""

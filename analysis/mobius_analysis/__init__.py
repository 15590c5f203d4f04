"""Turn stored spans and synthetic results into verdicts, findings and alerts."""

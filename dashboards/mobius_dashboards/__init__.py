"""Show what the analysis found, to each viewer only what their zones allow."""

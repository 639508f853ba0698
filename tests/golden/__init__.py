"""The rendered objects of typical jobs, as files that are reviewed like code."""

"""The report: one HTML file in which a user explores the sub-models of runs."""

"""The pages' own scripts: what is generated, and the figure."""

"""The resources that training needs, counted without weights or data."""

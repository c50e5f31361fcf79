"""How good sub-models are: against lone twins, rules, seeds and published numbers."""

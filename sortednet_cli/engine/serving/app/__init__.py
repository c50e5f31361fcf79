"""HTTP: routes, bodies and errors as OpenAI's clients know them. It knows no torch."""

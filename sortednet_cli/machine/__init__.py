"""The machine: its devices, memory, precision and library versions."""

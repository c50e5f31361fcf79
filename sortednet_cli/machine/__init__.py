"""What a computer can do: its devices, memory and precision. The library versions too."""

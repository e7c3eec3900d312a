"""Values that the rest of the driver passes around: frozen, without input, output, clock or tasks."""

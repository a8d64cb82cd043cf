"""Pictures: reading with Pillow, fonts, drawing boxes."""

"""Pictures: reads them with Pillow, finds fonts, draws boxes and masks."""

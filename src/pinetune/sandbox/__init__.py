"""Running untrusted Python."""

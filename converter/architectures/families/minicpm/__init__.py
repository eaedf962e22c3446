"""MiniCPM and relatives."""

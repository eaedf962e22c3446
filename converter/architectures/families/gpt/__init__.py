"""GPT-2, GPT-NeoX, gpt-oss."""
